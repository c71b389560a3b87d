// Reads a file's pieces in order, the next ones while the last one is being used, into buffers that are used again and again.
//
// Invariant: a buffer is filled anew only after whoever got its last bytes has asked for the next piece.

import type { ReadBuffers } from './read-buffers.ts';

/** One being sent, one ready, one being read. */
const BUFFERS = 3;

/**
 * @param pieces none needs more than `bufferBytes`
 * @param read fills the buffer with a piece; resolves to the part of it that is the piece
 */
export async function* readAhead<T>(
  pieces: readonly T[],
  bufferBytes: number,
  buffers: ReadBuffers,
  read: (into: Buffer, piece: T) => Promise<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  const lent: Buffer[] = [];
  while (lent.length < Math.min(BUFFERS, pieces.length)) {
    const buffer = buffers.take(bufferBytes);
    if (buffer === undefined) break;
    lent.push(buffer);
  }
  // Without a lent one: one of its own, and nothing ahead.
  const ring = lent.length > 0 ? lent : [Buffer.allocUnsafeSlow(bufferBytes)];
  const reading: Promise<Uint8Array>[] = [];
  const begin = (at: number): void => {
    const piece = pieces[at];
    if (piece === undefined) return;
    const begun = read(ring[at % ring.length]!, piece);
    // Told when its turn comes.
    begun.catch(() => undefined);
    reading.push(begun);
  };
  try {
    for (let at = 0; at < ring.length; at++) begin(at);
    for (let at = 0; at < pieces.length; at++) {
      yield await reading.shift()!;
      begin(at + ring.length);
    }
  } finally {
    await Promise.allSettled(reading);
    for (const buffer of lent) buffers.giveBack(buffer);
  }
}
