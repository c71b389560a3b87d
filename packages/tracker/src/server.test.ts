// The tracker as agents and operators meet it: real HTTPS, the CA pinned by the join token, real state on disk.

import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { caPin, parseJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import { verifyMembership } from '@flotilla/shared/membership';
import { ROUTES, type AgentMessage } from '@flotilla/shared/tracker-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig, type Flags } from './config.ts';
import { createLogger } from './log.ts';
import { startTracker, type Tracker } from './server.ts';
import type { FleetStatus } from './status.ts';
import { call, parseEnrolled, problem, TestAgent, TestIdentity, type Reply } from './test-agent.ts';
import { blobOf, need, trueDigest, want } from './test-swarms.ts';
import { rotateJoinToken } from './tokens.ts';
import { packDigests } from '@flotilla/shared/tracker-api';

let dir: string;
let tracker: Tracker;
let ca: string | undefined;
let token: JoinToken;

async function start(flags: Flags = {}, options: { maxQueuedBytes?: number } = {}): Promise<void> {
  const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0', ...flags }, env: {} });
  tracker = await startTracker({ ...config, heartbeatMs: Number(flags['heartbeatMs'] ?? config.heartbeatMs) }, { log: createLogger('silent'), ...options });
  ca = tracker.caPem;
  token = parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8'));
}

function connect(identity?: TestIdentity): Promise<TestAgent> {
  return TestAgent.connect(tracker.url, ca, token, identity);
}

function post(path: string, body: object): Promise<Reply> {
  return call(tracker.url + path, { ca, method: 'POST', body: JSON.stringify(body) });
}

async function status(): Promise<FleetStatus> {
  const operator = (await readFile(tracker.operatorTokenFile, 'utf8')).trim();
  const reply = await call(`${tracker.url}/api/v1/status`, { ca, headers: { authorization: `Bearer ${operator}` } });
  expect(reply.status).toBe(200);
  return JSON.parse(reply.text) as FleetStatus;
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-tracker-'));
});

afterEach(async () => {
  await tracker.close();
  await rm(dir, { recursive: true });
});

describe('trust', () => {
  test('the join token pins the CA that is shown to anybody, and the certificate is by it, for name and address', async () => {
    await start();
    const shown = await call(tracker.url + ROUTES.ca, { ca });
    expect(shown).toMatchObject({ status: 200, text: ca });
    expect(caPin(shown.text)).toBe(token.caPin);
    expect((await call(`https://localhost:${tracker.address.port}/healthz`, { ca })).status).toBe(200);
    await expect(call(`${tracker.url}/healthz`, {})).rejects.toThrow(/certificate|issuer|self-signed/i);
  });

  test('secrets are readable by their owner alone', async () => {
    await start();
    for (const file of ['join-token', 'operator-token', 'fleet-key.pem', 'tls/ca-key.pem', 'tls/server-key.pem']) {
      expect((await stat(join(dir, file))).mode & 0o777, file).toBe(0o600);
    }
  });

  test('CA, tokens and fleet stay over a restart; the epoch rises', async () => {
    await start();
    const [before, first] = [{ ca, token }, await status()];
    await tracker.close();
    await start();
    const second = await status();
    expect({ ca, token }).toEqual(before);
    expect(second.fleetId).toBe(first.fleetId);
    expect(second.epoch).toBe(first.epoch + 1);
  });

  test('plain HTTP only where it is asked for: then the token pins nothing', async () => {
    await start({ insecureHttp: true });
    expect(tracker.url).toMatch(/^http:/);
    expect(token.caPin).toBeUndefined();
    const reply = await call(tracker.url + ROUTES.ca);
    expect([reply.status, problem(reply).code]).toEqual([404, 'CA_NONE']);
    await connect();
  });

  test('given certificates are used, and not pinned', async () => {
    await start();
    const tls = { tlsCert: join(dir, 'tls/server.pem'), tlsKey: join(dir, 'tls/server-key.pem') };
    const issuer = ca;
    await tracker.close();
    await start({ ...tls, listen: '127.0.0.1:0' });
    expect(ca).toBeUndefined();
    expect(token.caPin).toBeUndefined();
    expect((await call(`${tracker.url}/readyz`, { ca: issuer })).status).toBe(200);
  });
});

