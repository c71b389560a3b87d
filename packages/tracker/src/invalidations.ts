// Which chunks of one blob were taken back, and in which round: what an agent said before it heard of that was true then, and is not now.
//
// A round is one `invalid` to everybody. Agents say with each message which they heard last. Arrays are made on first use.

import { toRanges, type IndexRange } from '@flotilla/shared/bitfield';

export class Invalidations {
  readonly #chunks: number;
  /** Per chunk the round that last took it back; 0: none did. */
  #rounds: Uint32Array | undefined;
  #round = 0;

  constructor(chunks: number) {
    this.#chunks = chunks;
  }

  /** The last one. */
  get round(): number {
    return this.#round;
  }

  /** The next round. */
  add(ranges: readonly IndexRange[]): void {
    this.#rounds ??= new Uint32Array(this.#chunks);
    this.#round++;
    for (const [first, count] of ranges) this.#rounds.fill(this.#round, first, first + count);
  }

  /** Whether something was taken back since this round. @param round undefined: of an agent that does not say so, nothing is known */
  since(round: number | undefined): boolean {
    return round !== undefined && round < this.#round;
  }

  /** What of these ranges was not, and what was, taken back since this round. */
  split(ranges: readonly IndexRange[], round: number | undefined): { readonly good: readonly IndexRange[]; readonly stale: readonly IndexRange[] } {
    const rounds = this.#rounds;
    if (rounds === undefined || !this.since(round)) return { good: ranges, stale: [] };
    const indexes = ranges.flatMap(([first, count]) => Array.from({ length: count }, (_, offset) => first + offset));
    return { good: toRanges(indexes.filter((index) => rounds[index]! <= round!)), stale: toRanges(indexes.filter((index) => rounds[index]! > round!)) };
  }
}
