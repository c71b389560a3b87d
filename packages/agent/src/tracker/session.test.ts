import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Vitals } from '@flotilla/shared/agent-report';
import { caPin, type JoinToken } from '@flotilla/shared/join-token';
import type { AgentMessage, TrackerEvent } from '@flotilla/shared/tracker-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Membership } from '../access/membership.ts';
import type { AgentError } from '../errors.ts';
import { openIdentity, type Identity } from '../identity.ts';
import { backoffMs, MAX_BACKOFF_MS, MIN_BACKOFF_MS } from './backoff.ts';
import { TrackerClient } from './client.ts';
import { COALESCE_MS, MAX_QUEUED } from './outbox.ts';
import { TrackerSession, type SessionListener } from './session.ts';
import { TEST_CA, TRACKER_CERTIFICATE } from './test-certificates.ts';
import { TestClock } from './test-clock.ts';
import { TestTracker } from './test-tracker.ts';

const token: JoinToken = { id: 'token-1', secret: Buffer.alloc(32, 7).toString('base64url') };
const blob = { digest: `sha256:${'a'.repeat(64)}`, size: 1_000_000 };
const need = { type: 'need', blob, runs: 1, originRate: 0 } as const satisfies AgentMessage;
const have = (index: number): AgentMessage => ({ type: 'have', blob, ranges: [[index, 1]] });
const IDLE: Vitals = { atMs: 0, peerRate: 0, originRate: 0, uploadRate: 0, loop: 0, cpu: 0, diskWriteMs: 0, diskBusy: 0, peers: 0, sources: 0, missingBytes: 0, freeBytes: 0, memoryBytes: 0 };
const withoutStats = (messages: readonly AgentMessage[]): AgentMessage[] => messages.filter(({ type }) => type !== 'stats');

/** What the session tells, to be waited for. */
class Listener implements SessionListener {
  readonly opens: number[] = [];
  readonly events: TrackerEvent[] = [];
  readonly losses: AgentError[] = [];
  readonly failures: AgentError[] = [];
  readonly #waiting = new Set<() => void>();

  opened(epoch: number): void {
    this.opens.push(epoch);
    this.#wake();
  }

  event(event: TrackerEvent): void {
    this.events.push(event);
    this.#wake();
  }

  lost(error: AgentError): void {
    this.losses.push(error);
    this.#wake();
  }

  failed(error: AgentError): void {
    this.failures.push(error);
    this.#wake();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

let dir: string;
let identity: Identity;
let membership: Membership;
let clock: TestClock;
let client: TrackerClient;
let listener: Listener;
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-session-'));
  identity = await openIdentity(dir);
  membership = await Membership.open(dir);
  clock = new TestClock();
  client = new TrackerClient();
  listener = new Listener();
});
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  await client.close();
  await rm(dir, { recursive: true, force: true });
});

async function startTracker(tls = false, port = 0): Promise<{ tracker: TestTracker; url: string }> {
  const tracker = new TestTracker(token, tls ? { ...TRACKER_CERTIFICATE, ca: TEST_CA } : undefined);
  const url = await tracker.listen(port);
  ends.push(() => tracker.close());
  return { tracker, url };
}

function startSession(urls: readonly string[], joinToken: JoinToken = token, pullsActive = () => 0, more: () => object = () => ({})): TrackerSession {
  const session = new TrackerSession(
    { client, identity, membership, clock, random: () => 0.5, log: { info: () => undefined, warn: () => undefined } },
    {
      urls,
      joinToken: () => Promise.resolve(joinToken),
      describe: () => ({ addresses: ['/ip4/127.0.0.1/tcp/5051'], name: 'host-1', zone: 'z', labels: { rack: '7' }, agentVersion: '0.1.0' }),
      stats: () => ({
        bytes: { peer: 1, origin: 2, store: 3, uploaded: 4, duplicate: 5 },
        pulls: { active: pullsActive(), done: 0, failed: 0 },
        store: { bytes: 0, limit: 0, blobs: 0 },
        ...more(),
      }),
    },
    listener,
  );
  ends.push(() => session.close());
  session.start();
  return session;
}

/** Waits for the tracker while the clock turns, so that what is due after an answer is sent when the answer is here. */
async function turning(tracker: TestTracker, condition: () => boolean, stepMs = 0): Promise<void> {
  const timer = setInterval(() => clock.advance(stepMs), 1);
  await tracker.until(condition).finally(() => clearInterval(timer));
}

