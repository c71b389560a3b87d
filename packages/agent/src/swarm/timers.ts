// Turns and timers of the exchange, handed in so that test/sim runs the same files on a clock of its own.

/** Each returns a function that cancels what it has set. */
export interface Timers {
  /** Once what is at work now is over. */
  soon(act: () => void): () => void;
  after(delayMs: number, act: () => void): () => void;
  every(intervalMs: number, act: () => void): () => void;
}

/** Node's own. What repeats does not keep the process alive. */
export const systemTimers: Timers = {
  soon: (act) => {
    const turn = setImmediate(act);
    return () => clearImmediate(turn);
  },
  after: (delayMs, act) => {
    const timer = setTimeout(act, delayMs);
    return () => clearTimeout(timer);
  },
  every: (intervalMs, act) => {
    const timer = setInterval(act, intervalMs);
    timer.unref();
    return () => clearInterval(timer);
  },
};
