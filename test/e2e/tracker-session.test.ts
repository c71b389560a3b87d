// The agent's side of the tracker API against the real tracker, over pinned HTTPS: enrolment, leases, loss and return, expulsion.
// Downloads are stood in for by members that "read" what they are granted; no byte moves here.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Membership } from '@flotilla/agent/access/membership';
import type { Lease, LeaseHandle, LeaseMember } from '@flotilla/agent/content/ports';
import { openIdentity, type Identity } from '@flotilla/agent/identity';
import { TrackerCoordinator } from '@flotilla/agent/tracker/coordinator';
import { Bitfield, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import { startTracker, type Tracker } from '@flotilla/tracker/server';
import { afterEach, beforeEach, expect, test } from 'vitest';

const MIB = 1024 * 1024;
const source = { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' } as const;
const blob: BlobKey = { digest: parseDigest(`sha256:${'a'.repeat(64)}`), size: 8 * MIB };
const digestOf = (index: number): Uint8Array => Buffer.alloc(32, index + 1);

/** Everybody who waits for something to become true looks again after each change. */
const changed = new EventTarget();
function tell(): void {
  changed.dispatchEvent(new Event('change'));
}
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    const { promise, resolve } = Promise.withResolvers<void>();
    changed.addEventListener('change', () => resolve(), { once: true });
    await promise;
  }
}

/** Reads what it is granted as soon as it is told to, and asks for more, two at a time. */
class Member implements LeaseMember {
  readonly key = blob;
  readonly have = new Bitfield(chunkCount(blob.size));
  readonly leases: Lease[] = [];
  /** Chunks that it read at the origin. */
  readonly read: number[] = [];
  readonly vouches = new Map<number, string>();
  readonly connections: boolean[] = [];
  handle!: LeaseHandle;
  others: () => Member[] = () => [];

  reading(): IndexRange[] {
    return this.leases.map(({ first, count }) => [first, count]);
  }

  roster(): { peers: string[]; heldByPeer(index: number): boolean; readByPeer(index: number): boolean } {
    const others = this.others();
    return {
      peers: others.map((_, i) => `another-peer-${i}`),
      heldByPeer: (index) => others.some(({ have }) => have.has(index)),
      readByPeer: (index) => others.some((other) => other.reading().some(([first, count]) => index >= first && index < first + count)),
    };
  }

  grant(lease: Lease): void {
    this.leases.push(lease);
    tell();
  }

  revoke(leaseId: string): void {
    const at = this.leases.findIndex((lease) => lease.leaseId === leaseId);
    if (at >= 0) this.leases.splice(at, 1);
    this.handle.release(leaseId, 'unneeded');
  }

  vouched(first: number, digests: readonly Uint8Array[], by: string): void {
    digests.forEach((digest, i) => {
      expect(digest).toEqual(digestOf(first + i));
      this.vouches.set(first + i, by);
    });
    tell();
  }

  invalid(): void {
    throw new Error('nothing was wrong');
  }

  peers(): void {
    tell();
  }

  importer(): void {
    throw new Error('nobody stands in a zone');
  }

  trackerChanged(connected: boolean): void {
    this.connections.push(connected);
    this.handle.need(2, 0);
    tell();
  }

  readOne(): boolean {
    const lease = this.leases.shift();
    if (lease === undefined) return false;
    const indexes = Array.from({ length: lease.count }, (_, i) => lease.first + i).filter((index) => !this.have.has(index));
    for (const index of indexes) this.have.set(index);
    this.read.push(...indexes);
    this.handle.have(indexes);
    for (const index of indexes) this.handle.done(lease.leaseId, index, [digestOf(index)]);
    this.handle.release(lease.leaseId, 'unneeded');
    this.handle.need(2, 1e7);
    return true;
  }
}

interface Agent {
  readonly identity: Identity;
  readonly membership: Membership;
  readonly coordinator: TrackerCoordinator;
  readonly meshes: (readonly PeerInfo[])[];
}

let dir: string;
let tracker: Tracker;
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-session-'));
  tracker = await runTracker(0);
});
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  await tracker.close();
  await rm(dir, { recursive: true, force: true });
});

function runTracker(port: number): Promise<Tracker> {
  const data = join(dir, 'tracker');
  return startTracker({
    data,
    state: join(data, 'state'),
    listen: { host: '127.0.0.1', port },
    tlsName: [],
    insecureHttp: false,
    metricsPerHost: false,
    resolve: false,
    origin: [],
    heartbeatMs: 30_000,
    logLevel: 'silent',
  });
}

