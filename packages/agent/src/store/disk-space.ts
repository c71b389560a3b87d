// How much room the file system has. Asked of the system at most once per `MAX_AGE_MS`; what the store itself writes and
// removes in between is counted on top, so that a fast write cannot outrun the figure.

import { statfs as nodeStatfs } from 'node:fs/promises';

/** The part of node's `statfs` that is used. `bavail` blocks of `bsize` bytes are free for us, of `blocks`. */
export type StatFs = (path: string) => Promise<{ bsize: number; blocks: number; bavail: number }>;

export interface DiskFigures {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

const MAX_AGE_MS = 1000;

export class DiskSpace {
  readonly #path: string;
  readonly #statfs: StatFs;
  readonly #now: () => number;
  #totalBytes = 0;
  #freeBytes = 0;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  constructor(path: string, now: () => number, statfs: StatFs = nodeStatfs) {
    this.#path = path;
    this.#now = now;
    this.#statfs = statfs;
  }

  /** The last figures, however old. */
  get last(): DiskFigures {
    return { totalBytes: this.#totalBytes, freeBytes: this.#freeBytes };
  }

  /** Figures no older than a second. Rejects as `statfs` does. */
  async current(): Promise<DiskFigures> {
    const ageMs = this.#now() - this.#readAtMs;
    if (ageMs >= MAX_AGE_MS || ageMs < 0) {
      this.#reading ??= this.#read().finally(() => {
        this.#reading = undefined;
      });
      await this.#reading;
    }
    return this.last;
  }

  /** The store has taken (positive) or given back (negative) this much. */
  took(bytes: number): void {
    this.#freeBytes -= bytes;
  }

  async #read(): Promise<void> {
    const { bsize, blocks, bavail } = await this.#statfs(this.#path);
    this.#totalBytes = blocks * bsize;
    this.#freeBytes = bavail * bsize;
    this.#readAtMs = this.#now();
  }
}
