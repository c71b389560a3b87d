// Follows a download with the hash of the whole blob: chunk after chunk, as soon as the next one is here.

import { chunkBounds, chunkCount } from '@flotilla/shared/chunk-map';
import type { BlobHasher } from './verification.ts';
import type { PartialBlob } from './ports.ts';

/** Bytes handed to the hash thread at once: large enough to be cheap, small enough to share the thread fairly. */
const MAX_STEP_BYTES = 16 * 1024 * 1024;

export class WholeHash {
  readonly #partial: PartialBlob;
  readonly #hasher: BlobHasher;
  readonly #chunks: number;
  /** All chunks before this one were fed. */
  #next = 0;
  #running: Promise<void> | undefined;
  #generation = 0;

  constructor(partial: PartialBlob, hasher: BlobHasher) {
    this.#partial = partial;
    this.#hasher = hasher;
    this.#chunks = chunkCount(partial.key.size);
  }

  /** Chunks before this one have been hashed and may leave memory. */
  get next(): number {
    return this.#next;
  }

  get atEnd(): boolean {
    return this.#next === this.#chunks;
  }

  /** Feeds what has become contiguous. At most one run at a time; resolves when nothing more can be fed. */
  advance(): Promise<void> {
    this.#running ??= this.#feed().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Chunks were found wrong: what was hashed from `index` on does not count. The hash starts again where it was passed. */
  forget(index: number): void {
    if (index >= this.#next && this.#running === undefined) return;
    this.#generation++;
    this.#next = 0;
    this.#hasher.reset();
  }

  /** Call at the end only; once. */
  matches(): Promise<boolean> {
    return this.#hasher.matches();
  }

  close(): void {
    this.#hasher.close();
  }

  async #feed(): Promise<void> {
    while (!this.atEnd && this.#partial.have.has(this.#next)) {
      const generation = this.#generation;
      const { size } = this.#partial.key;
      let end = this.#next + 1;
      const { start } = chunkBounds(size, this.#next);
      const { path } = this.#partial;
      if (path === undefined) {
        await this.#hasher.feed({ bytes: await this.#partial.read(this.#next) });
      } else {
        while (end < this.#chunks && this.#partial.have.has(end) && chunkBounds(size, end).end - start <= MAX_STEP_BYTES) end++;
        await this.#hasher.feed({ path, start, end: chunkBounds(size, end - 1).end });
      }
      if (generation === this.#generation) this.#next = end;
    }
  }
}
