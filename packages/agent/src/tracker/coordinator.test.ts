import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bitfield, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkMapSigningBytes, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import type { ImportSeat } from '@flotilla/shared/import-seats';
import { formatJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import { packDigests, type AgentMessage, type PeerInfo } from '@flotilla/shared/tracker-api';
import { publicKeyFromProtobuf } from '@libp2p/crypto/keys';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Membership } from '../access/membership.ts';
import type { Lease, LeaseHandle, LeaseMember, LeaseRoster, Source } from '../content/ports.ts';
import { openIdentity, type Identity } from '../identity.ts';
import { LAST_LEASES_MS, TrackerCoordinator, type CoordinatorInit } from './coordinator.ts';
import { LOOK_INTERVAL_MS } from './local-leases.ts';
import { TestClock } from './test-clock.ts';
import { TestTracker, type TestSession } from './test-tracker.ts';

const MIB = 1024 * 1024;
const token: JoinToken = { id: 'token-1', secret: Buffer.alloc(32, 7).toString('base64url') };
const source: Source = { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' };
const keyOf = (hex: string, size = 4 * MIB): BlobKey => ({ digest: parseDigest(`sha256:${hex.repeat(64)}`), size });
const digestOf = (byte: number): Uint8Array => Buffer.alloc(32, byte);

/** A Download as far as leases go: asks for two runs whenever it is told that the tracker came or went. */
class Member implements LeaseMember {
  readonly key: BlobKey;
  readonly have: Bitfield;
  handle!: LeaseHandle;
  leases: Lease[] = [];
  readonly calls: string[] = [];
  readonly vouches: unknown[] = [];
  view: LeaseRoster = { peers: [], heldByPeer: () => false, readByPeer: () => false };
  readonly #waiting = new Set<() => void>();

  constructor(key: BlobKey) {
    this.key = key;
    this.have = new Bitfield(key.size / (64 * 1024));
  }

  reading(): IndexRange[] {
    return this.leases.map(({ first, count }) => [first, count]);
  }
  roster(): LeaseRoster {
    return this.view;
  }
  grant(lease: Lease): void {
    this.leases.push(lease);
    this.#called(`grant ${lease.first}+${lease.count} ${lease.mode}`);
  }
  revoke(leaseId: string, keep: number): void {
    this.#called(`revoke ${leaseId} ${keep}`);
  }
  vouched(first: number, digests: readonly Uint8Array[], by: string): void {
    this.vouches.push([first, digests.map((digest) => digest[0]), by]);
    this.#called('vouched');
  }
  invalid(ranges: readonly IndexRange[]): void {
    this.#called(`invalid ${JSON.stringify(ranges)}`);
  }
  peers(peers: readonly PeerInfo[]): void {
    this.#called(`peers ${peers.length}`);
  }
  importer(seat: ImportSeat): void {
    this.#called(`importer ${seat.seat} of ${seat.seats}`);
  }
  trackerChanged(connected: boolean): void {
    this.#called(`tracker ${connected}`);
    this.handle.need(2, 0);
  }

  /** Reads what it was granted, all of it, and says so. */
  readAll(): void {
    for (const { leaseId, first, count } of this.leases.splice(0)) {
      const indexes = Array.from({ length: count }, (_, i) => first + i);
      for (const index of indexes) this.have.set(index);
      this.handle.done(leaseId, first, indexes.map(digestOf));
      this.handle.have(indexes);
      this.handle.release(leaseId, 'unneeded');
    }
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }

  #called(call: string): void {
    this.calls.push(call);
    for (const wake of this.#waiting) wake();
  }
}

let dir: string;
let identity: Identity;
let membership: Membership;
let clock: TestClock;
let meshes: (readonly PeerInfo[])[];
let stored: BlobKey[];
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-coordinator-'));
  identity = await openIdentity(dir);
  membership = await Membership.open(dir);
  clock = new TestClock();
  meshes = [];
  stored = [];
  await writeFile(join(dir, 'join-token'), formatJoinToken(token));
});
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  await rm(dir, { recursive: true, force: true });
});

