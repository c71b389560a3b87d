// For one blob: which peers outside of its mesh a member should connect to, so that everybody has sources.
//
// A member has enough when MAX_EXTRA peers of the swarm are its neighbours in the mesh, were introduced to it, or it to them.
// The least loaded go first, holders of more before holders of less; half of them from the member's own zone, where it has one. From a large swarm a random sample is weighed, not all.
// Pure: randomness is handed in.

export const MAX_EXTRA = 8;
const SAMPLE = 32;

export interface IntroductionView {
  /** Where a peer stands, if it says so. */
  zone(peer: string): string | undefined;
  /** Neighbours in the standing mesh. */
  neighbours(peer: string): ReadonlySet<string>;
  /** How many connections beyond its mesh a peer was handed out for already. */
  load(peer: string): number;
  /** Chunks that the peer holds. */
  held(peer: string): number;
  changeLoad(peer: string, by: number): void;
}

export class Introductions {
  readonly #view: IntroductionView;
  readonly #random: () => number;
  readonly #links = new Map<string, Set<string>>();
  readonly #fetching = new Set<string>();
  /** Of those that fetch: who may lack sources. */
  readonly #short = new Set<string>();

  #due = false;

  constructor(view: IntroductionView, random: () => number) {
    this.#view = view;
    this.#random = random;
  }

  /** `peer` fetches the blob from now on. */
  join(peer: string): void {
    if (this.#fetching.has(peer)) return;
    this.#fetching.add(peer);
    this.#short.add(peer);
    this.#due = true;
  }

  /** `peer` fetches no more; those that it was introduced to keep it. */
  satisfied(peer: string): void {
    this.#fetching.delete(peer);
    this.#short.delete(peer);
  }

  /** `peer` is gone: whoever was introduced to it may need another. */
  remove(peer: string): void {
    this.satisfied(peer);
    for (const other of this.#links.get(peer) ?? []) {
      this.#links.get(other)?.delete(peer);
      this.#view.changeLoad(other, -1);
      this.#view.changeLoad(peer, -1);
      if (this.#fetching.has(other)) this.#short.add(other);
    }
    this.#links.delete(peer);
    this.#due = true;
  }

  /** Whether somebody may lack sources, and something changed since nobody could be found. */
  get due(): boolean {
    return this.#due && this.#short.size > 0;
  }

  /** There may be more to choose from. */
  poolGrew(): void {
    this.#due = true;
  }

  /** Nobody needs introductions: all know all. */
  passOver(): void {
    this.#due = false;
  }

  /** @param pool all peers that hold or fetch the blob @returns new introductions, each to be sent to its `peer` */
  settle(pool: readonly string[]): { peer: string; peers: string[] }[] {
    const introductions: { peer: string; peers: string[] }[] = [];
    const trading = new Set(pool);
    this.#due = false;
    for (const peer of this.#short) {
      const peers = this.#introduce(peer, pool, trading);
      if (peers.length > 0) introductions.push({ peer, peers });
    }
    return introductions;
  }

  #introduce(peer: string, pool: readonly string[], trading: ReadonlySet<string>): string[] {
    const neighbours = this.#view.neighbours(peer);
    const linked = this.#links.get(peer) ?? new Set<string>();
    let known = linked.size;
    for (const other of neighbours) if (trading.has(other) && !linked.has(other)) known++;
    if (known >= MAX_EXTRA) {
      this.#short.delete(peer);
      return [];
    }
    const fitting = this.#sample(pool)
      .filter((other) => other !== peer && !neighbours.has(other) && !linked.has(other))
      .sort((a, b) => this.#view.load(a) - this.#view.load(b) || this.#view.held(b) - this.#view.held(a));
    const room = MAX_EXTRA - known;
    const zone = this.#view.zone(peer);
    // Half of them from its own zone, where chunks are to go round.
    const near = zone === undefined ? [] : fitting.filter((other) => this.#view.zone(other) === zone).slice(0, Math.ceil(room / 2));
    const chosen = [...near, ...fitting.filter((other) => !near.includes(other))].slice(0, room);
    for (const other of chosen) this.#link(peer, other);
    return chosen;
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
