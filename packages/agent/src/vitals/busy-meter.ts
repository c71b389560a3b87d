// How long something took, and for what share of the time it was at work at all: for writes to the disk. Pure; the clock is handed in.

export interface BusyWindow {
  /** Mean time of what ended in the window, in ms; of what is under way where nothing ended. 0: nothing was at work. */
  readonly meanMs: number;
  /** Share of the window in which anything was at work: 0 to 1. */
  readonly busy: number;
}

export class BusyMeter {
  readonly #now: () => number;
  readonly #running = new Set<{ readonly sinceMs: number }>();
  #windowSinceMs: number;
  #busySinceMs: number | undefined;
  #busyMs = 0;
  #ended = 0;
  #endedMs = 0;

  /** @param now monotonic ms */
  constructor(now: () => number) {
    this.#now = now;
    this.#windowSinceMs = now();
  }

  async measure<T>(work: () => Promise<T>): Promise<T> {
    const nowMs = this.#now();
    const run = { sinceMs: nowMs };
    if (this.#running.size === 0) this.#busySinceMs = nowMs;
    this.#running.add(run);
    try {
      return await work();
    } finally {
      this.#end(run);
    }
  }

  /** What was since the last call. */
  take(): BusyWindow {
    const nowMs = this.#now();
    const lengthMs = Math.max(1, nowMs - this.#windowSinceMs);
    const busyMs = this.#busyMs + (this.#busySinceMs === undefined ? 0 : nowMs - Math.max(this.#busySinceMs, this.#windowSinceMs));
    // What hangs has not ended: it must not look like a disk at rest.
    const longestMs = [...this.#running].reduce((longest, { sinceMs }) => Math.max(longest, nowMs - sinceMs), 0);
    const meanMs = this.#ended === 0 ? longestMs : this.#endedMs / this.#ended;
    this.#windowSinceMs = nowMs;
    this.#busyMs = 0;
    this.#ended = 0;
    this.#endedMs = 0;
    return { meanMs, busy: Math.min(1, busyMs / lengthMs) };
  }

  #end(run: { readonly sinceMs: number }): void {
    const nowMs = this.#now();
    this.#running.delete(run);
    this.#ended++;
    this.#endedMs += nowMs - run.sinceMs;
    if (this.#running.size > 0 || this.#busySinceMs === undefined) return;
    this.#busyMs += nowMs - Math.max(this.#busySinceMs, this.#windowSinceMs);
    this.#busySinceMs = undefined;
  }
}
