// Which chunk of one blob to ask of which peer. Pure: clock, randomness and the memory budget are handed in.
//
//   unwanted --wants--> free --pick--> asked --arrived--> handed over --settled--> unwanted (kept) or free (refused)
//                        ^               |
//                        +----failed-----+
//
// Rarest first, random among equals; the reader's starving chunk first where two peers hold it; in the endgame (nothing
// wanted is unasked) at most one duplicate per chunk and MAX_DUPLICATES per blob, and only for a request that is late.
// Invariants: a chunk is asked of a peer that announced it; at most `Budget.maxBytes` are asked for or being checked.
// Cost: buckets by availability and a count of useful chunks per peer are kept as things change, so that a peer with
// nothing to give is passed over in O(1); one event costs O(peers), one pick at most one walk over the free chunks.
// Non-goals: how many requests a peer gets at once, and timeouts (requests.ts).

import { Bitfield, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';

/** Bytes that may be asked for or wait for their check at any time, all blobs of this host together. */
export const MAX_OUTSTANDING_BYTES = 32 * 1024 * 1024;
/** Duplicate requests of the endgame, per blob and in its whole life. */
export const MAX_DUPLICATES = 8;
/** Holders that a starving chunk must have before it jumps the queue: a single holder serves the rarest first. */
const URGENT_HOLDERS = 2;

/** Shared by the pickers of all blobs. One chunk always fits, so that no chunk is too large to be fetched. */
export class Budget {
  readonly maxBytes: number;
  #used = 0;
  #wanting = false;

  constructor(maxBytes = MAX_OUTSTANDING_BYTES) {
    this.maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#used;
  }

  fits(bytes: number): boolean {
    const fits = this.#used === 0 || this.#used + bytes <= this.maxBytes;
    this.#wanting ||= !fits;
    return fits;
  }

  /** Whether anything did not fit since the last call: who gives memory back has to say so then. */
  takeWanting(): boolean {
    const wanting = this.#wanting;
    this.#wanting = false;
    return wanting;
  }

  take(bytes: number): void {
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }
}

/** Peers in other zones, and which chunks may be asked of them (imports.ts). Told of every gain and loss, whatever its own answer. */
export interface ImportGate {
  isForeign(peerId: string): boolean;
  /** Where this changes `confine` is to be called. */
  confined(index: number): boolean;
  gained(index: number, foreign: boolean): void;
  lost(index: number, foreign: boolean): void;
}

export interface PickerComponents {
  readonly budget: Budget;
  /** `[0, 1)` */
  readonly random: () => number;
  /** Whether the chunk should be asked of peers now. Asked again at each pick. */
  readonly wants: (index: number) => boolean;
  readonly bytesOf: (index: number) => number;
  /** @default all peers stand in one zone */
  readonly imports?: ImportGate | undefined;
}

export interface PickContext {
  readonly nowMs: number;
  /** The chunk that the slowest reader starves for. */
  readonly urgent?: number | undefined;
  /** Age from which a request counts as late, so that the endgame may ask a second peer. */
  readonly patienceMs: number;
}

const UNWANTED = 0;
const FREE = 1;
const ASKED = 2;
const HANDED = 3;

interface Holder {
  have: Bitfield;
  /** Free chunks that it holds and may be asked for. */
  useful: number;
  readonly forbidden: Set<number>;
  /** In another zone. */
  readonly foreign: boolean;
}

interface Request {
  readonly peerId: string;
  readonly sinceMs: number;
}

export class Picker {
  readonly #with: PickerComponents;
  readonly #chunks: number;
  readonly #states: Uint8Array;
  readonly #availability: Uint16Array;
  /** Free chunks by availability; `#place` is where a free chunk stands in its bucket. */
  readonly #buckets: number[][] = [[]];
  readonly #place: Int32Array;
  readonly #holders = new Map<string, Holder>();
  readonly #asked = new Map<number, Request[]>();
  readonly #handedBytes = new Map<number, number>();
  #free = 0;
  #duplicates = 0;

  constructor(chunks: number, components: PickerComponents) {
    this.#with = components;
    this.#chunks = chunks;
    this.#states = new Uint8Array(chunks);
    this.#availability = new Uint16Array(chunks);
    this.#place = new Int32Array(chunks);
    this.refresh();
  }

  /** Chunks wanted and not asked for. */
  get free(): number {
    return this.#free;
  }

  /** Chunks asked for. */
  get asked(): number {
    return this.#asked.size;
  }

  /** Nothing wanted is left to ask for, and something is still on its way. */
  get endgame(): boolean {
    return this.#free === 0 && this.#asked.size > 0 && this.#duplicates < MAX_DUPLICATES;
  }

  /** Peers that announce the chunk. */
  availability(index: number): number {
    return this.#availability[index] ?? 0;
  }

  /** Whether this peer has a chunk that may be asked for now. */
  useful(peerId: string): boolean {
    return (this.#holders.get(peerId)?.useful ?? 0) > 0;
  }

  /** What `wants` answers has changed. @param ranges where. @default anywhere */
  refresh(ranges: readonly IndexRange[] = [[0, this.#chunks]]): void {
    for (const [first, count] of ranges) {
      for (let index = first; index < first + count; index++) {
        const state = this.#states[index];
        if (state === FREE || state === UNWANTED) this.#setFree(index, this.#with.wants(index));
      }
    }
  }

  /** What the peer holds, in place of what it held before. */
  setHave(peerId: string, have: ReadonlyBitfield): void {
    const before = this.#holders.get(peerId);
    const holder: Holder = before ?? { have: new Bitfield(this.#chunks), useful: 0, forbidden: new Set(), foreign: this.#with.imports?.isForeign(peerId) ?? false };
    this.#holders.set(peerId, holder);
    for (let index = 0; index < this.#chunks; index++) {
      if (have.has(index) === holder.have.has(index)) continue;
      if (have.has(index)) this.#gain(holder, index);
      else this.#lose(holder, index);
    }
  }

  /** @returns how many of the chunks were new */
  addHave(peerId: string, ranges: readonly IndexRange[]): number {
    const holder = this.#holders.get(peerId);
    if (holder === undefined) return 0;
    let fresh = 0;
    for (const [first, count] of ranges) {
      for (let index = first; index < first + count; index++) {
        if (holder.have.has(index)) continue;
        this.#gain(holder, index);
        fresh++;
      }
    }
    return fresh;
  }

  /** The peer went: its requests are free again. */
  removePeer(peerId: string): void {
    const holder = this.#holders.get(peerId);
    if (holder === undefined) return;
    for (const [index] of this.#asked) this.failed(peerId, index);
    for (const [first, count] of holder.have.ranges()) {
      for (let index = first; index < first + count; index++) this.#lose(holder, index);
    }
    this.#holders.delete(peerId);
  }

  /** Do not ask this chunk of this peer again, unless it drops its copy and gets another. */
  forbid(peerId: string, index: number): void {
    const holder = this.#holders.get(peerId);
    if (holder === undefined || holder.forbidden.has(index)) return;
    if (this.#states[index] === FREE && this.#mayGive(holder, index)) holder.useful--;
    holder.forbidden.add(index);
  }

  /** The chunk may be asked of peers of other zones no more, or again. */
  confine(index: number, confined: boolean): void {
    if (this.#states[index] !== FREE) return;
    for (const holder of this.#holders.values()) {
      if (holder.foreign && holder.have.has(index) && !holder.forbidden.has(index)) holder.useful += confined ? -1 : 1;
    }
  }

  /** Chooses a chunk for this peer and counts it as asked. undefined: nothing to ask of it now. */
  pick(peerId: string, context: PickContext): number | undefined {
    const holder = this.#holders.get(peerId);
    if (holder === undefined) return undefined;
    const index = this.#choose(peerId, holder, context);
    if (index === undefined) return undefined;
    const bytes = this.#with.bytesOf(index);
    if (!this.#with.budget.fits(bytes)) return undefined;
    this.#with.budget.take(bytes);
    const requests = this.#asked.get(index);
    if (requests === undefined) {
      this.#setFree(index, false);
      this.#states[index] = ASKED;
      this.#asked.set(index, [{ peerId, sinceMs: context.nowMs }]);
    } else {
      this.#duplicates++;
      requests.push({ peerId, sinceMs: context.nowMs });
    }
    return index;
  }

  /** The request came to nothing: refused, timed out, cancelled, lost. */
  failed(peerId: string, index: number): void {
    const requests = this.#asked.get(index);
    const at = requests?.findIndex((request) => request.peerId === peerId) ?? -1;
    if (requests === undefined || at < 0) return;
    requests.splice(at, 1);
    this.#with.budget.give(this.#with.bytesOf(index));
    if (requests.length > 0) return;
    this.#asked.delete(index);
    this.#states[index] = UNWANTED;
    this.#setFree(index, this.#with.wants(index));
  }

  /** The whole chunk is here and handed over for its check. @returns the peers whose requests for it are to be cancelled */
  arrived(peerId: string, index: number): string[] {
    const requests = this.#asked.get(index);
    if (requests === undefined || !requests.some((request) => request.peerId === peerId)) return [];
    const others = requests.filter((request) => request.peerId !== peerId).map((request) => request.peerId);
    const bytes = this.#with.bytesOf(index);
    this.#with.budget.give(bytes * others.length);
    this.#asked.delete(index);
    this.#handedBytes.set(index, bytes);
    this.#states[index] = HANDED;
    return others;
  }

  /** The check of a chunk that had arrived is over. */
  settled(index: number): void {
    const bytes = this.#handedBytes.get(index);
    if (bytes === undefined) return;
    this.#handedBytes.delete(index);
    this.#with.budget.give(bytes);
    this.#states[index] = UNWANTED;
    this.#setFree(index, this.#with.wants(index));
  }

  /** The chunk came another way. @returns the peers whose requests for it are to be cancelled */
  obtained(index: number): string[] {
    const requests = (this.#asked.get(index) ?? []).map((request) => request.peerId);
    for (const peerId of requests) this.failed(peerId, index);
    if (this.#states[index] === FREE) this.#setFree(index, this.#with.wants(index));
    return requests;
  }

  /** Ends: gives the budget back. */
  close(): void {
    for (const [index, requests] of this.#asked) this.#with.budget.give(this.#with.bytesOf(index) * requests.length);
    for (const bytes of this.#handedBytes.values()) this.#with.budget.give(bytes);
    this.#asked.clear();
    this.#handedBytes.clear();
    this.#holders.clear();
  }

  #choose(peerId: string, holder: Holder, { nowMs, urgent, patienceMs }: PickContext): number | undefined {
    if (urgent !== undefined && this.availability(urgent) >= URGENT_HOLDERS && this.#mayAsk(holder, urgent)) return urgent;
    for (let level = 1; holder.useful > 0 && level < this.#buckets.length; level++) {
      const index = this.#chooseIn(this.#buckets[level]!, holder);
      if (index !== undefined) return index;
    }
    if (!this.endgame) return undefined;
    // The map keeps the order of asking: the first that fits is the oldest.
    for (const [index, requests] of this.#asked) {
      const [only] = requests;
      if (requests.length > 1 || only === undefined || only.peerId === peerId) continue;
      if (nowMs - only.sinceMs < patienceMs) continue;
      if (this.#mayGive(holder, index) && this.#with.wants(index)) return index;
    }
    return undefined;
  }

  /** A random start, then around: each chunk of the bucket that the peer holds is about as likely. */
  #chooseIn(bucket: number[], holder: Holder): number | undefined {
    let at = Math.floor(this.#with.random() * bucket.length);
    for (let left = bucket.length; left > 0 && bucket.length > 0; left--) {
      if (at >= bucket.length) at = 0;
      const index = bucket[at]!;
      if (this.#mayGive(holder, index)) {
        if (this.#with.wants(index)) return index;
        this.#setFree(index, false); // another chunk stands at `at` now, perhaps one already passed: look at all again
        left = bucket.length + 1;
      } else at++;
    }
    return undefined;
  }

  #mayAsk(holder: Holder, index: number): boolean {
    return this.#states[index] === FREE && this.#mayGive(holder, index) && this.#with.wants(index);
  }

  /** It holds the chunk, and may be asked for it. */
  #mayGive({ have, forbidden, foreign }: Holder, index: number): boolean {
    return have.has(index) && !forbidden.has(index) && !(foreign && this.#with.imports!.confined(index));
  }

  #gain(holder: Holder, index: number): void {
    holder.have.set(index);
    this.#level(index, 1);
    if (this.#states[index] === FREE && this.#mayGive(holder, index)) holder.useful++;
    this.#with.imports?.gained(index, holder.foreign);
  }

  #lose(holder: Holder, index: number): void {
    if (this.#states[index] === FREE && this.#mayGive(holder, index)) holder.useful--;
    holder.have.clear(index);
    holder.forbidden.delete(index);
    this.#level(index, -1);
    this.#with.imports?.lost(index, holder.foreign);
  }

  #level(index: number, step: 1 | -1): void {
    const free = this.#states[index] === FREE;
    if (free) this.#takeOut(index);
    this.#availability[index]! += step;
    if (free) this.#putIn(index);
  }

  #setFree(index: number, free: boolean): void {
    if (free === (this.#states[index] === FREE)) return;
    if (free) this.#putIn(index);
    else this.#takeOut(index);
    this.#states[index] = free ? FREE : UNWANTED;
    const step = free ? 1 : -1;
    this.#free += step;
    for (const holder of this.#holders.values()) {
      if (this.#mayGive(holder, index)) holder.useful += step;
    }
  }

  #putIn(index: number): void {
    const level = this.#availability[index]!;
    while (this.#buckets.length <= level) this.#buckets.push([]);
    const bucket = this.#buckets[level]!;
    this.#place[index] = bucket.length;
    bucket.push(index);
  }

  #takeOut(index: number): void {
    const bucket = this.#buckets[this.#availability[index]!]!;
    const last = bucket.pop()!;
    if (last === index) return;
    bucket[this.#place[index]!] = last;
    this.#place[last] = this.#place[index]!;
  }
}
