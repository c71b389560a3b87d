import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FinishedBlob } from '@flotilla/shared/agent-report';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { State, type Table } from '../state.ts';
import { PeerNumbers } from './peer-numbers.ts';
import { PullHistory, type PullRecord } from './pull-history.ts';

const DAY_MS = 24 * 60 * 60_000;
const peer = (name: string): string => `12D3KooWGRUaJpVWw5vBvxUYv4tSbZ6dUFq3xGvHpYMeT5rHm${name.padStart(3, '0')}`;

let dir: string;
let state: State;
let table: Table<PullRecord>;
let numbers: PeerNumbers;
let nowMs: number;
/** How often the whole table was read. */
let scans: number;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-history-'));
  state = await State.open(dir);
  table = state.table('pulls');
  numbers = await PeerNumbers.open(state.table('peer-numbers'));
  nowMs = 1_800_000_000_000;
  scans = 0;
  const entries = table.entries.bind(table);
  table.entries = (...args) => {
    scans++;
    return entries(...args);
  };
});

afterEach(async () => {
  await state.close();
  await rm(dir, { recursive: true });
});

function history(): PullHistory {
  return new PullHistory(table, { numbers, imageName: () => undefined, imagesOf: () => new Set(), hostName: (peerId) => peerId.slice(-3), fetches: () => false });
}

function blob(from: readonly [string, number][], requestIds: string[] = []): FinishedBlob {
  const peerBytes = from.reduce((sum, [, bytes]) => sum + bytes, 0);
  return { digest: `sha256:${'a'.repeat(64)}`, size: 100, origin: 'lab', repository: 'app', startedAtMs: nowMs, endedAtMs: nowMs, originBytes: 0, resumedBytes: 0, duplicateBytes: 0, peerBytes, sources: from.map(([name, bytes]) => [peer(name), bytes]), requestIds };
}

/** A host has taken something and been quiet since. */
async function pulled(pulls: PullHistory, host: string, from: readonly [string, number][], requestIds?: string[]): Promise<void> {
  pulls.finished(peer(host), { name: host, zone: '' }, blob(from, requestIds), nowMs);
  nowMs += 10_000;
  await pulls.flush(nowMs);
}

async function received(pulls: PullHistory, from: string): Promise<Record<string, number>> {
  const { receivers } = await pulls.receivedFrom(peer(from));
  return Object.fromEntries([...receivers.values()].map(({ name, bytes }) => [name, bytes]));
}

test('who got bytes from a peer: what is kept, what is not quiet yet, and no more what is a week old', async () => {
  const pulls = history();
  await pulled(pulls, 'h1', [['x', 10], ['y', 1]]);
  await pulled(pulls, 'h2', [['x', 20]]);
  expect(await received(pulls, 'x')).toEqual({ h1: 10, h2: 20 });
  nowMs += 6 * DAY_MS;
  pulls.finished(peer('h1'), { name: 'h1', zone: '' }, blob([['x', 5]]), nowMs);
  expect(await received(pulls, 'x')).toEqual({ h1: 15, h2: 20 });
  nowMs += 2 * DAY_MS;
  await pulls.flush(nowMs);
  expect(await received(pulls, 'x')).toEqual({ h1: 5 });
  expect(await received(pulls, 'y')).toEqual({});
  expect(await received(history(), 'x')).toEqual({ h1: 5 });
});

test('asked again it reads what came since, and nothing where nothing did', async () => {
  const pulls = history();
  for (let host = 0; host < 20; host++) await pulled(pulls, `h${host}`, [['x', 1]]);
  await received(pulls, 'x');
  const once = scans;
  let reads = 0;
  const get = table.get.bind(table);
  table.get = (key) => {
    reads++;
    return get(key);
  };
  await pulled(pulls, 'late', [['x', 7]]);
  expect(await received(pulls, 'x')).toMatchObject({ h0: 1, late: 7 });
  expect([scans - once, reads]).toEqual([0, 1]);
  await received(pulls, 'x');
  expect([scans - once, reads]).toEqual([0, 1]);
});

test('whatever happens in between, it is the same as asked for the first time', async () => {
  const steps = fc.array(fc.record({ host: fc.constantFrom('h1', 'h2', 'h3'), from: fc.constantFrom('x', 'y'), bytes: fc.nat(50), ms: fc.constantFrom(1_000, 20_000, 2 * DAY_MS), ask: fc.boolean() }), { maxLength: 25 });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      table = state.table(`pulls-${run++}`);
      const pulls = history();
      const writes: Promise<void>[] = [];
      for (const { host, from, bytes, ms, ask } of all) {
        pulls.finished(peer(host), { name: host, zone: '' }, blob([[from, bytes]]), nowMs);
        nowMs += ms;
        writes.push(pulls.flush(nowMs) ?? Promise.resolve());
        if (ask) await received(pulls, 'x');
      }
      const askedBefore = await received(pulls, 'x');
      writes.push(pulls.flush(nowMs, true) ?? Promise.resolve());
      await Promise.all(writes);
      expect(await received(pulls, 'x')).toEqual(askedBefore);
      expect(await received(history(), 'x')).toEqual(askedBefore);
    }),
    { numRuns: 25 },
  );
});

test('ids of requests go with their pulls; an id that was used again leads to the latest', async () => {
  const pulls = history();
  await pulled(pulls, 'h1', [], ['build-1', 'build-2']);
  nowMs += 5 * DAY_MS;
  await pulled(pulls, 'h2', [], ['build-1']);
  expect(await pulls.byRequest('build-1')).toMatchObject({ host: 'h2' });
  expect((await pulls.byRequestBegin('build', 1)).length).toBe(1);
  nowMs += 3 * DAY_MS;
  await pulls.flush(nowMs);
  expect(await pulls.byRequest('build-2')).toBeUndefined();
  // What is gone takes no room in the answer.
  expect((await pulls.byRequestBegin('build', 1)).map(({ host }) => host)).toEqual(['h2']);
  expect((await history().byRequest('build-1'))?.host).toBe('h2');
});

test('a number says that something has changed', async () => {
  const pulls = history();
  const numbersSeen = [pulls.changes];
  pulls.finished(peer('h1'), { name: 'h1', zone: '' }, blob([]), nowMs);
  numbersSeen.push(pulls.changes);
  await pulls.flush(nowMs);
  expect(pulls.changes).toBe(numbersSeen[1]);
  await pulls.flush(nowMs + 10_000);
  numbersSeen.push(pulls.changes);
  expect(new Set(numbersSeen).size).toBe(3);
});
