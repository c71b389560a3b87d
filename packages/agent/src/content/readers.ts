// The local readers of one download: what they still need, how far they are, and who starves.
//
// Invariant: a reader that waits is woken by the event that lets it go on, and by nothing else, so that the time it waits is known.

import type { IndexRange, ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, chunksOf, type BlobKey, type ByteRange } from '@flotilla/shared/chunk-map';
import type { AgentError } from '../errors.ts';

/** What a reader needs of the chunks: bytes that are here, and word that they are. */
export interface ReadableChunks {
  readonly have: ReadonlyBitfield;
  /** Whether a chunk that is here may go out before the whole was verified. */
  trusts(index: number): boolean;
  readChunk(index: number): Promise<Uint8Array>;
  /** The whole blob's digest was verified. */
  readonly verified: boolean;
  /** The chunk that keeps the whole from being verified; undefined: all are here. */
  missing(): number | undefined;
}

interface Reader {
  readonly range: ByteRange;
  readonly first: number;
  readonly last: number;
  /** Reads all of the blob, and so waits at its end for the verified digest. */
  readonly whole: boolean;
  /** Wants the chunks but takes no bytes. */
  readonly background: boolean;
  /** The chunk it needs next. */
  cursor: number;
  waitingSinceMs: number | undefined;
  wake: (() => void) | undefined;
  failure: AgentError | undefined;
}

/** Where a reader stands. */
export type ReaderPosition = Pick<Reader, 'cursor' | 'last' | 'whole'>;

/** A reader came or went, or one moved on to its next chunk. */
export type DemandChange = 'readers' | 'cursor';

/** The readers of one blob on this host. Single writer of their cursors. */
export class Readers {
  readonly #key: BlobKey;
  readonly #chunks: ReadableChunks;
  readonly #now: () => number;
  readonly #onChange: (what: DemandChange) => void;
  readonly #readers = new Set<Reader>();
  #version = 0;

  constructor(key: BlobKey, chunks: ReadableChunks, now: () => number, onChange: (what: DemandChange) => void) {
    this.#key = key;
    this.#chunks = chunks;
    this.#now = now;
    this.#onChange = onChange;
  }

  get count(): number {
    return this.#readers.size;
  }

  /** Another number after every change of who reads what. */
  get version(): number {
    return this.#version;
  }

