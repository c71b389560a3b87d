// Which digest each chunk of one blob has, and which member says so.
//
// A digest here is a hint that finds wrong chunks early; the blob's own digest stays the authority. Arrays are made on first use.
// Non-goals: who is right where two differ (audit.ts).

import { Bitfield, type IndexRange } from '@flotilla/shared/bitfield';
import { CHUNK_DIGEST_BYTES } from '@flotilla/shared/chunk-map';

const ENOUGH_SIGNERS = 2;
/** A digest in a map, about: entry, buffer and its handle. */
const WITHDRAWN_BYTES = 200;

export interface Vouch {
  readonly digest: Uint8Array;
  readonly by: string;
}

/** Digests of consecutive chunks that one member vouches for. */
export interface VouchRun {
  readonly first: number;
  readonly digests: readonly Uint8Array[];
  readonly by: string;
}

export class Vouches {
  readonly chunks: number;
  #digests: Uint8Array | undefined;
  /** Per chunk 1 + index into #names; 0: nobody vouches. */
  #voucher: Uint32Array | undefined;
  #names: string[] = [];
  #count = 0;
  #confirmed: Bitfield;
  /** What was said of a chunk and then forgotten: many have it, and pass it on in good faith until they hear. */
  readonly #withdrawn = new Map<number, Uint8Array>();
  #fresh: number[] = [];
  #version = 0;
  /** Seeds that signed exactly these digests, at most two. */
  #signers: readonly string[] = [];
  #doubted = false;

  constructor(chunks: number) {
    this.chunks = chunks;
    this.#confirmed = new Bitfield(chunks);
  }

  /** How many chunks have a digest. */
  get count(): number {
    return this.#count;
  }

  /** Changes whenever a digest does. */
  get version(): number {
    return this.#version;
  }

  /** Bytes that this keeps in memory, about. */
  get bytes(): number {
    const present = this.#digests === undefined ? 0 : this.chunks * (CHUNK_DIGEST_BYTES + 4);
    return present + this.#withdrawn.size * WITHDRAWN_BYTES;
  }

  /**
   * Somebody has these chunks and not the blob. @returns whether seeds have signed them, and are believed: two always are; a single one may
   * be the liar who vouched for them, so it is believed once.
   */
  mismatch(): boolean {
    const signers = this.#signers.length;
    const believed = signers > 1 || (signers === 1 && !this.#doubted);
    this.#doubted = true;
    return believed;
  }

  get hasFresh(): boolean {
    return this.#fresh.length > 0;
  }

  get(index: number): Vouch | undefined {
    const name = this.#voucher?.[index] ?? 0;
    if (name === 0) return undefined;
    return { digest: this.#digest(index), by: this.#names[name - 1]! };
  }

  /** Takes a digest where there is none. @returns `other` where there is another one, which stays */
  put(index: number, digest: Uint8Array, by: string): 'new' | 'same' | 'other' {
    const known = this.get(index);
    if (known !== undefined) return equal(known.digest, digest) ? 'same' : 'other';
    this.#set(index, digest, by);
    return 'new';
  }

  /** An audit has shown what the chunk is. */
  settle(index: number, digest: Uint8Array, by: string): void {
    const known = this.get(index);
    if (known === undefined || !equal(known.digest, digest)) this.#set(index, digest, by);
    this.#confirmed.set(index);
  }

  withdrawn(index: number, digest: Uint8Array): boolean {
    const withdrawn = this.#withdrawn.get(index);
    return withdrawn !== undefined && equal(withdrawn, digest);
  }

  confirmed(index: number): boolean {
    return this.#confirmed.has(index);
  }

  forget([first, count]: IndexRange): void {
    if (this.#voucher === undefined) return;
    for (let index = first; index < first + count; index++) {
      if (this.#voucher[index] === 0) continue;
      this.#withdrawn.set(index, this.#digest(index));
      this.#voucher[index] = 0;
      this.#confirmed.clear(index);
      this.#count--;
      this.#version++;
      this.#unsign();
    }
  }

  forgetAll(): void {
    this.#digests = undefined;
    this.#voucher = undefined;
    this.#names = [];
    this.#count = 0;
    this.#version++;
    this.#fresh = [];
    this.#withdrawn.clear();
    this.#unsign();
    this.#confirmed = new Bitfield(this.chunks);
  }

  /** The chunks that `peer` vouches for, ascending. */
  of(peer: string): number[] {
    const name = this.#names.indexOf(peer) + 1;
    const indexes: number[] = [];
    if (name > 0) this.#voucher?.forEach((voucher, index) => voucher === name && indexes.push(index));
    return indexes;
  }

  vouchers(): string[] {
    const seen = new Set(this.#voucher);
    return this.#names.filter((_, at) => seen.has(at + 1));
  }

  /** Every digest in order, or undefined while one is missing. */
  whole(): Uint8Array[] | undefined {
    if (this.#count !== this.chunks) return undefined;
    return Array.from({ length: this.chunks }, (_, index) => this.#digest(index));
  }

  /** A seed has signed exactly these digests after it verified the blob: newcomers get them in its name, in one run. */
  signed(by: string): void {
    if (this.#signers.length < ENOUGH_SIGNERS && !this.#signers.includes(by)) this.#signers = [...this.#signers, by];
  }

  /** Everything known, as few runs as there are changes of voucher. */
  runs(): VouchRun[] {
    const [signer] = this.#signers;
    const whole = signer === undefined ? undefined : this.whole();
    if (signer !== undefined && whole !== undefined) return whole.length === 0 ? [] : [{ first: 0, digests: whole, by: signer }];
    const indexes: number[] = [];
    this.#voucher?.forEach((voucher, index) => voucher !== 0 && indexes.push(index));
    return this.#grouped(indexes);
  }

  /** What was learnt since the last call. */
  takeFresh(): VouchRun[] {
    const indexes = [...new Set(this.#fresh)].sort((a, b) => a - b).filter((index) => this.get(index) !== undefined);
    this.#fresh = [];
    return this.#grouped(indexes);
  }

  #grouped(indexes: readonly number[]): VouchRun[] {
    const runs: { first: number; digests: Uint8Array[]; by: string }[] = [];
    for (const index of indexes) {
      const { digest, by } = this.get(index)!;
      const last = runs.at(-1);
      if (last !== undefined && last.by === by && last.first + last.digests.length === index) last.digests.push(digest);
      else runs.push({ first: index, digests: [digest], by });
    }
    return runs;
  }

  #set(index: number, digest: Uint8Array, by: string): void {
    this.#digests ??= new Uint8Array(this.chunks * CHUNK_DIGEST_BYTES);
    this.#voucher ??= new Uint32Array(this.chunks);
    let name = this.#names.indexOf(by);
    if (name < 0) name = this.#names.push(by) - 1;
    if (this.#voucher[index] === 0) this.#count++;
    this.#voucher[index] = name + 1;
    if (this.withdrawn(index, digest)) this.#withdrawn.delete(index);
    this.#digests.set(digest, index * CHUNK_DIGEST_BYTES);
    this.#fresh.push(index);
    this.#unsign();
    this.#version++;
  }

  #unsign(): void {
    this.#signers = [];
    this.#doubted = false;
  }

  /** A copy: events that carry it live longer than the entry. */
  #digest(index: number): Uint8Array {
    return this.#digests!.slice(index * CHUNK_DIGEST_BYTES, (index + 1) * CHUNK_DIGEST_BYTES);
  }
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
