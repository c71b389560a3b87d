import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PieceReader, pieceMessages } from './bare-pieces.ts';

test('however the stream is cut, each piece arrives once, whole and in its place', () => {
  const cut = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300_000 }), fc.integer({ min: 1, max: 100_000 }), cut, (bytes, pieceBytes, cuts) => {
      fc.pre(bytes / pieceBytes < 500);
      const pieces = { bytes, pieceBytes };
      const sent = randomBytes(bytes);
      const order = Array.from({ length: Math.ceil(bytes / pieceBytes) }, (_, index) => index).toReversed();
      const wire = Buffer.concat(order.flatMap((index) => pieceMessages(pieces, index, sent)).flat());
      const came = Buffer.alloc(bytes);
      const whole: number[] = [];
      const reader = new PieceReader(pieces, came, (index) => whole.push(index));
      for (let at = 0, turn = 0; at < wire.length; turn++) {
        const length = cuts[turn % cuts.length]!;
        reader.take(wire.subarray(at, at + length));
        at += length;
      }
      expect(whole).toEqual(order);
      expect(came.equals(sent)).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test('no message is larger than a noise message holds', () => {
  const bytes = 1024 * 1024;
  for (const message of pieceMessages({ bytes, pieceBytes: 256 * 1024 }, 1, Buffer.alloc(bytes))) {
    expect(message.reduce((sum, part) => sum + part.length, 0)).toBeLessThanOrEqual(65_519);
  }
});