describe('opening', () => {
  test('enrols, opens over https by the pin, and takes the membership over', async () => {
    const { tracker, url } = await startTracker(true);
    const session = startSession([url], { ...token, caPin: caPin(TEST_CA) });
    await listener.until(() => listener.opens.length === 1);
    expect(listener.opens).toEqual([7]);
    expect(tracker.enrolled).toBe(1);
    expect(tracker.sessions[0]!.request).toMatchObject({ peerId: identity.peerId, name: 'host-1', zone: 'z', labels: { rack: '7' } });
    expect(membership.check(membership.own()!, identity.peerId, clock.nowMs()).fleetId).toBe('test-fleet');
    expect(session.status()).toMatchObject({ state: 'connected', url, sessionId: tracker.sessions[0]!.id, lastError: undefined });
  });

  test('a known member does not enrol again, until the tracker no longer knows it', async () => {
    const { tracker, url } = await startTracker();
    startSession([url]);
    (await tracker.session(0)).end();
    await listener.until(() => listener.losses.length === 1);
    clock.advance(MAX_BACKOFF_MS);
    await listener.until(() => listener.opens.length === 2);
    expect(tracker.enrolled).toBe(1);
    tracker.members.clear();
    tracker.sessions[1]!.end();
    await listener.until(() => listener.losses.length === 2);
    clock.advance(MAX_BACKOFF_MS);
    await listener.until(() => listener.opens.length === 3);
    expect(tracker.enrolled).toBe(2);
  });

  test('a wrong pin stops before anything is told, and stays in the status', async () => {
    const { tracker, url } = await startTracker(true);
    const session = startSession([url], { ...token, caPin: `sha256:${'1'.repeat(64)}` });
    await listener.until(() => listener.failures.length === 1);
    expect(listener.failures[0]!.code).toBe('TRACKER_PIN');
    expect(tracker.requests).toEqual(['GET /api/v1/ca']);
    expect(session.connected).toBe(false);
    expect(session.status().lastError?.code).toBe('TRACKER_PIN');
  });

  test('a wrong join token is refused, and a corrected one works without a restart', async () => {
    const { url } = await startTracker();
    const changing = { ...token, secret: Buffer.alloc(32, 8).toString('base64url') };
    startSession([url], changing);
    await listener.until(() => listener.failures.length === 1);
    expect(listener.failures[0]).toMatchObject({ code: 'TRACKER_REFUSED', detail: { status: 401, code: 'JOIN_TOKEN_REFUSED' } });
    Object.assign(changing, token);
    clock.advance(MAX_BACKOFF_MS);
    await listener.until(() => listener.opens.length === 1);
  });

  test('trackers are tried in order; the first that answers is kept to', async () => {
    const gone = await startTracker();
    await gone.tracker.close();
    const { tracker, url } = await startTracker();
    const session = startSession([gone.url, url]);
    await listener.until(() => listener.opens.length === 1);
    expect(tracker.sessions).toHaveLength(1);
    expect(session.status().url).toBe(url);
    expect(listener.failures).toEqual([]);
  });
});

describe('events', () => {
  test('arrive in order; unknown ones are counted; pings are not shown', async () => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    const remote = await tracker.session(0);
    remote.send({ type: 'mesh', peers: [] }, { type: 'ping' }, { type: 'news', from: 'later' }, { type: 'banned', peers: [] });
    await listener.until(() => listener.events.length === 2);
    expect(listener.events).toEqual([{ type: 'mesh', peers: [] }, { type: 'banned', peers: [] }]);
    expect(session.status().eventsIgnored).toBe(1);
  });

  test.each(['{"type":"grant"}\n', 'nonsense\n', '{"type":"welcome","sessionId":"x","key":"","epoch":1,"heartbeatMs":1,"fleetId":"f","fleetKey":"k","membership":"m"}\n'])(
    'the malformed line %j ends the session, and another is opened',
    async (line) => {
      const { tracker, url } = await startTracker();
      startSession([url]);
      (await tracker.session(0)).raw(line);
      await listener.until(() => listener.losses.length === 1);
      expect(listener.losses[0]!.code).toBe('TRACKER_PROTOCOL');
      clock.advance(MAX_BACKOFF_MS);
      await listener.until(() => listener.opens.length === 2);
    },
  );

  test('a listener that throws ends the session with its error', async () => {
    const { tracker, url } = await startTracker();
    const failing = Object.assign(new Error('no such chunk'), { name: 'Odd' });
    listener.event = () => {
      throw failing;
    };
    startSession([url]);
    (await tracker.session(0)).send({ type: 'mesh', peers: [] });
    await listener.until(() => listener.losses.length === 1);
    expect(listener.losses[0]).toMatchObject({ code: 'INTERNAL', cause: failing });
  });

  test('silence of three heartbeats is the end; a ping is enough to go on', async () => {
    const { tracker, url } = await startTracker();
    tracker.heartbeatMs = 1_000;
    startSession([url]);
    const remote = await tracker.session(0);
    await listener.until(() => listener.opens.length === 1);
    clock.advance(2_900);
    remote.send({ type: 'ping' }, { type: 'mesh', peers: [] });
    await listener.until(() => listener.events.length === 1);
    clock.advance(2_900);
    remote.send({ type: 'mesh', peers: [] });
    await listener.until(() => listener.events.length === 2 || listener.losses.length > 0);
    expect(listener.losses).toEqual([]);
    clock.advance(3_000);
    await listener.until(() => listener.losses.length === 1);
    expect(listener.losses[0]!.message).toContain('silent');
  });
});

