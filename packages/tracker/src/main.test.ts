// The program itself: what it prints, its exit codes, and that a signal ends it, open streams or not.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseJoinToken } from '@flotilla/shared/join-token';
import { TestAgent } from './test-agent.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

let dir: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-tracker-main-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  await rm(dir, { recursive: true });
});

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] } });
  children.push(child);
  return child;
}

async function run(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = start(...args);
  const texts = { out: '', err: '' };
  child.stdout!.on('data', (part: Buffer) => (texts.out += part.toString()));
  child.stderr!.on('data', (part: Buffer) => (texts.err += part.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...texts };
}

test.each(['SIGTERM', 'SIGINT'] as const)('%s ends it with its streams, and code 0', async (signal) => {
  const child = start('--data', dir, '--listen', '127.0.0.1:0');
  child.stderr!.resume();
  const [line] = (await once(createInterface(child.stdout!), 'line')) as [string];
  const url = /https:\S+/.exec(line)![0];
  const [ca, token] = await Promise.all([readFile(join(dir, 'tls/ca.pem'), 'utf8'), readFile(join(dir, 'join-token'), 'utf8')]);
  const agent = await TestAgent.connect(url, ca, parseJoinToken(token));
  child.kill(signal);
  await agent.ended;
  expect(await once(child, 'close')).toEqual([0, null]);
});

test('a port in use is one line that names port and flag, code 1', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const { code, out, err } = await run('--data', dir, '--listen', `127.0.0.1:${port}`, '--insecure-http');
  other.close();
  expect([code, out]).toEqual([1, '']);
  expect(err).toBe(`flotilla-tracker: port ${port} is in use (--listen 127.0.0.1:${port}). Choose another with --listen.\n`);
});

test.each([
  ['an unknown flag', ['--lisen', 'x']],
  ['an unknown command', ['serve']],
  ['a setting that is not allowed', ['--listen', 'nowhere']],
  ['state in Redis', ['--state', 'redis://localhost']],
])('%s: code 2', async (_, args) => {
  const { code, err } = await run('--data', dir, ...args);
  expect(code).toBe(2);
  expect(err.trimEnd().split('\n').length).toBeLessThanOrEqual(2);
});

test('an unknown setting is named with the nearest one, and what to do', async () => {
  const config = join(dir, 'tracker.yaml');
  await writeFile(config, 'dataa: /x\n');
  const { code, err } = await run('--config', config);
  expect([code, err]).toEqual([2, `flotilla-tracker: ${config}: unknown setting "dataa"; did you mean "data"? \`flotilla-tracker config\` prints all of them.\n`]);
});

test('config prints every setting and where it comes from; token rotate needs a token', async () => {
  const { code, out } = await run('config', '--data', dir, '--tls-name', 'a.example', '--tls-name', 'b.example');
  expect(code).toBe(0);
  expect(out).toMatch(/^tlsName\s+a\.example, b\.example\s+--tls-name$/m);
  expect(out).toMatch(/^listen\s+0\.0\.0\.0:5052\s+default$/m);
  const rotated = await run('token', 'rotate', '--data', dir);
  expect(rotated.code).toBe(1);
  expect(rotated.err).toContain('join-token does not exist');
});

test('login prints a link that signs in at the running tracker, once; without a tracker it says so', async () => {
  const none = await run('login', '--data', dir);
  expect([none.code, none.out]).toEqual([1, '']);
  expect(none.err).toContain('no tracker answers');
  const child = start('--data', dir, '--listen', '127.0.0.1:0', '--insecure-http');
  child.stderr!.resume();
  const [line] = (await once(createInterface(child.stdout!), 'line')) as [string];
  const { code, out, err } = await run('login', '--data', dir, '--as', 'ada', '--role', 'operate');
  expect([code, err]).toEqual([0, 'It signs in ada (operate) once, within 10 minutes.\n']);
  const link = new URL(out.trim());
  expect(line).toContain(link.origin);
  const signIn = (): Promise<Response> => fetch(new URL('/api/v1/sign-in', link), { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ code: link.hash.slice('#code='.length) }) });
  const first = await signIn();
  expect([first.status, await first.json()]).toEqual([200, expect.objectContaining({ name: 'ada', role: 'operate' })]);
  expect((await signIn()).status).toBe(401);
});
