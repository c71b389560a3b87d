// After a start, nobody is granted anything until those who were there before have said what they hold and read: else the fleet
// would fetch again what it has. Ends when all of them have, or after WINDOW_MS. Pure.

export const WINDOW_MS = 2_000;
/** Between the last part of an inventory and what its agent says of its downloads at work. */
const SETTLE_MS = 100;

export class RestartWindow {
  readonly #awaited: Set<string>;
  readonly #endsAtMs: number;
  #toldAtMs: number;
  #over: boolean;

  /** @param known agents that were connected shortly before the start */
  constructor(known: Iterable<string>, startMs: number) {
    this.#awaited = new Set(known);
    this.#over = this.#awaited.size === 0;
    this.#toldAtMs = startMs;
    this.#endsAtMs = startMs + WINDOW_MS;
  }

  /** `peer` has sent its whole inventory. */
  told(peer: string, nowMs: number): void {
    if (this.#awaited.delete(peer)) this.#toldAtMs = nowMs;
  }

  /** Whether leases may be granted. Once true it stays so. */
  over(nowMs: number): boolean {
    this.#over ||= nowMs >= this.#endsAtMs || (this.#awaited.size === 0 && nowMs - this.#toldAtMs >= SETTLE_MS);
    return this.#over;
  }
}
