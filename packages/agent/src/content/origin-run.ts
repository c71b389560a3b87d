// Reads one run of chunks from the origin and cuts the stream into whole chunks.
//
// Invariant: a run that ends without an error gave all its chunks, each from its own place in the blob.

import { chunkBounds, chunkSize, type BlobKey, type ByteRange } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';
import type { Origin } from './ports.ts';
import type { SourceRight } from './sources.ts';

/** The origin ignored Range, so that a run cannot be read alone. */
export class NoRangesError extends Error {
  constructor() {
    super('the origin answers a Range request with the whole blob');
    this.name = 'NoRangesError';
  }
}

export interface OriginChunk {
  readonly index: number;
  /** Unverified; belongs to the receiver. */
  readonly bytes: Uint8Array;
}

/**
 * Yields chunks `first .. first+count-1`, in order, from one Range request.
 * @param whole the blob is asked for without Range: then every chunk of it is yielded, from 0 on
 * @param onBytes told of every piece as it arrives, for progress
 * @throws NoRangesError, AgentError
 */
export async function* readOriginRun(
  origin: Origin,
  { source, authority }: SourceRight,
  key: BlobKey,
  { first, count, whole }: { first: number; count: number; whole: boolean },
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<OriginChunk> {
  const run: ByteRange = { start: chunkBounds(key.size, first).start, end: chunkBounds(key.size, first + count - 1).end };
  const all: ByteRange = { start: 0, end: key.size };
  const range = whole || (run.start === all.start && run.end === all.end) ? all : run;
  const answer = await origin.read(source, key.digest, range === all ? undefined : range, authority, signal);
  try {
    if (answer.size !== undefined && answer.size !== key.size) throw wrongLength(key, `the origin has ${answer.size} bytes where ${key.size} were said`);
    if (!answer.ranged && range !== all) throw new NoRangesError();
    if (answer.start !== range.start) throw wrongLength(key, `the origin sent bytes from ${answer.start} where ${range.start} was asked for`);
    const cutter = new ChunkCutter(key, range);
    for await (const piece of answer.body) {
      onBytes(piece.length);
      yield* cutter.push(piece);
    }
    if (!cutter.atEnd) throw wrongLength(key, 'the origin sent fewer bytes than were asked for');
  } finally {
    answer.cancel();
  }
}

/** Fills chunk buffers of exact size from pieces of any size. */
class ChunkCutter {
  readonly #key: BlobKey;
  readonly #end: number;
  #index: number;
  #buffer: Uint8Array | undefined;
  #filled = 0;

  /** @param range whole chunks */
  constructor(key: BlobKey, range: ByteRange) {
    this.#key = key;
    this.#end = range.end;
    this.#index = range.start / chunkSize(key.size);
  }

  /** Whether every byte of the range has come. */
  get atEnd(): boolean {
    return this.#filled === 0 && chunkBounds(this.#key.size, this.#index).start >= this.#end;
  }

  *push(piece: Uint8Array): Generator<OriginChunk> {
    for (let at = 0; at < piece.length; ) {
      if (this.atEnd) throw wrongLength(this.#key, 'the origin sent more bytes than were asked for');
      const { start, end } = chunkBounds(this.#key.size, this.#index);
      this.#buffer ??= Buffer.allocUnsafeSlow(end - start);
      const used = Math.min(piece.length - at, end - start - this.#filled);
      this.#buffer.set(piece.subarray(at, at + used), this.#filled);
      this.#filled += used;
      at += used;
      if (this.#filled === end - start) {
        const bytes = this.#buffer;
        this.#buffer = undefined;
        this.#filled = 0;
        yield { index: this.#index++, bytes };
      }
    }
  }
}

function wrongLength(key: BlobKey, message: string): AgentError {
  return new AgentError('ORIGIN_LENGTH', message, { detail: { digest: key.digest, size: key.size } });
}
