// For one blob: which peers outside of its mesh a member should connect to, so that everybody has sources.
//
// A member has enough when ENOUGH peers of the swarm are its neighbours in the mesh, were introduced to it, or it to them; who is slow does not
// count, as whoever has a few more of those than others would have the blob last.
// While a crowd gathers nobody is introduced, as most neighbours are about to come: more connections than the mesh has only slow it down
// (docs/decisions/0024). But who joins when others have the whole blob already, and knows none of them, is introduced at once to one or two that have room.
// Whom it was introduced to for another blob goes first, then the least loaded, then holders of more; half of them from the member's own zone, where it has
// one. From a large swarm a random sample is weighed, not all. An introduction lasts while either of the two fetches the blob.
// Pure: clock and randomness are handed in.

/** Sources that a member needs. */
export const ENOUGH = 8;
/** Whoever has so many connections beyond its mesh is not one of the first that a gathering crowd is sent to. */
const ROOM = 8;
const FIRST_SEEDS = 2;
const SAMPLE = 32;
/** Whoever wants the blob at the same moment as this member has said so by then, */
export const GATHERING_MS = 1_000;
/** and by then, where nobody has joined for so long. */
export const QUIET_MS = 250;

export interface IntroductionView {
  /** Where a peer stands, if it says so. */
  zone(peer: string): string | undefined;
  /** Neighbours in the standing mesh. */
  neighbours(peer: string): ReadonlySet<string>;
  /** Whether the peer gains far less than is usual. */
  slow(peer: string): boolean;
  /** Chunks that the peer holds. */
  held(peer: string): number;
  /** How many connections beyond its mesh a peer has for what is being fetched. */
  load(peer: string): number;
  /** Whether the two are connected by an introduction for another blob. */
  acquainted(a: string, b: string): boolean;
  link(a: string, b: string): void;
  unlink(a: string, b: string): void;
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
  #joinedAtMs = -Infinity;
  /** When the next of those that are short has waited for its neighbours. */
  #gatheredAtMs = Infinity;

  constructor(view: IntroductionView, random: () => number) {
    this.#view = view;
    this.#random = random;
  }

