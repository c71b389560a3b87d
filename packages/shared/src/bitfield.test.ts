import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Bitfield, mergeRanges, toRanges, type IndexRange } from './bitfield.ts';

const field = fc.integer({ min: 0, max: 70 }).chain((length) =>
  fc.uniqueArray(fc.nat(Math.max(0, length - 1)), { maxLength: length }).map((indexes) => {
    const bits = new Bitfield(length);
    for (const index of indexes) bits.set(index);
    return { bits, indexes };
  }),
);

test('golden: bit 0 is the highest of the first byte', () => {
  const bits = new Bitfield(10);
  bits.setRange([0, 1]);
  bits.setRange([7, 2]);
  expect([...bits.bytes()]).toEqual([0b1000_0001, 0b1000_0000]);
  expect([...Bitfield.full(10).bytes()]).toEqual([0xff, 0xc0]);
  expect([...new Bitfield(0).bytes()]).toEqual([]);
});

describe('round trips', () => {
  test('bytes', () => {
    fc.assert(
      fc.property(field, ({ bits, indexes }) => {
        const copy = Bitfield.fromBytes(bits.length, bits.bytes());
        expect(copy.bytes()).toEqual(bits.bytes());
        expect(copy.count).toBe(indexes.length);
        for (let index = 0; index < bits.length; index++) expect(copy.has(index)).toBe(indexes.includes(index));
      }),
    );
  });

  test('ranges: maximal, ascending, and they set the same bits', () => {
    fc.assert(
      fc.property(field, ({ bits, indexes }) => {
        const ranges = bits.ranges();
        for (const [i, [first, count]] of ranges.entries()) {
          expect(count).toBeGreaterThan(0);
          const before = ranges[i - 1];
          if (before !== undefined) expect(first).toBeGreaterThan(before[0] + before[1]);
        }
        const copy = new Bitfield(bits.length);
        for (const range of ranges) copy.setRange(range);
        expect(copy.bytes()).toEqual(bits.bytes());
        expect(toRanges(indexes)).toEqual(ranges);
        for (const range of ranges) copy.clearRange(range);
        expect(copy.count).toBe(0);
      }),
    );
  });
});

test('set and clear say what they changed, and the count follows', () => {
  const bits = new Bitfield(3);
  expect([bits.set(1), bits.set(1), bits.count, bits.clear(1), bits.clear(1), bits.count]).toEqual([true, false, 1, true, false, 0]);
  bits.setRange([0, 3]);
  expect(bits.full).toBe(true);
});

test('a copy of the bytes cannot change the field', () => {
  const bits = new Bitfield(8);
  bits.bytes()[0] = 255;
  expect(bits.count).toBe(0);
});

test.each([
  ['too short', 9, [255]],
  ['too long', 8, [255, 0]],
  ['a stray bit', 9, [0, 0b0100_0000]],
  ['all stray bits', 1, [255]],
])('refused from the wire: %s', (_why, length, bytes) => {
  expect(() => Bitfield.fromBytes(length, Uint8Array.from(bytes))).toThrow(RangeError);
});

test('indexes outside are an error to set, and not held', () => {
  const bits = new Bitfield(8);
  for (const index of [-1, 8, 1.5, Number.NaN]) expect(() => bits.set(index)).toThrow(RangeError);
  expect([bits.has(-1), bits.has(8)]).toEqual([false, false]);
});

test('ranges of a list: sorted, merged, without repetition', () => {
  const cases: [number[], IndexRange[]][] = [
    [[], []],
    [[5], [[5, 1]]],
    [[3, 1, 2, 2, 7], [[1, 3], [7, 1]]],
  ];
  for (const [indexes, ranges] of cases) expect(toRanges(indexes)).toEqual(ranges);
});

test('two lists of ranges merged: what their indexes are, at the cost of the ranges', () => {
  const ranges = fc.array(fc.tuple(fc.nat(40), fc.nat(5)), { maxLength: 12 });
  const indexes = (of: readonly IndexRange[]): number[] => of.flatMap(([first, count]) => Array.from({ length: count }, (_, at) => first + at));
  fc.assert(
    fc.property(ranges, ranges, (a, b) => {
      expect(mergeRanges(a, b)).toEqual(toRanges([...indexes(a), ...indexes(b)]));
    }),
  );
  expect(mergeRanges([[0, 2 ** 40]], [[2 ** 40, 2 ** 40]])).toEqual([[0, 2 ** 41]]);
});
