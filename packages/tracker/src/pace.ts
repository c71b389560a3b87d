// Which readers of a blob are too slow to read it at the origin for others.
//
// A host whose link is a fifth of the others' would hold its runs five times as long, and then keep all the others waiting while each of these
// chunks goes out: simulated, 8 hosts of which two are that slow were done at 1.49 T* with its runs, at 0.99 without. Slow is who reads at less
// than a third of what is usual; it gets the chunks that nobody else reads for itself. Pure. Non-goals: what is usual between origins (each
// reader measures its own).

import type { Reader } from './lease.ts';

const SLOW_SHARE = 1 / 3;
/** So many rates must be known before one is unusual. */
const USUAL_FROM = 3;
const STEP_MS = 200;

export class Pace {
  readonly #sharers: ReadonlySet<Reader>;
  readonly #restsUntilMs: (reader: Reader) => number;
  #steppedAtMs = Number.NEGATIVE_INFINITY;
  /** Bytes per second, as of the last step; 0: nobody is slow. */
  #leastRate = 0;
  #othersReadAll = false;

  /**
   * @param sharers the readers that may be given runs, as they are at any time
   * @param restsUntilMs until when a reader leaves its origin alone
   */
  constructor(sharers: ReadonlySet<Reader>, restsUntilMs: (reader: Reader) => number) {
    this.#sharers = sharers;
    this.#restsUntilMs = restsUntilMs;
  }

  /** Goes over all readers five times per second at most, so that a grant need not. */
  step(nowMs: number): void {
    if (nowMs - this.#steppedAtMs < STEP_MS) return;
    this.#steppedAtMs = nowMs;
    const rates = [...this.#sharers].filter((reader) => this.#reads(reader) && reader.originRate > 0).map(({ originRate }) => originRate);
    this.#leastRate = rates.length < USUAL_FROM ? 0 : SLOW_SHARE * rates.sort((a, b) => a - b)[rates.length >> 1]!;
    this.#othersReadAll = this.#leastRate > 0 && this.#others().some(({ within }) => within === undefined);
  }

  /** Whether there is nothing that this reader should read. */
  passesOver(reader: Reader): boolean {
    return this.#othersReadAll && this.#isSlow(reader);
  }

  /** Which chunks this reader should leave to others. */
  leaves(reader: Reader): (index: number) => boolean {
    const others = this.#isSlow(reader) ? this.#others() : [];
    return (index) => others.some(({ within }) => within?.some(([first, count]) => index >= first && index < first + count) ?? true);
  }

  #isSlow({ originRate }: Reader): boolean {
    return originRate > 0 && originRate < this.#leastRate;
  }

  #others(): Reader[] {
    return [...this.#sharers].filter((reader) => this.#reads(reader) && !this.#isSlow(reader));
  }

  /** It takes part in reading now: its clients wait, and its origin answers. */
  #reads(reader: Reader): boolean {
    const { need, leases, backoffUntilMs } = reader;
    return backoffUntilMs === 0 && (need > 0 || leases.length > 0) && this.#restsUntilMs(reader) <= this.#steppedAtMs;
  }
}
