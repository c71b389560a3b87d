import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startControl, type AgentStatus, type ControlCommands } from '../control.ts';
import type { FleetKnowledge } from '../fleet-knowledge.ts';
import { describeFleet } from './fleet-status.ts';
import { run } from './program.ts';

const NOW = 1_800_000_000_000;
const PEER = { peerId: '12D3KooWpeer', address: '/ip4/10.0.0.7/tcp/5051', standing: true, sinceMs: NOW - 60_000, downRate: 2e6, upRate: 0, bytesDown: 5e8, bytesUp: 1e6, asked: 1, queuedBytes: 0 };
const FLEET: FleetKnowledge = {
  name: 'host-a',
  peerId: '12D3KooWme',
  tracker: { state: 'lost', url: 'https://tracker:5052', sinceMs: NOW - 90_000, lastError: { code: 'TRACKER_UNREACHABLE', message: 'refused' }, word: { up: 311, stale: 0, down: 2, pulling: 40, verdict: 'origin docker.io slow: 429 since 02:14 UTC', version: '0.1.0', atMs: NOW - 100_000 } },
  peers: [PEER],
  bans: [],
  banned: ['12D3KooWbad'],
  blobs: [{ digest: `sha256:${'a'.repeat(64)}`, size: 1e8, chunks: 100, held: 25, sources: [{ peerId: PEER.peerId, held: 100, downRate: 2e6, upRate: 0 }, { peerId: 'x', held: 10, downRate: 0, upRate: 0 }] }],
};

let dir: string;
let close: (() => Promise<void>) | undefined;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-fleet-status-'));
});

afterEach(async () => {
  await close?.();
  close = undefined;
  await rm(dir, { recursive: true });
});

async function ask(...args: string[]): Promise<{ code: number; out: string }> {
  let out = '';
  const code = await run(['status', '--fleet', '--data', dir, ...args], { out: (text) => (out += text), err: () => undefined });
  return { code, out };
}

test('any agent answers, with the tracker gone', () => {
  expect(describeFleet(FLEET, NOW).split('\n').map((line) => line.trimEnd())).toEqual([
    'asked      host-a, id 12D3KooWme',
    'tracker    lost, https://tracker:5052, for 1 min 30 s (TRACKER_UNREACHABLE: refused)',
    'last word  1 min 40 s ago: 311 up, 0 stale, 2 down, 40 pulling; origin docker.io slow: 429 since 02:14 UTC',
    'peers      1 connected, 1 of the standing mesh',
    'shut out   1 by the tracker, 0 by this host',
    '',
    'PEER          ADDRESS                 FOR        FROM IT    TO IT  GOT     GAVE',
    '12D3KooWpeer  /ip4/10.0.0.7/tcp/5051  1 min 0 s  2.00 MB/s  0 B/s  500 MB  1.00 MB',
    '',
    'BLOB                 SIZE    HERE  PEERS  WITH ALL  FROM THEM',
    'sha256:aaaaaaaaaaaa  100 MB  25 %  2      1         2.00 MB/s',
    '',
  ]);
});

test('alone it says so', () => {
  expect(describeFleet({ ...FLEET, tracker: { state: 'none', sinceMs: NOW }, peers: [], banned: [], blobs: [] }, NOW)).toBe('asked    host-a, id 12D3KooWme\ntracker  none, for 0 s\npeers    0 connected, 0 of the standing mesh\n');
});

test('the command asks the agent of this host; as JSON it is all that the agent knows', async () => {
  const commands = { fleet: () => FLEET } as ControlCommands;
  const control = await startControl(dir, () => Promise.reject<AgentStatus>(new Error('not asked')), commands);
  close = () => control.close();
  expect(JSON.parse((await ask('--json')).out)).toEqual(FLEET);
  const { code, out } = await ask();
  expect([code, out.startsWith('asked      host-a')]).toEqual([0, true]);
});

test('where no agent runs it ends with 3', async () => {
  expect((await ask()).code).toBe(3);
});