describe('enrolment', () => {
  test('gives a membership that others can check', async () => {
    await start();
    const identity = new TestIdentity();
    const reply = await post(ROUTES.enroll, identity.enrolment(token, Date.now()));
    expect(reply.status).toBe(200);
    const { fleetId, fleetKey, membership } = parseEnrolled(reply);
    const checked = verifyMembership(membership, createPublicKey(fleetKey), identity.peerId, Date.now());
    expect(checked.fleetId).toBe(fleetId);
    expect(checked.notAfterMs - Date.now()).toBeGreaterThan(29 * 86_400_000);
  });

  test.each([
    ['TOKEN_UNKNOWN', 401, { tokenId: 'other' }],
    ['TOKEN_PROOF_WRONG', 401, { mac: 'AAAA' }],
    ['TOKEN_PROOF_WRONG', 401, { timestampMs: 1 }],
    ['SIGNATURE_WRONG', 401, { signature: 'AAAA' }],
    ['KEY_INVALID', 400, { publicKey: 'AAAA' }],
    ['KEY_INVALID', 400, { publicKey: new TestIdentity().publicKey }],
    ['REQUEST_INVALID', 400, { peerId: 7 }],
  ])('%s', async (code, expected, change) => {
    await start();
    const reply = await post(ROUTES.enroll, { ...new TestIdentity().enrolment(token, Date.now()), ...change });
    expect([reply.status, problem(reply).code]).toEqual([expected, code]);
    expect(reply.type).toContain('application/problem+json');
    expect(problem(reply)).toMatchObject({ type: `urn:flotilla:tracker:${code}`, status: expected });
    expect((await status()).members).toEqual([]);
  });

  test('CLOCK_SKEW: an old proof is worth nothing', async () => {
    await start();
    const reply = await post(ROUTES.enroll, new TestIdentity().enrolment(token, Date.now() - 6 * 60_000));
    expect(problem(reply).code).toBe('CLOCK_SKEW');
  });

  test('a rotated token counts at once, without a restart; members stay', async () => {
    await start();
    const agent = await connect();
    await rotateJoinToken(dir);
    const refused = await post(ROUTES.enroll, new TestIdentity().enrolment(token, Date.now()));
    expect(problem(refused).code).toBe('TOKEN_UNKNOWN');
    const fresh = parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8'));
    expect(fresh.caPin).toBe(token.caPin);
    expect((await post(ROUTES.enroll, new TestIdentity().enrolment(fresh, Date.now()))).status).toBe(200);
    expect((await agent.post()).status).toBe(204);
  });
});

