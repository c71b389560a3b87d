// The pieces of a bare transfer on the wire: four bytes of index, then the piece. Pure.

import { CHUNK_PIECE_BYTES } from '@flotilla/shared/exchange';

export interface Pieces {
  /** Of all pieces together. */
  readonly bytes: number;
  /** Of each but the last. */
  readonly pieceBytes: number;
}

const INDEX_BYTES = 4;
/** As the agents' messages: with the headers of yamux and noise it fits one noise message. */
const MESSAGE_BYTES = CHUNK_PIECE_BYTES - 256;

/** The messages that carry a piece, each as its parts. */
export function pieceMessages(pieces: Pieces, index: number, image: Uint8Array): Uint8Array[][] {
  const { start, end } = boundsOf(pieces, index);
  const head = new Uint8Array(INDEX_BYTES);
  new DataView(head.buffer).setUint32(0, index);
  const messages: Uint8Array[][] = [];
  for (let at = start; at < end; at += MESSAGE_BYTES) messages.push([...(at === start ? [head] : []), image.subarray(at, Math.min(end, at + MESSAGE_BYTES))]);
  return messages;
}

/** Puts what a stream gives where it belongs. */
export class PieceReader {
  readonly #pieces: Pieces;
  readonly #image: Uint8Array;
  readonly #whole: (index: number) => void;
  #index = 0;
  #headBytes = 0;
  #at = 0;
  #end = 0;

  /** @param whole is told of each piece of which the last byte has come */
  constructor(pieces: Pieces, image: Uint8Array, whole: (index: number) => void) {
    this.#pieces = pieces;
    this.#image = image;
    this.#whole = whole;
  }

  take(bytes: Uint8Array): void {
    let from = 0;
    while (from < bytes.length) {
      if (this.#headBytes < INDEX_BYTES) {
        this.#index = (this.#index << 8) | bytes[from++]!;
        if (++this.#headBytes === INDEX_BYTES) ({ start: this.#at, end: this.#end } = boundsOf(this.#pieces, this.#index));
        continue;
      }
      const used = Math.min(bytes.length - from, this.#end - this.#at);
      this.#image.set(bytes.subarray(from, from + used), this.#at);
      this.#at += used;
      from += used;
      if (this.#at < this.#end) continue;
      const index = this.#index;
      this.#index = this.#headBytes = 0;
      this.#whole(index);
    }
  }
}

function boundsOf({ bytes, pieceBytes }: Pieces, index: number): { start: number; end: number } {
  return { start: index * pieceBytes, end: Math.min(bytes, (index + 1) * pieceBytes) };
}
