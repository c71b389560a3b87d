// Operators at a real tracker: what proves who they are, what each role may do, and what the audit log keeps of it.

import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditPage, CreatedToken, Me, Role, TokenInfo } from '@flotilla/shared/operator-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig, type Flags } from '../config.ts';
import { createLogger } from '../log.ts';
import { startTracker, type Tracker } from '../server.ts';
import { TRACKER_VERSION } from '../version.ts';
import { CODE_TTL_MS, LoginCodes } from './login-codes.ts';

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly body: unknown;
  readonly cookie: string | undefined;
}

let dir: string;
let tracker: Tracker;

async function start(flags: Flags = {}): Promise<void> {
  const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0', insecureHttp: true, ...flags }, env: {} });
  tracker = await startTracker(config, { log: createLogger('silent') });
}

async function ask(method: string, path: string, { body, token, cookie, headers = {} }: { body?: object; token?: string; cookie?: string | undefined; headers?: Record<string, string> } = {}): Promise<Answer> {
  const response = await fetch(`${tracker.url}/api/v1/${path}`, {
    method,
    headers: { ...(body && { 'content-type': 'application/json' }), ...(token !== undefined && { authorization: `Bearer ${token}` }), ...(cookie !== undefined && { cookie }), ...headers },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const parsed: unknown = text === '' ? undefined : JSON.parse(text);
  return { status: response.status, code: (parsed as { code?: string } | undefined)?.code, body: parsed, cookie: response.headers.getSetCookie()[0] };
}

const firstToken = async (): Promise<string> => (await readFile(tracker.operatorTokenFile, 'utf8')).trim();

async function tokenOf(role: Role): Promise<string> {
  const { status, body } = await ask('POST', 'tokens', { token: await firstToken(), body: { name: `a ${role}`, role } });
  expect(status).toBe(201);
  return (body as CreatedToken).token;
}

async function signIn(body: object): Promise<string> {
  const answer = await ask('POST', 'sign-in', { body });
  expect(answer.status).toBe(200);
  return answer.cookie!.split(';')[0]!;
}

async function actions(): Promise<string[]> {
  const { body } = await ask('GET', 'audit-log', { token: await firstToken() });
  return (body as AuditPage).entries.map(({ actor, action, target }) => `${actor} ${action} ${target}`);
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-operators-'));
});

afterEach(async () => {
  await tracker.close();
  await rm(dir, { recursive: true });
});

describe('roles', () => {
  test.each([
    ['read', 200, 'OPERATOR_FORBIDDEN', 403],
    ['operate', 200, 'MEMBER_UNKNOWN', 403],
    ['admin', 200, 'MEMBER_UNKNOWN', 200],
  ] as const)('%s: look %i, act on a member %s, see tokens %i', async (role, look, act, admin) => {
    await start();
    const token = await tokenOf(role);
    expect((await ask('GET', 'status', { token })).status).toBe(look);
    expect((await ask('POST', 'members/12D3KooWnobody/expel', { token, body: { reason: 'x' } })).code).toBe(act);
    expect((await ask('GET', 'tokens', { token })).status).toBe(admin);
    expect((await ask('GET', 'me', { token })).body).toMatchObject({ name: `a ${role}`, role });
  });
});

describe('tokens', () => {
  test('are kept as hashes, over a restart; a revoked one opens nothing, nor does the session that it opened', async () => {
    await start();
    const token = await tokenOf('operate');
    const cookie = await signIn({ token });
    await tracker.close();
    for (const file of await readdir(join(dir, 'state'))) expect((await readFile(join(dir, 'state', file))).includes(token)).toBe(false);
    await start();
    expect((await ask('GET', 'me', { token })).status).toBe(200);
    expect((await ask('GET', 'me', { cookie })).status).toBe(200);
    const list = (await ask('GET', 'tokens', { token: await firstToken() })).body as TokenInfo[];
    expect(list.map(({ name, role, createdBy }) => [name, role, createdBy])).toEqual([['a operate', 'operate', 'operator-token'], ['operator-token', 'admin', 'tracker']]);
    expect((await ask('DELETE', 'tokens/a%20operate', { token: await firstToken() })).status).toBe(204);
    expect((await ask('GET', 'me', { token })).code).toBe('OPERATOR_UNAUTHORIZED');
    expect((await ask('GET', 'me', { cookie })).code).toBe('OPERATOR_UNAUTHORIZED');
    expect((await ask('DELETE', 'tokens/a%20operate', { token: await firstToken() })).code).toBe('OPERATOR_TOKEN_UNKNOWN');
  });

  test('a name is given once; names and roles have a form', async () => {
    await start();
    const token = await firstToken();
    await tokenOf('read');
    expect((await ask('POST', 'tokens', { token, body: { name: 'a read', role: 'admin' } })).code).toBe('OPERATOR_TOKEN_EXISTS');
    expect((await ask('POST', 'tokens', { token, body: { name: '\n', role: 'admin' } })).code).toBe('REQUEST_INVALID');
    expect((await ask('POST', 'tokens', { token, body: { name: 'x', role: 'root' } })).code).toBe('REQUEST_INVALID');
  });

  test('the first one, revoked, is made anew in its file', async () => {
    await start();
    const before = await firstToken();
    expect((await ask('DELETE', 'tokens/operator-token', { token: before })).status).toBe(204);
    const after = await firstToken();
    expect(after).not.toBe(before);
    expect((await stat(tracker.operatorTokenFile)).mode & 0o777).toBe(0o600);
    expect((await ask('GET', 'me', { token: before })).status).toBe(401);
    expect((await ask('GET', 'me', { token: after })).body).toMatchObject({ role: 'admin' });
  });
});

describe('sign-in', () => {
  test('a code works once, for whom it was made, and leaves nothing behind', async () => {
    await start();
    const code = await new LoginCodes(dir).create({ name: 'ada', role: 'operate' }, Date.now());
    const tries = await Promise.all([1, 2, 3].map(() => ask('POST', 'sign-in', { body: { code } })));
    expect(tries.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 401, 401]);
    const won = tries.find(({ status }) => status === 200)!;
    expect(won.body).toMatchObject({ name: 'ada', role: 'operate' });
    expect(won.cookie).toMatch(/^flotilla-[0-9a-f]{8}-plain=[\w-]+; Max-Age=604800; Path=\/; HttpOnly; SameSite=Strict$/);
    expect((await ask('GET', 'me', { cookie: won.cookie!.split(';')[0] })).body).toMatchObject({ name: 'ada' });
    expect(await readdir(join(dir, 'login-codes'))).toEqual([]);
  });

  test('a code that is old or made up is refused, and so is a wrong token', async () => {
    await start();
    const code = await new LoginCodes(dir).create({ name: 'ada', role: 'admin' }, Date.now() - CODE_TTL_MS);
    for (const body of [{ code }, { code: '../../operator-token' }]) expect((await ask('POST', 'sign-in', { body })).code).toBe('LOGIN_CODE_WRONG');
    expect((await ask('POST', 'sign-in', { body: { token: 'x' } })).code).toBe('OPERATOR_UNAUTHORIZED');
    expect(await readdir(join(dir, 'login-codes'))).toEqual([]);
  });

  test('over HTTPS the cookie is Secure', async () => {
    await start({ insecureHttp: false });
    const { call } = await import('../test-agent.ts');
    const { request } = await import('node:https');
    const { promise, resolve, reject } = Promise.withResolvers<string[]>();
    request(`${tracker.url}/api/v1/sign-in`, { method: 'POST', ca: tracker.caPem, agent: false, headers: { 'content-type': 'application/json' } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.headers['set-cookie'] ?? []));
    })
      .on('error', reject)
      .end(JSON.stringify({ token: await firstToken() }));
    const [cookie] = await promise;
    expect(cookie).toContain('; Secure');
    const me = await call(`${tracker.url}/api/v1/me`, { ca: tracker.caPem, headers: { cookie: cookie!.split(';')[0]! } });
    expect((JSON.parse(me.text) as Me).role).toBe('admin');
  });

  test('sign-out ends the session and clears the cookie', async () => {
    await start();
    const cookie = await signIn({ token: await firstToken() });
    const out = await ask('POST', 'sign-out', { cookie });
    expect([out.status, out.cookie]).toEqual([204, expect.stringContaining('Expires=Thu, 01 Jan 1970')]);
    expect((await ask('GET', 'me', { cookie })).status).toBe(401);
  });

  test('a change by cookie that a page of another origin asks for is refused; by token it is not', async () => {
    await start();
    const cookie = await signIn({ token: await firstToken() });
    const body = { reason: 'x' };
    const path = 'members/12D3KooWnobody/expel';
    const foreign: Record<string, string>[] = [{ origin: 'http://127.0.0.1:1' }, { 'sec-fetch-site': 'same-site' }, { 'sec-fetch-site': 'cross-site' }, { origin: 'null' }];
    for (const headers of foreign) {
      expect((await ask('POST', path, { cookie, body, headers })).code).toBe('ORIGIN_FOREIGN');
      expect((await ask('POST', 'sign-in', { body: { token: await firstToken() }, headers })).code).toBe('ORIGIN_FOREIGN');
      expect((await ask('POST', path, { token: await firstToken(), body, headers })).code).toBe('MEMBER_UNKNOWN');
    }
    expect((await ask('POST', path, { cookie, body, headers: { origin: tracker.url } })).code).toBe('MEMBER_UNKNOWN');
    expect((await ask('GET', 'me', { cookie, headers: { origin: 'http://127.0.0.1:1' } })).status).toBe(200);
  });

  test('guessing is slowed down', async () => {
    await start();
    const codes: (string | undefined)[] = [];
    for (let tries = 0; tries < 31; tries++) codes.push((await ask('POST', 'sign-in', { body: { code: 'guess' } })).code);
    expect(codes.slice(0, 30).every((code) => code === 'LOGIN_CODE_WRONG')).toBe(true);
    expect(codes.at(-1)).toBe('TOO_MANY_REQUESTS');
  });
});

test('the audit log names who did what, newest first, over a restart', async () => {
  await start();
  const cookie = await signIn({ token: await tokenOf('operate') });
  await ask('POST', 'sign-out', { cookie });
  await tracker.close();
  await start();
  const startEntry = `tracker tracker.start ${TRACKER_VERSION}`;
  const expected = [startEntry, 'a operate session.close a operate', 'a operate session.open a operate', 'operator-token token.create a operate', startEntry];
  expect(await actions()).toEqual(expected);
  const token = await firstToken();
  const page = (await ask('GET', 'audit-log?limit=1&before=4', { token })).body as AuditPage;
  expect(page.entries.map(({ id, action }) => [id, action])).toEqual([[3, 'session.open']]);
  expect((await ask('GET', 'audit-log?limit=0', { token })).code).toBe('REQUEST_INVALID');
});
