// What one peer holds of one blob, what it gave and took, and what it has not been told yet.

import { Bitfield, toRanges, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { MAX_RANGES_PER_FRAME, type ExchangeFrame } from '@flotilla/shared/exchange';
import { RateMeter } from './ledger.ts';

export class BlobPeer<PeerLink> {
  readonly link: PeerLink;
  have: Bitfield;
  /** What it reads at the origin. */
  reading: readonly IndexRange[] = [];
  readonly down = new RateMeter();
  readonly up = new RateMeter();
  bytesDown = 0;
  bytesUp = 0;
  readonly #fresh = new Set<number>();
  #retold = true;
  #readingTold: boolean;

  /** @param toldNothing this host reads nothing at the origin, so there is nothing to tell of it */
  constructor(link: PeerLink, chunks: number, toldNothing: boolean) {
    this.link = link;
    this.have = new Bitfield(chunks);
    this.#readingTold = toldNothing;
  }

  /** Chunks are here that were not. @returns whether there is anything to tell: it may hold them all itself */
  gained(indexes: readonly number[]): boolean {
    for (const index of indexes) if (!this.have.has(index)) this.#fresh.add(index);
    return this.#fresh.size > 0;
  }

  /** Tells all that is here anew. */
  retell(): void {
    this.#retold = true;
  }

  retellReading(): void {
    this.#readingTold = false;
  }

  /** The frames that tell it what it has not been told; they count as sent. */
  news(channel: number, have: ReadonlyBitfield, reading: readonly IndexRange[]): ExchangeFrame[] {
    const frames: ExchangeFrame[] = [];
    // What it got meanwhile from others is no news.
    const ranges = toRanges([...this.#fresh].filter((index) => !this.have.has(index)));
    if (this.#retold || ranges.length > MAX_RANGES_PER_FRAME) frames.push({ type: 'bitfield', channel, bits: have.bytes() });
    else if (ranges.length > 0) frames.push({ type: 'have', channel, ranges });
    if (!this.#readingTold) frames.push({ type: 'reading', channel, ranges: reading });
    this.#fresh.clear();
    this.#retold = false;
    this.#readingTold = true;
    return frames;
  }
}
