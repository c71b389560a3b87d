// Hashing of chunks on libuv's thread pool, so that the event loop stays free for sockets.

import { webcrypto } from 'node:crypto';

/** sha256 of a chunk, 32 bytes, computed off the main thread. */
export async function chunkDigest(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
}

export function sameDigest(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
