// How fast blobs may leave their origins, all hosts together: a bucket of bytes that leases are paid from when they are granted. Pure.
//
// Invariant: over any longer time no more is granted than the rate allows; a lease that does not fit any more may still be granted while there is
// something in the bucket, and leaves a debt. What is given back unread flows back. Who reads without a tracker is not held by it.

/** What may go at once after a pause, in seconds of the rate: more than passes between two looks at the leases. */
const BURST_SECONDS = 0.25;

export class OriginLimit {
  #bytesPerSecond: number | undefined;
  #bytes = 0;
  #atMs: number | undefined;

  /** @param bytesPerSecond undefined: no limit */
  constructor(bytesPerSecond: number | undefined) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond;
  }

  /** In force at once. */
  set(bytesPerSecond: number | undefined): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#bytes = Math.min(this.#bytes, this.#burst);
  }

  /** Whether a lease may be granted now. */
  open(nowMs: number): boolean {
    return this.#bytesPerSecond === undefined || this.#refilled(nowMs) > 0;
  }

  /** Whether there is so little that it should be shared out in turn, and not go to whoever asks first. */
  scarce(nowMs: number): boolean {
    return this.#bytesPerSecond !== undefined && this.#refilled(nowMs) < this.#burst / 2;
  }

  /** What one lease should have at most, so that no one reader takes it all. */
  get mostBytes(): number {
    return this.#burst;
  }

  take(bytes: number): void {
    if (this.#bytesPerSecond !== undefined) this.#bytes -= bytes;
  }

  /** Granted, but not read. */
  give(bytes: number): void {
    if (this.#bytesPerSecond !== undefined) this.#bytes = Math.min(this.#burst, this.#bytes + bytes);
  }

  get #burst(): number {
    return this.#bytesPerSecond === undefined ? Number.POSITIVE_INFINITY : this.#bytesPerSecond * BURST_SECONDS;
  }

  #refilled(nowMs: number): number {
    const elapsedMs = nowMs - (this.#atMs ?? Number.NEGATIVE_INFINITY);
    this.#bytes = Math.min(this.#burst, this.#bytes + (Math.max(0, elapsedMs) / 1000) * this.#bytesPerSecond!);
    this.#atMs = nowMs;
    return this.#bytes;
  }
}
