// Records which chunks of one partial were written, in the index. One batch at a time, carrying all that has come up
// meanwhile, in order; pending records are bounded by the number of the blob's chunks.
// A record that could not be written costs a chunk after a restart, nothing else: it is logged and the pull goes on.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { IndexDb } from './index-db.ts';

export class ChunkJournal {
  readonly #key: BlobKey;
  readonly #index: IndexDb;
  readonly #onFailure: (error: unknown) => void;
  #pending = new Map<number, Uint8Array | undefined>();
  /** The batch being written, and the one that will take what is pending. */
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(key: BlobKey, index: IndexDb, onFailure: (error: unknown) => void) {
    this.#key = key;
    this.#index = index;
    this.#onFailure = onFailure;
  }

  /** Records the chunk's digest, or (undefined) forgets the chunk. Resolves when it is recorded or has failed; never rejects. */
  record(index: number, digest: Uint8Array | undefined): Promise<void> {
    this.#pending.set(index, digest);
    this.#next ??= this.#writeAfter(this.#writing);
    return this.#next;
  }

  /** Resolves when nothing is pending. */
  async settled(): Promise<void> {
    await (this.#next ?? this.#writing);
  }

  async #writeAfter(before: Promise<void>): Promise<void> {
    await before;
    const batch = this.#pending;
    this.#pending = new Map();
    this.#writing = this.#next ?? this.#writing;
    this.#next = undefined;
    try {
      await this.#index.putChunks(this.#key, batch);
    } catch (error) {
      this.#onFailure(error);
    }
  }
}
