// Follows a download with the hash of the whole blob: chunk after chunk, as soon as the next one is here.
//
// Chunks may be forgotten at any moment, also while they are being hashed or while the result is awaited; what was hashed
// before that belongs to an earlier generation and counts for nothing.

import { chunkBounds, chunkCount } from '@flotilla/shared/chunk-map';
import type { BlobHasher } from './verification.ts';
import type { PartialBlob } from './ports.ts';

/** Bytes handed to the hash thread at once: large enough to be cheap, small enough to share the thread fairly. */
const MAX_STEP_BYTES = 16 * 1024 * 1024;
/** From a file no less at once, but at its end: a message to the thread and back costs as much as hashing this. */
const MIN_STEP_BYTES = 1024 * 1024;

export class WholeHash {
  readonly #partial: PartialBlob;
  readonly #hasher: BlobHasher;
  readonly #readChunk: (index: number) => Promise<Uint8Array>;
  readonly #chunks: number;
  /** All chunks before this one were fed. */
  #next = 0;
  #fed = 0;
  #running: Promise<void> | undefined;
  #generation = 0;
  #closed = false;

  constructor(partial: PartialBlob, hasher: BlobHasher, readChunk: (index: number) => Promise<Uint8Array>) {
    this.#partial = partial;
    this.#hasher = hasher;
    this.#readChunk = readChunk;
    this.#chunks = chunkCount(partial.key.size);
  }

  /** Chunks before this one have been hashed and may leave memory. */
  get next(): number {
    return this.#next;
  }

  /** Chunks before this one have been hashed or are being hashed. */
  get fed(): number {
    return this.#fed;
  }

  get atEnd(): boolean {
    return this.#next === this.#chunks;
  }

  /** Whether enough is here to go on. */
  get due(): boolean {
    const { key, have, path } = this.#partial;
    if (this.atEnd || !have.has(this.#next)) return false;
    if (path === undefined) return true;
    const enough = chunkBounds(key.size, this.#next).start + MIN_STEP_BYTES;
    for (let index = this.#next; index < this.#chunks && have.has(index); index++) {
      const { end } = chunkBounds(key.size, index);
      if (end >= enough || end === key.size) return true;
    }
    return false;
  }

  /** Feeds what has become contiguous. At most one run at a time; resolves when nothing more can be fed. */
  advance(): Promise<void> {
    this.#running ??= this.#feed().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Chunk `index` was dropped. @returns whether it had been hashed, so that the hash starts again from the first chunk */
  forget(index: number): boolean {
    if (index >= this.#fed) return false;
    this.#generation++;
    this.#next = 0;
    this.#fed = 0;
    this.#hasher.reset();
    return true;
  }

  /** Whether the whole has the blob's digest; undefined: chunks were forgotten meanwhile. Call at the end only; once. */
  async matches(): Promise<boolean | undefined> {
    const generation = this.#generation;
    const right = await this.#hasher.matches();
    return generation === this.#generation ? right : undefined;
  }

  close(): void {
    this.#closed = true;
    this.#hasher.close();
  }

  async #feed(): Promise<void> {
    while (!this.#closed && this.due) {
      const generation = this.#generation;
      const { path } = this.#partial;
      if (path === undefined) await this.#feedChunk(generation);
      else await this.#feedFile(path);
      if (generation === this.#generation) this.#next = this.#fed;
    }
  }

  async #feedFile(path: string): Promise<void> {
    const { key, have } = this.#partial;
    const { start } = chunkBounds(key.size, this.#next);
    let end = this.#next + 1;
    while (end < this.#chunks && have.has(end) && chunkBounds(key.size, end).end - start <= MAX_STEP_BYTES) end++;
    this.#fed = end;
    await this.#hasher.feed({ path, start, end: chunkBounds(key.size, end - 1).end });
  }

  async #feedChunk(generation: number): Promise<void> {
    const index = this.#next;
    this.#fed = index + 1;
    let bytes: Uint8Array;
    try {
      bytes = await this.#readChunk(index);
    } catch (error) {
      this.#fed = this.#next;
      // Dropped, or lost on disk, before it could be read: it comes again.
      if (!this.#closed && this.#partial.have.has(index)) throw error;
      return;
    }
    if (generation === this.#generation && !this.#closed) await this.#hasher.feed({ bytes });
  }
}