describe('posts', () => {
  test('are numbered and sealed; urgent ones go at once, others wait for company', async () => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    const remote = tracker.sessions[0]!;
    clock.advance(COALESCE_MS);
    await tracker.until(() => remote.sequence === 1);
    session.send(have(1));
    clock.advance(COALESCE_MS - 1);
    session.send(have(2));
    session.send(need);
    session.send(have(3));
    await turning(tracker, () => remote.sequence === 2);
    expect(remote.messages.slice(1)).toEqual([{ type: 'have', blob, ranges: [[1, 2]] }, need, have(3)]);
  });

  test('one at a time: what arises meanwhile goes together, in order', async () => {
    const { tracker, url } = await startTracker();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    tracker.gate = gate;
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    const remote = tracker.sessions[0]!;
    session.send(need);
    clock.advance(0);
    await tracker.until(() => remote.sequence === 1);
    for (let runs = 2; runs < 10; runs++) {
      session.send({ ...need, runs });
      clock.advance(0);
    }
    expect(remote.sequence).toBe(1);
    open();
    await turning(tracker, () => remote.sequence === 2);
    expect(remote.batches[1]).toBe(8);
    expect(remote.messages.flatMap((message) => (message.type === 'need' ? [message.runs] : []))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test.each([401, 404, 409, 400])('a post answered %d opens the session anew', async (status) => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    tracker.refusePosts.push(status);
    session.send(need);
    clock.advance(0);
    await listener.until(() => listener.losses.length === 1);
    expect(listener.losses[0]).toMatchObject({ code: 'TRACKER_REFUSED', detail: { status } });
    clock.advance(MAX_BACKOFF_MS);
    await listener.until(() => listener.opens.length === 2);
    expect(session.connected).toBe(true);
  });

  test('a post that met passing trouble is repeated as it was', async () => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    const remote = tracker.sessions[0]!;
    tracker.refusePosts.push(503, 429);
    session.send(need);
    await turning(tracker, () => remote.sequence === 1, 100);
    expect(withoutStats(remote.messages)).toEqual([need]);
    expect(listener.losses).toEqual([]);
  });

  test('more messages than the bound ends the session instead of losing some', async () => {
    const { tracker, url } = await startTracker();
    tracker.gate = new Promise(() => undefined);
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    for (let first = 0; first <= MAX_QUEUED + 1; first++) session.send({ type: 'done', leaseId: 'l', blob, first, digests: '' });
    await listener.until(() => listener.losses.length === 1);
    expect(session.status().messagesDropped).toBeGreaterThan(MAX_QUEUED);
  });

  test('totals are told at the start, each heartbeat, and each second while pulling', async () => {
    const { tracker, url } = await startTracker();
    tracker.heartbeatMs = 30_000;
    let active = 0;
    startSession([url], token, () => active);
    await listener.until(() => listener.opens.length === 1);
    const remote = tracker.sessions[0]!;
    const told = (): number => remote.messages.filter(({ type }) => type === 'stats').length;
    clock.advance(COALESCE_MS);
    await tracker.until(() => told() === 1);
    remote.send({ type: 'ping' }, { type: 'mesh', peers: [] });
    await listener.until(() => listener.events.length === 1);
    for (let second = 0; second < 20; second++) clock.advance(1_000);
    active = 1;
    clock.advance(1_100);
    await turning(tracker, () => told() === 2);
    active = 0;
    clock.advance(1_100);
    await turning(tracker, () => told() === 3);
    for (let second = 0; second < 20; second++) clock.advance(1_000);
    expect(told()).toBe(3);
  });

  test('a host whose thread is full tells so in the turn in which it sees it', async () => {
    const { tracker, url } = await startTracker();
    tracker.heartbeatMs = 30_000;
    let loop = 0.5;
    startSession([url], token, () => 1, () => ({ vitals: { ...IDLE, loop } }));
    await listener.until(() => listener.opens.length === 1);
    const told = (): number[] => tracker.sessions[0]!.messages.flatMap((message) => (message.type === 'stats' ? [message.vitals!.loop] : []));
    clock.advance(COALESCE_MS);
    await tracker.until(() => told().length === 1);
    loop = 0.95;
    // A second after the first, and no time passes after it is made.
    clock.advance(1_000 - COALESCE_MS);
    await tracker.until(() => told().length === 2);
    expect(told()).toEqual([0.5, 0.95]);
  });

  test('a loop that comes late to its timers reports as often as it can, once each time', async () => {
    const { tracker, url } = await startTracker();
    tracker.heartbeatMs = 30_000;
    startSession([url], token, () => 1, () => ({ vitals: { ...IDLE, loop: 1 } }));
    await listener.until(() => listener.opens.length === 1);
    const told = (): number => tracker.sessions[0]!.messages.filter(({ type }) => type === 'stats').length;
    await turning(tracker, () => told() === 1);
    for (let turn = 2; turn < 8; turn++) {
      clock.advanceLate(950);
      await turning(tracker, () => told() === turn);
    }
    clock.advanceLate(10_000);
    await turning(tracker, () => told() === 8);
  });

  test('a message does not put off the post that others wait for', async () => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    const set = clock.set;
    for (let index = 0; index < 50; index++) session.send(have(index));
    expect(clock.set - set).toBeLessThanOrEqual(1);
    session.send({ type: 'release', leaseId: 'l', reason: 'failed' });
    expect(clock.set - set).toBeLessThanOrEqual(2);
    await turning(tracker, () => withoutStats(tracker.sessions[0]!.messages).length === 2);
  });

  test('what waits at the end is posted before the session is closed', async () => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    session.send(have(4));
    await session.close();
    expect(withoutStats(tracker.sessions[0]!.messages)).toEqual([have(4)]);
    expect(session.status().state).toBe('closed');
  });
});

