// `flotilla pull` as a person and as a script run it, beside agents of this process.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pullImage } from '@flotilla/agent/cli/pull';
import type { PullEvent } from '@flotilla/agent/pull';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';
import { checkout } from '../support/processes.ts';

const MAIN = join(checkout, 'packages/agent/src/main.ts');
const KIB = 1024;

let origin: OriginServer;
let fleet: TestFleet;
let [a, b]: TestAgent[] = [];
let image: TestImage;

beforeAll(async () => {
  origin = await OriginServer.start();
  // No two images here share a tag: it stands in their configs, which would then be one blob.
  image = origin.addImage('team/app', '1', [300 * KIB, 40 * KIB]);
  fleet = await TestFleet.start({ lab: origin.url });
  a = await fleet.agent('a');
  b = await fleet.agent('b');
  await fleet.meshed();
});
afterAll(async () => {
  await fleet.stop();
  await origin.goAway();
});

async function pull(agent: TestAgent, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [MAIN, 'pull', '--data', agent.dir, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit') as Promise<[number]>]);
  return { code, out, err };
}

function events(out: string): PullEvent[] {
  return out.trimEnd().split('\n').map((line) => JSON.parse(line) as PullEvent);
}

const size = (): number => image.layers.reduce((sum, { bytes }) => sum + bytes.length, 0);

test('from the origin, from a peer, and from nowhere as it is here', async () => {
  const first = events((await pull(a!, '--json', 'lab/team/app:1')).out);
  const done = first.at(-1);
  if (done?.type !== 'done') throw new Error(JSON.stringify(first));
  expect(done).toMatchObject({ image: 'lab/team/app:1', digest: image.manifest.digest, storedBytes: 0, peerBytes: 0 });
  expect(done.originBytes).toBe(done.bytes);
  expect(done.bytes).toBeGreaterThan(size());
  expect(first.filter(({ type }) => type === 'blob')).toHaveLength(3);

  const second = await pull(b!, 'lab/team/app:1');
  expect(second).toMatchObject({ code: 0, err: '' });
  expect(second.out).toMatch(/^sha256:\w{12} {2}307 kB {2}in \d+\.\d s {2}100 % from peers$/m);
  expect(second.out).toMatch(/^lab\/team\/app:1 is here: 348 kB, in \d+\.\d s; 348 kB from peers, 0 B from the origin$/m);

  const third = await pull(b!, `lab/team/app@${image.manifest.digest}`);
  expect(third).toEqual({ code: 0, err: '', out: `lab/team/app@${image.manifest.digest} is here already: 348 kB, ${image.manifest.digest}\n` });
  for (const { digest, bytes } of image.layers) expect(origin.bytesOf(digest)).toBe(bytes.length);
});

test.each<[string, string[], number, RegExp]>([
  ['an image that is not there', ['lab/team/none:1'], 1, /^flotilla: \w+: .+\. .+\.\n$/],
  ['no name', ['team'], 1, /NAME_UNKNOWN: "team" names no origin, and there is no default origin/],
  ['no platform', ['--platform', 'linux', 'lab/team/app:1'], 2, /"linux" is no platform/],
  ['no image', [], 2, /missing required argument 'IMAGE'/],
])('%s: exit code and what to do', async (_what, args, code, err) => {
  expect(await pull(a!, ...args)).toEqual({ code, out: '', err: expect.stringMatching(err) });
});

test('a failure is the last line of JSON too, and the exit code', async () => {
  const { code, out } = await pull(a!, '--json', 'lab/team/none:1');
  expect(code).toBe(1);
  expect(events(out).at(-1)).toMatchObject({ type: 'failed', code: expect.any(String), help: expect.any(String) });
});

test('without an agent nothing is tried', async () => {
  const child = spawn(process.execPath, [MAIN, 'pull', '--data', join(fleet.dir, 'none'), 'lab/team/app:1'], { stdio: 'ignore' });
  expect(await once(child, 'exit')).toEqual([3, null]);
});

test('Ctrl-C ends it, here and in the agent', async () => {
  const held = origin.addImage('team/held', 'held', [500 * KIB]);
  const gate = Promise.withResolvers<void>();
  origin.faults.gate = () => gate.promise;
  try {
    const child = spawn(process.execPath, [MAIN, 'pull', '--json', '--data', a!.dir, `lab/team/held@${held.manifest.digest}`], { stdio: ['ignore', 'pipe', 'inherit'] });
    // Its manifest is held up at the origin.
    await until('asked of the origin', () => origin.requests.some(({ digest, method }) => digest === held.manifest.digest && method === 'GET'));
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([130, null]);
  } finally {
    gate.resolve();
    delete origin.faults.gate;
  }
  await until('the agent lets go', async () => (await a!.running.status()).downloads.every(({ readers }) => readers === 0));
  expect((await pull(a!, 'lab/team/held:held')).code).toBe(0);
});

test('an agent that stops in the middle is said, and is a failure', async () => {
  const held = origin.addImage('team/stopped', 'stopped', [500 * KIB]);
  const c = await fleet.agent('c');
  const gate = Promise.withResolvers<void>();
  origin.faults.gate = () => gate.promise;
  const pulled = pull(c, 'lab/team/stopped:stopped');
  await until('asked of the origin', () => origin.requests.some(({ digest, method }) => digest === held.manifest.digest && method === 'GET'));
  await c.stop();
  gate.resolve();
  delete origin.faults.gate;
  expect(await pulled).toMatchObject({ code: 1, err: expect.stringMatching(/agent (stopped|is stopping|gave no answer)/) });
});

/** A screen that remembers what was drawn on it. */
class Screen extends Writable {
  readonly isTTY = true;
  readonly columns = 120;
  readonly rows = 40;
  drawn = '';

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.drawn += chunk.toString();
    done();
  }
}

test('on a terminal there is a bar for each blob under way, and a line for each that has come', async () => {
  origin.addImage('team/shown', 'shown', [800 * KIB]);
  // As much at a time as lets a bar be seen: the next piece when what came was drawn.
  const screen = new Screen();
  let [released, out] = [0, ''];
  origin.faults.gate = async () => {
    if (++released > 8) await until('a bar is drawn', () => /\d+ kB of 819 kB/.test(screen.drawn));
  };
  const terminal = { out: (line: string) => (out += line), err: () => undefined, screen: screen as unknown as NodeJS.WriteStream };
  const code = await pullImage('lab/team/shown:shown', {}, { flags: { data: a!.dir }, env: {} }, terminal, new AbortController().signal);
  delete origin.faults.gate;
  expect(code).toBe(0);
  expect(screen.drawn).toMatch(/sha256:\w{12} [█░]{24} [\d.]+ k?B of 819 kB {2}[\d.]+ k?M?B\/s/);
  expect(screen.drawn).toMatch(/sha256:\w{12} {2}819 kB {2}in \d+\.\d s {2}0 % from peers/);
  // The cursor is back.
  expect(screen.drawn.lastIndexOf('\u001b[?25h')).toBeGreaterThan(screen.drawn.lastIndexOf('\u001b[?25l'));
  expect(out).toMatch(/^lab\/team\/shown:shown is here: 819 kB/);
});
