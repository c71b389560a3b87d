import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contentRange, MAX_RANGES, parseRange } from './range.ts';

describe('parseRange', () => {
  test.each([
    ['bytes=500-1499', { start: 500, end: 1500 }, 'bytes 500-1499/2048'],
    ['bytes=500-', { start: 500, end: 2048 }, 'bytes 500-2047/2048'],
    ['bytes=-500', { start: 1548, end: 2048 }, 'bytes 1548-2047/2048'],
    ['bytes=-5000', { start: 0, end: 2048 }, 'bytes 0-2047/2048'],
    ['bytes=2000-5000', { start: 2000, end: 2048 }, 'bytes 2000-2047/2048'],
    ['bytes=0-0', { start: 0, end: 1 }, 'bytes 0-0/2048'],
    ['Bytes = 0-0 ,', { start: 0, end: 1 }, 'bytes 0-0/2048'],
    ['bytes=0-99999999999999999999999999', { start: 0, end: 2048 }, 'bytes 0-2047/2048'],
  ])('%s', (header, range, written) => {
    expect(parseRange(header, 2048)).toEqual({ kind: 'single', range });
    expect(contentRange(range, 2048)).toBe(written);
  });

  test.each(['bytes=500-0', 'bytes=5000-10000', 'bytes=2048-', 'bytes=-0', 'bytes=9000-9001,4000-', 'bytes=99999999999999999999999999-'])('%s is not satisfiable', (header) => {
    expect(parseRange(header, 2048)).toEqual({ kind: 'unsatisfiable' });
  });

  test.each([undefined, '', 'bytes', 'bytes=', 'bytes=,', 'bytes=-', 'bytes=a-b', 'bytes=1', 'bytes=1-2-3', 'bytes=-1-2', 'items=0-1', 'bytes=0-1,x', 'bytes=0x1-2', 'bytes=1.5-2'])(
    '%s is ignored',
    (header) => {
      expect(parseRange(header, 2048)).toEqual({ kind: 'whole' });
    },
  );

  test('an empty blob has no ranges', () => {
    expect(parseRange('bytes=0-', 0)).toEqual({ kind: 'whole' });
  });

  test('what lies outside is left out, but several asked for stay a multipart', () => {
    expect(parseRange('bytes=0-9,5000-6000', 2048)).toEqual({ kind: 'multiple', ranges: [{ start: 0, end: 10 }] });
  });

  test('too many ranges, or more bytes than there are, are refused', () => {
    const many = (count: number) => `bytes=${Array.from({ length: count }, (_, i) => `${2 * i}-${2 * i}`).join(',')}`;
    expect(parseRange(many(MAX_RANGES), 1_000_000).kind).toBe('multiple');
    expect(parseRange(many(MAX_RANGES + 1), 1_000_000).kind).toBe('refused');
    expect(parseRange('bytes=0-,0-', 2048).kind).toBe('refused');
  });

  test('any header: never throws, and what it yields lies in the blob and is not more than the blob', () => {
    const spec = fc.oneof(
      fc.tuple(fc.nat(5000), fc.nat(5000)).map(([a, b]) => `${a}-${b}`),
      fc.nat(5000).map((n) => `${n}-`),
      fc.nat(5000).map((n) => `-${n}`),
    );
    const header = fc.oneof(
      fc.string(),
      fc.array(spec, { minLength: 1, maxLength: 6 }).map((specs) => `bytes=${specs.join(',')}`),
      fc.string({ unit: fc.constantFrom(...Array.from('bytes=-,0123456789 ')) }).map((rest) => `bytes=${rest}`),
    );
    fc.assert(
      fc.property(header, fc.nat(4096), (text, size) => {
        const asked = parseRange(text, size);
        const ranges = asked.kind === 'single' ? [asked.range] : asked.kind === 'multiple' ? asked.ranges : [];
        for (const { start, end } of ranges) {
          expect(start).toBeGreaterThanOrEqual(0);
          expect(start).toBeLessThan(end);
          expect(end).toBeLessThanOrEqual(size);
        }
        expect(ranges.reduce((sum, { start, end }) => sum + end - start, 0)).toBeLessThanOrEqual(size);
      }),
    );
  });

  test('every single range of a blob is given exactly', () => {
    fc.assert(
      fc.property(fc.nat(4096), fc.nat(4096), fc.integer({ min: 1, max: 4096 }), (a, b, size) => {
        const asked = parseRange(`bytes=${a}-${b}`, size);
        const expected = Array.from({ length: size }, (_, i) => i).filter((i) => i >= a && i <= b);
        if (expected.length === 0) expect(asked).toEqual({ kind: 'unsatisfiable' });
        else expect(asked).toEqual({ kind: 'single', range: { start: expected[0], end: expected.at(-1)! + 1 } });
      }),
    );
  });
});
