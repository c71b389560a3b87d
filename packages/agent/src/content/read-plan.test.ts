import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chunkSize } from '@flotilla/shared/chunk-map';
import { ReadPlan } from './read-plan.ts';

const CHUNK = chunkSize(0);

test('adjacent and close ranges of one chunk are one visit', () => {
  const { visits, whole } = new ReadPlan({ size: 4 * CHUNK }, [
    { start: 10, end: 20 },
    { start: 20, end: 30 },
    { start: 100, end: CHUNK + 5 },
    { start: 3 * CHUNK, end: 3 * CHUNK + 1 },
  ]);
  expect(whole).toBe(false);
  expect(visits).toEqual([
    { index: 0, pieces: [[10, 30], [100, CHUNK]] },
    { index: 1, pieces: [[0, 5]] },
    { index: 3, pieces: [[0, 1]] },
  ]);
});

test('a blob without bytes is read in no visits', () => {
  const plan = new ReadPlan({ size: 0 }, [{ start: 0, end: 0 }]);
  expect([plan.whole, plan.length, plan.stretches(0, 0), plan.visitsBetween(0, 0, 0)]).toEqual([true, 0, [], false]);
});

test('stretches follow the order of the ranges', () => {
  const plan = new ReadPlan({ size: 10 * CHUNK }, [
    { start: 7 * CHUNK, end: 9 * CHUNK },
    { start: 0, end: 2 * CHUNK },
    { start: 8 * CHUNK, end: 8 * CHUNK + 1 },
  ]);
  expect(plan.stretches(0, 9)).toEqual([[7, 2], [0, 2], [8, 1]]);
  expect(plan.stretches(1, 2)).toEqual([[8, 1], [0, 1]]);
  expect(plan.straightTo(0, 9)).toBe(8);
  expect(plan.straightTo(2, 2)).toBe(0);
});

const blob = fc.integer({ min: 1, max: 12 * CHUNK }).chain((size) => {
  const range = fc.tuple(fc.nat(size - 1), fc.nat(size - 1)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) + 1 }));
  return fc.tuple(fc.constant(size), fc.array(range, { minLength: 1, maxLength: 8 }));
});

test('the pieces are the bytes that were asked for, in order, and every visited chunk is found again', () => {
  fc.assert(
    fc.property(blob, fc.nat(20), fc.nat(20), ([size, ranges], from, length) => {
      const plan = new ReadPlan({ size }, ranges);
      const bytes = plan.visits.flatMap(({ index, pieces }) => pieces.map(([a, b]) => [index * CHUNK + a, index * CHUNK + b] as const));
      const joined: [number, number][] = [];
      for (const [start, end] of bytes) {
        expect(start).toBeLessThan(end);
        const last = joined.at(-1);
        if (last?.[1] === start) last[1] = end;
        else joined.push([start, end]);
      }
      const asked: [number, number][] = [];
      for (const { start, end } of ranges) {
        const last = asked.at(-1);
        if (last?.[1] === start) last[1] = end;
        else asked.push([start, end]);
      }
      expect(joined).toEqual(asked);
      const to = from + length;
      const visited = plan.visits.slice(from, to + 1).map(({ index }) => index);
      for (const index of visited) expect(plan.visitsBetween(index, from, to)).toBe(true);
      expect(plan.stretches(from, to).flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i))).toEqual(visited);
    }),
  );
});
