import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NO_NEED, planEviction, type Candidate, type Fullness } from './eviction.ts';

const roomy: Fullness = { usedBytes: 0, limitBytes: 100, files: 0, maxFiles: 10, freeBytes: 1000, minFreeBytes: 200, promisedBytes: 0 };
const items = (...bytes: number[]): Candidate<number>[] => bytes.map((size, item) => ({ item, bytes: size }));
const one = (bytes: number) => ({ bytes, files: 1 });

describe('planEviction', () => {
  it('evicts nothing while there is room', () => {
    expect(planEviction(roomy, one(100), items(5, 5))).toEqual({ admitted: true, evict: [] });
  });

  it('takes from the front, no more than needed', () => {
    expect(planEviction({ ...roomy, usedBytes: 90 }, one(30), items(10, 10, 10, 10))).toEqual({ admitted: true, evict: [0, 1] });
  });

  it('keeps the file system free for others, counting what is promised but not written', () => {
    expect(planEviction({ ...roomy, freeBytes: 230 }, one(30), items(10))).toEqual({ admitted: true, evict: [] });
    expect(planEviction({ ...roomy, freeBytes: 230, promisedBytes: 5 }, one(30), items(10))).toEqual({ admitted: true, evict: [0] });
  });

  it('gives up nothing for what would not fit even then', () => {
    expect(planEviction({ ...roomy, usedBytes: 90 }, one(101), items(40, 50))).toEqual({ admitted: false, evict: [] });
  });

  it('gives up what the limits ask for, admitted or not', () => {
    expect(planEviction({ ...roomy, freeBytes: 190 }, one(101), items(8, 8, 8))).toEqual({ admitted: false, evict: [0, 1] });
    expect(planEviction({ ...roomy, usedBytes: 110 }, NO_NEED, items(8, 8, 8))).toEqual({ admitted: true, evict: [0, 1] });
    expect(planEviction({ ...roomy, usedBytes: 200 }, NO_NEED, items(8, 8))).toEqual({ admitted: false, evict: [0, 1] });
  });

  it('bounds the number of files', () => {
    expect(planEviction({ ...roomy, files: 10 }, one(1), items(0, 7))).toEqual({ admitted: true, evict: [0] });
  });

  it('holds its invariants for any figures', () => {
    const figure = fc.nat(1000);
    fc.assert(
      fc.property(
        fc.record({ usedBytes: figure, limitBytes: figure, files: fc.nat(8), maxFiles: fc.nat(8), freeBytes: figure, minFreeBytes: figure, promisedBytes: figure }),
        fc.record({ bytes: figure, files: fc.nat(1) }),
        fc.array(fc.nat(300), { maxLength: 12 }),
        (now, need, sizes) => {
          const fits = (wanted: typeof need, evicted: number[]): boolean => {
            const freed = evicted.reduce((sum, item) => sum + sizes[item]!, 0);
            return (
              now.usedBytes - freed + wanted.bytes <= now.limitBytes &&
              now.freeBytes + freed - now.promisedBytes - wanted.bytes >= now.minFreeBytes &&
              now.files - evicted.length + wanted.files <= now.maxFiles
            );
          };
          const all = [...sizes.keys()];
          const { admitted, evict } = planEviction(now, need, items(...sizes));
          expect(evict).toEqual(all.slice(0, evict.length));
          expect(admitted).toBe(fits(need, all));
          const wanted = admitted ? need : NO_NEED;
          expect(fits(wanted, [...evict]) || evict.length === sizes.length).toBe(true);
          if (evict.length > 0) expect(fits(wanted, evict.slice(0, -1))).toBe(false);
        },
      ),
    );
  });
});