describe('session', () => {
  test('the welcome comes first, renews the membership, and the mesh follows', async () => {
    await start();
    const [a, b] = [await connect(), await connect()];
    expect(a.events[0]).toMatchObject({ type: 'welcome', epoch: 1, heartbeatMs: 30_000 });
    const { fleetKey, membership } = a.welcome;
    verifyMembership(membership, createPublicKey(fleetKey), a.identity.peerId, Date.now());
    const mesh = await a.next('mesh', ({ peers }) => peers.length === 1);
    expect(mesh.peers).toEqual([{ peerId: b.identity.peerId, addresses: ['/ip4/127.0.0.1/tcp/5051'] }]);
    b.cut();
    await a.next('mesh', ({ peers }) => peers.length === 0 && a.told('mesh').length > 1);
  });

  test('only of members, fresh, with their own key, once', async () => {
    await start();
    const identity = new TestIdentity();
    const stranger = await post(ROUTES.session, identity.session(Date.now()));
    expect([stranger.status, problem(stranger).code]).toEqual([403, 'MEMBER_UNKNOWN']);
    await post(ROUTES.enroll, identity.enrolment(token, Date.now()));
    const forged = { ...new TestIdentity().session(Date.now()), peerId: identity.peerId };
    expect(problem(await post(ROUTES.session, forged)).code).toBe('SIGNATURE_WRONG');
    expect(problem(await post(ROUTES.session, identity.session(Date.now() - 3_600_000))).code).toBe('CLOCK_SKEW');
    const request = identity.session(Date.now());
    const stream = await TestAgent.stream(tracker.url, ca, JSON.stringify(request));
    expect(stream.statusCode).toBe(200);
    expect(problem(await post(ROUTES.session, request)).code).toBe('REPLAYED');
    stream.destroy();
  });

  test('a new session of the same agent ends the old one', async () => {
    await start();
    const first = await connect();
    const second = await TestAgent.reopen(tracker.url, ca, first.identity);
    await first.ended;
    expect(problem(await first.post()).code).toBe('SESSION_UNKNOWN');
    expect((await second.post()).status).toBe(204);
    expect((await status()).sessions).toBe(1);
  });

  test('posts are numbered and sealed', async () => {
    await start();
    const agent = await connect();
    const body = '{"messages":[]}';
    expect((await agent.postBody(body, 1)).status).toBe(204);
    const cases: [string, number, Promise<Reply>][] = [
      ['MAC_WRONG', 401, agent.postBody(body, 2, agent.mac(1, body))],
      ['MAC_WRONG', 401, agent.postBody('{"messages": []}', 2, agent.mac(2, body))],
      ['SEQUENCE_WRONG', 409, agent.postBody(body, 3)],
      ['SEQUENCE_WRONG', 409, agent.postBody(body, 0)],
    ];
    for (const [code, expected, reply] of cases) expect([problem(await reply).code, (await reply).status]).toEqual([code, expected]);
    expect((await agent.postBody(body, 2)).status).toBe(204);
  });

  test('the last post again, whose answer was lost, is taken but does not count twice', async () => {
    await start();
    const agent = await connect();
    const body = JSON.stringify({ messages: [want(blobOf(8)), need(blobOf(8), 2)] satisfies AgentMessage[] });
    for (let tries = 0; tries < 3; tries++) expect((await agent.postBody(body, 1)).status).toBe(204);
    await agent.next('grant', ({ first }) => first === 4);
    expect(agent.told('grant')).toHaveLength(2);
    expect(problem(await agent.postBody('{"messages":[ ]}', 1)).code).toBe('SEQUENCE_WRONG');
  });

  test('a malformed batch is refused whole, an unknown session and a body too large as such', async () => {
    await start();
    const agent = await connect();
    const bad = await agent.postBody('{"messages":[{"type":"need"}]}', 1);
    expect([bad.status, problem(bad).code]).toEqual([400, 'REQUEST_INVALID']);
    const broken = await agent.postBody('{"messages":', 2);
    expect(problem(broken).code).toBe('REQUEST_INVALID');
    const huge = await agent.postBody(JSON.stringify({ messages: [], padding: 'x'.repeat(1024 * 1024) }), 2);
    expect([huge.status, problem(huge).code]).toEqual([413, 'BODY_TOO_LARGE']);
    const unknown = await call(`${tracker.url}${ROUTES.messages('nobody')}`, { ca, method: 'POST', body: '{"messages":[]}', headers: { 'flotilla-sequence': '1', 'flotilla-mac': 'AAAA' } });
    expect([unknown.status, problem(unknown).code]).toEqual([404, 'SESSION_UNKNOWN']);
  });

  test('an agent that is silent for three heartbeats is gone; one that speaks is pinged and stays', async () => {
    await start({ heartbeatMs: '100' });
    const [silent, talking] = [await connect(), await connect()];
    const timer = setInterval(() => void talking.post(), 50);
    await silent.ended;
    await talking.next('ping');
    clearInterval(timer);
    expect((await status()).members.filter(({ session }) => session !== undefined).map(({ peerId }) => peerId)).toEqual([talking.identity.peerId]);
  });

  test('an agent that does not take what it is told is cut off', async () => {
    await start({}, { maxQueuedBytes: 64 * 1024 });
    const agent = await connect();
    const blob = blobOf(2048);
    const digests = packDigests(Array.from({ length: 2048 }, (_, index) => trueDigest(index)));
    expect((await agent.post(want(blob), { type: 'done', leaseId: 'old', blob, first: 0, digests })).status).toBe(204);
    const reader = await connect();
    reader.stall();
    // Each answer is 3.5 MB: more than sockets take before long.
    const wants = Array.from({ length: 40 }, () => want(blob));
    let last = 204;
    for (let tries = 0; tries < 100 && last === 204; tries++) last = (await reader.post(...wants)).status;
    expect(last).toBe(404);
    expect((await agent.post()).status).toBe(204);
  });

  test('stop ends all streams at once', async () => {
    await start();
    const agents = await Promise.all([connect(), connect(), connect()]);
    await tracker.close();
    await Promise.all(agents.map(({ ended }) => ended));
    await expect(agents[0].post()).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe('leases over the wire', () => {
  test('a grant, its digests for the others, and the next grant', async () => {
    await start();
    const [a, b] = [await connect(), await connect()];
    const blob = blobOf(12);
    await a.post({ type: 'inventory', seeds: [], complete: true }, want(blob, { origin: 'docker.io' }), need(blob, 2));
    const grant = await a.next('grant');
    expect(grant).toMatchObject({ blob, first: 0, count: 4, mode: 'run', epoch: 1 });
    await b.post(want(blob), need(blob, 2));
    await b.next('grant', ({ first }) => first === 8);
    await a.post({ type: 'done', leaseId: grant.leaseId, blob, first: 0, digests: packDigests([0, 1, 2, 3].map(trueDigest)) });
    expect(await b.next('digests')).toMatchObject({ first: 0, by: a.identity.peerId });
    const { swarms, origin } = await status();
    expect(swarms.active).toMatchObject([{ digest: blob.digest, members: [{ held: 4 }, { held: 0 }] }]);
    expect(origin).toMatchObject({ grantedBytes: blob.size, doneBytes: blob.size / 3 });
  });

  test('the end of a stream gives its leases to others', async () => {
    await start();
    const [a, b] = [await connect(), await connect()];
    const blob = blobOf(4);
    await a.post(want(blob), need(blob, 2));
    await a.next('grant');
    await b.post(want(blob), need(blob, 2));
    a.cut();
    expect(await b.next('grant')).toMatchObject({ first: 0, count: 4 });
  });

  test('after a restart those who were there are waited for', async () => {
    await start();
    const blob = blobOf(4);
    const first = await connect();
    const second = await connect();
    await tracker.close();
    await start();
    const back = await TestAgent.reopen(tracker.url, ca, first.identity);
    await back.post(want(blob), need(blob, 2), { type: 'inventory', seeds: [], complete: true });
    const holder = await TestAgent.reopen(tracker.url, ca, second.identity);
    await holder.post({ type: 'inventory', seeds: [blob], complete: true });
    // The holder is known now: whatever was granted meanwhile would be a second copy.
    const other = blobOf(4, 'other');
    await back.post(want(other), need(other, 1));
    expect((await back.next('grant')).blob).toEqual(other);
  });

  test('a seed that signs the digests known makes them one run in its name', async () => {
    await start();
    const [a, b] = [await connect(), await connect()];
    const blob = blobOf(2);
    const { chunkMapSigningBytes } = await import('@flotilla/shared/chunk-map');
    await a.post(want(blob), need(blob, 1));
    const { leaseId } = await a.next('grant');
    const digests = [0, 1].map(trueDigest);
    await a.post({ type: 'done', leaseId, blob, first: 0, digests: packDigests(digests) }, { type: 'seed', blob, signature: a.identity.sign(chunkMapSigningBytes(blob, digests)) });
    expect(tracker.fleet.swarms.totals).toMatchObject({ mapsSigned: 1, mapsRefused: 0 });
    await b.post({ type: 'seed', blob, signature: a.identity.sign(chunkMapSigningBytes(blob, digests)) });
    expect(tracker.fleet.swarms.totals).toMatchObject({ mapsSigned: 1, mapsRefused: 1 });
  });
});

describe('locate', () => {
  const source = { origin: 'docker.io', repository: 'library/nginx', kind: 'manifest', mediaType: 'application/vnd.oci.image.index.v1+json' } as const;
  const blob = blobOf(1);
  const question = { origin: source.origin, repository: source.repository, digest: blob.digest };

  test('knows what a member that may read wanted there, over a restart; nothing else', async () => {
    await start();
    const agent = await connect();
    await agent.post({ type: 'want', blob, source, canRead: true, have: [], reading: [] });
    await agent.post({ type: 'want', blob, source: { ...source, repository: 'private/thing' }, canRead: false, have: [], reading: [] });
    const found = { found: { size: blob.size, kind: 'manifest', mediaType: source.mediaType } };
    expect(JSON.parse((await agent.ask(question)).text)).toEqual(found);
    await tracker.close();
    await start();
    const back = await TestAgent.reopen(tracker.url, ca, agent.identity);
    expect(JSON.parse((await back.ask(question)).text)).toEqual(found);
    expect(JSON.parse((await back.ask({ ...question, repository: 'private/thing' })).text)).toEqual({});
  });

  test('says of a name that is told although it is private that it is', async () => {
    await start();
    const agent = await connect();
    await agent.post({ type: 'want', blob, source: { ...source, private: true }, canRead: true, have: [], reading: [] });
    expect(JSON.parse((await agent.ask(question)).text)).toEqual({ found: { size: blob.size, kind: 'manifest', mediaType: source.mediaType, private: true } });
    await agent.post({ type: 'want', blob, source, canRead: true, have: [], reading: [] });
    expect(JSON.parse((await agent.ask(question)).text)).toEqual({ found: { size: blob.size, kind: 'manifest', mediaType: source.mediaType } });
  });

  test('has the number 0, so that it neither waits nor makes others wait', async () => {
    await start();
    const agent = await connect();
    expect(problem(await agent.ask(question, 1)).code).toBe('SEQUENCE_WRONG');
    expect((await agent.ask(question)).status).toBe(200);
    expect((await agent.post()).status).toBe(204);
  });
});

describe('operators', () => {
  test('need the token; health and metrics do not', async () => {
    await start();
    const agent = await connect();
    for (const authorization of ['', 'Bearer wrong', 'Basic abc']) {
      const reply = await call(`${tracker.url}/api/v1/status`, { ca, headers: { authorization } });
      expect([reply.status, problem(reply).code]).toEqual([401, 'OPERATOR_UNAUTHORIZED']);
    }
    await agent.post({ type: 'stats', bytes: { peer: 5, origin: 7, store: 1, uploaded: 2, duplicate: 0 }, pulls: { active: 1, done: 0, failed: 0 }, store: { bytes: 10, limit: 100, blobs: 1 } });
    const now = await status();
    expect(now.totals).toEqual({ bytes: { peer: 5, origin: 7, store: 1, uploaded: 2, duplicate: 0 }, pulls: { active: 1, done: 0, failed: 0 }, storeBytes: 10 });
    expect(now.members).toMatchObject([{ peerId: agent.identity.peerId, state: 'member', trusted: true, session: { name: 'host', stats: { bytes: { peer: 5 } } } }]);
    expect((await call(`${tracker.url}/readyz`, { ca })).status).toBe(200);
    const metrics = (await call(`${tracker.url}/metrics`, { ca })).text;
    expect(metrics).toContain('flotilla_tracker_sessions 1');
    expect(metrics).toContain('flotilla_tracker_nodejs_eventloop_lag_seconds');
    expect(metrics, 'they need a timer').not.toMatch(/eventloop_lag_(mean|p99)/);
    expect(metrics).toContain('flotilla_tracker_problems_total{code="OPERATOR_UNAUTHORIZED"} 3');
    expect(metrics).not.toContain(agent.identity.peerId);
    const unknown = await call(`${tracker.url}/api/v1/nothing`, { ca });
    expect(problem(unknown).code).toBe('ROUTE_UNKNOWN');
  });

  test('hosts are series of their own where a setting says so', async () => {
    await start({ metricsPerHost: true });
    const agent = await connect();
    await agent.post({ type: 'stats', bytes: { peer: 5, origin: 7, store: 1, uploaded: 2, duplicate: 0 }, pulls: { active: 0, done: 0, failed: 0 }, store: { bytes: 1, limit: 1, blobs: 1 } });
    expect((await call(`${tracker.url}/metrics`, { ca })).text).toContain(`flotilla_host_bytes{host="host",peer_id="${agent.identity.peerId}",kind="peer"} 5`);
  });

  test('expel a member: it is out at once, everybody is told, also later and after a restart; readmission undoes it', async () => {
    await start();
    const [good, bad] = [await connect(), await connect()];
    const operator = (): Promise<string> => readFile(tracker.operatorTokenFile, 'utf8').then((text) => text.trim());
    const act = async (path: string, body?: object): Promise<Reply> =>
      call(`${tracker.url}/api/v1/members/${path}`, { ca, method: 'POST', headers: { authorization: `Bearer ${await operator()}` }, ...(body && { body: JSON.stringify(body) }) });
    expect((await act(`${bad.identity.peerId}/expel`, { reason: 'stolen' })).status).toBe(204);
    await bad.ended;
    expect((await good.next('banned')).peers).toEqual([bad.identity.peerId]);
    for (const [path, body] of [[ROUTES.session, bad.identity.session(Date.now())], [ROUTES.enroll, bad.identity.enrolment(token, Date.now())]] as const) {
      const reply = await post(path, body);
      expect([reply.status, problem(reply).code]).toEqual([403, 'MEMBER_BANNED']);
    }
    await tracker.close();
    await start();
    const later = await connect();
    expect((await later.next('banned')).peers).toEqual([bad.identity.peerId]);
    expect((await act(`${bad.identity.peerId}/readmit`)).status).toBe(204);
    expect((await later.next('banned', ({ peers }) => peers.length === 0)).peers).toEqual([]);
    await TestAgent.reopen(tracker.url, ca, bad.identity);
    expect(problem(await act('12D3KooWnobody/expel', { reason: 'x' })).code).toBe('MEMBER_UNKNOWN');
  });

  test('two accusers are quarantine, durably', async () => {
    await start();
    const [a, b, bad] = [await connect(), await connect(), await connect()];
    const accusation: AgentMessage = { type: 'accuse', blob: blobOf(1), index: 0, peer: bad.identity.peerId };
    await a.post(accusation);
    await b.post(accusation);
    await bad.ended;
    expect((await a.next('banned')).peers).toEqual([bad.identity.peerId]);
    await tracker.close();
    await start();
    expect((await status()).members.find(({ peerId }) => peerId === bad.identity.peerId)).toMatchObject({ state: 'quarantined', reason: 'two members got wrong bytes from it' });
    expect(problem(await post(ROUTES.session, bad.identity.session(Date.now()))).code).toBe('MEMBER_BANNED');
  });
});

describe('trouble at the start', () => {
  test('a port in use is named with its flag, and nothing stays behind', async () => {
    await start();
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    await tracker.close();
    await expect(start({ listen: `127.0.0.1:${port}` })).rejects.toMatchObject({ code: 'PORT_IN_USE', message: `port ${port} is in use (--listen 127.0.0.1:${port})` });
    other.close();
    await start();
  });

  test('a data folder in use is named', async () => {
    await start();
    const first = tracker;
    await expect(start()).rejects.toMatchObject({ code: 'STATE_LOCKED' });
    tracker = first;
  });
});
