// What operators see at a real tracker: agents of the contract on one side, pages on the other. Time is the tracker's own: `look` is called where a
// second would have to pass.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FinishedBlob, SeenManifest, Vitals } from '@flotilla/shared/agent-report';
import { parseJoinToken } from '@flotilla/shared/join-token';
import { Changes, FleetSnapshot, HostDetail, HostsSnapshot, ImageSnapshot, RolloutSnapshot, SLOW_REASONS, SwarmLive, type Brake, type ImageNow } from '@flotilla/shared/live-api';
import type { ImagePage, MemberList, PullPage, ReceivedFrom, SearchResult, Timeline } from '@flotilla/shared/operator-api';
import { chunkMapSigningBytes } from '@flotilla/shared/chunk-map';
import { packDigests, type AgentMessage } from '@flotilla/shared/tracker-api';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../config.ts';
import { createLogger } from '../log.ts';
import { startTracker, type Tracker } from '../server.ts';
import { TestAgent, TestIdentity } from '../test-agent.ts';
import { blobOf, need, trueDigest, want } from '../test-swarms.ts';
import { LiveClient } from './test-live.ts';

type Stats = Extract<AgentMessage, { type: 'stats' }>;

let dir: string;
let tracker: Tracker;
const clients: LiveClient[] = [];

async function start(): Promise<void> {
  const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0', insecureHttp: true }, env: {} });
  tracker = await startTracker(config, { log: createLogger('silent') });
}

class NamedIdentity extends TestIdentity {
  readonly #name: string;
  readonly #zone: string;

  constructor(name: string, zone: string) {
    super();
    this.#name = name;
    this.#zone = zone;
  }

