// What a reader takes of a blob, chunk by chunk, in the order in which it was asked for. Pure.
//
// A client of zstd:chunked asks for up to 1024 ranges at once: pieces that follow each other in one chunk are one visit to it, so that no
// chunk is read from disk once for each piece.

import type { IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, chunksOf, type BlobKey, type ByteRange } from '@flotilla/shared/chunk-map';

/** One stop of the reader: the pieces of a chunk, each as bytes `[from, to)` of that chunk. */
export interface Visit {
  readonly index: number;
  readonly pieces: readonly (readonly [from: number, to: number])[];
}

export class ReadPlan {
  /** In the order in which the reader comes by. */
  readonly visits: readonly Visit[];
  /** It takes every byte, from the first to the last. */
  readonly whole: boolean;
  /** The visits go from a chunk to the next one, always. */
  readonly #straight: boolean;
  /** For each chunk its first and last visit. Only where they do not go straight. */
  readonly #when = new Map<number, { readonly first: number; last: number }>();

  /** @param ranges not empty, except where the blob is */
  constructor({ size }: Pick<BlobKey, 'size'>, ranges: readonly ByteRange[]) {
    const visits: { index: number; pieces: [number, number][] }[] = [];
    for (const range of ranges) {
      const { first, last } = chunksOf(size, range);
      for (let index = first; index <= last; index++) {
        const { start, end } = chunkBounds(size, index);
        const from = Math.max(0, range.start - start);
        const to = Math.min(end, range.end) - start;
        const here = visits.at(-1);
        const piece = here?.pieces.at(-1);
        if (here?.index !== index || piece === undefined) visits.push({ index, pieces: [[from, to]] });
        else if (piece[1] === from) piece[1] = to;
        else here.pieces.push([from, to]);
      }
    }
    this.visits = visits;
    this.whole = ranges.length === 1 && ranges[0]!.start === 0 && ranges[0]!.end === size;
    this.#straight = visits.every(({ index }, at) => at === 0 || index === visits[at - 1]!.index + 1);
    if (this.#straight) return;
    for (const [at, { index }] of visits.entries()) {
      const when = this.#when.get(index);
      if (when === undefined) this.#when.set(index, { first: at, last: at });
      else when.last = at;
    }
  }

  /** How often a chunk is visited, all in all. */
  get length(): number {
    return this.visits.length;
  }

  /** Whether the chunk is visited in visits `from` to `to`. May err where a chunk is visited before and after these, but not in them. */
  visitsBetween(index: number, from: number, to: number): boolean {
    if (this.#straight) {
      const at = index - (this.visits[0]?.index ?? 0);
      return at >= from && at <= Math.min(to, this.length - 1);
    }
    const when = this.#when.get(index);
    return when !== undefined && when.last >= from && when.first <= to;
  }

  /** The last chunk that is reached from visit `at` without a jump, no later than in visit `to`. */
  straightTo(at: number, to: number): number {
    let last = at;
    while (last < to && this.visits[last + 1]?.index === this.visits[last]!.index + 1) last++;
    return this.visits[last]!.index;
  }

  /** The chunks of visits `from` to `to` as stretches, in the order of the visits. */
  stretches(from: number, to: number): IndexRange[] {
    const found: IndexRange[] = [];
    for (let at = from; at <= Math.min(to, this.length - 1); at++) {
      const first = this.visits[at]!.index;
      const last = this.straightTo(at, to);
      found.push([first, last - first + 1]);
      at += last - first;
    }
    return found;
  }
}