async function startTracker(port = 0): Promise<{ tracker: TestTracker; url: string }> {
  const tracker = new TestTracker(token);
  const url = await tracker.listen(port);
  ends.push(() => tracker.close());
  return { tracker, url };
}

const silent: Pick<CoordinatorInit, 'describe' | 'stats'> = {
  describe: () => ({ addresses: [], name: 'host-1', labels: {}, agentVersion: '0.1.0' }),
  stats: () => ({
    bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 },
    pulls: { active: 0, done: 0, failed: 0 },
    store: { bytes: 0, limit: 0, blobs: 0 },
  }),
};

function start(url?: string, more: Partial<CoordinatorInit> = {}): TrackerCoordinator {
  const coordinator = new TrackerCoordinator(
    { identity, membership, clock, random: () => 0.5, log: { info: () => undefined, warn: () => undefined } },
    {
      ...(url !== undefined && { tracker: { urls: [url], joinTokenFile: join(dir, 'join-token') } }),
      ...silent,
      inventory: () => Promise.resolve(stored),
      onMesh: (peers) => meshes.push(peers),
      ...more,
    },
  );
  ends.push(() => coordinator.close());
  coordinator.start();
  return coordinator;
}

function joinWith(coordinator: TrackerCoordinator, member: Member, canRead = true): Member {
  member.handle = coordinator.join(member, source, canRead);
  return member;
}

/** What a session heard of a type, after the tracker got it; the clock turns meanwhile. */
async function heard<T extends AgentMessage['type']>(tracker: TestTracker, session: TestSession, type: T, count = 1): Promise<Extract<AgentMessage, { type: T }>[]> {
  const ofType = (): Extract<AgentMessage, { type: T }>[] => session.messages.filter((message): message is Extract<AgentMessage, { type: T }> => message.type === type);
  const timer = setInterval(() => clock.advance(20), 1);
  await tracker.until(() => ofType().length >= count).finally(() => clearInterval(timer));
  return ofType();
}

function grant(key: BlobKey, leaseId: string, first: number, count: number, epoch = 7): Record<string, unknown> {
  return { type: 'grant', epoch, leaseId, blob: key, first, count, deadlineMs: 5_000, mode: 'run' };
}

