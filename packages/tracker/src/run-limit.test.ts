import { expect, test } from 'vitest';
import { RunLimit } from './run-limit.ts';

/** Steps ten times a second for so long; in each step as many bytes come as `rate` (bytes per second) says of the limit. */
function run(limit: RunLimit, fromMs: number, seconds: number, ready: number, rate: (runs: number) => number): number[] {
  const seen: number[] = [];
  for (let at = 0; at < seconds * 10; at++) {
    limit.step(fromMs + at * 100, () => ready);
    limit.add(rate(limit.runs) / 10);
    seen.push(limit.runs);
  }
  return seen;
}

const full = (): number => 600_000;
const perRun = (runs: number): number => runs * 50_000;

test('a few members have two runs each within half a second', () => {
  const seen = run(new RunLimit(), 0, 1, 5, full);
  expect(seen.slice(0, 5)).toEqual([3, 6, 10, 10, 10]);
});

test('where the origin is full, more are tried and taken back', () => {
  const seen = run(new RunLimit(), 0, 60, 40, full);
  expect(Math.max(...seen)).toBe(18);
  expect(new Set(seen.slice(10))).toEqual(new Set([12, 18]));
  // A try takes two seconds, and there are ten between two.
  expect(seen.filter((runs) => runs === 18).length).toBeLessThan(0.25 * seen.length);
});

test('where more runs bring more, they come to two for every member', () => {
  const seen = run(new RunLimit(), 0, 60, 100, perRun);
  expect(seen.at(-1)).toBe(200);
  expect(seen.every((runs, at) => at === 0 || runs >= seen[at - 1]!)).toBe(true);
});

test('they stop where the origin is full', () => {
  const seen = run(new RunLimit(), 0, 60, 100, (runs) => Math.min(perRun(runs), 2_500_000));
  expect(seen.at(-1)! >= 45 && seen.at(-1)! <= 102, `${seen.at(-1)}`).toBe(true);
});

test('an origin that stands still is not tried with more', () => {
  const seen = run(new RunLimit(), 0, 60, 100, () => 0);
  expect(new Set(seen.slice(10))).toEqual(new Set([12, 18]));
});

test('begins anew when nobody is left', () => {
  const limit = new RunLimit();
  run(limit, 0, 30, 100, perRun);
  expect(run(limit, 30_000, 1, 0, full).at(-1)).toBe(3);
  expect(run(limit, 31_000, 1, 5, full).slice(0, 5)).toEqual([3, 6, 10, 10, 10]);
});
