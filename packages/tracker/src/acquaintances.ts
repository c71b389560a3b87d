// Who was introduced to whom, for all blobs together: what connections hosts have beyond the standing mesh.
//
// Two who were introduced for one blob and are asked about for the next keep the connection that they have: an image is a dozen blobs, and each would cost
// every host eight more. Agents close such a connection a minute after it was last used, so it is remembered for that long. Pure: the clock is handed in.

/** As IDLE_MS of the agent's swarm. */
const CLOSED_AFTER_MS = 60_000;

interface Acquaintance {
  /** Blobs that either of them fetches, for which they were introduced. */
  blobs: number;
  usedAtMs: number;
}

export class Acquaintances {
  readonly #of = new Map<string, Map<string, Acquaintance>>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** How many peers it was introduced to, or they to it, for blobs that are being fetched. */
  load(peer: string): number {
    let load = 0;
    for (const { blobs } of this.#of.get(peer)?.values() ?? []) if (blobs > 0) load++;
    return load;
  }

  /** Whether the two are connected still, because they were introduced. */
  have(a: string, b: string): boolean {
    const known = this.#of.get(a)?.get(b);
    return known !== undefined && (known.blobs > 0 || this.#nowMs() - known.usedAtMs < CLOSED_AFTER_MS);
  }

  /** They are introduced for one more blob. */
  link(a: string, b: string): void {
    this.#change(a, b, 1);
  }

  /** Neither fetches one of the blobs any more. */
  unlink(a: string, b: string): void {
    this.#change(a, b, -1);
  }

  /** The session of `peer` has ended, and all its introductions were unlinked. */
  remove(peer: string): void {
    for (const other of this.#of.get(peer)?.keys() ?? []) this.#of.get(other)?.delete(peer);
    this.#of.delete(peer);
  }

  #change(a: string, b: string, by: number): void {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      let others = this.#of.get(from);
      if (others === undefined) this.#of.set(from, (others = new Map()));
      const known = others.get(to) ?? { blobs: 0, usedAtMs: 0 };
      known.blobs = Math.max(0, known.blobs + by);
      known.usedAtMs = this.#nowMs();
      others.set(to, known);
      for (const [other, { blobs, usedAtMs }] of others) if (blobs === 0 && this.#nowMs() - usedAtMs >= CLOSED_AFTER_MS) others.delete(other);
    }
  }
}