describe('a lost tracker', () => {
  test('is told at once; then it tries again with growing pauses', async () => {
    const { tracker, url } = await startTracker();
    const session = startSession([url]);
    await listener.until(() => listener.opens.length === 1);
    clock.advance(COALESCE_MS);
    await tracker.until(() => tracker.sessions[0]!.sequence === 1);
    await tracker.close();
    await listener.until(() => listener.losses.length === 1);
    expect(session.connected).toBe(false);
    expect(session.status().state).toBe('waiting');
    for (let failures = 1; failures < 4; failures++) {
      clock.advance(backoffMs(failures, 0.5) - 1);
      expect(listener.failures).toHaveLength(failures - 1);
      clock.advance(1);
      await listener.until(() => listener.failures.length === failures);
    }
    await startTracker(false, Number(new URL(url).port));
    clock.advance(MAX_BACKOFF_MS);
    await listener.until(() => listener.opens.length === 2);
    expect(session.status()).toMatchObject({ state: 'connected', lastError: { code: 'TRACKER_UNREACHABLE' } });
  });

  test('messages without a session are dropped; locate knows nothing', async () => {
    const gone = await startTracker();
    await gone.tracker.close();
    const session = startSession([gone.url]);
    session.send(need);
    expect(await session.locate({ origin: 'o', repository: 'r', digest: blob.digest }, new AbortController().signal)).toBeUndefined();
    await listener.until(() => listener.failures.length === 1);
    const { tracker } = await startTracker(false, Number(new URL(gone.url).port));
    clock.advance(MAX_BACKOFF_MS);
    await listener.until(() => listener.opens.length === 1);
    clock.advance(COALESCE_MS);
    await tracker.until(() => tracker.sessions[0]!.sequence === 1);
    expect(withoutStats(tracker.sessions[0]!.messages)).toEqual([]);
  });

  test('closing ends a pause between two tries', async () => {
    const gone = await startTracker();
    await gone.tracker.close();
    const session = startSession([gone.url]);
    await listener.until(() => listener.failures.length === 1);
    await session.close();
    expect(session.status().state).toBe('closed');
  });
});

test('locate is answered by the session, apart from the posts', async () => {
  const { tracker, url } = await startTracker();
  const session = startSession([url]);
  await listener.until(() => listener.opens.length === 1);
  const request = { origin: 'docker.io', repository: 'library/nginx', digest: blob.digest };
  expect(await session.locate(request, new AbortController().signal)).toBeUndefined();
  tracker.found = { size: 5, kind: 'blob' };
  expect(await session.locate(request, new AbortController().signal)).toEqual({ size: 5, kind: 'blob' });
  tracker.refusePosts.push(500);
  await expect(session.locate(request, new AbortController().signal)).rejects.toMatchObject({ code: 'TRACKER_UNREACHABLE' });
});

test('backoff grows from 0.2 s to 5 s', () => {
  expect(backoffMs(1, 0)).toBe(MIN_BACKOFF_MS);
  expect(backoffMs(1, 0.999)).toBeLessThanOrEqual(400);
  expect(backoffMs(9, 0)).toBe(MIN_BACKOFF_MS);
  expect(backoffMs(1_000, 0.9999)).toBeLessThanOrEqual(MAX_BACKOFF_MS);
  expect(backoffMs(1_000, 0.9999)).toBeGreaterThan(4_900);
});