  override session(timestampMs: number): ReturnType<TestIdentity['session']> {
    return { ...super.session(timestampMs), name: this.#name, zone: this.#zone, labels: { role: 'web' } };
  }
}

async function connect(name = 'host', zone = 'a'): Promise<TestAgent> {
  const token = parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8'));
  return TestAgent.connect(tracker.url, undefined, token, new NamedIdentity(name, zone));
}

const token = async (): Promise<string> => (await readFile(tracker.operatorTokenFile, 'utf8')).trim();

async function ask(method: string, path: string, body?: object): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${tracker.url}/api/v1/${path}`, { method, headers: { authorization: `Bearer ${await token()}`, ...(body && { 'content-type': 'application/json' }) }, ...(body && { body: JSON.stringify(body) }) });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
}

async function listen(topics: string): Promise<LiveClient> {
  const client = await LiveClient.open(tracker.url, topics, { authorization: `Bearer ${await token()}` });
  clients.push(client);
  return client;
}

function stats(peerBytes: number, more: Partial<Stats> = {}): Stats {
  return { type: 'stats', bytes: { peer: peerBytes, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, pulls: { active: 1, done: 0, failed: 0 }, store: { bytes: 10, limit: 100, blobs: 1 }, ...more };
}

function vitals(more: Partial<Vitals> = {}): Vitals {
  return { atMs: Date.now(), peerRate: 1_000_000, originRate: 0, uploadRate: 500_000, loop: 0.1, cpu: 0.2, diskWriteMs: 1, diskBusy: 0.1, peers: 3, sources: 2, missingBytes: 100, freeBytes: 1e12, memoryBytes: 1e8, ...more };
}

function manifest(blobs: readonly { digest: string; size: number }[], tag = '1.27'): SeenManifest {
  return { digest: blobOf(1, 'manifest').digest, size: 1000, mediaType: 'application/vnd.oci.image.manifest.v1+json', origin: 'docker.io', repository: 'library/nginx', tag, blobs: blobs.map(({ digest, size }) => ({ digest, size, kind: 'blob' as const })) };
}

/** As the document says. */
function conforms(schema: TSchema, value: unknown): void {
  const compiled = Compile(schema);
  expect([...compiled.Errors(value)].slice(0, 3)).toEqual([]);
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-view-'));
  await start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await tracker.close();
  await rm(dir, { recursive: true });
});

describe('the live stream', () => {
  test('begins each topic with a snapshot as the contract has it, goes on with deltas', async () => {
    const agent = await connect('web-1', 'b');
    const client = await listen('fleet,hosts');
    expect([client.status, client.contentType]).toEqual([200, 'text/event-stream']);
    const fleet = await client.next(({ kind, data }) => kind === 'snapshot' && data.topic === 'fleet');
    conforms(FleetSnapshot, fleet.data);
    const hosts = await client.next(({ kind, data }) => kind === 'snapshot' && data.topic === 'hosts');
    conforms(HostsSnapshot, hosts.data);
    expect(hosts.data['infos']).toMatchObject([{ n: 0, name: 'web-1', zone: 'b', labels: { role: 'web' }, version: '0' }]);
    await agent.post(stats(5, { vitals: vitals() }));
    const delta = await client.next(({ kind, data }) => kind === 'delta' && data.topic === 'hosts' && (data['figures'] as number[][]).some((row) => row[6] === 5));
    expect(delta.data).toMatchObject({ infos: [], gone: [] });
    expect((delta.data['figures'] as number[][])[0]!.slice(0, 6)).toEqual([0, 0, 1_000_000, 0, 500_000, 1]);
    const rates = await client.next(({ kind, data }) => kind === 'delta' && data.topic === 'fleet' && (data['now'] as { rates: { peer: number } }).rates.peer > 0);
    expect(rates.data).toMatchObject({ now: { hosts: { up: 1, down: 0, pulling: 1 }, bytes: { peer: 5 }, peerShare: 1000 }, point: [expect.any(Number), 1_000_000, 0, 500_000, 0] });
    expect(rates.id).toMatch(/^1-\d+$/);
  });

  test('is for operators, of topics that exist; at most eight', async () => {
    expect((await LiveClient.open(tracker.url, 'fleet', {})).status).toBe(401);
    for (const topics of ['nothing', 'fleet,nothing:x', Array.from({ length: 9 }, (_, n) => `host:${n}`).join(',')]) {
      const client = await listen(topics);
      expect([client.status, client.contentType]).toEqual([400, expect.stringContaining('application/problem+json')]);
    }
  });

  test('of what is not there says so, and begins when it comes', async () => {
    const blob = blobOf(8);
    const client = await listen(`swarm:${blob.digest}`);
    await client.next(({ kind }) => kind === 'gone');
    const agent = await connect();
    await agent.post(want(blob), need(blob, 1));
    const { data } = await client.next(({ kind }) => kind === 'snapshot');
    conforms(SwarmLive, data);
    expect(data).toMatchObject({ chunks: 8, fetching: 1, seeds: 0 });
    agent.cut();
    await client.next(({ kind, data: { atMs } }) => kind === 'gone' && atMs >= data.atMs);
  });

  test('after a lost connection begins anew, whatever was known', async () => {
    const first = await listen('fleet');
    const { id } = await first.next(({ kind }) => kind === 'delta');
    first.close();
    const again = await LiveClient.open(tracker.url, 'fleet', { authorization: `Bearer ${await token()}`, 'last-event-id': id });
    clients.push(again);
    expect((await again.next(() => true)).kind).toBe('snapshot');
  });

  test('ends when the tracker stops', async () => {
    const client = await listen('fleet');
    await tracker.close();
    await client.ended;
    await start();
  });
});

describe('an image', () => {
  test('its progress on every host, its layers, its chart; copies in the list', async () => {
    const layer = blobOf(4);
    const [a, b] = [await connect('web-1'), await connect('web-2')];
    const told = manifest([layer]);
    const own = { digest: told.digest, size: told.size };
    await a.post(stats(0, { manifests: [told], vitals: vitals() }), want(layer), { type: 'have', blob: layer, ranges: [[0, 2]] });
    await b.post(stats(0, { manifests: [told], vitals: vitals({ peerRate: 0, sources: 0 }) }), { type: 'inventory', seeds: [layer, own], complete: true });
    const client = await listen(`image:${told.digest}`);
    const { data } = await client.next(({ kind }) => kind === 'snapshot');
    conforms(ImageSnapshot, data);
    expect(data).toMatchObject({ names: ['docker.io/library/nginx:1.27'], size: layer.size + 1000 });
    const rows = data['rows'] as number[][];
    expect(rows.map((row) => row.slice(0, 2)).sort((x, y) => x[0]! - y[0]!)).toEqual([[0, expect.closeTo(500, -1)], [1, 1000]]);
    expect((data['now'] as ImageNow).layers).toMatchObject([{ digest: told.digest, hosts: 1, done: 1 }, { digest: layer.digest, hosts: 2, done: 1, share: 750 }]);
    const [, done, held, of] = (data['series'] as number[][]).at(-1)!;
    expect([done, of]).toEqual([1, 2]);
    // Whoever joins later takes nothing back from the curve: each point says of how many hosts it tells.
    const c = await connect('web-3');
    await c.post(stats(0, { manifests: [told], vitals: vitals() }), want(layer));
    const joined = await client.next(({ kind, data: { now } }) => kind === 'delta' && (now as ImageNow).hosts === 3);
    expect((joined.data['point'] as number[]).slice(1)).toEqual([1, expect.closeTo((held! * 2) / 3, -1), 3]);
    c.cut();
    await a.post({ type: 'have', blob: layer, ranges: [[2, 2]] }, { type: 'have', blob: own, ranges: [[0, 1]] });
    await client.next(({ kind, data: { now } }) => kind === 'delta' && (now as ImageNow).done === 2);
    const body = (await ask('GET', 'images?q=nginx')).body as ImagePage;
    expect(body).toMatchObject({ total: 1, images: [{ digest: told.digest, copies: 1, partial: 1, layers: 1, names: ['docker.io/library/nginx:1.27'] }] });
    expect(((await ask('GET', `images/sha256:${'0'.repeat(64)}`)).body as { code: string }).code).toBe('IMAGE_UNKNOWN');
  });

  test('is known over a restart', async () => {
    const agent = await connect();
    await agent.post(stats(0, { manifests: [manifest([blobOf(4)])] }));
    tracker.view.look(Date.now());
    await tracker.close();
    await start();
    expect(((await ask('GET', 'images')).body as ImagePage)).toMatchObject({ total: 1, images: [{ copies: 0, names: ['docker.io/library/nginx:1.27'] }] });
  });
});

describe('a swarm and a host', () => {
  test('who has what, who reads what, who sends to whom', async () => {
    const blob = blobOf(8);
    const [a, b] = [await connect('web-1'), await connect('web-2')];
    await a.post(want(blob), need(blob, 1));
    const { leaseId } = await a.next('grant');
    await a.post({ type: 'done', leaseId, blob, first: 0, digests: packDigests([0, 1].map(trueDigest)) });
    await b.post(want(blob));
    const client = await listen(`swarm:${blob.digest},host:${b.identity.peerId}`);
    const { forMs } = await b.next('watch');
    expect(forMs).toBeGreaterThan(1000);
    await b.post(
      stats(0, {
        vitals: vitals(),
        detail: { peers: [[a.identity.peerId, 900, 10, 5000, 50]], downloads: [{ digest: blob.digest, size: blob.size, peerBytes: 5000, originBytes: 0, duplicateBytes: 7, sources: [[a.identity.peerId, 900, 10]] }], errors: [{ atMs: 1, code: 'ORIGIN_THROTTLED', message: '429' }] },
      }),
    );
    const swarm = await client.next(({ data }) => data.topic.startsWith('swarm') && data['told'] === 1);
    conforms(SwarmLive, swarm.data);
    expect(swarm.data).toMatchObject({ sends: [[0, 1, 900]], duplicateBytes: 7, originBytes: blob.size / 4, leases: [{ n: 0, mode: 'run' }] });
    expect(swarm.data['members']).toMatchObject([{ n: 1, held: 0, map: Buffer.alloc(8).toString('base64') }, { n: 0, held: 2, map: Buffer.from([255, 255, 0, 0, 0, 0, 0, 0]).toString('base64') }]);
    expect(swarm.data['availability']).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
    const host = await client.next(({ data }) => data.topic.startsWith('host') && (data['peers'] as unknown[]).length === 1);
    conforms(HostDetail, host.data);
    expect(host.data).toMatchObject({ info: { name: 'web-2' }, state: 'up', peers: [{ n: 0, downRate: 900 }], downloads: [{ digest: blob.digest, peer: 5000 }], errors: [{ code: 'ORIGIN_THROTTLED' }], vitals: { peers: 3 } });
    // What came twice stays counted when the pull is over.
    const { digest, size } = blob;
    await b.post(stats(0, { vitals: vitals(), detail: { peers: [], downloads: [], errors: [] }, finished: [{ digest, size, startedAtMs: 1, endedAtMs: 2, originBytes: 0, resumedBytes: 0, duplicateBytes: 30, peerBytes: size, sources: [] }] }));
    await client.next(({ data }) => data.topic.startsWith('swarm') && data['duplicateBytes'] === 30);
    expect(((await ask('GET', 'hosts/12D3KooWnobody')).body as { code: string }).code).toBe('HOST_UNKNOWN');
  });
});

describe('brakes', () => {
  test('reach the hosts of their scope, are told at once, expire by themselves, and are in the audit log', async () => {
    const [a, b] = [await connect('web-1', 'a'), await connect('web-2', 'b')];
    const made = (await ask('POST', 'brakes', { scope: { kind: 'zone', zone: 'b' }, stopUploads: true, downloadLimit: 1e6, reason: 'switch dying', forMs: 60_000 })) as { status: number; body: Brake };
    expect(made).toMatchObject({ status: 201, body: { hosts: 1, setBy: 'operator-token', stopUploads: true, originOnly: false } });
    const told = await b.next('brakes', ({ brakes }) => brakes.length === 1);
    expect(told.brakes).toMatchObject([{ id: made.body.id, stopUploads: true, downloadLimit: 1e6 }]);
    expect(told.brakes[0]!.forMs).toBeGreaterThan(50_000);
    expect(a.told('brakes').every(({ brakes }) => brakes.length === 0)).toBe(true);
    const late = await connect('web-3', 'b');
    await late.next('brakes', ({ brakes }) => brakes.length === 1);
    // A minute later.
    tracker.view.look(Date.now() + 61_000);
    await b.next('brakes', ({ brakes }) => brakes.length === 0);
    expect(((await ask('GET', 'brakes')).body as Brake[])).toEqual([]);
    const again = (await ask('POST', 'brakes', { scope: { kind: 'host', peerId: a.identity.peerId }, originOnly: true, reason: '', forMs: 60_000 })) as { status: number; body: Brake };
    await a.next('brakes', ({ brakes }) => brakes.length === 1);
    expect((await ask('DELETE', `brakes/${again.body.id}`)).status).toBe(204);
    expect(((await ask('DELETE', `brakes/${again.body.id}`)).body as { code: string }).code).toBe('BRAKE_UNKNOWN');
    expect(((await ask('POST', 'brakes', { scope: { kind: 'fleet' }, reason: '', forMs: 60_000 })).body as { code: string }).code).toBe('BRAKE_INVALID');
    const body = (await ask('GET', 'timeline')).body as Timeline;
    expect(body.events.filter(({ kind }) => kind === 'brake').map(({ text }) => text)).toEqual([
      'operator-token released a brake: origin only for a host',
      'operator-token set a brake: origin only for a host',
      'a brake ended: no uploads, 1.0 MB/s down for zone b',
      'operator-token set a brake: no uploads, 1.0 MB/s down for zone b',
    ]);
  });

  test('outlive a restart', async () => {
    await ask('POST', 'brakes', { scope: { kind: 'fleet' }, uploadLimit: 5e5, zoneLimit: 1e5, reason: 'x', forMs: 60_000 });
    await tracker.close();
    await start();
    const agent = await connect();
    expect((await agent.next('brakes')).brakes).toMatchObject([{ uploadLimit: 5e5, zoneLimit: 1e5 }]);
  });

  test('what a host holds that may not upload is read at the origin by who lacks it', async () => {
    const blob = blobOf(4);
    const [holder, other] = [await connect('web-1'), await connect('web-2')];
    await holder.post({ type: 'inventory', seeds: [blob], complete: true });
    await other.post({ type: 'inventory', seeds: [], complete: true }, want(blob), need(blob, 1));
    const body = (await ask('POST', 'brakes', { scope: { kind: 'host', peerId: holder.identity.peerId }, stopUploads: true, reason: '', forMs: 60_000 })).body as Brake;
    const grant = await other.next('grant');
    expect(grant).toMatchObject({ first: 0, count: 4 });
    await ask('DELETE', `brakes/${body.id}`);
    const third = await connect('web-3');
    await third.post(want(blob), need(blob, 1));
    await third.post();
    expect(third.told('grant')).toEqual([]);
  });
});

test('what pages ask for by plain GET has numbers that tell of a change, and only of one', async () => {
  const agent = await connect('web-1');
  const client = await listen('changes,fleet');
  const first = await client.next(({ kind, data }) => kind === 'snapshot' && data.topic === 'changes');
  conforms(Changes, first.data);
  const told = new Set<string>();
  const after = async (name: keyof Changes['of'], act: () => unknown): Promise<void> => {
    const since = client.events.length;
    const before = (client.events.findLast(({ data }) => data.topic === 'changes')!.data as unknown as Changes).of[name];
    await act();
    await client.next((event) => client.events.indexOf(event) >= since && event.data.topic === 'changes' && (event.data as unknown as Changes).of[name] !== before);
    told.add(name);
  };
  await after('images', () => agent.post(stats(5, { manifests: [manifest([blobOf(2, 'layer')])] })));
  await after('audit', () => ask('POST', 'tokens', { name: 'ci', role: 'read' }));
  await after('pulls', () => agent.post(stats(6, { finished: [{ ...blobOf(2, 'layer'), startedAtMs: 1, endedAtMs: 2, originBytes: 1, resumedBytes: 0, duplicateBytes: 0, peerBytes: 0, sources: [] }] })));
  // Three more looks at the fleet, and nothing has changed.
  const quiet = client.events.length;
  await client.next((event) => event.data.topic === 'fleet' && client.events.slice(quiet).filter(({ data }) => data.topic === 'fleet').length >= 3);
  expect(client.events.slice(quiet).filter(({ data }) => data.topic === 'changes')).toEqual([]);
  await after('members', () => ask('POST', `members/${agent.identity.peerId}/quarantine`, { reason: 'smoke' }));
  expect(told.size).toBe(4);
});

describe('finished pulls', () => {
  const blob = blobOf(4);
  const finished = (from: string, more: Partial<FinishedBlob> = {}): FinishedBlob => ({ digest: blob.digest, size: blob.size, origin: 'docker.io', repository: 'library/nginx', manifest: manifest([blob]).digest, startedAtMs: 1000, endedAtMs: 3000, originBytes: 10, resumedBytes: 0, duplicateBytes: 0, peerBytes: 90, sources: [[from, 90]], requestIds: ['req-1'], ...more });

  test('blobs of one image are one pull, with its sources, found by all that is at hand, over a restart', async () => {
    const [a, b] = [await connect('web-1'), await connect('web-2')];
    await a.post(stats(0, { manifests: [manifest([blob, blobOf(1, 'config')])], finished: [finished(b.identity.peerId)] }));
    // Layers that take longer than a pause belong to it as well.
    const config = blobOf(1, 'config');
    await a.post(want(config));
    tracker.view.look(Date.now() + 20_000);
    expect(((await ask('GET', 'pulls')).body as PullPage).pulls).toEqual([]);
    await a.post(stats(0, { finished: [finished(b.identity.peerId, { digest: config.digest, endedAtMs: 4000, requestIds: [] })] }), { type: 'leave', blob: config, kept: false });
    tracker.view.look(Date.now() + 40_000);
    await tracker.close();
    await start();
    const body = (await ask('GET', 'pulls')).body as PullPage;
    expect(body.pulls).toMatchObject([
      { host: 'web-1', image: 'docker.io/library/nginx:1.27', startedAtMs: 1000, endedAtMs: 4000, bytes: { peer: 180, origin: 20 }, from: [{ peerId: b.identity.peerId, name: 'web-2', bytes: 180 }], sources: 1, requestIds: ['req-1'] },
    ]);
    expect(body.pulls[0]!.blobs).toHaveLength(2);
    for (const query of ['host=web-1', 'image=nginx', `digest=${blob.digest}`, `host=${a.identity.peerId}`]) expect(((await ask('GET', `pulls?${query}`)).body as PullPage).pulls, query).toHaveLength(1);
    expect(((await ask('GET', 'pulls?host=web-2')).body as PullPage).pulls).toEqual([]);
    expect((await ask('GET', `pulls/${body.pulls[0]!.id}`)).status).toBe(200);
    const received = (await ask('GET', `members/${b.identity.peerId}/received`)) as { status: number; body: ReceivedFrom };
    expect(received.body).toMatchObject({ complete: true, receivers: [{ peerId: a.identity.peerId, name: 'web-1', bytes: 180, images: ['docker.io/library/nginx:1.27'] }] });
    const kinds = async (q: string): Promise<string[]> => ((await ask('GET', `search?q=${encodeURIComponent(q)}`)).body as SearchResult).hits.map(({ kind }) => kind);
    expect(await kinds('nginx')).toEqual(['image', 'pull']);
    expect(await kinds('req-1')).toEqual(['request']);
    expect([await kinds('req-'), await kinds('req')]).toEqual([['request'], []]);
    expect(await kinds('WEB-1')).toEqual(['host', 'pull']);
    expect(await kinds(manifest([]).digest.slice(0, 20))).toEqual(['image']);
    expect(await kinds('no such thing')).toEqual([]);
  });

  test('pages go on where the last ended', async () => {
    const agent = await connect();
    for (let count = 0; count < 5; count++) {
      await agent.post(stats(0, { finished: [finished('12D3KooWsomebody', { repository: `app-${count}`, manifest: blobOf(1, `m${count}`).digest })] }));
    }
    tracker.view.look(Date.now() + 20_000);
    const first = ((await ask('GET', 'pulls?limit=3')).body as PullPage);
    const second = ((await ask('GET', `pulls?limit=3&before=${first.next}`)).body as PullPage);
    expect([...first.pulls, ...second.pulls].map(({ image }) => image)).toEqual([4, 3, 2, 1, 0].map((count) => `docker.io/app-${count}`));
    expect(second.next).toBeUndefined();
  });
});

describe('members', () => {
  test('quarantine, readmit, remove; the join token is rotated', async () => {
    const agent = await connect('web-1');
    const { peerId } = agent.identity;
    expect(((await ask('DELETE', `members/${peerId}`)).body as { code: string }).code).toBe('MEMBER_CONNECTED');
    expect((await ask('POST', `members/${peerId}/quarantine`, { reason: 'odd' })).status).toBe(204);
    await agent.ended;
    expect(((await ask('GET', 'members')).body as MemberList).members).toMatchObject([{ peerId, name: 'web-1', state: 'quarantined', reason: 'odd', trusted: true, accusers: [], lies: 0 }]);
    expect((await ask('POST', `members/${peerId}/readmit`)).status).toBe(204);
    expect((await ask('DELETE', `members/${peerId}`)).status).toBe(204);
    expect(((await ask('GET', 'members')).body as MemberList).members).toEqual([]);
    const before = (await ask('GET', 'join-token')) as { status: number; body: { id: string } };
    const after = (await ask('POST', 'join-token')) as { status: number; body: { id: string } };
    expect(after.body.id).not.toBe(before.body.id);
    expect(parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8')).id).toBe(after.body.id);
    const body = (await ask('GET', 'timeline')).body as Timeline;
    expect(body.events.map(({ kind, text }) => `${kind}: ${text}`)).toEqual([
      'access: operator-token rotated the join token',
      'member: operator-token removed web-1',
      'member: operator-token readmitted web-1',
      'member: web-1 in quarantine: odd',
      expect.stringMatching(/^tracker: the tracker started, version /),
    ]);
  });

  test('a seed that lied is seen as such', async () => {
    const [a, b, bad] = [await connect('web-1'), await connect('web-2'), await connect('web-3')];
    const accusation: AgentMessage = { type: 'accuse', blob: blobOf(1), index: 0, peer: bad.identity.peerId };
    await a.post(accusation);
    await b.post(accusation);
    await bad.ended;
    const { members } = ((await ask('GET', 'members')).body as MemberList);
    expect(members.find(({ name }) => name === 'web-3')).toMatchObject({ state: 'quarantined', accusers: [a.identity.peerId, b.identity.peerId] });
    tracker.view.look(Date.now());
    tracker.view.look(Date.now() + 2_000);
    const fleet = tracker.view.fleetNow(Date.now());
    expect(fleet.alerts).toMatchObject([{ code: 'quarantined', severity: 'bad', examples: [2], hosts: 1 }]);
    // Its session ends at once; the timeline says so when the ban has been written.
    const told = async (): Promise<string[]> => ((await ask('GET', 'timeline')).body as Timeline).events.map(({ text }) => text);
    await expect.poll(told).toContain('web-3 in quarantine: two members got wrong bytes from it');
  });
});

test('a rollout is a topic of its own', async () => {
  const agent = await connect('web-1');
  const body = (await ask('POST', 'rollouts', { image: 'docker.io/library/nginx:1.27' })).body as { id: string };
  const client = await listen(`rollout:${body.id},rollouts`);
  const { data } = await client.next(({ data: { topic }, kind }) => kind === 'snapshot' && topic === `rollout:${body.id}`);
  conforms(RolloutSnapshot, data);
  const { tasks } = await agent.next('rollouts', (event) => event.tasks.length > 0);
  await agent.post({ type: 'rollout-result', rolloutId: body.id, attempt: tasks[0]!.attempt, ok: true, resolved: { digest: blobOf(1).digest, size: 5, mediaType: 'x' } });
  const pull = await agent.next('rollouts', (event) => event.tasks.some(({ task }) => task === 'pull'));
  await agent.post({ type: 'rollout-progress', rolloutId: body.id, attempt: pull.tasks[0]!.attempt, phase: 'pulling', manifest: blobOf(1).digest, layers: [blobOf(4)], held: [blobOf(4).size / 2] });
  const delta = await client.next(({ kind, data: { topic, rows } }) => kind === 'delta' && topic === `rollout:${body.id}` && (rows as unknown[][]).some((row) => row[6] === 'pulling'));
  expect(delta.data['rows']).toEqual([[0, 1, 1, 0, 500, expect.any(Number), 'pulling', SLOW_REASONS.indexOf('')]]);
});

test('versions, settings and starts are on the timeline', async () => {
  const identity = new NamedIdentity('web-1', 'a');
  const token = parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8'));
  await TestAgent.connect(tracker.url, undefined, token, identity);
  tracker.view.look(Date.now());
  await tracker.close();
  const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0', insecureHttp: true, metricsPerHost: true }, env: {} });
  tracker = await startTracker(config, { log: createLogger('silent') });
  class Newer extends TestIdentity {
    override session(timestampMs: number): ReturnType<TestIdentity['session']> {
      return { ...identity.session(timestampMs), agentVersion: '0.2.0' };
    }
  }
  await TestAgent.reopen(tracker.url, undefined, new Newer());
  tracker.view.look(Date.now());
  const texts = async (): Promise<string[]> => ((await ask('GET', 'timeline')).body as Timeline).events.map(({ kind, text }) => `${kind}: ${text}`);
  await expect.poll(texts).toEqual(expect.arrayContaining(['version: 1 host: version 0 → 0.2.0', "settings: the tracker's metricsPerHost: false → true"]));
});

test('the API describes itself: every operator route, its role and its schemas', async () => {
  const response = await fetch(`${tracker.url}/api/v1/openapi.json`);
  const document = (await response.json()) as { openapi: string; paths: Record<string, Record<string, { security?: unknown; description?: string; responses: Record<string, unknown> }>> };
  expect(document.openapi).toBe('3.1.0');
  const routes = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
  expect(routes).toEqual(expect.arrayContaining(['post /api/v1/sign-in', 'get /api/v1/live', 'get /api/v1/hosts/{peerId}', 'post /api/v1/brakes', 'post /api/v1/rollouts', 'get /api/v1/search']));
  expect(routes.filter((route) => /enroll|session|metrics/.test(route))).toEqual([]);
  expect(document.paths['/api/v1/tokens']!['post']).toMatchObject({ security: [{ token: [] }, { session: [] }], description: 'Role: admin.', responses: { 201: expect.anything(), '4XX': expect.anything() } });
  expect(document.paths['/api/v1/sign-in']!['post']!.security).toBeUndefined();
});

test('chunk maps signed by a seed end the progress of its host', async () => {
  const agent = await connect();
  const blob = blobOf(2);
  await agent.post(want(blob), need(blob, 1));
  const { leaseId } = await agent.next('grant');
  const digests = [0, 1].map(trueDigest);
  await agent.post({ type: 'done', leaseId, blob, first: 0, digests: packDigests(digests) }, { type: 'seed', blob, signature: agent.identity.sign(chunkMapSigningBytes(blob, digests)) });
  const body = (await ask('GET', `images/${blob.digest}`)).body as { rows: number[][] };
  expect(body.rows).toEqual([[0, 1000, 0, 0, -1]]);
});
