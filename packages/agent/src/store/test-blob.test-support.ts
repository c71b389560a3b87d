// Blobs with known bytes. Without vitest, so that the process that crash.test.ts kills can make the same ones.

import { createHash } from 'node:crypto';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';

export interface TestBlob {
  readonly key: BlobKey;
  readonly bytes: Uint8Array;
  readonly chunks: readonly { readonly digest: Uint8Array; readonly bytes: Uint8Array }[];
}

/** A blob that is the same for the same seed and size. */
export function testBlob(seed: number, size: number, algorithm: 'sha256' | 'sha512' = 'sha256'): TestBlob {
  const bytes = new Uint8Array(size);
  const words = new Uint32Array(bytes.buffer, 0, size >> 2);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  if (size % 4 !== 0) bytes.fill(seed & 255, size & ~3);
  const digest = parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
  const chunks = Array.from({ length: chunkCount(size) }, (_, index) => {
    const { start, end } = chunkBounds(size, index);
    const chunk = bytes.subarray(start, end);
    return { bytes: chunk, digest: new Uint8Array(createHash('sha256').update(chunk).digest()) };
  });
  return { key: { digest, size }, bytes, chunks };
}

const SIZES = [0, 1, 700, 65_536, 65_537, 300_000, 600_001, 1_000_000];

export const CRASH_BLOBS = 24;

/** Blob number `seed` of CRASH_BLOBS; number 0 has several chunks. */
export function crashBlob(seed: number): TestBlob {
  return testBlob(seed, SIZES[(seed + 5) % SIZES.length]!);
}