describe('with a tracker', () => {
  test('a join is told, leases come to the right Download, and its reports go back in order', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const [a, b] = [joinWith(coordinator, new Member(keyOf('a'))), joinWith(coordinator, new Member(keyOf('b')), false)];
    const session = await tracker.session(0);
    await a.until(() => a.calls.includes('tracker true'));
    expect(coordinator.connected).toBe(true);
    const wants = await heard(tracker, session, 'want', 2);
    expect(wants).toEqual([
      { type: 'want', blob: a.key, source, canRead: true, have: [], reading: [], round: 0 },
      { type: 'want', blob: b.key, source, canRead: false, have: [], reading: [], round: 0 },
    ]);
    expect((await heard(tracker, session, 'need', 2))[0]).toEqual({ type: 'need', blob: a.key, runs: 2, originRate: 0 });

    session.send(grant(a.key, 'lease-1', 16, 2));
    await a.until(() => a.leases.length === 1);
    expect(a.leases[0]).toEqual({ leaseId: 'lease-1', first: 16, count: 2, deadlineMs: 5_000, mode: 'run' });
    a.handle.progress('lease-1', 500);
    a.readAll();
    await heard(tracker, session, 'release');
    const about = session.messages.slice(session.messages.findLastIndex(({ type }) => type === 'need') + 1).filter(({ type }) => type !== 'stats' && type !== 'inventory');
    expect(about).toEqual([
      { type: 'progress', leaseId: 'lease-1', bytes: 500 },
      { type: 'done', leaseId: 'lease-1', blob: a.key, first: 16, digests: packDigests([digestOf(16), digestOf(17)]) },
      { type: 'have', blob: a.key, ranges: [[16, 2]], round: 0 },
      { type: 'release', leaseId: 'lease-1', reason: 'unneeded' },
    ]);
    expect(b.leases).toEqual([]);
  });

  test('who may read after all, or from elsewhere, says so with what it holds; a private name is kept back', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url, { mayName: (named) => named.private !== true });
    const a = joinWith(coordinator, new Member(keyOf('a')), false);
    const session = await tracker.session(0);
    await a.until(() => a.calls.includes('tracker true'));
    a.have.set(3);
    a.handle.source({ ...source, repository: 'private/app', private: true }, true);
    expect((await heard(tracker, session, 'want', 2))[1]).toEqual({ type: 'want', blob: a.key, canRead: true, have: [[3, 1]], reading: [], round: 0 });
    a.handle.source(source, true);
    expect((await heard(tracker, session, 'want', 3))[2]).toEqual({ type: 'want', blob: a.key, source, canRead: true, have: [[3, 1]], reading: [], round: 0 });
  });

  test('what it says of a blob reaches its Download only; mesh and banned reach the agent', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const [a, b] = [joinWith(coordinator, new Member(keyOf('a'))), joinWith(coordinator, new Member(keyOf('b')))];
    const session = await tracker.session(0);
    const peers = [{ peerId: 'peer-number-1', addresses: ['/ip4/10.0.0.1/tcp/5051'] }];
    session.send(
      { type: 'mesh', peers },
      { type: 'banned', peers: ['peer-number-9'] },
      grant(a.key, 'lease-1', 0, 16),
      { type: 'revoke', leaseId: 'lease-1', keep: 3 },
      { type: 'revoke', leaseId: 'unknown', keep: 3 },
      { type: 'digests', blob: a.key, first: 4, digests: packDigests([digestOf(4), digestOf(5)]), by: 'peer-number-2' },
      { type: 'digests', blob: keyOf('c'), first: 4, digests: '', by: 'peer-number-2' },
      { type: 'invalid', blob: a.key, ranges: [[1, 2]] },
      { type: 'importer', blob: a.key, seats: 3, seat: 1 },
      { type: 'peers', blob: a.key, peers },
    );
    await a.until(() => a.calls.includes('peers 1'));
    expect(a.calls.slice(1)).toEqual(['grant 0+16 run', 'revoke lease-1 3', 'vouched', 'invalid [[1,2]]', 'importer 1 of 3', 'peers 1']);
    expect(a.vouches).toEqual([[4, [4, 5], 'peer-number-2']]);
    expect(b.calls).toEqual(['tracker true']);
    expect(meshes).toEqual([peers]);
    expect([...membership.banned]).toEqual(['peer-number-9']);
  });

  test('what it says of a blob, it says with the last of the tracker\'s `invalid`s that it has heard', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const session = await tracker.session(0);
    await a.until(() => a.calls.includes('tracker true'));
    a.handle.have([0]);
    session.send({ type: 'invalid', blob: a.key, ranges: [[1, 2]], round: 7 });
    await a.until(() => a.calls.includes('invalid [[1,2]]'));
    a.handle.have([1]);
    a.handle.source(source, true);
    a.handle.mismatch();
    await heard(tracker, session, 'mismatch');
    expect(session.messages.filter(({ type }) => ['have', 'want', 'mismatch'].includes(type))).toMatchObject([
      { type: 'want', round: 0 },
      { type: 'have', ranges: [[0, 1]], round: 0 },
      { type: 'have', ranges: [[1, 1]], round: 7 },
      { type: 'want', round: 7 },
      { type: 'mismatch', round: 7 },
    ]);
  });

  test('while the agent reads by itself its seat among importers is kept for afterwards, as it is told once', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const session = await tracker.session(0);
    session.send({ type: 'importer', blob: a.key, seats: 2, seat: 0 });
    await a.until(() => a.calls.includes('importer 0 of 2'));
    coordinator.readByItself(true);
    session.send({ type: 'importer', blob: a.key, seats: 3, seat: 1 }, { type: 'peers', blob: a.key, peers: [] });
    await a.until(() => a.calls.includes('peers 0'));
    coordinator.readByItself(false);
    expect(a.calls.filter((call) => /^(importer|tracker)/.test(call))).toEqual(['tracker true', 'importer 0 of 2', 'tracker false', 'tracker true', 'importer 1 of 3']);
  });

  test.each([
    ['a grant past the end', grant(keyOf('a'), 'x', 60, 5)],
    ['digests past the end', { type: 'digests', blob: keyOf('a'), first: 64, digests: packDigests([digestOf(1)]), by: 'peer-number-2' }],
    ['half a digest', { type: 'digests', blob: keyOf('a'), first: 0, digests: 'AAAA', by: 'peer-number-2' }],
    ['invalid chunks past the end', { type: 'invalid', blob: keyOf('a'), ranges: [[0, 65]] }],
  ])('%s ends the session and does not reach the Download', async (_name, event) => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    (await tracker.session(0)).send(event);
    await a.until(() => a.calls.includes('tracker false'));
    expect(a.calls).toEqual(['tracker true', 'tracker false']);
    expect(coordinator.status().state).not.toBe('connected');
  });

  test('a grant for a blob that nobody here wants any more, or of an old epoch, is given back', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const session = await tracker.session(0);
    await a.until(() => a.calls.length === 1);
    joinWith(coordinator, new Member(keyOf('b'))).handle.leave(false);
    session.send(grant(keyOf('b'), 'left', 0, 1), grant(a.key, 'old', 0, 1, 6));
    expect(await heard(tracker, session, 'release', 2)).toEqual([
      { type: 'release', leaseId: 'left', reason: 'unneeded' },
      { type: 'release', leaseId: 'old', reason: 'unneeded' },
    ]);
    expect(a.leases).toEqual([]);
  });

  test('the inventory is told in parts, also an empty one', async () => {
    const { tracker, url } = await startTracker();
    stored = Array.from({ length: 5_000 }, (_, i) => ({ digest: parseDigest(`sha256:${i.toString(16).padStart(64, '0')}`), size: i }));
    start(url);
    const parts = await heard(tracker, await tracker.session(0), 'inventory', 2);
    expect(parts.map(({ seeds, complete }) => [seeds.length, complete])).toEqual([[4_096, false], [904, true]]);
    stored = [];
    tracker.sessions[0]!.end();
    const next = setInterval(() => clock.advance(500), 1);
    const session = await tracker.session(1).finally(() => clearInterval(next));
    expect(await heard(tracker, session, 'inventory')).toEqual([{ type: 'inventory', seeds: [], complete: true }]);
  });

  test('a seed is signed with the key of the agent', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const session = await tracker.session(0);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    await a.until(() => coordinator.connected);
    const digests = Array.from({ length: 64 }, (_, i) => digestOf(i));
    a.handle.seed(digests);
    a.handle.leave(true);
    const [seed] = await heard(tracker, session, 'seed');
    const signed = await publicKeyFromProtobuf(identity.publicKey).verify(chunkMapSigningBytes(a.key, digests), Buffer.from(seed!.signature, 'base64url'));
    expect(signed).toBe(true);
    const types = session.messages.map(({ type }) => type);
    expect(types.indexOf('leave')).toBeGreaterThan(types.indexOf('seed'));
  });

  test('conflict, mismatch, accuse, hedge, lost and evicted are told', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const session = await tracker.session(0);
    await a.until(() => a.calls.length === 1);
    a.handle.conflict(3, 'peer-number-2', digestOf(1), digestOf(2));
    a.handle.mismatch();
    a.handle.hedge(9);
    a.handle.lost([[3, 4]]);
    coordinator.accuse(a.key, 5, 'peer-number-3');
    coordinator.evicted(keyOf('f', 100_000));
    await heard(tracker, session, 'lost', 2);
    expect(session.messages).toEqual(
      expect.arrayContaining([
        { type: 'conflict', blob: a.key, index: 3, peer: 'peer-number-2', heard: packDigests([digestOf(1)]), expected: packDigests([digestOf(2)]) },
        { type: 'mismatch', blob: a.key, round: 0 },
        { type: 'hedge', blob: a.key, index: 9 },
        { type: 'lost', blob: a.key, ranges: [[3, 4]] },
        { type: 'accuse', blob: a.key, index: 5, peer: 'peer-number-3' },
        { type: 'lost', blob: keyOf('f', 100_000), ranges: [[0, 2]] },
      ]),
    );
  });

  test('names can be kept from it', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url, { mayName: ({ origin }) => origin !== 'docker.io' });
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const [want] = await heard(tracker, await tracker.session(0), 'want');
    expect(want).toEqual({ type: 'want', blob: a.key, canRead: true, have: [], reading: [], round: 0 });
  });
});