  /** `peer` fetches the blob from now on. */
  join(peer: string, nowMs: number): void {
    if (this.#fetching.has(peer)) return;
    // It has forgotten whom it was introduced to when it last fetched it.
    this.#forget(peer);
    this.#fetching.add(peer);
    this.#joinedAtMs = nowMs;
    this.#lacks(peer, nowMs);
    this.#due = true;
  }

  /** `peer` fetches no more; those that it was introduced to, and fetch, keep it. */
  satisfied(peer: string): void {
    this.#short.delete(peer);
    if (!this.#fetching.delete(peer)) return;
    this.#due = true;
    for (const other of this.#links.get(peer) ?? []) if (!this.#fetching.has(other)) this.#unlink(peer, other);
  }

  /** `peer` is gone: who was introduced to it, or is its neighbour, may need another. */
  remove(peer: string): void {
    this.satisfied(peer);
    this.#forget(peer);
    for (const other of this.#view.neighbours(peer)) this.neighboursChanged(other);
    this.#due = true;
  }

  /** The mesh of `peer` is not what it was. */
  neighboursChanged(peer: string): void {
    // It has waited for its neighbours before.
    if (!this.#fetching.has(peer)) return;
    this.#lacks(peer, -Infinity);
    this.#due = true;
  }

  /** Others are slow than before: who was introduced to enough may have too few that are not. */
  paceChanged(): void {
    for (const peer of this.#fetching) this.neighboursChanged(peer);
  }

  /** There may be more to choose from. */
  poolGrew(): void {
    this.#due = true;
  }

  /** Nobody needs introductions: all know all. */
  passOver(): void {
    this.#due = false;
    this.#gatheredAtMs = Infinity;
  }

  /** Whether somebody may lack sources, and something changed, or enough time passed, since nobody could be found. */
  due(nowMs: number): boolean {
    return this.#short.size > 0 && (this.#due || nowMs >= this.#gatheredAtMs);
  }

  /** Whether it will be due without anything being said. */
  get waiting(): boolean {
    return this.#short.size > 0 && (this.#due || this.#gatheredAtMs < Infinity);
  }

  /**
   * @param pool all peers that hold or fetch the blob
   * @param seeds those that hold all of it
   * @returns new introductions, each to be sent to its `peer`
   */
  settle(pool: readonly string[], seeds: ReadonlySet<string>, nowMs: number): { peer: string; peers: string[] }[] {
    const introductions: { peer: string; peers: string[] }[] = [];
    const trading = new Set(pool);
    const holders = [...seeds];
    this.#due = false;
    this.#gatheredAtMs = Infinity;
    for (const [peer, sinceMs] of this.#short) {
      const gatheredAtMs = this.#gathered(sinceMs);
      const gathers = nowMs < gatheredAtMs;
      if (gathers) this.#gatheredAtMs = Math.min(this.#gatheredAtMs, gatheredAtMs);
      const peers = gathers ? this.#firstSeeds(peer, seeds, holders) : this.#introduce(peer, pool, trading);
      for (const other of peers) this.#link(peer, other);
      if (peers.length > 0) introductions.push({ peer, peers });
    }
    return introductions;
  }

  #lacks(peer: string, sinceMs: number): void {
    if (this.#short.has(peer)) return;
    this.#short.set(peer, sinceMs);
    this.#gatheredAtMs = Math.min(this.#gatheredAtMs, this.#gathered(sinceMs));
  }

  #gathered(sinceMs: number): number {
    return Math.min(sinceMs + GATHERING_MS, Math.max(sinceMs, this.#joinedAtMs) + QUIET_MS);
  }

  #met(peer: string): Set<string> {
    return new Set([...this.#view.neighbours(peer), ...(this.#links.get(peer) ?? [])]);
  }

  /** A gathering crowd must not all be sent to one host. */
  #firstSeeds(peer: string, seeds: ReadonlySet<string>, holders: readonly string[]): string[] {
    for (const other of this.#met(peer)) if (seeds.has(other)) return [];
    const free = this.#sample(holders).filter((seed) => seed !== peer && this.#view.load(seed) < ROOM);
    return this.#choose(peer, this.#best(peer, free), FIRST_SEEDS);
  }

  #introduce(peer: string, pool: readonly string[], trading: ReadonlySet<string>): string[] {
    const met = this.#met(peer);
    const isSlow = (other: string): boolean => this.#view.slow(other);
    const known = [...met].filter((other) => trading.has(other));
    const lacks = ENOUGH - known.filter((other) => !isSlow(other)).length;
    if (lacks <= 0) {
      this.#short.delete(peer);
      return [];
    }
    const fitting = this.#best(peer, this.#sample(pool).filter((other) => other !== peer && !met.has(other)));
    const chosen = this.#choose(peer, fitting.filter((other) => !isSlow(other)), lacks);
    // Slow ones are better than few.
    return [...chosen, ...this.#choose(peer, fitting.filter(isSlow), ENOUGH - known.length - chosen.length)];
  }

  #best(peer: string, others: readonly string[]): string[] {
    const isStrange = (other: string): number => (this.#view.acquainted(peer, other) ? 0 : 1);
    return others.toSorted((a, b) => isStrange(a) - isStrange(b) || this.#view.load(a) - this.#view.load(b) || this.#view.held(b) - this.#view.held(a));
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
    }
    this.#view.link(a, b);
  }

  #unlink(a: string, b: string): void {
    this.#links.get(a)?.delete(b);
    this.#links.get(b)?.delete(a);
    this.#view.unlink(a, b);
  }

  /** Whoever was introduced to `peer` may lack a source. */
  #forget(peer: string): void {
    for (const other of this.#links.get(peer) ?? []) {
      this.#unlink(peer, other);
      this.neighboursChanged(other);
    }
    this.#links.delete(peer);
  }
}
