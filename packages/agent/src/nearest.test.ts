import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { editDistance, nearest } from './nearest.ts';

test.each([
  ['listn', 'listen'],
  ['lisetn', 'listen'],
  ['p2p-listen', 'p2pListen'],
  ['P2P_LISTEN', 'p2pListen'],
  ['origins', 'origin'],
  ['storeLimt', 'storeLimit'],
  ['colour', undefined],
  ['', undefined],
])('%s -> %s', (word, meant) => {
  expect(nearest(word, ['listen', 'p2pListen', 'origin', 'storeLimit', 'zone'])).toBe(meant);
});

test('a known word is nearest to itself', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.stringMatching(/^[a-z]{3,12}$/), { minLength: 1 }), (known) => {
      for (const word of known) expect(nearest(word, known)).toBe(word);
    }),
  );
});

test('editDistance is a symmetric count of edits', () => {
  const word = fc.string({ maxLength: 8, unit: fc.constantFrom('a', 'b', 'c') });
  fc.assert(
    fc.property(word, word, (a, b) => {
      const edits = editDistance(a, b);
      expect(edits).toBe(editDistance(b, a));
      expect(edits === 0).toBe(a === b);
      expect(edits).toBeLessThanOrEqual(Math.max(a.length, b.length));
      expect(edits).toBeGreaterThanOrEqual(Math.abs(a.length - b.length));
      expect(editDistance(`${a}x`, a)).toBe(1);
    }),
  );
});
