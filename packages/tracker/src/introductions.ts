// For one blob: which peers outside of its mesh a member should connect to, so that everybody has sources.
//
// A member has enough when MAX_EXTRA peers of the swarm are its neighbours in the mesh, were introduced to it, or it to them; who is slow does not
// count, as whoever has a few more of those than others would have the blob last.
// While a crowd gathers nobody is introduced, as most neighbours are about to come: more connections than the mesh has only slow it down
// (docs/decisions/0024). But who joins when others have the whole blob already is introduced to those at once, unless it knows one.
// The least loaded go first, holders of more before holders of less; half of them from the member's own zone, where it has one. From a large swarm a random sample is weighed, not all.
// Pure: clock and randomness are handed in.

export const MAX_EXTRA = 8;
const SAMPLE = 32;
/** Whoever wants the blob at the same moment as this member has said so by then. */
export const GATHERING_MS = 1_000;

export interface IntroductionView {
  /** Where a peer stands, if it says so. */
  zone(peer: string): string | undefined;
  /** Neighbours in the standing mesh. */
  neighbours(peer: string): ReadonlySet<string>;
  /** How many connections beyond its mesh a peer was handed out for already. */
  load(peer: string): number;
  /** Whether the peer gains far less than is usual. */
  slow(peer: string): boolean;
  /** Chunks that the peer holds. */
  held(peer: string): number;
  changeLoad(peer: string, by: number): void;
}

export class Introductions {
  readonly #view: IntroductionView;
  readonly #random: () => number;
  readonly #links = new Map<string, Set<string>>();
  readonly #fetching = new Set<string>();
  /** Of those that fetch: who may lack sources, and since when, in ms. */
  readonly #short = new Map<string, number>();
  /** Somebody came or went, or has the whole blob now. */
  #due = false;
  /** When the next of those has waited for its neighbours. */
  #gatheredAtMs = Infinity;

  constructor(view: IntroductionView, random: () => number) {
    this.#view = view;
    this.#random = random;
  }

  /** `peer` fetches the blob from now on. */
  join(peer: string, nowMs: number): void {
    if (this.#fetching.has(peer)) return;
    this.#fetching.add(peer);
    this.#lacks(peer, nowMs);
    this.#due = true;
  }

  /** `peer` fetches no more; those that it was introduced to keep it. */
  satisfied(peer: string): void {
    if (this.#fetching.delete(peer)) this.#due = true;
    this.#short.delete(peer);
  }

  /** `peer` is gone: whoever was introduced to it may need another. */
  remove(peer: string): void {
    this.satisfied(peer);
    for (const other of this.#links.get(peer) ?? []) {
      this.#links.get(other)?.delete(peer);
      this.#view.changeLoad(other, -1);
      this.#view.changeLoad(peer, -1);
      // It has waited for its neighbours before.
      if (this.#fetching.has(other)) this.#lacks(other, -Infinity);
    }
    this.#links.delete(peer);
    this.#due = true;
  }

  /** Whether somebody may lack sources, and something changed since nobody could be found. */
  due(nowMs: number): boolean {
    return this.#short.size > 0 && (this.#due || nowMs >= this.#gatheredAtMs);
  }

  /** Whether it will be due without anything being said. */
  get waiting(): boolean {
    return this.#short.size > 0 && (this.#due || this.#gatheredAtMs < Infinity);
  }

  /** There may be more to choose from. */
  poolGrew(): void {
    this.#due = true;
  }

  /** Others are slow than before: who was introduced to enough may have too few that are not. */
  paceChanged(): void {
    for (const peer of this.#fetching) this.#lacks(peer, -Infinity);
    this.#due = true;
  }

  /** Nobody needs introductions: all know all. */
  passOver(): void {
    this.#due = false;
    this.#gatheredAtMs = Infinity;
  }

  /**
   * @param pool all peers that hold or fetch the blob
   * @param seeds those that hold all of it
   * @returns new introductions, each to be sent to its `peer`
   */
  settle(pool: readonly string[], seeds: ReadonlySet<string>, nowMs: number): { peer: string; peers: string[] }[] {
    const introductions: { peer: string; peers: string[] }[] = [];
    const trading = new Set(pool);
    const free = [...seeds].filter((seed) => this.#view.load(seed) < MAX_EXTRA);
    this.#due = false;
    this.#gatheredAtMs = Infinity;
    for (const [peer, sinceMs] of this.#short) {
      const gathers = nowMs < sinceMs + GATHERING_MS;
      if (gathers) this.#gatheredAtMs = Math.min(this.#gatheredAtMs, sinceMs + GATHERING_MS);
      if (gathers && this.#knowsOne(peer, seeds)) continue;
      const peers = this.#introduce(peer, gathers ? free : pool, trading);
      if (peers.length > 0) introductions.push({ peer, peers });
    }
    return introductions;
  }

  #lacks(peer: string, sinceMs: number): void {
    if (this.#short.has(peer)) return;
    this.#short.set(peer, sinceMs);
    this.#gatheredAtMs = Math.min(this.#gatheredAtMs, sinceMs + GATHERING_MS);
  }

  #knowsOne(peer: string, seeds: ReadonlySet<string>): boolean {
    for (const other of this.#view.neighbours(peer)) if (seeds.has(other)) return true;
    for (const other of this.#links.get(peer) ?? []) if (seeds.has(other)) return true;
    return false;
  }

  #introduce(peer: string, pool: readonly string[], trading: ReadonlySet<string>): string[] {
    const met = new Set([...this.#view.neighbours(peer), ...(this.#links.get(peer) ?? [])]);
    const isSlow = (other: string): boolean => this.#view.slow(other);
    const known = [...met].filter((other) => trading.has(other));
    const lacks = MAX_EXTRA - known.filter((other) => !isSlow(other)).length;
    if (lacks <= 0) {
      this.#short.delete(peer);
      return [];
    }
    const fitting = this.#sample(pool)
      .filter((other) => other !== peer && !met.has(other))
      .sort((a, b) => this.#view.load(a) - this.#view.load(b) || this.#view.held(b) - this.#view.held(a));
    const chosen = this.#choose(peer, fitting.filter((other) => !isSlow(other)), lacks);
    // Slow ones are better than few.
    const more = this.#choose(peer, fitting.filter(isSlow), MAX_EXTRA - known.length - chosen.length);
    for (const other of [...chosen, ...more]) this.#link(peer, other);
    return [...chosen, ...more];
  }

  /** The first of `fitting`, but half of them from the peer's own zone, where chunks are to go round. */
  #choose(peer: string, fitting: readonly string[], count: number): string[] {
    if (count <= 0) return [];
    const zone = this.#view.zone(peer);
    const near = zone === undefined ? [] : fitting.filter((other) => this.#view.zone(other) === zone).slice(0, Math.ceil(count / 2));
    return [...near, ...fitting.filter((other) => !near.includes(other))].slice(0, count);
  }

  #sample(pool: readonly string[]): string[] {
    if (pool.length <= SAMPLE) return [...pool];
    const start = Math.floor(this.#random() * pool.length);
    const step = 1 + Math.floor(this.#random() * Math.floor(pool.length / SAMPLE));
    return Array.from({ length: SAMPLE }, (_, at) => pool[(start + at * step) % pool.length]!);
  }

  #link(a: string, b: string): void {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      let links = this.#links.get(from);
      if (links === undefined) this.#links.set(from, (links = new Set()));
      links.add(to);
      this.#view.changeLoad(from, 1);
    }
  }
}
