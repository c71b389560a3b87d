// Records which chunks of one partial were written, in the index. A record is begun at once; one batch is written at a time, in order, and
// what comes up meanwhile goes into the next. Pending records are bounded by the number of the blob's chunks.
//
// Nobody waits for a record: a chunk whose record is lost with the process is fetched again after the restart, nothing else, and the one
// that is recorded is hashed before it counts. A record that could not be written is logged, and the pull goes on.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { IndexDb } from './index-db.ts';

export class ChunkJournal {
  readonly #key: BlobKey;
  readonly #index: IndexDb;
  readonly #onFailure: (error: unknown) => void;
  #pending = new Map<number, Uint8Array | undefined>();
  #written: Promise<void> = Promise.resolve();

  constructor(key: BlobKey, index: IndexDb, onFailure: (error: unknown) => void) {
    this.#key = key;
    this.#index = index;
    this.#onFailure = onFailure;
  }

  /** Records the chunk's digest, or (undefined) forgets the chunk. */
  record(index: number, digest: Uint8Array | undefined): void {
    // The first that is pending begins the next batch; the others join it.
    if (this.#pending.size === 0) this.#written = this.#written.then(() => this.#write());
    this.#pending.set(index, digest);
  }

  /** Resolves when all that was recorded has been written or has failed; never rejects. */
  settled(): Promise<void> {
    return this.#written;
  }

  /** All that is pending by now: while the index is slow, records of one chunk replace one another. */
  async #write(): Promise<void> {
    const batch = this.#pending;
    this.#pending = new Map();
    try {
      await this.#index.putChunks(this.#key, batch);
    } catch (error) {
      this.#onFailure(error);
    }
  }
}
