import { expect, test } from 'vitest';
import { transferS } from './bound.ts';
import { readOptions, UsageError } from './options.ts';
import { planOf } from './scenarios.ts';

test('rates and sizes are read, the origin follows the hosts unless told otherwise', () => {
  expect(readOptions(['--hosts', '40', '--rate', '5mbit', '--size', '24MiB'])).toMatchObject({ hosts: 40, rateBps: 5e6, originRateBps: 5e6, trackerRateBps: 5e6, zoneRateBps: 2.5e6, sizeBytes: 25_165_824, scenario: 'crowd' });
  expect(readOptions(['--origin-rate', '1gbit']).originRateBps).toBe(1e9);
});

test.each([
  [['--scenario', 'churn', '--compare-bare'], /only after crowd and many/],
  [['--scenario', 'crowds'], /not known; one of crowd, direct/],
  [['--rate', '20'], /--rate 20: write it as in 20mbit/],
  [['--size', '-1MiB'], /--size/],
  [['--hosts', '0'], /--hosts 0: a number from 1/],
  [['--trace'], /--out DIR/],
  [['--warm', 'x'], /--warm x: write it as in 4MiB/],
  [['--warm', '4MiB', '--compare-bare'], /have just started/],
  [['--warm', '4MiB', '--scenario', 'direct'], /has no agents/],
  [['--speed', '1'], /speed/],
])('%j is refused with what to change', (args, message) => {
  expect(() => readOptions(args)).toThrow(UsageError);
  expect(() => readOptions(args)).toThrow(message);
});

test('churn judges the survivors, mixed the fast ones; both hold a fifth of the hosts apart', () => {
  const churn = planOf(readOptions(['--scenario', 'churn', '--kill-tracker']));
  expect(churn.kills.map(({ what }) => what)).toEqual(['tracker', 2, 7, 12]);
  expect(churn.judged).toHaveLength(12);
  const mixed = planOf(readOptions(['--scenario', 'mixed']));
  expect(mixed.hostsBps.filter((bps) => bps === 4e6)).toHaveLength(3);
  expect(mixed.judged.every((host) => mixed.hostsBps[host] === 20e6)).toBe(true);
});

test('liars are a tenth of the hosts, one at least, and none of the judged', () => {
  const { liars, judged } = planOf(readOptions(['--scenario', 'liars']));
  expect(liars).toHaveLength(2);
  expect(judged.filter((host) => liars.includes(host))).toEqual([]);
  expect(planOf(readOptions(['--scenario', 'liars', '--hosts', '3'])).liars).toHaveLength(1);
  expect(planOf(readOptions([])).liars).toEqual([]);
});

test('one agent vouches falsely; it is not judged, and clients ask again', () => {
  const { falseVouchers, judged, tries } = planOf(readOptions(['--scenario', 'false-vouchers', '--hosts', '8']));
  expect(falseVouchers).toEqual([4]);
  expect(judged).toEqual([0, 1, 2, 3, 5, 6, 7]);
  expect(tries).toBe(5);
  expect(planOf(readOptions([]))).toMatchObject({ falseVouchers: [], tries: 1 });
});

test('alone is one host, however many are asked for', () => {
  const options = readOptions(['--scenario', 'alone', '--hosts', '4']);
  expect(options.hosts).toBe(1);
  expect(planOf(options).waves).toEqual([[{ host: 0, delayS: 0 }]]);
});

test('zones share the hosts out, and their narrow links set the bound', () => {
  const { zones, judged, boundS } = planOf(readOptions(['--scenario', 'zones', '--hosts', '8', '--zone-rate', '5mbit', '--size', '8MiB']));
  expect(zones).toEqual({ linkBps: 5e6, hosts: [[0, 3, 6], [1, 4, 7], [2, 5]] });
  expect(judged).toHaveLength(8);
  expect(boundS).toBe(transferS(8 * 1024 ** 2, 5e6));
  expect(planOf(readOptions([])).zones).toBeUndefined();
});

test('an image of many layers has the size that was asked for, with small and large ones', () => {
  const { layerBytes } = planOf(readOptions(['--scenario', 'many', '--size', '256MiB']));
  expect(layerBytes).toHaveLength(60);
  const total = layerBytes.reduce((sum, size) => sum + size, 0);
  expect(Math.abs(total / 2 ** 28 - 1)).toBeLessThan(0.01);
  expect(Math.min(...layerBytes)).toBeLessThan(10_000);
  expect(Math.max(...layerBytes)).toBeLessThanOrEqual(100e6);
});

test('rolling starts every host once', () => {
  const { waves } = planOf(readOptions(['--scenario', 'rolling', '--hosts', '7', '--waves', '3']));
  expect(waves.map((wave) => wave.map(({ host }) => host))).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
});
