// Hashing of chunks. Small ones are hashed where they are: to hand 64 KiB to another thread and back costs more processor time than their
// sha256, and nobody waits for 0.2 ms. Larger ones go to libuv's thread pool, so that the event loop stays free for sockets.

import { hash, webcrypto } from 'node:crypto';

/** About 0.2 ms of sha256. */
const INLINE_BYTES = 256 * 1024;

/** sha256 of a chunk, 32 bytes. */
export async function chunkDigest(bytes: Uint8Array): Promise<Uint8Array> {
  if (bytes.length <= INLINE_BYTES) return new Uint8Array(hash('sha256', bytes, 'buffer'));
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
}

export function sameDigest(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
