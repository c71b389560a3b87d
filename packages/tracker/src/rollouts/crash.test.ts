// The tracker as a process, killed with SIGKILL at any moment of a rollout: hosts see one story, and in the end all are done.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseJoinToken } from '@flotilla/shared/join-token';
import type { RolloutDetail } from '@flotilla/shared/rollout-api';
import type { RolloutTask } from '@flotilla/shared/tracker-api';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { seededRandom } from '../test-swarms.ts';
import { keepConnected, TestHostIdentity, type HostSession } from './test-hosts.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const DIGEST = `sha256:${'d'.repeat(64)}`;
const HOSTS = 24;
const KILLS = 5;

let dir: string;
let child: ChildProcess | undefined;
const stopping = new AbortController();
const hosts: Promise<void>[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-rollout-crash-'));
});

afterEach(async () => {
  stopping.abort();
  await Promise.all(hosts);
  await kill();
  await rm(dir, { recursive: true });
});

async function startTracker(port: number): Promise<void> {
  child = spawn(process.execPath, [MAIN, '--data', dir, '--listen', `127.0.0.1:${port}`, '--insecure-http'], { stdio: ['ignore', 'pipe', 'ignore'], env: { PATH: process.env['PATH'] } });
  await once(createInterface(child.stdout!), 'line');
}

async function kill(): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('a rollout outlives kill -9 at any moment', async () => {
  const seed = Date.now() % 1_000_000;
  const random = seededRandom(seed);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  await startTracker(port);
  const token = parseJoinToken(await readFile(join(dir, 'join-token'), 'utf8'));
  const operator = (await readFile(join(dir, 'operator-token'), 'utf8')).trim();
  const ask = async (method: string, path: string, body?: object): Promise<RolloutDetail> => {
    const response = await fetch(`${url}/api/v1/${path}`, { method, headers: { authorization: `Bearer ${operator}`, ...(body && { 'content-type': 'application/json' }) }, ...(body && { body: JSON.stringify(body) }) });
    return (await response.json()) as RolloutDetail;
  };

  /** What each attempt was, by host: it must not become something else. */
  const told = new Map<string, string>();
  const ended = new Set<string>();
  const faults: string[] = [];
  const act = (name: string) => async (session: HostSession, task: RolloutTask): Promise<void> => {
    const key = `${name} ${task.attempt}`;
    if ((told.get(key) ?? JSON.stringify(task)) !== JSON.stringify(task)) faults.push(`${key} was ${told.get(key)} and is ${JSON.stringify(task)}`);
    told.set(key, JSON.stringify(task));
    // The first of all waits alone; so do the six before the rest.
    const before = new Set([...told.entries()].filter(([, text]) => text.includes('"pull"')).map(([each]) => each.split(' ')[0]));
    if (task.task === 'pull' && before.size > 1 && ended.size < 1) faults.push(`${name} began before the canary was done`);
    if (task.task === 'pull' && before.size > 6 && ended.size < 6) faults.push(`${name} began before the second wave was done`);
    await delay(50 + random() * 400);
    if (task.task === 'pull') ended.add(name);
    await session.done(task, DIGEST);
  };
  for (let index = 0; index < HOSTS; index++) {
    const identity = new TestHostIdentity({ name: `h${index}`, labels: {} });
    hosts.push(keepConnected(url, token, identity, act(`h${index}`), stopping.signal));
  }
  for (;;) {
    const response = await fetch(`${url}/api/v1/status`, { headers: { authorization: `Bearer ${operator}` } });
    if (((await response.json()) as { sessions: number }).sessions === HOSTS) break;
  }

  const { id } = await ask('POST', 'rollouts', { image: 'docker.io/nginx:1.27', waves: '1,6,100%' });
  for (let kills = 0; kills < KILLS; kills++) {
    await delay(random() * 300);
    await kill();
    await startTracker(port);
  }
  let last: RolloutDetail;
  const deadlineMs = performance.now() + 60_000;
  do {
    // Below the rate limit of the API.
    await delay(50);
    last = await ask('GET', `rollouts/${id}`);
    expect(performance.now(), `seed ${seed}: ${JSON.stringify(last.hosts)} ${last.state}`).toBeLessThan(deadlineMs);
  } while (last.state !== 'done');
  expect(faults, `seed ${seed}`).toEqual([]);
  expect(last.hosts).toEqual({ total: HOSTS, waiting: 0, working: 0, done: HOSTS, failed: 0, away: 0 });
  expect(last.digest).toBe(DIGEST);
}, 120_000);
