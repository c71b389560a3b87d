// Real programs: what they print, what they see, and that none outlives its time.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Programs } from './program.ts';
import { ProgramFolder } from './test-programs.ts';

const never = new AbortController().signal;
let folder: ProgramFolder;
beforeEach(() => {
  folder = new ProgramFolder();
});
afterEach(() => folder[Symbol.dispose]());

const run = (file: string, { programs = new Programs(folder.env), args = ['get'], stdin = 'host' } = {}, signal = never) => programs.run({ file, args, stdin }, signal);

/** Waits until the process is gone. */
async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}/stat`) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) await new Promise((resolve) => setImmediate(resolve));
}

test('gets its arguments and input, and is found in PATH; its output and code come back', async () => {
  folder.add('helper', 'echo "out"; echo "err" >&2; exit 3');
  expect(await run('helper')).toEqual({ exitCode: 3, stdout: 'out\n' });
  expect(folder.asked('helper')).toEqual(['get host']);
});

test('sees the environment that it is given, and nothing else', async () => {
  const file = folder.add('helper', 'echo "$MINE/$OTHER/$FLOTILLA_TEST_SECRET"');
  process.env['FLOTILLA_TEST_SECRET'] = 'x';
  try {
    expect(await new Programs({ ...folder.env, MINE: 'a' }).run({ file, args: [], stdin: '', env: { OTHER: 'b' } }, never)).toMatchObject({ stdout: 'a/b/\n' });
  } finally {
    delete process.env['FLOTILLA_TEST_SECRET'];
  }
});

test('no shell looks at names and arguments', async () => {
  folder.add('helper', 'echo "$1"');
  expect(await run('helper', { args: ['$(touch x); `touch y`'] })).toMatchObject({ stdout: '$(touch x); `touch y`\n' });
  await expect(run('helper; touch z')).rejects.toMatchObject({ code: 'ENOENT' });
  expect(['x', 'y', 'z'].some((name) => existsSync(join(folder.path, name)) || existsSync(name))).toBe(false);
});

test('one that is not there is an error', async () => {
  await expect(run('docker-credential-nobody')).rejects.toMatchObject({ code: 'ENOENT' });
});

test('one that reads no input may succeed', async () => {
  folder.write('deaf', '');
  expect(await run('/bin/true', { stdin: 'x'.repeat(1_000_000) })).toMatchObject({ exitCode: 0 });
});

test('one that does not end is killed, with what it started', async () => {
  folder.add('helper', `sleep 1000 & echo $! > '${join(folder.path, 'child')}'; echo $$ > '${join(folder.path, 'pid')}'; wait`);
  await expect(run('helper', { programs: new Programs(folder.env, { timeoutMs: 500 }) })).rejects.toThrow('it did not end within 500 ms');
  for (const name of ['pid', 'child']) await gone(Number(readFileSync(join(folder.path, name), 'utf8')));
});

test('one that leaves a child holding its output is waited for no longer', async () => {
  folder.add('helper', 'sleep 1000 &');
  await expect(run('helper', { programs: new Programs(folder.env, { timeoutMs: 500 }) })).rejects.toThrow('500 ms');
});

test('giving up kills it', async () => {
  folder.add('helper', `echo $$ > '${join(folder.path, 'pid')}'; echo ready; exec sleep 1000`);
  const controller = new AbortController();
  const running = run('helper', {}, controller.signal);
  const failed = expect(running).rejects.toThrow('enough');
  while (!existsSync(join(folder.path, 'pid')) || readFileSync(join(folder.path, 'pid'), 'utf8') === '') await new Promise((resolve) => setImmediate(resolve));
  controller.abort(new Error('enough'));
  await failed;
  await gone(Number(readFileSync(join(folder.path, 'pid'), 'utf8')));
});

test('one that prints without end is stopped', async () => {
  folder.add('helper', 'exec cat /dev/zero');
  await expect(run('helper')).rejects.toThrow('it printed more than 1048576 bytes');
});

test('four run at once, the others wait their turn', async () => {
  const log = join(folder.path, 'log');
  // Each waits until four have begun, however long a busy machine takes for that, and a little for a fifth that should not.
  folder.add('helper', `echo + >> '${log}'; while [ $(grep -c + '${log}') -lt 4 ]; do sleep 0.01; done; sleep 0.05; echo - >> '${log}'`);
  const programs = new Programs(folder.env);
  await Promise.all(Array.from({ length: 10 }, () => run('helper', { programs })));
  let running = 0;
  const most = Math.max(...readFileSync(log, 'utf8').trim().split('\n').map((sign) => (running += sign === '+' ? 1 : -1)));
  expect([most, running]).toEqual([4, 0]);
});

test('more than 256 are not waited for', async () => {
  folder.add('helper', 'exit 0');
  const programs = new Programs(folder.env);
  const controller = new AbortController();
  const runs = Array.from({ length: 261 }, () => run('helper', { programs }, controller.signal));
  const settled = Promise.allSettled(runs);
  await expect(runs.at(-1)).rejects.toThrow('too many');
  controller.abort(new Error('enough'));
  expect((await settled).filter(({ status }) => status === 'rejected').length).toBeGreaterThan(200);
});
