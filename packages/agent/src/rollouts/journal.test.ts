import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Journal } from './journal.ts';
import type { RolloutResult } from './ports.ts';

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-journal-'));
});

afterEach(async () => {
  await rm(dir, { recursive: true });
});

const result = (rolloutId: string, attempt = 1): RolloutResult => ({ type: 'rollout-result', rolloutId, attempt, ok: true });

test('results are there after a restart, by rollout and attempt', async () => {
  const journal = await Journal.open(dir);
  await Promise.all([journal.add(result('r-a')), journal.add({ ...result('r-a', 2), ok: false }), journal.add(result('r-b'))]);
  const again = await Journal.open(dir);
  expect(again.damaged).toBeUndefined();
  expect(again.get({ rolloutId: 'r-a', attempt: 2 })).toEqual({ ...result('r-a', 2), ok: false });
  expect(again.get({ rolloutId: 'r-b', attempt: 1 })).toEqual(result('r-b'));
  expect(again.get({ rolloutId: 'r-b', attempt: 2 })).toBeUndefined();
});

test('of many the last are kept', async () => {
  const journal = await Journal.open(dir);
  await Promise.all(Array.from({ length: 300 }, (_, index) => journal.add(result(`r-${index}`))));
  expect(JSON.parse(await readFile(join(dir, 'rollouts.json'), 'utf8'))).toHaveLength(256);
  const again = await Journal.open(dir);
  expect(again.get(result('r-43'))).toBeUndefined();
  expect(again.get(result('r-44'))).toBeDefined();
});

test.each(['', '{', '{}', '[{"type":"stats"}]', '[{"type":"rollout-result"}]'])('a file of %j counts as empty, says so, and is replaced', async (text) => {
  await writeFile(join(dir, 'rollouts.json'), text);
  const journal = await Journal.open(dir);
  expect(journal.damaged).toMatchObject({ code: 'STORE_CORRUPT' });
  await journal.add(result('r-a'));
  expect((await Journal.open(dir)).damaged).toBeUndefined();
});