describe('the tracker goes and comes', () => {
  test('its loss is told at once, the rules without it apply, and at its return it hears the state as it is then', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const session = await tracker.session(0);
    await heard(tracker, session, 'need');
    session.send(grant(a.key, 'lease-1', 0, 8));
    await a.until(() => a.leases.length === 1);
    session.cut();
    await a.until(() => a.calls.includes('tracker false'));
    expect(coordinator.connected).toBe(false);
    a.handle.done('lease-1', 0, [digestOf(0)]);
    a.have.setRange([0, 4]);
    a.handle.have([0, 1, 2, 3]);
    clock.advance(LAST_LEASES_MS - 1);
    expect(a.leases, 'what the tracker leased last may not be known yet').toHaveLength(1);
    clock.advance(1);
    expect(a.leases.slice(1).map(({ first, count, mode }) => [first, count, mode]), 'alone: the rest in long runs').toEqual([[8, 56, 'run']]);
    a.leases.pop();
    a.handle.leave(false);

    const b = joinWith(coordinator, new Member(keyOf('b')));
    b.have.setRange([0, 4]);
    b.handle.need(1, 0, [[0, 20]]);
    clock.advance(0);
    expect(b.leases, 'peers are given a moment to say what they hold').toEqual([]);
    clock.advance(300);
    expect(b.leases.map(({ first, count }) => [first, count])).toEqual([[4, 16]]);
    const turning = setInterval(() => clock.advance(50), 1);
    const again = await tracker.session(1).finally(() => clearInterval(turning));
    await b.until(() => b.calls.includes('tracker true'));
    expect(await heard(tracker, again, 'want')).toEqual([{ type: 'want', blob: b.key, source, canRead: true, have: [[0, 4]], reading: [[4, 16]], round: 0 }]);
    await heard(tracker, again, 'inventory');
    expect(again.messages.filter(({ type }) => ['done', 'have', 'leave'].includes(type)), 'nothing of the time between').toEqual([]);
    expect(again.messages.findIndex(({ type }) => type === 'want')).toBeLessThan(again.messages.findIndex(({ type }) => type === 'inventory'));

    // The local lease is read in part and given back: its digests count, and what is read now is told.
    const local = b.leases.pop()!;
    b.handle.progress(local.leaseId, 5);
    b.have.setRange([4, 2]);
    b.handle.done(local.leaseId, 4, [digestOf(4), digestOf(5)]);
    b.handle.release(local.leaseId, 'failed');
    const wants = await heard(tracker, again, 'want', 2);
    expect(wants[1]).toMatchObject({ have: [[0, 6]], reading: [] });
    expect(again.messages.filter(({ type }) => type === 'release')).toEqual([]);
    expect(again.messages.filter(({ type }) => type === 'done' || type === 'progress')).toMatchObject([{ leaseId: local.leaseId, bytes: 5 }, { first: 4 }]);
  });

  test('a lease from before that was read to its end needs no new want', async () => {
    const { tracker, url } = await startTracker();
    const coordinator = start(url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    const session = await tracker.session(0);
    await a.until(() => a.calls.length === 1);
    session.send(grant(a.key, 'lease-1', 0, 8));
    await a.until(() => a.leases.length === 1);
    session.cut();
    await a.until(() => a.calls.includes('tracker false'));
    a.handle.need(0, 0);
    const turning = setInterval(() => clock.advance(50), 1);
    const again = await tracker.session(1).finally(() => clearInterval(turning));
    await heard(tracker, again, 'want');
    a.readAll();
    a.handle.mismatch();
    await heard(tracker, again, 'mismatch');
    expect(again.messages.filter(({ type }) => ['want', 'done', 'release'].includes(type)).map(({ type }) => type)).toEqual(['want', 'done']);
  });

  test('after a start together with the fleet, Downloads wait for the first answer of the tracker, two seconds at most', async () => {
    const { url } = await startTracker();
    // Not started: the answer of the tracker is on its way for as long as the test likes.
    const coordinator = new TrackerCoordinator(
      { identity, membership, clock, log: { info: () => undefined, warn: () => undefined } },
      { ...silent, tracker: { urls: [url], joinTokenFile: join(dir, 'join-token') }, inventory: () => Promise.resolve([]), onMesh: () => undefined },
    );
    ends.push(() => coordinator.close());
    const a = joinWith(coordinator, new Member(keyOf('a')));
    a.handle.need(1, 0);
    clock.advance(1_900);
    expect(a.leases).toEqual([]);
    clock.advance(LOOK_INTERVAL_MS);
    expect(a.leases).toHaveLength(1);
  });

  test('a tracker that is away at the start holds nobody up', async () => {
    const gone = await startTracker();
    await gone.tracker.close();
    const coordinator = start(gone.url);
    const a = joinWith(coordinator, new Member(keyOf('a')));
    a.handle.need(1, 0);
    const turning = setInterval(() => clock.advance(1), 1);
    await a.until(() => a.leases.length === 1).finally(() => clearInterval(turning));
    expect(coordinator.status()).toMatchObject({ url: gone.url, lastError: { code: 'TRACKER_UNREACHABLE' } });
  });
});

