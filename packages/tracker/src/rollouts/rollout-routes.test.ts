// Rollouts at a real tracker: operators over HTTP, hosts over their sessions.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import type { AuditPage, CreatedToken, Role } from '@flotilla/shared/operator-api';
import { RolloutDetail, RolloutHosts, RolloutList } from '@flotilla/shared/rollout-api';
import { Compile } from 'typebox/compile';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../config.ts';
import { createLogger } from '../log.ts';
import { startTracker, type Tracker } from '../server.ts';
import { connectHost, TestHostIdentity, type HostSession } from './test-hosts.ts';

const DIGEST = `sha256:${'d'.repeat(64)}`;
const checkDetail = Compile(RolloutDetail);
const checkHosts = Compile(RolloutHosts);
const checkList = Compile(RolloutList);

let dir: string;
let tracker: Tracker;
let token: JoinToken;

async function start(): Promise<void> {
  const { config } = loadConfig({ flags: { data: dir, listen: tracker === undefined ? '127.0.0.1:0' : new URL(tracker.url).host, insecureHttp: true }, env: {} });
  tracker = await startTracker(config, { log: createLogger('silent') });
  token = parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8'));
}

async function ask(method: string, path: string, body?: object, bearer?: string): Promise<{ status: number; body: Record<string, unknown> }> {
  const operator = bearer ?? (await readFile(tracker.operatorTokenFile, 'utf8')).trim();
  const response = await fetch(`${tracker.url}/api/v1/${path}`, {
    method,
    headers: { authorization: `Bearer ${operator}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function tokenOf(role: Role): Promise<string> {
  return ((await ask('POST', 'tokens', { name: role, role })).body as unknown as CreatedToken).token;
}

async function create(request: object): Promise<RolloutDetail> {
  const { status, body } = await ask('POST', 'rollouts', request);
  expect(status).toBe(201);
  return body as unknown as RolloutDetail;
}

/** The rollout as soon as it is in this state. */
async function inState(id: string, state: string): Promise<RolloutDetail> {
  for (;;) {
    const { body } = await ask('GET', `rollouts/${id}`);
    if (body['state'] === state) return body as unknown as RolloutDetail;
  }
}

/** What the audit log says of a rollout, newest first, as soon as it says this of it. */
async function audited(id: string, newest: string): Promise<string[]> {
  for (;;) {
    const { entries } = (await ask('GET', 'audit-log')).body as unknown as AuditPage;
    const said = entries.filter(({ target }) => target === id).map(({ actor, action }) => `${actor} ${action}`);
    if (said[0] === newest) return said;
  }
}

function host(name: string, labels: Record<string, string> = {}, zone?: string): Promise<HostSession> {
  return connectHost(tracker.url, token, { name, labels, ...(zone !== undefined && { zone }) });
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-rollouts-'));
  await start();
});

afterEach(async () => {
  await tracker.close();
  await rm(dir, { recursive: true });
});

describe('a rollout', () => {
  test('from the tag to the last host, and what is seen of it', async () => {
    const [a, b] = await Promise.all([host('web-1', { role: 'web' }, 'z1'), host('web-2', { role: 'web' }, 'z2'), host('db-1', { role: 'db' }, 'z1')]);
    const { id, hosts } = await create({ image: 'docker.io/nginx:1.27', hosts: 'role=web', waves: '1,100%', originLimit: 1_000_000 });
    expect(hosts.total).toBe(2);
    const canary = await Promise.race([a.task('resolve').then(() => a), b.task('resolve').then(() => b)]);
    const other = canary === a ? b : a;
    const question = await canary.task('resolve');
    expect(question).toEqual({ rolloutId: id, attempt: 1, task: 'resolve', origin: 'docker.io', repository: 'library/nginx', tag: '1.27' });
    await canary.done(question, DIGEST);
    const pull = await canary.task('pull');
    expect(pull).toEqual({ ...question, attempt: 2, task: 'pull', digest: DIGEST });
    expect(other.tasks).toEqual([]);
    const layer = { digest: `sha256:${'1'.repeat(64)}`, size: 1000 };
    await canary.report({ type: 'rollout-progress', rolloutId: id, attempt: 2, phase: 'pulling', manifest: DIGEST, layers: [layer], held: [250] });
    const during = (await ask('GET', `rollouts/${id}`)).body;
    expect(checkDetail.Check(during)).toBe(true);
    expect(during).toMatchObject({ state: 'running', digest: DIGEST, bytes: { held: 250 }, manifests: [{ manifest: DIGEST, layers: [{ ...layer, held: 250 }] }] });
    await canary.done(pull, DIGEST);
    await other.done(await other.task('pull'), DIGEST);
    const done = await inState(id, 'done');
    expect(done.hosts).toMatchObject({ done: 2, failed: 0 });
    const metrics = await (await fetch(`${tracker.url}/metrics`)).text();
    expect(metrics).toContain('flotilla_tracker_rollouts{state="done"} 1\n');
    expect(metrics).toContain('flotilla_tracker_rollouts{state="running"} 0\n');
    const rows = (await ask('GET', `rollouts/${id}/hosts`)).body;
    expect(checkHosts.Check(rows)).toBe(true);
    expect((rows as unknown as RolloutHosts).rows.map((row) => row[3])).toEqual(['done', 'done']);
    const list = (await ask('GET', 'rollouts')).body;
    expect(checkList.Check(list)).toBe(true);
    expect(list).toMatchObject({ rollouts: [{ id, state: 'done', originLimit: 1_000_000, selector: 'role=web', createdBy: 'operator-token' }] });
    expect(await audited(id, 'tracker rollout.done')).toEqual(['tracker rollout.done', 'operator-token rollout.create']);
  });

  test('stops by itself, and tries again when told', async () => {
    const only = await host('web-1');
    const { id } = await create({ image: `docker.io/library/nginx@${DIGEST}` });
    await only.failed(await only.task('pull'));
    expect(await inState(id, 'paused')).toMatchObject({ reason: { code: 'FAILURES', host: 'web-1' }, failures: [{ code: 'DISK_FULL', names: ['web-1'] }] });
    const failed = (await ask('GET', `rollouts/${id}/hosts?state=failed`)).body as unknown as RolloutHosts;
    expect(Object.values(failed.outcomes)).toEqual([{ attempt: 1, error: { code: 'DISK_FULL', message: 'no room' } }]);
    expect((await ask('POST', `rollouts/${id}/retry`)).body).toMatchObject({ state: 'running' });
    await only.agent.next('rollouts', ({ tasks }) => tasks[0]?.attempt === 2);
    await only.done(only.tasks[0]!, DIGEST);
    await inState(id, 'done');
    expect(await audited(id, 'tracker rollout.done')).toEqual(['tracker rollout.done', 'operator-token rollout.retry', 'tracker rollout.paused', 'operator-token rollout.create']);
  });

  test('goes on where it was after a restart of the tracker', async () => {
    const identity = new TestHostIdentity({ name: 'web-1', labels: {} });
    const before = await connectHost(tracker.url, token, identity.facts, identity);
    const { id } = await create({ image: 'docker.io/nginx:1.27', verifyOnly: true, platform: 'linux/arm64' });
    await before.done(await before.task('resolve'), DIGEST);
    const told = await before.task('verify');
    await tracker.close();
    await start();
    const after = await connectHost(tracker.url, token, identity.facts, identity);
    expect(await after.task('verify')).toEqual(told);
    await after.done(told, DIGEST);
    await inState(id, 'done');
  });

  test('hosts that were connected once are meant although they are away now', async () => {
    const away = await host('web-1', { role: 'web' });
    away.agent.cut();
    await away.agent.ended;
    await tracker.close();
    await start();
    expect((await create({ image: 'docker.io/nginx:1.27', hosts: 'role=web' })).hosts).toMatchObject({ total: 1, away: 1 });
  });
});

describe('what is refused', () => {
  test.each([
    ['IMAGE_INVALID', 400, { image: 'nginx' }],
    ['SELECTOR_INVALID', 400, { image: 'docker.io/nginx', hosts: 'web' }],
    ['WAVES_INVALID', 400, { image: 'docker.io/nginx', waves: '5' }],
    ['NO_HOSTS', 422, { image: 'docker.io/nginx', hosts: 'name=nobody' }],
    ['DEADLINE_PASSED', 422, { image: 'docker.io/nginx', deadlineMs: 1 }],
    ['REQUEST_INVALID', 400, { image: 'docker.io/nginx', pauseOnFailure: 2 }],
    ['REQUEST_INVALID', 400, { image: 'docker.io/nginx', platform: 'Linux' }],
    ['REQUEST_INVALID', 400, { image: 'docker.io/nginx', wave: '1' }],
  ])('%s', async (code, status, request) => {
    await host('web-1');
    expect(await ask('POST', 'rollouts', request)).toMatchObject({ status, body: { code } });
    expect((await ask('GET', 'rollouts')).body).toEqual({ rollouts: [] });
  });

  test('unknown rollouts, and commands that the state does not allow', async () => {
    await host('web-1');
    for (const [method, path] of [['GET', 'rollouts/r-x'], ['GET', 'rollouts/r-x/hosts'], ['POST', 'rollouts/r-x/pause']] as const) {
      expect(await ask(method, path)).toMatchObject({ status: 404, body: { code: 'ROLLOUT_UNKNOWN' } });
    }
    const { id } = await create({ image: 'docker.io/nginx' });
    await ask('POST', `rollouts/${id}/cancel`);
    expect(await ask('POST', `rollouts/${id}/resume`)).toMatchObject({ status: 409, body: { code: 'ROLLOUT_STATE' } });
  });

  test('those who may only read look, and change nothing', async () => {
    await host('web-1');
    const { id } = await create({ image: 'docker.io/nginx' });
    const reader = await tokenOf('read');
    for (const path of ['rollouts', `rollouts/${id}`, `rollouts/${id}/hosts`]) expect((await ask('GET', path, undefined, reader)).status).toBe(200);
    expect((await ask('POST', 'rollouts', { image: 'docker.io/nginx' }, reader)).status).toBe(403);
    for (const command of ['pause', 'resume', 'cancel', 'retry']) expect((await ask('POST', `rollouts/${id}/${command}`, undefined, reader)).status).toBe(403);
    expect((await ask('GET', 'rollouts', undefined, 'nobody')).status).toBe(401);
    expect((await inState(id, 'resolving')).id).toBe(id);
  });
});

describe('agents of other releases', () => {
  test('a newer one may say more than this tracker knows', async () => {
    const only = await host('web-1');
    const { id } = await create({ image: `docker.io/library/nginx@${DIGEST}` });
    const { attempt } = await only.task('pull');
    const progress = { type: 'rollout-progress', rolloutId: id, attempt, phase: 'polishing', shine: 0.5 } as const;
    const result = { type: 'rollout-result', rolloutId: id, attempt, ok: true, mood: 'fine' } as const;
    expect((await only.agent.post(progress, result)).status).toBe(204);
    await inState(id, 'done');
  });

  test('what is said of a rollout that is not known, or not the own, changes nothing', async () => {
    const [a, b] = await Promise.all([host('a'), host('b')]);
    const { id } = await create({ image: `docker.io/library/nginx@${DIGEST}`, hosts: 'name=a' });
    const { attempt } = await a.task('pull');
    await b.report({ type: 'rollout-result', rolloutId: id, attempt, ok: true }, { type: 'rollout-result', rolloutId: 'r-unknown', attempt: 1, ok: true });
    expect((await inState(id, 'running')).hosts).toMatchObject({ working: 1, done: 0 });
  });
});
