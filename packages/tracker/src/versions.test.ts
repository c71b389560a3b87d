// Agents of other releases, as their messages would be, and a data folder that an earlier release has left.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import { TRACKER_PROTOCOL } from '@flotilla/shared/protocol-version';
import { ROUTES } from '@flotilla/shared/tracker-api';
import { Level } from 'level';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from './config.ts';
import { createLogger } from './log.ts';
import { startTracker, type Tracker } from './server.ts';
import { call, problem, TestAgent, TestIdentity } from './test-agent.ts';
import { blobOf, want } from './test-swarms.ts';

let dir: string;
let tracker: Tracker;
let token: JoinToken;

async function start(): Promise<void> {
  const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0' }, env: {} });
  tracker = await startTracker(config, { log: createLogger('silent') });
  token = parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8'));
}

/** What an agent of another release opens its session with. */
class OtherRelease extends TestIdentity {
  readonly #fields: object;

  constructor(fields: object) {
    super();
    this.#fields = fields;
  }

  override session(timestampMs: number): ReturnType<TestIdentity['session']> {
    return { ...super.session(timestampMs), ...this.#fields };
  }
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-versions-'));
});

afterEach(async () => {
  await tracker.close();
  await rm(dir, { recursive: true });
});

describe('agents', () => {
  test('one version older: it says no version, and nothing that came later', async () => {
    await start();
    const agent = await TestAgent.connect(tracker.url, tracker.caPem, token, new OtherRelease({}));
    const totals = { bytes: { peer: 1, origin: 2, store: 3, uploaded: 4, duplicate: 5 }, pulls: { active: 1, done: 0, failed: 0 }, store: { bytes: 1, limit: 2, blobs: 1 } };
    expect((await agent.post({ type: 'stats', ...totals }, want(blobOf(4)), { type: 'need', blob: blobOf(4), runs: 1, originRate: 0 })).status).toBe(204);
    expect((await agent.next('grant')).blob).toEqual(blobOf(4));
    expect(agent.welcome.protocol).toBe(TRACKER_PROTOCOL);
  });

  test('one version newer: fields and messages that are unknown are passed over, and counted', async () => {
    await start();
    const identity = new OtherRelease({ protocol: TRACKER_PROTOCOL + 1, agentVersion: '9.0.0', gpu: { vendor: 'x' } });
    const agent = await TestAgent.connect(tracker.url, tracker.caPem, token, identity);
    const messages = [{ type: 'from-the-future', blob: 7 }, { ...want(blobOf(4)), colour: 'blue' }, { type: 'need', blob: blobOf(4), runs: 1, originRate: 0, haste: 3 }];
    expect((await agent.postBody(JSON.stringify({ messages, compressed: false }), ++agent.sequence)).status).toBe(204);
    expect((await agent.next('grant')).blob).toEqual(blobOf(4));
    expect((await call(`${tracker.url}/metrics`, { ca: tracker.caPem })).text).toContain('flotilla_tracker_messages_ignored_total 1\n');
  });

  test('a message that says nothing of its kind is refused all the same', async () => {
    await start();
    const agent = await TestAgent.connect(tracker.url, tracker.caPem, token);
    const refused = await agent.postBody(JSON.stringify({ messages: [{ kind: 'want' }] }), ++agent.sequence);
    expect([refused.status, problem(refused).code]).toEqual([400, 'REQUEST_INVALID']);
  });

  test.each([
    ['older', TRACKER_PROTOCOL - 2, /upgrade the agent of host\b/],
    ['newer', TRACKER_PROTOCOL + 2, /upgrade the tracker first/],
  ])('two versions %s: refused, with what to do', async (_kind, protocol, advice) => {
    await start();
    const identity = new OtherRelease({ protocol });
    await call(tracker.url + ROUTES.enroll, { ca: tracker.caPem, method: 'POST', body: JSON.stringify(identity.enrolment(token, Date.now())) });
    const refused = await call(tracker.url + ROUTES.session, { ca: tracker.caPem, method: 'POST', body: JSON.stringify(identity.session(Date.now())) });
    expect([refused.status, problem(refused).code]).toEqual([400, 'PROTOCOL_UNSUPPORTED']);
    expect(problem(refused).detail).toMatch(advice);
  });
});

describe('a data folder of an earlier release', () => {
  /** As the first release wrote it: members, where they were seen, and nothing that operators look at. */
  async function writeOldState(identity: TestIdentity, banned: TestIdentity): Promise<void> {
    const level = new Level<string, unknown>(join(dir, 'state'), { valueEncoding: 'json' });
    const nowMs = Date.now();
    const rawKey = (of: TestIdentity): string => Buffer.from(of.publicKey, 'base64url').subarray(4).toString('base64url');
    await level.batch([
      { type: 'put', key: 'meta!layout', value: 1 },
      { type: 'put', key: 'meta!epoch', value: 41 },
      { type: 'put', key: `members!${identity.peerId}`, value: { peerId: identity.peerId, publicKey: rawKey(identity), state: 'member', enrolledAtMs: nowMs - 9e6, seenAtMs: nowMs - 1e6 } },
      { type: 'put', key: `members!${banned.peerId}`, value: { peerId: banned.peerId, publicKey: rawKey(banned), state: 'expelled', enrolledAtMs: nowMs - 9e6, seenAtMs: nowMs - 1e6 } },
      { type: 'put', key: `seen!${identity.peerId}`, value: nowMs - 1e6 },
      { type: 'put', key: 'of-a-table-that-was-given-up!x', value: { any: 'thing' } },
    ]);
    await level.close();
  }

  test('is opened in place: members stay members, bans stay bans, the epoch goes on, and operators see them', async () => {
    const [identity, banned] = [new TestIdentity(), new TestIdentity()];
    await writeOldState(identity, banned);
    await start();
    const agent = await TestAgent.reopen(tracker.url, tracker.caPem, identity);
    expect(agent.welcome.epoch).toBe(42);
    const refused = await call(tracker.url + ROUTES.session, { ca: tracker.caPem, method: 'POST', body: JSON.stringify(banned.session(Date.now())) });
    expect(problem(refused).code).toBe('MEMBER_BANNED');
    const operator = (await readFile(tracker.operatorTokenFile, 'utf8')).trim();
    for (const path of ['members', 'fleet', 'hosts', 'images', 'pulls', 'timeline', 'rollouts', 'audit-log', 'brakes']) {
      const reply = await call(`${tracker.url}/api/v1/${path}`, { ca: tracker.caPem, headers: { authorization: `Bearer ${operator}` } });
      expect([path, reply.status]).toEqual([path, 200]);
    }
    const members = JSON.parse((await call(`${tracker.url}/api/v1/members`, { ca: tracker.caPem, headers: { authorization: `Bearer ${operator}` } })).text) as { members: { peerId: string; state: string; name: string }[] };
    expect(members.members.find(({ peerId }) => peerId === banned.peerId)).toMatchObject({ state: 'expelled', name: '' });
  });
});
