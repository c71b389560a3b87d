import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ByteRange, ServedBlob, Source } from './ports.ts';
import { provePossession } from './possession.ts';
import { CHUNK, makeBlob, TestOrigin, type TestBlob } from './test-ports.ts';

const SOURCE: Source = { origin: 'evil.example', repository: 'x', kind: 'blob' };
const { signal } = new AbortController();

/** What is here, or at peers. Its pieces are lent. */
function served({ key, bytes }: TestBlob, opened: ByteRange[] = []): ServedBlob {
  return {
    key,
    open: async (asked) => {
      const range = asked as ByteRange;
      opened.push(range);
      return (async function* () {
        const memory = new Uint8Array(1000);
        for (let at = range.start; at < range.end; at += memory.length) {
          const piece = bytes.subarray(at, Math.min(at + memory.length, range.end));
          memory.set(piece);
          yield memory.subarray(0, piece.length);
          memory.fill(0);
        }
      })();
    },
  };
}

function prove(origin: TestOrigin, blob: TestBlob, place = 0.5, opened?: ByteRange[]): Promise<void> {
  return provePossession(origin, SOURCE, { kind: 'anonymous' }, served(blob, opened), place, signal);
}

test('an origin that has the bytes shows some of the first chunk, with Range or without', async () => {
  const sizes = fc.oneof(fc.integer({ min: 0, max: 40_000 }), fc.integer({ min: 0, max: 3 * CHUNK }));
  await fc.assert(
    fc.asyncProperty(sizes, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.boolean(), async (size, place, ranges) => {
      const blob = makeBlob(size);
      const origin = new TestOrigin();
      origin.add(blob);
      origin.ranges = ranges;
      const opened: ByteRange[] = [];
      await prove(origin, blob, place, opened);
      for (const { start, end } of opened) {
        expect(end - start).toBe(Math.min(size, 16 * 1024));
        expect(start).toBeGreaterThanOrEqual(0);
        expect(end).toBeLessThanOrEqual(Math.min(size, CHUNK));
      }
      expect(opened).toHaveLength(size === 0 ? 0 : 1);
    }),
    { numRuns: 60 },
  );
});

test('one that sends other bytes, or fewer, or has none, has not', async () => {
  const blob = makeBlob(2 * CHUNK);
  const origin = new TestOrigin();
  origin.blobs.set(blob.key.digest, makeBlob(2 * CHUNK, 'guess').bytes);
  await expect(prove(origin, blob)).rejects.toMatchObject({ code: 'ACCESS_UNPROVEN' });
  origin.blobs.set(blob.key.digest, new Uint8Array(0));
  await expect(prove(origin, blob)).rejects.toMatchObject({ code: 'ACCESS_UNPROVEN' });
  origin.blobs.clear();
  await expect(prove(origin, blob)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
});