describe('without a tracker', () => {
  test('an agent alone gets long runs, never from within its own call', () => {
    const coordinator = start();
    const a = joinWith(coordinator, new Member(keyOf('a', 8 * MIB)));
    a.handle.need(2, 0);
    expect(a.leases).toEqual([]);
    clock.advance(0);
    expect(a.leases.map(({ first, count, mode }) => [first, count, mode])).toEqual([[0, 64, 'run'], [64, 64, 'run']]);
    expect(new Set(a.leases.map(({ leaseId }) => leaseId)).size).toBe(2);
    expect(coordinator.status().state).toBe('alone');
    expect(coordinator.connected).toBe(false);
  });

  test('no more leases than it asked for, and none after it has left', () => {
    const coordinator = start();
    const a = joinWith(coordinator, new Member(keyOf('a', 20 * MIB)));
    a.handle.need(1, 0);
    clock.advance(10 * LOOK_INTERVAL_MS);
    expect(a.leases).toHaveLength(1);
    a.handle.need(1, 0);
    a.handle.leave(false);
    clock.advance(10 * LOOK_INTERVAL_MS);
    expect(a.leases).toHaveLength(1);
    expect(clock.pending).toBe(0);
  });

  test('who may not read at the origin gets none', () => {
    const a = joinWith(start(), new Member(keyOf('a')), false);
    a.handle.need(2, 0);
    clock.advance(60_000);
    expect(a.leases).toEqual([]);
  });

  test('who may read after all gets some, and after a refusal does not wait where another right does', () => {
    const a = joinWith(start(), new Member(keyOf('a', 20 * MIB)), false);
    a.handle.need(1, 0);
    clock.advance(60_000);
    a.handle.source(source, true);
    clock.advance(0);
    expect(a.leases).toHaveLength(1);
    a.handle.release(a.leases.splice(0)[0]!.leaseId, 'denied');
    a.handle.need(1, 0);
    clock.advance(5000);
    expect(a.leases).toEqual([]);
    a.handle.source({ ...source, repository: 'library/other' }, true);
    clock.advance(0);
    expect(a.leases).toHaveLength(1);
    a.handle.release(a.leases.splice(0)[0]!.leaseId, 'denied');
    a.handle.source(source, false);
    a.handle.need(1, 0);
    clock.advance(120_000);
    expect(a.leases).toEqual([]);
  });

  test('long runs are cut back when a second agent appears', () => {
    const a = joinWith(start(), new Member(keyOf('a', 8 * MIB)));
    a.handle.need(1, 0);
    clock.advance(0);
    a.view = { ...a.view, peers: ['peer-number-2'] };
    clock.advance(LOOK_INTERVAL_MS);
    expect(a.calls.at(-1)).toBe(`revoke ${a.leases[0]!.leaseId} 16`);
    const calls = a.calls.length;
    clock.advance(3 * LOOK_INTERVAL_MS);
    expect(a.calls).toHaveLength(calls);
  });

  test.each([
    ['failed', undefined, 1_000],
    ['throttled', undefined, 5_000],
    ['throttled', 12_000, 12_000],
    ['denied', undefined, 30_000],
  ] as const)('after a lease that %s (retry after %s) it waits %d ms', (reason, retryAfterMs, waitMs) => {
    const a = joinWith(start(), new Member(keyOf('a')));
    a.handle.need(1, 0);
    clock.advance(0);
    a.handle.release(a.leases.pop()!.leaseId, reason, retryAfterMs);
    a.handle.need(1, 0);
    clock.advance(waitMs - 1);
    expect(a.leases).toEqual([]);
    clock.advance(LOOK_INTERVAL_MS);
    expect(a.leases).toHaveLength(1);
  });

  test('an origin without Range is streamed whole', () => {
    const a = joinWith(start(), new Member(keyOf('a')));
    a.handle.need(1, 0);
    clock.advance(0);
    a.handle.release(a.leases.pop()!.leaseId, 'no-ranges');
    a.handle.need(1, 0);
    clock.advance(0);
    expect(a.leases.map(({ first, count, mode }) => [first, count, mode])).toEqual([[0, 64, 'stream']]);
  });

  test('a stalled chunk is hedged though a peer holds it', () => {
    const a = joinWith(start(), new Member(keyOf('a')));
    a.view = { peers: ['peer-number-2'], heldByPeer: () => true, readByPeer: () => false };
    a.handle.need(1, 0);
    a.handle.hedge(5);
    clock.advance(2_500);
    expect(a.leases.map(({ first, count, mode }) => [first, count, mode])).toEqual([[5, 1, 'hedge']]);
  });

  test('three agents that see one another take every chunk once, whatever the order they look in', () => {
    const ids = ['peer-number-1', 'peer-number-2', 'peer-number-3'];
    const members = ids.map(() => new Member(keyOf('a', 8 * MIB)));
    const covers = (ranges: readonly IndexRange[], index: number): boolean => ranges.some(([first, count]) => index >= first && index < first + count);
    ids.forEach((peerId, own) => {
      const others = members.filter((_, i) => i !== own);
      const member = members[own]!;
      member.view = {
        peers: ids.filter((_, i) => i !== own),
        heldByPeer: (index) => others.some(({ have }) => have.has(index)),
        readByPeer: (index) => others.some((other) => covers(other.reading(), index)),
      };
      const coordinator = new TrackerCoordinator(
        { identity: { ...identity, peerId }, membership, clock, log: { info: () => undefined, warn: () => undefined } },
        { ...silent, inventory: () => Promise.resolve([]), onMesh: () => undefined },
      );
      ends.push(() => coordinator.close());
      joinWith(coordinator, member);
    });
    const reads: number[] = [];
    for (let round = 0; round < 40; round++) {
      for (const member of members) member.handle.need(2, 0);
      clock.advance(LOOK_INTERVAL_MS);
      for (const { leases } of members) reads.push(...leases.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i)));
      for (const member of members) member.readAll();
    }
    expect(reads.sort((a, b) => a - b)).toEqual(Array.from({ length: 128 }, (_, i) => i));
  });

  test('locate knows nothing', async () => {
    expect(await start().locate({ origin: 'docker.io', repository: 'library/nginx' }, keyOf('a').digest, new AbortController().signal)).toBeUndefined();
  });
});
