import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { State } from '../state.ts';
import { Rates } from './rates.ts';
import { Series } from './series.ts';

const totals = (peer: number): { peer: number; origin: number; uploaded: number; store: number } => ({ peer, origin: 0, uploaded: 0, store: 0 });

test('a rate is taken over the last seconds, and ends with the word of its host', () => {
  const rates = new Rates();
  expect(rates.of('peer', 0)).toBe(0);
  for (let second = 0; second <= 10; second++) rates.take(totals(second * 5_000), second * 1_000);
  expect(rates.of('peer', 10_000)).toBe(5_000);
  expect(rates.of('origin', 10_000)).toBe(0);
  expect(rates.of('peer', 14_000)).toBe(0);
});

test('chunks that come whole do not make it jump to nothing', () => {
  const rates = new Rates();
  for (let second = 0; second <= 9; second++) rates.take(totals(Math.floor(second / 2) * 8_000), second * 1_000);
  expect(rates.of('peer', 9_000)).toBeGreaterThan(2_000);
});

test('after a pause it counts from when the bytes may have begun to flow', () => {
  const rates = new Rates();
  rates.take(totals(0), 0);
  rates.take(totals(6_000), 30_000);
  expect(rates.of('peer', 30_000)).toBe(2_000);
});

test('an agent that starts anew, or says the same twice, makes no negative rate', () => {
  const rates = new Rates();
  rates.take(totals(9_000), 0);
  rates.take(totals(100), 1_000);
  expect(rates.of('peer', 1_000)).toBe(0);
  rates.take(totals(1_100), 2_000);
  rates.take(totals(1_100), 2_000);
  expect(rates.of('peer', 2_000)).toBe(1_000);
});

test('seconds for an hour, minutes for a week, over a restart', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-series-'));
  const state = await State.open(join(dir, 'state'));
  try {
    const t0 = 1_800_000_000_000;
    const series = await Series.open(state.table('throughput'), t0);
    const writes: Promise<void>[] = [];
    for (let second = 0; second < 2 * 3600; second++) {
      const { write } = series.add([second < 120 || second > 7000 ? 600 : 0, 0, 0, 0], t0 + second * 1000);
      if (write !== undefined) writes.push(write);
    }
    await Promise.all(writes);
    // Nothing moved for most of it: the curve has a zero on each side and no more.
    expect(series.lastHour().length).toBe(7200 - 7001);
    expect(series.lastHour().at(-1)).toEqual([t0 / 1000 + 7199, 600, 0, 0, 0]);
    expect(series.lastWeek().slice(0, 3).map(([at, rate]) => [at - t0 / 1000, rate])).toEqual([[0, 600], [60, 600], [120, 0]]);
    const again = await Series.open(state.table('throughput'), t0 + 7_200_000);
    expect(again.lastWeek()).toEqual(series.lastWeek());
    const old = await Series.open(state.table('throughput'), t0 + 8 * 86_400_000);
    expect(old.lastWeek()).toEqual([]);
  } finally {
    await state.close();
    await rm(dir, { recursive: true });
  }
});
