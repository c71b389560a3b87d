import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MAX_HOOK_OUTPUT } from '@flotilla/shared/tracker-api';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runHook } from './hook.ts';

const FACTS = { reference: '127.0.0.1:5050/docker.io/library/nginx@sha256:abc; touch evil $(touch evil)', image: 'docker.io/library/nginx:1.27', digest: 'sha256:abc' };

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-hook-'));
});

afterEach(async () => {
  await rm(dir, { recursive: true });
});

async function script(...lines: string[]): Promise<string> {
  const path = join(dir, 'hook');
  await writeFile(path, ['#!/bin/sh', ...lines, ''].join('\n'));
  await chmod(path, 0o755);
  return path;
}

function run(command: string, { timeoutMs = 20_000, env = { PATH: process.env['PATH'] }, signal = new AbortController().signal }: { timeoutMs?: number; env?: Record<string, string | undefined>; signal?: AbortSignal } = {}): ReturnType<typeof runHook> {
  return runHook({ command, timeoutMs }, FACTS, env, signal);
}

test('the image reference is its one argument, whatever is in it; no shell reads it', async () => {
  const command = await script('printf "%s|" "$#" "$@"', 'echo "$FLOTILLA_IMAGE $FLOTILLA_DIGEST" >&2', 'pwd');
  const { exitCode, output } = await run(command);
  expect(exitCode).toBe(0);
  expect(output).toContain(`1|${FACTS.reference}|`);
  expect(output).toContain('docker.io/library/nginx:1.27 sha256:abc\n');
  expect(output).toContain('/\n');
  await expect(readFile(join(dir, 'evil'))).rejects.toThrow('ENOENT');
});

test('how it ended, and what it wrote', async () => {
  expect(await run(await script('echo no such image >&2', 'exit 3'))).toMatchObject({ exitCode: 3, output: 'no such image\n' });
});

test("it gets little of the agent's environment", async () => {
  const { output } = await run(await script('env'), { env: { PATH: process.env['PATH'], HOME: '/root', SECRET: 'x', FLOTILLA_JOIN_TOKEN_FILE: 'x' } });
  const names = output.split('\n').map((line) => line.split('=')[0]!);
  expect(names).toEqual(expect.arrayContaining(['PATH', 'HOME', 'FLOTILLA_IMAGE', 'FLOTILLA_DIGEST']));
  expect(names).not.toContain('SECRET');
  expect(names).not.toContain('FLOTILLA_JOIN_TOKEN_FILE');
});

test('after its time it is killed, with what it has started', async () => {
  const pidFile = join(dir, 'pid');
  const outcome = await run(await script('sleep 600 & echo $! > "$(dirname "$0")/pid"', 'echo begun', 'wait'), { timeoutMs: 4_000 });
  expect(outcome.exitCode).toBeUndefined();
  expect(outcome.output).toBe('begun\n\n[killed after 4000 ms]');
  const child = Number(await readFile(pidFile, 'utf8'));
  // Killed, as soon as it is its turn to run; where nobody reaps orphans it stays as a zombie.
  const state = (): Promise<string | undefined> => readFile(`/proc/${child}/stat`, 'utf8').then((text) => text.split(') ')[1]![0], () => 'gone');
  await expect.poll(state).toMatch(/^(gone|Z|X)$/);
});

test('a rollout that is stopped stops it', async () => {
  const abort = new AbortController();
  const outcome = run(await script('echo begun', 'sleep 600'), { signal: abort.signal });
  setTimeout(() => abort.abort(), 300);
  expect((await outcome).exitCode).toBeUndefined();
});

test('what it leaves running does not hold the agent', async () => {
  expect(await run(await script('sleep 30 & echo $! > "$(dirname "$0")/pid"', 'exit 0'))).toMatchObject({ exitCode: 0 });
  process.kill(Number(await readFile(join(dir, 'pid'), 'utf8')), 'SIGKILL');
});

test('what is not there, or may not be run, is told', async () => {
  const missing = await run(join(dir, 'nothing'));
  expect(missing.exitCode).toBeUndefined();
  expect(missing.output).toContain('ENOENT');
  const path = join(dir, 'plain');
  await writeFile(path, 'x');
  expect((await run(path)).output).toContain('EACCES');
});

test('of much output the end is kept, without what a terminal would obey', async () => {
  const command = await script('i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done', "printf '\\033[2Jend\\007ü'");
  const { output } = await run(command);
  expect(output.length).toBeLessThanOrEqual(MAX_HOOK_OUTPUT);
  expect(output.endsWith('line 2999\n[2Jendü')).toBe(true);
});
