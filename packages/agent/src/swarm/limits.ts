// A limit on bytes per second as a token bucket. Pure: the clock is handed in. Changeable while in use.

/** How much may go at once after a pause, in seconds of the limit; short, so that a link is not filled in bursts. */
const BURST_SECONDS = 0.25;
/** A piece must fit, however small the limit. */
const MIN_BURST_BYTES = 64 * 1024;
const MAX_WAIT_MS = 250;

export class TokenBucket {
  #bytesPerSecond: number | undefined;
  #tokens = 0;
  #atMs: number | undefined;

  /** @param bytesPerSecond undefined: no limit */
  constructor(bytesPerSecond?: number) {
    this.set(bytesPerSecond);
  }

  set(bytesPerSecond: number | undefined): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#tokens = Math.min(this.#tokens, this.#burst());
  }

  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond;
  }

  /**
   * ms until `bytes` may go; 0: now. More than fits the bucket goes when it is full, and leaves a debt.
   * At most MAX_WAIT_MS, so that whoever waits asks again: the limit may have been changed.
   */
  waitMs(bytes: number, nowMs: number): number {
    if (this.#bytesPerSecond === undefined) return 0;
    this.#refill(nowMs, this.#bytesPerSecond);
    const lacking = Math.min(bytes, this.#burst()) - this.#tokens;
    return lacking <= 0 ? 0 : Math.min(MAX_WAIT_MS, Math.ceil((lacking / this.#bytesPerSecond) * 1000));
  }

  take(bytes: number, nowMs: number): void {
    if (this.#bytesPerSecond === undefined) return;
    this.#refill(nowMs, this.#bytesPerSecond);
    this.#tokens -= bytes;
  }

  #refill(nowMs: number, rate: number): void {
    if (this.#atMs === undefined) this.#tokens = this.#burst();
    else this.#tokens = Math.min(this.#burst(), this.#tokens + (Math.max(0, nowMs - this.#atMs) / 1000) * rate);
    this.#atMs = nowMs;
  }

  #burst(): number {
    return Math.max(MIN_BURST_BYTES, (this.#bytesPerSecond ?? 0) * BURST_SECONDS);
  }
}
