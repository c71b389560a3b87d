// Which readers of a blob are too slow to read it at the origin for others.
//
// A host whose link is a fifth of the others' would hold its runs five times as long, and then keep all the others waiting while each of these
// chunks goes out (docs/decisions/0017). Slow is who gains chunks, from whomever, at less than a third of the usual rate, or reads its origin at
// less than a third of the usual one; it gets the chunks that nobody else reads for itself. What it gains tells its link sooner than what it
// reads: readers share the origin's uplink, so that at first a slow one reads there as fast as all others.
// Pure. Non-goals: what is usual between origins (each reader measures its own).

import type { Reader } from './lease.ts';
import { median } from './median.ts';

const SLOW_SHARE = 1 / 3;
/** Who gained too little is slow until it gains this share of what is usual: at the edge it would be given runs now and then, and one is enough. */
const FAST_SHARE = 2 / 3;
/** So many rates must be known before one is unusual. */
const USUAL_FROM = 3;
const STEP_MS = 200;
/** What readers gain is compared over so long at least, */
const GAIN_MS = 1_000;
/** and until those in the middle have gained so many chunks: of fewer a third is chance. */
const GAIN_CHUNKS = 8;
/** Who is slow is looked at again once so many are usual: what many peers have sent it at a time comes in all at once now and then. */
const RECOVER_CHUNKS = 48;

export class Pace {
  readonly #sharers: ReadonlySet<Reader>;
  readonly #restsUntilMs: (reader: Reader) => number;
  readonly #held: (reader: Reader) => number;
  /** From where on is counted what each gains. */
  #marks = new Map<Reader, { readonly atMs: number; readonly held: number }>();
  /** Who gained little when last compared. */
  readonly #behind = new Set<Reader>();
  #steppedAtMs = Number.NEGATIVE_INFINITY;
  #comparedAtMs = Number.NEGATIVE_INFINITY;
  /** Bytes per second from the origin, as of the last step; 0: nobody is slow. */
  #leastRate = 0;
  #othersReadAll = false;
  #changes = 0;

  /**
   * @param sharers the readers that may be given runs, as they are at any time
   * @param restsUntilMs until when a reader leaves its origin alone
   * @param held how many chunks a reader holds
   */
  constructor(sharers: ReadonlySet<Reader>, restsUntilMs: (reader: Reader) => number, held: (reader: Reader) => number) {
    this.#sharers = sharers;
    this.#restsUntilMs = restsUntilMs;
    this.#held = held;
  }

  /** Goes over all readers five times per second at most, so that a grant need not. @returns whether it did */
  step(nowMs: number): boolean {
    if (nowMs - this.#steppedAtMs < STEP_MS) return false;
    this.#steppedAtMs = nowMs;
    const readers = [...this.#sharers].filter((reader) => this.#reads(reader));
    this.#leastRate = leastUsual(readers.map(({ originRate }) => originRate).filter((rate) => rate > 0));
    this.#compareGains(readers, nowMs);
    this.#othersReadAll = (this.#leastRate > 0 || this.#behind.size > 0) && this.#others().some(({ within }) => within === undefined);
    return true;
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

  #compareGains(readers: readonly Reader[], nowMs: number): void {
    const marks = new Map(readers.map((reader) => [reader, this.#marks.get(reader) ?? { atMs: nowMs, held: this.#held(reader) }]));
    this.#marks = marks;
    for (const reader of this.#behind) {
      if (marks.has(reader)) continue;
      this.#behind.delete(reader);
      this.#changes++;
    }
    // All together: the slow ones alone, looked at less often, are no measure of what is usual.
    if (nowMs - this.#comparedAtMs < GAIN_MS) return;
    const gains = [...marks].filter(([, { atMs }]) => nowMs - atMs >= GAIN_MS).map(([reader, { atMs, held }]) => ({ reader, gained: this.#held(reader) - held, ms: nowMs - atMs }));
    const others = gains.filter(({ reader }) => !this.#behind.has(reader));
    if (gains.length < USUAL_FROM || (median(others.map(({ gained }) => gained)) ?? 0) < GAIN_CHUNKS) return;
    this.#comparedAtMs = nowMs;
    const usual = median(gains.map(({ gained, ms }) => gained / ms))!;
    for (const { reader, gained, ms } of gains) {
      const wasBehind = this.#behind.has(reader);
      if (wasBehind && usual * ms < RECOVER_CHUNKS) continue;
      const isBehind = gained / ms < usual * (wasBehind ? FAST_SHARE : SLOW_SHARE);
      if (isBehind) this.#behind.add(reader);
      else this.#behind.delete(reader);
      if (isBehind !== wasBehind) this.#changes++;
      marks.set(reader, { atMs: nowMs, held: this.#held(reader) });
    }
  }

  /** Another number after each change of who gains little. */
  get changes(): number {
    return this.#changes;
  }

  /** Whether it gained little when last compared. */
  gainsLittle(reader: Reader): boolean {
    return this.#behind.has(reader);
  }

  #isSlow(reader: Reader): boolean {
    return this.#behind.has(reader) || (reader.originRate > 0 && reader.originRate < this.#leastRate);
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

/** Below it a rate is unusual; 0: too few are known. */
function leastUsual(rates: readonly number[]): number {
  return rates.length < USUAL_FROM ? 0 : SLOW_SHARE * median(rates)!;
}
