// The local readers of one download: what they still need, how far they are, and who starves.

import type { IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, chunksOf, type BlobKey, type ByteRange } from '@flotilla/shared/chunk-map';
import type { AgentError } from '../errors.ts';

/** What a reader needs of the download: bytes that are here, and word that they are. */
export interface ReadableChunks {
  has(index: number): boolean;
  readChunk(index: number): Promise<Uint8Array>;
  /** The whole blob's digest was verified. */
  verified(): boolean;
}

interface Reader {
  readonly range: ByteRange;
  readonly first: number;
  readonly last: number;
  /** A background reader wants the chunks but takes no bytes. */
  readonly background: boolean;
  /** The chunk it needs next. */
  cursor: number;
  waitingSinceMs: number | undefined;
  wake: (() => void) | undefined;
  failure: AgentError | undefined;
}

/** A reader came or went, or one moved on to its next chunk. */
export type DemandChange = 'readers' | 'cursor';

/** The readers of one blob on this host. Single writer of their cursors. */
export class Readers {
  readonly #key: BlobKey;
  readonly #chunks: ReadableChunks;
  readonly #now: () => number;
  readonly #changed: (what: DemandChange) => void;
  readonly #readers = new Set<Reader>();

  constructor(key: BlobKey, chunks: ReadableChunks, now: () => number, changed: (what: DemandChange) => void) {
    this.#key = key;
    this.#chunks = chunks;
    this.#now = now;
    this.#changed = changed;
  }

  get count(): number {
    return this.#readers.size;
  }

  /** Whether some reader has still to pass this chunk. */
  demands(index: number): boolean {
    for (const reader of this.#readers) {
      if (index >= reader.cursor && index <= reader.last) return true;
    }
    return false;
  }

  /** First and last chunk that any reader has still to pass; undefined: nothing is asked for. */
  demanded(): { first: number; last: number } | undefined {
    let first = Number.POSITIVE_INFINITY;
    let last = -1;
    for (const reader of this.#readers) {
      if (reader.cursor > reader.last) continue;
      first = Math.min(first, reader.cursor);
      last = Math.max(last, reader.last);
    }
    return last < 0 ? undefined : { first, last };
  }

  /** The chunks that today's readers came for, passed ones included, as `[first, count]`. */
  asked(): IndexRange | undefined {
    let first = Number.POSITIVE_INFINITY;
    let last = -1;
    for (const reader of this.#readers) {
      first = Math.min(first, reader.first);
      last = Math.max(last, reader.last);
    }
    return last < first ? undefined : [first, last - first + 1];
  }

  /** The chunk that a foreground reader has waited for the longest, and since when. */
  starving(): { index: number; sinceMs: number } | undefined {
    let longest: { index: number; sinceMs: number } | undefined;
    for (const reader of this.#readers) {
      if (reader.waitingSinceMs === undefined || this.#chunks.has(reader.cursor)) continue;
      if (longest === undefined || reader.waitingSinceMs < longest.sinceMs) {
        longest = { index: reader.cursor, sinceMs: reader.waitingSinceMs };
      }
    }
    return longest;
  }

  /** Chunks arrived, or the blob was verified. */
  wake(): void {
    for (const reader of this.#readers) {
      if (reader.background) this.#moveBackground(reader);
      reader.wake?.();
    }
  }

  /** Breaks the readers that took bytes of these chunks, or all of them. */
  fail(error: AgentError, takenChunk?: (index: number) => boolean): void {
    for (const reader of this.#readers) {
      if (takenChunk !== undefined && !someTaken(reader, takenChunk)) continue;
      reader.failure = error;
      reader.wake?.();
    }
  }

  /** Wants the whole blob without taking bytes, until the signal aborts. Resolves when the blob is verified. */
  async background(signal: AbortSignal): Promise<void> {
    const reader = this.#add({ start: 0, end: this.#key.size }, true);
    try {
      this.#moveBackground(reader);
      while (!this.#chunks.verified()) await this.#wait(reader, signal);
    } finally {
      this.#remove(reader);
    }
  }

  /**
   * Resolves once the first bytes are here; then yields the range in order.
   * The end of a whole-blob read waits for the verified digest.
   */
  async read(range: ByteRange, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const reader = this.#add(range, false);
    try {
      while (!this.#ready(reader)) await this.#wait(reader, signal);
    } catch (error) {
      this.#remove(reader);
      throw error;
    }
    const stop = (): void => this.#remove(reader);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    return this.#yield(reader, signal);
  }

  async *#yield(reader: Reader, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      while (reader.cursor <= reader.last) {
        while (!this.#ready(reader)) await this.#wait(reader, signal);
        const bytes = await this.#chunks.readChunk(reader.cursor);
        const bounds = chunkBounds(this.#key.size, reader.cursor);
        const from = Math.max(0, reader.range.start - bounds.start);
        const to = Math.min(bounds.end, reader.range.end) - bounds.start;
        // Checked after the read as well: bytes that were found wrong meanwhile must not go out.
        if (reader.failure !== undefined) throw reader.failure;
        yield bytes.subarray(from, to);
        reader.cursor++;
        this.#changed('cursor');
      }
      // Reached only by an empty blob: every other reader has waited with its last chunk in hand.
      while (this.#needsWhole(reader) && !this.#chunks.verified()) await this.#wait(reader, signal);
    } finally {
      this.#remove(reader);
    }
  }

  #ready(reader: Reader): boolean {
    if (reader.failure !== undefined) throw reader.failure;
    if (reader.cursor > reader.last) return !this.#needsWhole(reader) || this.#chunks.verified();
    if (!this.#chunks.has(reader.cursor)) return false;
    return reader.cursor < reader.last || !this.#needsWhole(reader) || this.#chunks.verified();
  }

  #needsWhole(reader: Reader): boolean {
    return reader.range.start === 0 && reader.range.end === this.#key.size;
  }

  #moveBackground(reader: Reader): void {
    const before = reader.cursor;
    while (reader.cursor <= reader.last && this.#chunks.has(reader.cursor)) reader.cursor++;
    if (reader.cursor !== before) this.#changed('cursor');
  }

  async #wait(reader: Reader, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (reader.failure !== undefined) throw reader.failure;
    reader.waitingSinceMs = this.#now();
    try {
      await new Promise<void>((resolve, reject) => {
        const abort = (): void => reject(signal.reason as Error);
        reader.wake = () => {
          signal.removeEventListener('abort', abort);
          resolve();
        };
        signal.addEventListener('abort', abort, { once: true });
      });
    } finally {
      reader.wake = undefined;
      reader.waitingSinceMs = undefined;
    }
    if (reader.failure !== undefined) throw reader.failure;
  }

  #add(range: ByteRange, background: boolean): Reader {
    const { first, last } = chunksOf(this.#key.size, range);
    const reader: Reader = { range, first, last, background, cursor: first, waitingSinceMs: undefined, wake: undefined, failure: undefined };
    this.#readers.add(reader);
    this.#changed('readers');
    return reader;
  }

  #remove(reader: Reader): void {
    if (this.#readers.delete(reader)) this.#changed('readers');
  }
}

function someTaken(reader: Reader, taken: (index: number) => boolean): boolean {
  // A reader that waits has not taken the chunk at its cursor; one that does not may be giving it out now.
  const end = reader.wake === undefined ? reader.cursor : reader.cursor - 1;
  for (let index = reader.first; index <= Math.min(end, reader.last); index++) {
    if (taken(index)) return true;
  }
  return false;
}
