// Bytes per second from totals that are told now and then. Pure; one instance per host.
//
// Chunks are counted when they are whole, so totals move in steps: a rate is taken over the last seconds, never over one step.
// A host that falls silent, or starts anew (totals fall), has no rate.

/** In the order of HostTotals' fields. */
export const COUNTED = ['peer', 'origin', 'uploaded', 'store'] as const;
export type Counted = (typeof COUNTED)[number];
export type Totals = Readonly<Record<Counted, number>>;

/** Over so long a rate is taken. */
const WINDOW_MS = 3_000;
/** What was told before this says nothing of now. */
export const SILENT_MS = 3_500;
const MAX_SAMPLES = 8;

interface Sample {
  readonly atMs: number;
  readonly totals: Totals;
}

export class Rates {
  /** Oldest first. */
  readonly #samples: Sample[] = [];

  take(totals: Totals, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && COUNTED.some((kind) => totals[kind] < last.totals[kind])) this.#samples.length = 0;
    // The same sample again, or a clock that was set back.
    else if (last !== undefined && atMs <= last.atMs) this.#samples.pop();
    this.#samples.push({ atMs, totals });
    while (this.#samples.length > MAX_SAMPLES || (this.#samples.length > 2 && atMs - this.#samples[1]!.atMs >= WINDOW_MS)) this.#samples.shift();
  }

  /** Bytes per second of one kind. */
  of(kind: Counted, nowMs: number): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || first === last || nowMs - last.atMs > SILENT_MS) return 0;
    // What an idle host told long ago is not when the bytes began to flow.
    const sinceMs = Math.max(first.atMs, last.atMs - WINDOW_MS);
    return Math.round(((last.totals[kind] - first.totals[kind]) * 1000) / Math.max(1, last.atMs - sinceMs));
  }
}
