// Which chunks of one blob the live members hold.
//
// Invariant: `held(i)` is true exactly while a member that counts announces chunk i, or a seed that counts is there. A member that
// lost the right to vouch is remembered but does not count: what it alone claims is fetched again.
// Non-goals: who reads what (leases.ts) and what the bytes are (vouches.ts). Arrays are made on first use: most blobs only have seeds.

import { Bitfield, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';

export class Holdings {
  readonly chunks: number;
  /** Per chunk, how many counted members that are no seeds hold it. */
  #counts: Uint32Array | undefined;
  readonly #have = new Map<string, Bitfield>();
  readonly #seeds = new Set<string>();
  readonly #uncounted = new Set<string>();
  #countedSeeds = 0;
  #changes = 0;

  constructor(chunks: number) {
    this.chunks = chunks;
  }

  /** Whether anybody who counts holds chunk `index`. */
  held(index: number): boolean {
    return this.#countedSeeds > 0 || (this.#counts?.[index] ?? 0) > 0;
  }

  /** Whether `peer` announced chunk `index`. */
  has(peer: string, index: number): boolean {
    return this.#seeds.has(peer) || (this.#have.get(peer)?.has(index) ?? false);
  }

  /** Whether `peer` announced any chunk of the range. */
  hasAny(peer: string, [first, count]: IndexRange): boolean {
    for (let index = first; index < first + count; index++) if (this.has(peer, index)) return true;
    return false;
  }

  /** Whether `peer` announced every chunk of the range. */
  hasAll(peer: string, [first, count]: IndexRange): boolean {
    for (let index = first; index < first + count; index++) if (!this.has(peer, index)) return false;
    return true;
  }

  /** How many chunks anybody who counts holds. */
  available(): number {
    if (this.#countedSeeds > 0) return this.chunks;
    return this.#counts?.reduce((sum, holders) => sum + (holders > 0 ? 1 : 0), 0) ?? 0;
  }

  /** How many of those who count hold chunk `index`. */
  holders(index: number): number {
    return this.#countedSeeds + (this.#counts?.[index] ?? 0);
  }

  /** What `peer` announced, where it is no seed. */
  field(peer: string): ReadonlyBitfield | undefined {
    return this.#have.get(peer);
  }

  isSeed(peer: string): boolean {
    return this.#seeds.has(peer);
  }

  /** Whether `peer` is known to hold anything. */
  knows(peer: string): boolean {
    return this.#seeds.has(peer) || this.#have.has(peer);
  }

  count(peer: string): number {
    return this.#seeds.has(peer) ? this.chunks : (this.#have.get(peer)?.count ?? 0);
  }

  complete(peer: string): boolean {
    return this.count(peer) === this.chunks;
  }

  get seeds(): ReadonlySet<string> {
    return this.#seeds;
  }

  /** Peers that hold some chunks and are no seeds. */
  partials(): Iterable<string> {
    return this.#have.keys();
  }

  /** Counts up whenever who holds what may have changed: what was counted before may have to be counted again. */
  get changes(): number {
    return this.#changes;
  }

  get empty(): boolean {
    return this.#seeds.size === 0 && this.#have.size === 0;
  }

  /** True while nothing can be missing: a seed that counts is there. */
  get seeded(): boolean {
    return this.#countedSeeds > 0;
  }

  add(peer: string, range: IndexRange): void {
    if (this.#seeds.has(peer)) return;
    this.#changes++;
    const field = this.#field(peer);
    const counts = this.#uncounted.has(peer) ? undefined : this.#countsArray();
    for (let index = range[0]; index < range[0] + range[1]; index++) {
      if (field.set(index) && counts !== undefined) counts[index]!++;
    }
  }

  /** `peer` holds the range no more; a seed becomes a holder of the rest. @returns the lowest chunk that nobody holds now */
  drop(peer: string, range: IndexRange): number {
    this.#changes++;
    if (this.#seeds.has(peer)) this.#demoteSeed(peer);
    const field = this.#have.get(peer);
    if (field === undefined) return Number.POSITIVE_INFINITY;
    let freed = Number.POSITIVE_INFINITY;
    for (let index = range[0]; index < range[0] + range[1]; index++) {
      if (field.clear(index) && this.#uncount(peer, index)) freed = Math.min(freed, index);
    }
    return freed;
  }

  /** `peer` holds the whole, verified. */
  seed(peer: string): void {
    if (this.#seeds.has(peer)) return;
    this.#changes++;
    this.#seeds.add(peer);
    if (!this.#uncounted.has(peer)) this.#countedSeeds++;
    this.#forgetField(peer);
  }

  /** `peer` is gone. @returns the lowest chunk that nobody holds now */
  remove(peer: string): number {
    this.#changes++;
    let freed = this.#forgetField(peer);
    if (this.#seeds.delete(peer) && !this.#uncounted.has(peer) && --this.#countedSeeds === 0) freed = 0;
    this.#uncounted.delete(peer);
    return freed;
  }

  /** What `peer` says counts no more. @returns the lowest chunk that nobody holds now */
  distrust(peer: string): number {
    if (this.#uncounted.has(peer)) return Number.POSITIVE_INFINITY;
    let freed = Number.POSITIVE_INFINITY;
    for (const [first, count] of this.#have.get(peer)?.ranges() ?? []) {
      for (let index = first; index < first + count; index++) if (this.#uncount(peer, index)) freed = Math.min(freed, index);
    }
    if (this.#seeds.has(peer) && --this.#countedSeeds === 0) freed = 0;
    this.#uncounted.add(peer);
    return freed;
  }

  /** What `peer` says counts again. */
  trust(peer: string): void {
    if (!this.#uncounted.delete(peer)) return;
    if (this.#seeds.has(peer)) this.#countedSeeds++;
    const field = this.#have.get(peer);
    if (field === undefined) return;
    const counts = this.#countsArray();
    for (const [first, count] of field.ranges()) for (let index = first; index < first + count; index++) counts[index]!++;
  }

  #field(peer: string): Bitfield {
    let field = this.#have.get(peer);
    if (field === undefined) this.#have.set(peer, (field = new Bitfield(this.chunks)));
    return field;
  }

  #countsArray(): Uint32Array {
    return (this.#counts ??= new Uint32Array(this.chunks));
  }

  #demoteSeed(peer: string): void {
    this.#seeds.delete(peer);
    if (!this.#uncounted.has(peer)) this.#countedSeeds--;
    this.add(peer, [0, this.chunks]);
  }

  #forgetField(peer: string): number {
    const field = this.#have.get(peer);
    if (field === undefined) return Number.POSITIVE_INFINITY;
    let freed = Number.POSITIVE_INFINITY;
    for (const [first, count] of field.ranges()) {
      for (let index = first; index < first + count; index++) if (this.#uncount(peer, index)) freed = Math.min(freed, index);
    }
    this.#have.delete(peer);
    return freed;
  }

  /** @returns whether nobody holds it now */
  #uncount(peer: string, index: number): boolean {
    if (this.#uncounted.has(peer) || this.#counts === undefined) return false;
    return --this.#counts[index]! === 0 && this.#countedSeeds === 0;
  }
}
