// Sends a reply's body, piece by piece.
//
// Invariants: a piece is asked for only when the kernel has the last one, so its memory may be used again by whoever gave it; the reply
// ends cleanly only after exactly the bytes that its headers announce.

import type { ServerResponse } from 'node:http';
import { AgentError } from '../errors.ts';

/**
 * Sends the pieces and ends the reply.
 * @param sent called after each piece
 * @throws whatever the source throws, INTERNAL where it has too few bytes or too many; AbortError-like where the client left: the reply
 * is the caller's to cut
 */
export async function sendBody(raw: ServerResponse, length: number, pieces: AsyncIterable<Uint8Array>, sent: (bytes: number) => void): Promise<void> {
  const connection = new Connection(raw);
  for await (const piece of exactly(length, pieces)) {
    await connection.write(piece);
    sent(piece.length);
  }
  await connection.end();
}

class Connection {
  readonly #raw: ServerResponse;
  #gone: Error | undefined;
  #onGone: ((error: Error) => void) | undefined;

  constructor(raw: ServerResponse) {
    this.#raw = raw;
    if (raw.destroyed) this.#lost();
    // A write that failed says nothing by itself: the connection closes after it, whatever it was.
    else raw.once('close', () => this.#lost());
  }

  /** Resolves when the kernel has taken it. */
  write(piece: Uint8Array): Promise<void> {
    return this.#until((done) => this.#raw.write(piece, (error) => error ?? done()));
  }

  end(): Promise<void> {
    return this.#until((done) => this.#raw.end(done));
  }

  #until(act: (done: () => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) {
        reject(this.#gone);
        return;
      }
      this.#onGone = reject;
      act(resolve);
    });
  }

  #lost(): void {
    this.#gone = new Error('the connection is closed');
    this.#onGone?.(this.#gone);
  }
}

/**
 * Passes the pieces on if they are `length` bytes in all; HTTP itself would end a short body without a word. The last piece waits, in a copy,
 * until the source has ended, so that a source that fails at its very end still breaks the reply.
 */
async function* exactly(length: number, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let rest = length;
  let last: Uint8Array | undefined;
  for await (const piece of pieces) {
    rest -= piece.length;
    if (rest < 0) throw new AgentError('INTERNAL', `a body of ${length} bytes has at least ${-rest} more`);
    if (piece.length === 0) continue;
    if (rest === 0) last = Uint8Array.from(piece);
    else yield piece;
  }
  if (rest > 0) throw new AgentError('INTERNAL', `a body of ${length} bytes lacks ${rest}`);
  if (last !== undefined) yield last;
}
