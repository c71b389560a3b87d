import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CHUNK_DIGEST_BYTES, chunkBounds, chunkCount, chunkMapSigningBytes, chunkSize, chunksOf } from './chunk-map.ts';
import { parseDigest } from './digest.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

describe('golden: a change here splits a fleet and needs a new protocol id', () => {
  test.each([
    [0, 64 * KIB, 0],
    [1, 64 * KIB, 1],
    [64 * KIB - 1, 64 * KIB, 1],
    [64 * KIB, 64 * KIB, 1],
    [64 * KIB + 1, 64 * KIB, 2],
    [128 * MIB - 1, 64 * KIB, 2048],
    [128 * MIB, 64 * KIB, 2048],
    [128 * MIB + 1, 128 * KIB, 1025],
    [256 * MIB, 128 * KIB, 2048],
    [512 * MIB, 256 * KIB, 2048],
    [GIB, 512 * KIB, 2048],
    [GIB + 1, MIB, 1025],
    [8 * GIB, 4 * MIB, 2048],
    [8 * GIB + 1, 4 * MIB, 2049],
    [16 * GIB, 4 * MIB, 4096],
  ])('a blob of %i bytes: chunks of %i bytes, %i of them', (size, bytes, count) => {
    expect(chunkSize(size)).toBe(bytes);
    expect(chunkCount(size)).toBe(count);
  });

  test('what a seed signs', () => {
    const blob = { digest: parseDigest(`sha256:${'ab'.repeat(32)}`), size: 65537 };
    const digests = [new Uint8Array(CHUNK_DIGEST_BYTES).fill(1), new Uint8Array(CHUNK_DIGEST_BYTES).fill(2)];
    const all = createHash('sha256').update(Buffer.concat(digests)).digest('hex');
    expect(Buffer.from(chunkMapSigningBytes(blob, digests)).toString()).toBe(`flotilla-chunk-map/1\nsha256:${'ab'.repeat(32)}\n65537\n65536\n${all}`);
  });
});

const size = fc.oneof(fc.integer({ min: 1, max: 300 * KIB }), fc.integer({ min: 1, max: 20 * GIB }));

test('the formula: clamp(nextPow2(size / 2048), 64 KiB, 4 MiB)', () => {
  fc.assert(
    fc.property(size, (bytes) => {
      const power = 2 ** Math.ceil(Math.log2(Math.max(1, bytes / 2048)));
      expect(chunkSize(bytes)).toBe(Math.min(4 * MIB, Math.max(64 * KIB, power)));
    }),
  );
});

test('chunks cover the blob without gap or overlap', () => {
  fc.assert(
    fc.property(size, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (bytes, where) => {
      const count = chunkCount(bytes);
      const index = Math.floor(where * count);
      const { start, end } = chunkBounds(bytes, index);
      expect(end).toBeGreaterThan(start);
      expect(start).toBe(index === 0 ? 0 : chunkBounds(bytes, index - 1).end);
      expect(end).toBe(index === count - 1 ? bytes : chunkBounds(bytes, index + 1).start);
    }),
  );
});

test('the chunks of a range are those that it touches', () => {
  fc.assert(
    fc.property(size, fc.nat(), fc.nat(), (bytes, a, b) => {
      const start = a % bytes;
      const end = start + 1 + (b % (bytes - start));
      const { first, last } = chunksOf(bytes, { start, end });
      expect(chunkBounds(bytes, first).start).toBeLessThanOrEqual(start);
      expect(chunkBounds(bytes, first).end).toBeGreaterThan(start);
      expect(chunkBounds(bytes, last).start).toBeLessThan(end);
      expect(chunkBounds(bytes, last).end).toBeGreaterThanOrEqual(end);
    }),
  );
  expect(chunksOf(200 * KIB, { start: 64 * KIB, end: 64 * KIB })).toEqual({ first: 1, last: 0 });
});
