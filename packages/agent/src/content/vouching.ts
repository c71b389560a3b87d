// Who says what the chunks of a blob are, who gave them, and who is believed: what is needed to find a liar, and to do without.

import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { digestAlgorithm, digestHex } from '@flotilla/shared/digest';
import { sameDigest } from '../hash.ts';

export interface Vouch {
  readonly digest: Uint8Array;
  /** peer id; undefined: no peer, but the blob's own digest or this host's reading at the origin */
  readonly by: string | undefined;
  /** Follows from the blob's digest: what differs is wrong, whoever says so. */
  readonly certain: boolean;
}

export class Vouching {
  /** A blob of one chunk needs nobody's word: its digest is the chunk's. */
  readonly #certain: Uint8Array | undefined;
  readonly #vouched = new Map<number, Vouch>();
  /** What was vouched for and taken back: many have it, and pass it on in good faith until they hear. */
  readonly #withdrawn = new Map<number, Uint8Array>();
  /** Chunks that were hashed with the whole, given out, and are here no more. */
  readonly #passed = new Map<number, Uint8Array>();
  readonly #givenBy = new Map<number, string>();
  readonly #selfRead: Bitfield;
  /** What this host read itself contradicts bytes that these gave. True: and that they had vouched for, so that none of their vouches counts. */
  readonly #suspects = new Map<string, boolean>();
  #proven = false;
  #doubted = false;
  #originOnly = false;

  constructor(key: BlobKey) {
    const chunks = chunkCount(key.size);
    this.#selfRead = new Bitfield(chunks);
    this.#certain = chunks === 1 && digestAlgorithm(key.digest) === 'sha256' ? Buffer.from(digestHex(key.digest), 'hex') : undefined;
  }

  /** What chunk `index` should be, if anybody has said so. */
  expected(index: number): Vouch | undefined {
    if (this.#certain !== undefined) return { digest: this.#certain, by: undefined, certain: true };
    const passed = this.#passed.get(index);
    // Readers have bytes of it, and the hash of the whole: a chunk that comes again has to be the same.
    if (passed !== undefined) return { digest: passed, by: this.#givenBy.get(index), certain: this.#proven };
    return this.#vouched.get(index);
  }

  vouch(index: number, digest: Uint8Array, by: string): void {
    this.#vouched.set(index, { digest, by, certain: false });
    this.#restore(index, digest);
  }

  /** What was vouched for is wrong, or doubted. @param read what this host read itself, which nobody's doubt touches */
  withdraw(index: number, read: Uint8Array | undefined): void {
    const vouch = this.#vouched.get(index);
    if (vouch === undefined || (read !== undefined && sameDigest(vouch.digest, read))) return;
    this.#withdrawn.set(index, vouch.digest);
    this.#vouched.delete(index);
  }

  isWithdrawn(index: number, digest: Uint8Array): boolean {
    const withdrawn = this.#withdrawn.get(index);
    return withdrawn !== undefined && sameDigest(withdrawn, digest);
  }

  /** Nobody is left who could say it again. */
  forgetWithdrawn(): void {
    this.#withdrawn.clear();
  }

  /** Somebody else says it too: it was doubted without cause. */
  #restore(index: number, digest: Uint8Array): void {
    if (this.isWithdrawn(index, digest)) this.#withdrawn.delete(index);
  }

  readHere(index: number, digest: Uint8Array): void {
    this.#restore(index, digest);
    this.#selfRead.set(index);
    this.#givenBy.delete(index);
  }

  given(index: number, peerId: string): void {
    this.#givenBy.set(index, peerId);
    this.#selfRead.clear(index);
  }

  /** The chunk leaves memory; the hash of the whole and readers have had it. */
  pass(index: number, digest: Uint8Array): void {
    this.#passed.set(index, digest);
  }

  passed(index: number): Uint8Array | undefined {
    return this.#passed.get(index);
  }

  /** The hash of the whole starts again: what comes is not bound to what came before. */
  forgetPassed(): void {
    this.#passed.clear();
  }

  /** Nothing is believed any more because this peer sends it. @param vouched it had vouched for what was wrong @returns the chunks that came on its word alone */
  suspect(peerId: string, vouched: boolean): number[] {
    this.#suspects.set(peerId, vouched || this.#suspects.get(peerId) === true);
    return [...this.#givenBy].filter(([index, giver]) => giver === peerId && this.#aloneSays(index, peerId)).map(([index]) => index);
  }

  /** Whether a peer's copy of a chunk has to be left because nobody but that peer, which is suspect, says what it is. */
  suspicious(index: number, peerId: string): boolean {
    return this.#suspects.has(peerId) && this.#aloneSays(index, peerId);
  }

  #aloneSays(index: number, peerId: string): boolean {
    const by = this.#vouched.get(index)?.by;
    return by === undefined || (by === peerId && this.#suspects.get(peerId) === true);
  }

  /** The whole was verified, and with it every chunk that was hashed. */
  prove(): void {
    this.#proven = true;
    this.#doubted = false;
  }

  get proven(): boolean {
    return this.#proven;
  }

  /** The whole was wrong: until it is right, only what was read here goes out. */
  doubt(): void {
    this.#doubted = true;
  }

  get doubted(): boolean {
    return this.#doubted;
  }

  /** Nobody could say which peer lied: only the origin is believed from now on. */
  distrustPeers(): void {
    this.#originOnly = true;
  }

  get originOnly(): boolean {
    return this.#originOnly;
  }

  /** Whether a chunk that is here may go out. */
  trusts(index: number): boolean {
    return this.#proven || !this.#doubted || this.#selfRead.has(index);
  }

  /** Whether a peer's copy is believed. In doubt, one that only its sender vouches for is not. */
  believes(index: number): boolean {
    return !this.#originOnly && (!this.#doubted || this.expected(index) !== undefined);
  }

  /** The chunks, here or not, that this host did not read itself. */
  doubtful(): number[] {
    return Array.from({ length: this.#selfRead.length }, (_, index) => index).filter((index) => !this.#selfRead.has(index));
  }

  /** True for chunks that this host itself read at the origin: nobody else has to be believed. */
  isReadHere(index: number): boolean {
    return this.#selfRead.has(index);
  }

  giver(index: number): string | undefined {
    return this.#givenBy.get(index);
  }

  forget(index: number): void {
    this.#vouched.delete(index);
    this.#passed.delete(index);
    this.#givenBy.delete(index);
    this.#selfRead.clear(index);
  }
}
