// Frees the memory of chunks when its last user is done, not when V8 comes to collect it: collecting was a third of a receiver's processor time.
//
// A chunk has several users at once (the store's cache, readers, uploads), so they are counted. Counting is asked for (`own`) where a chunk is read
// or kept; of any other buffer `share` and `release` know nothing. A user that never releases leaves the chunk to the collector: what is
// forgotten costs memory for a while, never bytes.
// Invariant: who releases looks at the bytes no more, nor does anybody whom it lent them to, the kernel included.

/** Smaller buffers may be parts of others, and cost little. */
export const LARGE_BYTES = 16 * 1024;

/** Users of each counted buffer. Users of single bytes (pieces on their way to the cipher) count as many as they use. */
const users = new WeakMap<ArrayBufferLike, number>();

/** The caller is a user of these bytes, the first where they were not counted yet. They must be nobody else's who does not count. */
export function own(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (bytes.byteLength < LARGE_BYTES || bytes.byteLength !== buffer.byteLength) return;
  users.set(buffer, (users.get(buffer) ?? 0) + 1);
}

/** There are `count` more users of these bytes, where they are counted. */
export function share({ buffer }: Uint8Array, count = 1): void {
  const before = users.get(buffer);
  if (before !== undefined) users.set(buffer, before + count);
}

/** `count` users of these bytes are done with them. */
export function release({ buffer }: Uint8Array, count = 1): void {
  const before = users.get(buffer);
  if (before === undefined) return;
  if (before > count) {
    users.set(buffer, before - count);
    return;
  }
  users.delete(buffer);
  free(buffer);
}

/** Gives the memory back now. Who still has a view on it sees no bytes any more. */
export function free(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}
