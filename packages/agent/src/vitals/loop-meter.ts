// For what share of the last second the main thread was at work. Pure; the clock of the event loop is handed in.
//
// Over a whole report it would say too little: what began in the middle of it looks like half a load, and a slow disk like the cause.

/** No share is taken over less. */
const WINDOW_MS = 900;

/** What the loop was at since it began: `performance.eventLoopUtilization()`. */
export interface LoopTimes {
  readonly active: number;
  readonly idle: number;
}

export class LoopMeter {
  readonly #times: () => LoopTimes;
  /** Oldest first: the latest that is WINDOW_MS old, and what came after it. */
  readonly #marks: LoopTimes[] = [];

  constructor(times: () => LoopTimes) {
    this.#times = times;
    this.mark();
  }

  /** To be called several times in a window, as well as the loop lets. */
  mark(): void {
    const times = this.#times();
    while (this.#marks.length > 1 && lengthOf(this.#marks[1]!, times) >= WINDOW_MS) this.#marks.shift();
    this.#marks.push(times);
  }

  /** 0 to 1, over the window that ends now. */
  share(): number {
    const times = this.#times();
    const from = this.#marks.findLast((mark) => lengthOf(mark, times) >= WINDOW_MS) ?? this.#marks[0]!;
    return (times.active - from.active) / Math.max(1, lengthOf(from, times));
  }
}

function lengthOf(from: LoopTimes, to: LoopTimes): number {
  return to.active + to.idle - from.active - from.idle;
}
