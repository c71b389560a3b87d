// Time as the tracker's client sees it, handed in so that tests move it instead of waiting.

export interface Clock {
  /** Unix time in ms. */
  nowMs(): number;
  /** Calls `action` once after `delayMs`. @returns a function that cancels it */
  after(delayMs: number, action: () => void): () => void;
}

/** The real one. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after: (delayMs, action) => {
    const timer = setTimeout(action, delayMs).unref();
    return () => clearTimeout(timer);
  },
};
