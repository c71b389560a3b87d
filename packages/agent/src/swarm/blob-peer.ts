// What one peer holds of one blob, what it gave and took, and what it has not been told yet.

import { Bitfield, toRanges, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { MAX_RANGES_PER_FRAME, type ExchangeFrame } from '@flotilla/shared/exchange';
import { RateMeter } from './ledger.ts';

export class BlobPeer<PeerLink> {
  readonly link: PeerLink;
  /** Makes the frames that tell it what is new: `news`, with what this host has then. */
  readonly tell: () => ExchangeFrame[];
  /** When it is told at the latest; Infinity: nothing waits. */
  toldByMs = Number.POSITIVE_INFINITY;
  have: Bitfield;
  /** What it reads at the origin. */
  reading: readonly IndexRange[] = [];
  readonly down = new RateMeter();
  readonly up = new RateMeter();
  bytesDown = 0;
  bytesUp = 0;
  /** Each chunk once, or more often where it was lost meanwhile; `retell` empties it. */
  readonly #fresh: number[] = [];
  #retold = true;
  #readingTold: boolean;

  /** @param toldNothing this host reads nothing at the origin, so there is nothing to tell of it */
  constructor(link: PeerLink, chunks: number, toldNothing: boolean, tell: (peer: BlobPeer<PeerLink>) => ExchangeFrame[]) {
    this.link = link;
    this.tell = () => tell(this);
    this.have = new Bitfield(chunks);
    this.#readingTold = toldNothing;
  }

  /** Chunks are here that were not. @returns whether there is anything to tell: it may hold them all itself */
  gained(indexes: readonly number[]): boolean {
    // With others waiting, whether it holds these is looked at once they all are told.
    const waits = this.#fresh.length > 0;
    for (const index of indexes) if (waits || !this.have.has(index)) this.#fresh.push(index);
    return this.#fresh.length > 0;
  }

  /** Tells all that is here anew. */
  retell(): void {
    this.#retold = true;
    this.#fresh.length = 0;
  }

  retellReading(): void {
    this.#readingTold = false;
  }

  /** The frames that tell it what it has not been told; they count as sent. */
  news(channel: number, have: ReadonlyBitfield, reading: readonly IndexRange[]): ExchangeFrame[] {
    const frames: ExchangeFrame[] = [];
    // What it got meanwhile from others is no news.
    const ranges = toRanges(this.#fresh.filter((index) => !this.have.has(index)));
    if (this.#retold || ranges.length > MAX_RANGES_PER_FRAME) frames.push({ type: 'bitfield', channel, bits: have.bytes() });
    else if (ranges.length > 0) frames.push({ type: 'have', channel, ranges });
    if (!this.#readingTold) frames.push({ type: 'reading', channel, ranges: reading });
    this.#fresh.length = 0;
    this.toldByMs = Number.POSITIVE_INFINITY;
    this.#retold = false;
    this.#readingTold = true;
    return frames;
  }
}
