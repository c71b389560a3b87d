import fc from 'fast-check';
import { expect, test } from 'vitest';
import { importRank, importSalt, MAX_IMPORT_SEATS } from './import-seats.ts';

test('golden: all agents of a zone must rank alike', () => {
  const salt = importSalt(`sha256:deadbeef${'0'.repeat(56)}`);
  expect(salt).toBe(0xdeadbeef);
  expect(MAX_IMPORT_SEATS).toBe(16);
  expect([0, 1, 2].map((seat) => Array.from({ length: 12 }, (_, index) => importRank(salt, index, { seats: 3, seat })))).toEqual([
    [2, 0, 0, 2, 2, 0, 1, 1, 0, 1, 1, 1],
    [0, 2, 1, 1, 0, 2, 2, 2, 2, 2, 2, 0],
    [1, 1, 2, 0, 1, 1, 0, 0, 1, 0, 0, 2],
  ]);
});

test('without a seat after all that have one; without seats nobody is before anybody', () => {
  expect(importRank(1, 5, { seats: 3 })).toBe(3);
  expect(importRank(1, 5, { seats: 0 })).toBe(0);
});

const salt = fc.nat(2 ** 32 - 1);
const seats = fc.integer({ min: 1, max: MAX_IMPORT_SEATS });

test('one is first, and all come one after another', () => {
  fc.assert(
    fc.property(salt, fc.nat(262_144), seats, (blob, index, count) => {
      const ranks = Array.from({ length: count }, (_, seat) => importRank(blob, index, { seats: count, seat }));
      expect(ranks.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, rank) => rank));
    }),
  );
});

test('one seat more takes chunks from the others and moves none between them', () => {
  fc.assert(
    fc.property(salt, fc.nat(262_144), fc.integer({ min: 1, max: MAX_IMPORT_SEATS - 1 }), (blob, index, count) => {
      const first = (of: number): number => Array.from({ length: of }, (_, seat) => seat).find((seat) => importRank(blob, index, { seats: of, seat }) === 0)!;
      expect([first(count), count]).toContain(first(count + 1));
    }),
  );
});

test('the chunks of a blob are shared out evenly', () => {
  fc.assert(
    fc.property(salt, seats, (blob, count) => {
      const chunks = 400 * count;
      for (let seat = 0; seat < count; seat++) {
        let mine = 0;
        for (let index = 0; index < chunks; index++) if (importRank(blob, index, { seats: count, seat }) === 0) mine++;
        expect(Math.abs(mine - 400)).toBeLessThan(120);
      }
    }),
    { numRuns: 30 },
  );
});
