import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { Level } from 'level';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { KeptTable, type Row, type TableLimits } from './kept-table.ts';

let dir: string;
let db: Level;
let now: number;
const failures: unknown[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-table-'));
  db = new Level(dir);
  await db.open();
  now = 1_000_000;
  failures.length = 0;
});
afterEach(async () => {
  await db.close();
  await rm(dir, { recursive: true });
});

function table(limits: Partial<TableLimits>, name = 'rows'): KeptTable<Row> {
  return new KeptTable<Row>(db, name, { maxRows: 1000, keepMs: 1000, ...limits }, () => now, (error) => failures.push(error));
}

async function kept(rows: KeptTable<Row>, keys: readonly string[]): Promise<string[]> {
  const found = await rows.getMany([...keys]);
  return keys.filter((_, i) => found[i] !== undefined);
}

test('rows are written, read and deleted, each table for itself', async () => {
  const [a, b] = [table({}, 'a'), table({}, 'b')];
  await a.put([['x', { atMs: now }], ['y', { atMs: now }]]);
  await a.put([]);
  await a.delete('y');
  expect(await a.get('x')).toEqual({ atMs: now });
  expect(await a.get('y')).toBeUndefined();
  expect(await b.get('x')).toBeUndefined();
});

test('rows that were not written for long are forgotten', async () => {
  const rows = table({ keepMs: 1000 });
  await rows.put([['old', { atMs: now - 1001 }], ['young', { atMs: now - 1000 }]]);
  await rows.prune();
  expect(await kept(rows, ['old', 'young'])).toEqual(['young']);
});

test('of too many rows the oldest go, exactly as many as are too many', async () => {
  const times = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(times, fc.integer({ min: 1, max: 20 }), async (ages, maxRows) => {
      const rows = table({ maxRows, keepMs: Number.POSITIVE_INFINITY });
      const keys = ages.map((_, i) => String(i));
      await rows.put(ages.map((age, i) => [String(i), { atMs: now - age }]));
      await rows.idle();
      await rows.prune();
      const left = (await kept(rows, keys)).map((key) => ages[Number(key)]!);
      const youngest = ages.toSorted((a, b) => a - b).slice(0, maxRows);
      expect(left.toSorted((a, b) => a - b)).toEqual(youngest);
      for (const key of keys) await rows.delete(key);
    }),
    { numRuns: 30 },
  );
});

test('many writes prune without being asked to, also a table of thousands', async () => {
  const rows = table({ maxRows: 3000 });
  const keys = Array.from({ length: 6000 }, (_, i) => `k${i}`);
  await rows.put(keys.map((key, i) => [key, { atMs: now + i }]));
  await rows.idle();
  expect(await kept(rows, keys)).toEqual(keys.slice(3000));
  expect(failures).toEqual([]);
});

test('what fails with nobody waiting is told', async () => {
  const rows = table({});
  await db.close();
  rows.pruneSoon();
  await rows.idle();
  expect(failures).toEqual([expect.objectContaining({ code: expect.stringMatching(/^LEVEL_.*_NOT_OPEN$/) as string })]);
  await db.open();
});
