// Records which chunks of one partial were written, in the index. A batch carries all that has come up in BATCH_MS; one is written at a
// time, in order; pending records are bounded by the number of the blob's chunks.
//
// Nobody waits for a record: a chunk whose record is lost with the process is fetched again after the restart, nothing else, and the one
// that is recorded is hashed before it counts. A batch for each chunk cost as much processor time as writing the chunk.
// A record that could not be written is logged, and the pull goes on.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { IndexDb } from './index-db.ts';

/** What a process that is killed may have to fetch again. */
const BATCH_MS = 100;

export class ChunkJournal {
  readonly #key: BlobKey;
  readonly #index: IndexDb;
  readonly #onFailure: (error: unknown) => void;
  #pending = new Map<number, Uint8Array | undefined>();
  #timer: NodeJS.Timeout | undefined;
  #written: Promise<void> = Promise.resolve();

  constructor(key: BlobKey, index: IndexDb, onFailure: (error: unknown) => void) {
    this.#key = key;
    this.#index = index;
    this.#onFailure = onFailure;
  }

  /** Records the chunk's digest, or (undefined) forgets the chunk: soon. */
  record(index: number, digest: Uint8Array | undefined): void {
    this.#pending.set(index, digest);
    this.#timer ??= setTimeout(() => void this.settled(), BATCH_MS);
  }

  /** Writes what is pending now. Resolves when all has been written or has failed; never rejects. */
  settled(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#pending.size > 0) this.#written = this.#written.then(() => this.#write());
    return this.#written;
  }

  /** All that is pending by now: while the index is slow, records of one chunk replace one another. */
  async #write(): Promise<void> {
    if (this.#pending.size === 0) return;
    const batch = this.#pending;
    this.#pending = new Map();
    try {
      await this.#index.putChunks(this.#key, batch);
    } catch (error) {
      this.#onFailure(error);
    }
  }
}