async function runAgent(name: string): Promise<Agent> {
  const identity = await openIdentity(join(dir, name));
  const membership = await Membership.open(join(dir, name));
  const meshes: (readonly PeerInfo[])[] = [];
  const log = { info: tell, warn: tell };
  const coordinator = new TrackerCoordinator(
    { identity, membership, log },
    {
      tracker: { urls: [tracker.url], joinTokenFile: tracker.joinTokenFile },
      describe: () => ({ addresses: [`/ip4/127.0.0.1/tcp/5051`], name, labels: {}, agentVersion: '0.1.0' }),
      stats: () => ({
        bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 },
        pulls: { active: 1, done: 0, failed: 0 },
        store: { bytes: 0, limit: 0, blobs: 0 },
      }),
      inventory: () => Promise.resolve([]),
      onMesh: (peers) => {
        meshes.push(peers);
        tell();
      },
    },
  );
  ends.push(() => coordinator.close());
  membership.onChange(tell);
  coordinator.start();
  await until(() => coordinator.connected);
  return { identity, membership, coordinator, meshes };
}

function pull(...agents: Agent[]): Member[] {
  const members = agents.map(() => new Member());
  members.forEach((member, own) => {
    member.others = () => members.filter((_, i) => i !== own);
    member.handle = agents[own]!.coordinator.join(member, source, true);
    member.handle.need(2, 0);
  });
  return members;
}

test('two agents enrol, meet, and are leased every chunk once between them', async () => {
  const [a, b] = [await runAgent('a'), await runAgent('b')];
  await until(() => a.meshes.at(-1)?.length === 1 && b.meshes.at(-1)?.length === 1);
  expect(a.meshes.at(-1)).toEqual([{ peerId: b.identity.peerId, addresses: ['/ip4/127.0.0.1/tcp/5051'] }]);
  expect(a.membership.check(b.membership.own()!, b.identity.peerId, Date.now()).fleetId).toBe(a.membership.fleetId);

  const members = pull(a, b);
  const [first, second] = members as [Member, Member];
  await until(() => first.leases.length > 0 && second.leases.length > 0);
  while (first.read.length + second.read.length < first.have.length) {
    await until(() => members.some(({ leases }) => leases.length > 0));
    for (const member of members) while (member.readOne());
  }
  expect([...first.read, ...second.read].sort((x, y) => x - y)).toEqual(Array.from({ length: 128 }, (_, i) => i));
  expect(first.read.length).toBeGreaterThan(0);
  expect(second.read.length).toBeGreaterThan(0);
  // What one has read the other hears the digests of, by whom.
  await until(() => second.read.every((index) => first.vouches.get(index) === b.identity.peerId));
});

test('the tracker goes and comes back: no chunk is read twice, and the pull ends', async () => {
  const members = pull(await runAgent('a'), await runAgent('b'));
  await until(() => members.every(({ leases }) => leases.length > 0));
  for (const member of members) member.readOne();
  await until(() => members.every(({ leases }) => leases.length > 0));
  const port = tracker.address.port;
  await tracker.close();
  await until(() => members.every(({ connections }) => connections.at(-1) === false));
  // What is being read goes on; its digests are for the tracker that comes.
  const held = members.map(({ leases }) => [...leases]);
  tracker = await runTracker(port);
  await until(() => members.every(({ connections }) => connections.at(-1) === true));
  members.forEach(({ leases }, i) => expect(leases).toEqual(expect.arrayContaining(held[i]!)));
  const all = (): number[] => members.flatMap(({ read }) => read).sort((x, y) => x - y);
  while (all().length < 128) {
    await until(() => members.some(({ leases }) => leases.length > 0));
    for (const member of members) while (member.readOne());
  }
  expect(all()).toEqual(Array.from({ length: 128 }, (_, i) => i));
});

test('an expelled member is out at once, refused anew, and shunned by the others', async () => {
  const [a, b] = [await runAgent('a'), await runAgent('b')];
  const shown = b.membership.own()!;
  await tracker.fleet.ban(b.identity.peerId, 'expelled', 'test');
  await until(() => a.membership.banned.has(b.identity.peerId) && !b.coordinator.connected);
  expect(() => a.membership.check(shown, b.identity.peerId, Date.now())).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_BANNED' }));
  await until(() => b.coordinator.status().lastError?.code === 'TRACKER_REFUSED');
  expect(a.coordinator.connected).toBe(true);
});

test('what a member may read is found by name and digest', async () => {
  const a = await runAgent('a');
  const signal = new AbortController().signal;
  expect(await a.coordinator.locate(source, blob.digest, signal)).toBeUndefined();
  const [member] = pull(a) as [Member];
  await until(() => member.leases.length > 0);
  expect(await a.coordinator.locate(source, blob.digest, signal)).toMatchObject({ size: blob.size, kind: 'blob' });
  expect(await a.coordinator.locate({ ...source, repository: 'library/httpd' }, blob.digest, signal)).toBeUndefined();
});
