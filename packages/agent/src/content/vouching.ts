// Who says what the chunks of a blob are, and who gave them: what is needed to find a liar.

import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { digestAlgorithm, digestHex } from '@flotilla/shared/digest';

export interface Vouch {
  readonly digest: Uint8Array;
  /** peer id; undefined: the blob's own digest says it */
  readonly by: string | undefined;
}

export class Vouching {
  /** A blob of one chunk needs nobody's word: its digest is the chunk's. */
  readonly #certain: Uint8Array | undefined;
  readonly #vouched = new Map<number, Vouch>();
  readonly #givenBy = new Map<number, string>();
  readonly #selfRead: Bitfield;

  constructor(key: BlobKey) {
    const chunks = chunkCount(key.size);
    this.#selfRead = new Bitfield(chunks);
    this.#certain = chunks === 1 && digestAlgorithm(key.digest) === 'sha256' ? Buffer.from(digestHex(key.digest), 'hex') : undefined;
  }

  /** What chunk `index` should be, if anybody has said so. */
  expected(index: number): Vouch | undefined {
    if (this.#certain !== undefined) return { digest: this.#certain, by: undefined };
    return this.#vouched.get(index);
  }

  vouch(index: number, digest: Uint8Array, by: string): void {
    this.#vouched.set(index, { digest, by });
  }

  readHere(index: number): void {
    this.#selfRead.set(index);
    this.#givenBy.delete(index);
  }

  given(index: number, peerId: string): void {
    this.#givenBy.set(index, peerId);
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
    this.#givenBy.delete(index);
    this.#selfRead.clear(index);
  }
}
