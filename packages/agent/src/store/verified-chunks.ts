// Which chunks of one file need not be compared with their digests again (docs/decisions/0007).
//
// A chunk counts as verified while the file is the very one that was compared (inode, size, times of change), for VERIFIED_MS. The kernel
// moves the time of change whenever bytes are written, and nobody can set it back; what it cannot see is a disk that rots, hence the bound.
// No I/O.

/** How long a comparison counts. */
export const VERIFIED_MS = 10 * 60 * 1000;
/** A file changed less than this before it is compared may change again within the same tick of the kernel's clock (10 ms at most). */
const SETTLED_MS = 50;
/** The same where the file system keeps whole seconds, or every other one. */
const SETTLED_COARSE_MS = 2500;

/** What tells a file from a changed one. */
export interface FileStamp {
  /** Another after every change. */
  readonly text: string;
  readonly changedMs: number;
}

export class VerifiedChunks {
  #stamp: string | undefined;
  /** Wall clock of the last comparison; 0: never. */
  readonly #atMs: Float64Array;

  constructor(chunks: number) {
    this.#atMs = new Float64Array(chunks);
  }

  /** Remembers a comparison. @param stamp taken before the bytes were read */
  mark(stamp: FileStamp, first: number, last: number, nowMs: number): void {
    if (nowMs - stamp.changedMs < (stamp.changedMs % 1000 === 0 ? SETTLED_COARSE_MS : SETTLED_MS)) return;
    if (this.#stamp !== stamp.text) {
      this.#stamp = stamp.text;
      this.#atMs.fill(0);
    }
    this.#atMs.fill(nowMs, first, last + 1);
  }

  /** Whether all of them were compared lately; the file may have changed since. */
  recent(first: number, last: number, nowMs: number): boolean {
    for (let index = first; index <= last; index++) {
      const ageMs = nowMs - this.#atMs[index]!;
      // A clock that was set back tells nothing.
      if (!(ageMs >= 0 && ageMs < VERIFIED_MS)) return false;
    }
    return true;
  }

  /** Whether bytes read just now are what was compared. @param stamp taken after they were read */
  unchanged(stamp: FileStamp): boolean {
    return this.#stamp === stamp.text;
  }
}
