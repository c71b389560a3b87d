// How a blob is cut into chunks, and what a seed signs.
//
// Wire contract of `/flotilla/exchange/1`: two agents that cut a blob differently cannot trade it.
// A change here is a new protocol id. Pinned by chunk-map.test.ts.

import { createHash } from 'node:crypto';
import type { Digest } from './digest.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const MIN_CHUNK_BYTES = 64 * KIB;
const MAX_CHUNK_BYTES = 4 * MIB;
/** A chunk is about 1/2048 of its blob: fine enough that log2(N)/M stays near zero (Mundinger et al.). */
const CHUNKS_PER_BLOB = 2048;

/** Bytes of a chunk digest: chunk digests are always sha256, whatever the blob's algorithm. */
export const CHUNK_DIGEST_BYTES = 32;

/** What identifies a swarm: the blob's digest and its size in bytes. */
export interface BlobKey {
  readonly digest: Digest;
  readonly size: number;
}

/** Half-open byte range `[start, end)`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** The chunk length in bytes of a blob of `size` bytes: a power of two between 64 KiB and 4 MiB. */
export function chunkSize(size: number): number {
  let bytes = MIN_CHUNK_BYTES;
  while (bytes < MAX_CHUNK_BYTES && bytes * CHUNKS_PER_BLOB < size) bytes *= 2;
  return bytes;
}

/** How many chunks a blob has; an empty blob has none. */
export function chunkCount(size: number): number {
  return Math.ceil(size / chunkSize(size));
}

/** Where chunk `index` lies in the blob; the last one is short. */
export function chunkBounds(size: number, index: number): ByteRange {
  const step = chunkSize(size);
  return { start: index * step, end: Math.min(size, (index + 1) * step) };
}

/** The chunks that touch the byte range, as `[first, last]` inclusive. An empty range touches none: last < first. */
export function chunksOf(size: number, range: ByteRange): { first: number; last: number } {
  const step = chunkSize(size);
  const first = Math.floor(range.start / step);
  return { first, last: range.end > range.start ? Math.ceil(range.end / step) - 1 : first - 1 };
}

/**
 * What the seed of a finished blob signs with its libp2p key: binds blob, chunk size and every chunk digest.
 * @param digests the chunk digests in order, 32 bytes each
 */
export function chunkMapSigningBytes(blob: BlobKey, digests: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const digest of digests) hash.update(digest);
  return new TextEncoder().encode(
    `flotilla-chunk-map/1\n${blob.digest}\n${blob.size}\n${chunkSize(blob.size)}\n${hash.digest('hex')}`,
  );
}