  /** Whether some reader waits at its end for the whole blob. */
  get wantWhole(): boolean {
    for (const reader of this.#readers) if (reader.whole) return true;
    return false;
  }

  /** Whether some reader has still to pass this chunk. */
  demands(index: number): boolean {
    for (const reader of this.#readers) {
      if (index >= reader.cursor && index <= reader.last) return true;
    }
    return false;
  }

  /** Where the readers stand that have chunks to pass, in the order in which they came. */
  positions(): ReaderPosition[] {
    return [...this.#readers].filter((reader) => reader.cursor <= reader.last);
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

  /** The chunk that a reader has waited for the longest, and since when. @param foreground of those that take bytes */
  starving(foreground = false): { index: number; sinceMs: number } | undefined {
    let longest: { index: number; sinceMs: number } | undefined;
    for (const reader of this.#readers) {
      if (reader.waitingSinceMs === undefined || (foreground && reader.background)) continue;
      if (longest !== undefined && reader.waitingSinceMs >= longest.sinceMs) continue;
      const index = this.#lacks(reader);
      if (index !== undefined) longest = { index, sinceMs: reader.waitingSinceMs };
    }
    return longest;
  }

  /** Chunks arrived, or the blob was verified. */
  wake(): void {
    for (const reader of this.#readers) {
      if (reader.background) this.#moveBackground(reader);
      if (this.#ready(reader)) reader.wake?.();
    }
  }

  /** Breaks all readers. */
  fail(error: AgentError): void {
    this.#failWhere(error, () => true);
  }

  /** Breaks the readers that lack a chunk now; those whose next chunk is here may still come to their end. */
  failStarving(error: AgentError): void {
    this.#failWhere(error, (reader) => reader.waitingSinceMs !== undefined && this.#lacks(reader) !== undefined);
  }

  failBackground(error: AgentError): void {
    this.#failWhere(error, (reader) => reader.background);
  }

  /** Chunks were found wrong and dropped: breaks the readers that took bytes of them; who took none fetches them again. */
  failTaken(error: AgentError, wrong: (index: number) => boolean): void {
    for (const reader of this.#readers) {
      if (!reader.background) continue;
      reader.cursor = reader.first;
      this.#moveBackground(reader);
    }
    this.#failWhere(error, (reader) => !reader.background && someTaken(reader, wrong));
  }

  /** Wants the whole blob without taking bytes, until the signal aborts. Resolves when the blob is verified. */
  async background(signal: AbortSignal): Promise<void> {
    const reader = this.#add({ start: 0, end: this.#key.size }, true);
    try {
      this.#moveBackground(reader);
      await this.#untilReady(reader, signal);
    } finally {
      this.#remove(reader);
    }
  }

  /**
   * Resolves once the first bytes are here; then yields the range in order.
   * The end of a whole-blob read waits for the verified digest.
   * The reader is gone when the iteration ends or the signal aborts.
   */
  async read(range: ByteRange, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const reader = this.#add(range, false);
    try {
      await this.#untilReady(reader, signal);
    } catch (error) {
      this.#remove(reader);
      throw error;
    }
    // Also where nobody ever iterates.
    const stop = (): void => this.#remove(reader);
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    return this.#yield(reader, signal, stop);
  }

  async *#yield(reader: Reader, signal: AbortSignal, stop: () => void): AsyncGenerator<Uint8Array> {
    try {
      while (reader.cursor <= reader.last) {
        await this.#untilReady(reader, signal);
        const bytes = await this.#readChunk(reader);
        if (bytes === undefined) continue;
        const bounds = chunkBounds(this.#key.size, reader.cursor);
        const from = Math.max(0, reader.range.start - bounds.start);
        const to = Math.min(bounds.end, reader.range.end) - bounds.start;
        yield bytes.subarray(from, to);
        reader.cursor++;
        this.#changed('cursor');
      }
    } finally {
      signal.removeEventListener('abort', stop);
      this.#remove(reader);
    }
  }

  /** The chunk at the cursor; undefined where it was lost or found wrong meanwhile, and has to be waited for again. */
  async #readChunk(reader: Reader): Promise<Uint8Array | undefined> {
    try {
      const bytes = await this.#chunks.readChunk(reader.cursor);
      if (reader.failure !== undefined) throw reader.failure;
      // Checked after the read as well: bytes that are no longer believed must not go out.
      return this.#ready(reader) ? bytes : undefined;
    } catch (error) {
      if (reader.failure !== undefined) throw reader.failure;
      if (this.#chunks.have.has(reader.cursor)) throw error;
      return undefined;
    }
  }

  #ready(reader: Reader): boolean {
    if (reader.background) return this.#chunks.verified;
    if (reader.whole && reader.cursor >= reader.last && !this.#chunks.verified) return false;
    if (reader.cursor > reader.last) return true;
    return this.#chunks.have.has(reader.cursor) && this.#chunks.trusts(reader.cursor);
  }

  /** The chunk that a waiting reader waits for; undefined: only for the hash of the whole. */
  #lacks(reader: Reader): number | undefined {
    if (reader.cursor <= reader.last && !this.#chunks.have.has(reader.cursor)) return reader.cursor;
    return this.#chunks.missing();
  }

  #moveBackground(reader: Reader): void {
    const before = reader.cursor;
    while (reader.cursor <= reader.last && this.#chunks.have.has(reader.cursor)) reader.cursor++;
    if (reader.cursor === before) return;
    if (reader.waitingSinceMs !== undefined) reader.waitingSinceMs = this.#now();
    this.#changed('cursor');
  }

  async #untilReady(reader: Reader, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (reader.failure !== undefined) throw reader.failure;
    if (this.#ready(reader)) return;
    reader.waitingSinceMs = this.#now();
    try {
      // Woken for one state of things, it may find another: the chunk can be dropped before it gets to run.
      while (!this.#ready(reader)) {
        await this.#woken(reader, signal);
        if (reader.failure !== undefined) throw reader.failure;
      }
    } finally {
      reader.waitingSinceMs = undefined;
    }
  }

  #woken(reader: Reader, signal: AbortSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const end = (settle: () => void): void => {
        reader.wake = undefined;
        signal.removeEventListener('abort', abort);
        settle();
      };
      const abort = (): void => end(() => reject(signal.reason as Error));
      reader.wake = () => end(resolve);
      signal.addEventListener('abort', abort, { once: true });
    });
  }

  #failWhere(error: AgentError, concerned: (reader: Reader) => boolean): void {
    const failed = [...this.#readers].filter(concerned);
    // Gone at once: a client that has stopped reading would keep the download at work.
    for (const reader of failed) {
      this.#readers.delete(reader);
      reader.failure = error;
    }
    for (const reader of failed) reader.wake?.();
    if (failed.length > 0) this.#changed('readers');
  }

  #changed(what: DemandChange): void {
    this.#version++;
    this.#onChange(what);
  }

  #add(range: ByteRange, background: boolean): Reader {
    const { first, last } = chunksOf(this.#key.size, range);
    const whole = range.start === 0 && range.end === this.#key.size;
    const reader: Reader = { range, first, last, whole, background, cursor: first, waitingSinceMs: undefined, wake: undefined, failure: undefined };
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
  const end = reader.waitingSinceMs === undefined ? reader.cursor : reader.cursor - 1;
  for (let index = reader.first; index <= Math.min(end, reader.last); index++) {
    if (taken(index)) return true;
  }
  return false;
}
