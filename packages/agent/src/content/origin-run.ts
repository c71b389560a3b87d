// Reads one run of chunks from the origin and cuts the stream into whole chunks.

import { chunkBounds, type BlobKey, type ByteRange } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';
import type { Origin, Source } from './ports.ts';

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
 * @param whole accept an answer without Range: then every chunk of the blob is yielded, from 0 on
 * @param onBytes told of every piece as it arrives, for progress
 * @throws NoRangesError, AgentError
 */
export async function* readOriginRun(
  origin: Origin,
  source: Source,
  key: BlobKey,
  { first, count, whole }: { first: number; count: number; whole: boolean },
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<OriginChunk> {
  const range: ByteRange = { start: chunkBounds(key.size, first).start, end: chunkBounds(key.size, first + count - 1).end };
  const all = range.start === 0 && range.end === key.size;
  const answer = await origin.read(source, key.digest, all || whole ? undefined : range, signal);
  if (answer.size !== undefined && answer.size !== key.size) {
    answer.cancel();
    throw new AgentError('ORIGIN_LENGTH', `the origin has ${answer.size} bytes where ${key.size} were said`, { detail: { digest: key.digest } });
  }
  if (!answer.ranged && !all && !whole) {
    answer.cancel();
    throw new NoRangesError();
  }
  const cutter = new ChunkCutter(key, answer.ranged ? first : 0);
  try {
    for await (const piece of answer.body) {
      onBytes(piece.length);
      yield* cutter.push(piece);
    }
  } finally {
    answer.cancel();
  }
  if (!cutter.atChunkEnd) throw new AgentError('ORIGIN_LENGTH', 'the origin ended in the middle of a chunk', { detail: { digest: key.digest } });
}

/** Fills chunk buffers of exact size from pieces of any size. */
class ChunkCutter {
  readonly #key: BlobKey;
  #index: number;
  #buffer: Uint8Array | undefined;
  #filled = 0;

  constructor(key: BlobKey, first: number) {
    this.#key = key;
    this.#index = first;
  }

  get atChunkEnd(): boolean {
    return this.#filled === 0;
  }

  *push(piece: Uint8Array): Generator<OriginChunk> {
    for (let at = 0; at < piece.length; ) {
      const { start, end } = chunkBounds(this.#key.size, this.#index);
      if (end <= start) throw new AgentError('ORIGIN_LENGTH', 'the origin sent more bytes than the blob has', { detail: { digest: this.#key.digest } });
      this.#buffer ??= Buffer.allocUnsafeSlow(end - start);
      const used = Math.min(piece.length - at, end - start - this.#filled);
      this.#buffer.set(piece.subarray(at, at + used), this.#filled);
      this.#filled += used;
      at += used;
      if (this.#filled === end - start) {
        yield { index: this.#index++, bytes: this.#buffer };
        this.#buffer = undefined;
        this.#filled = 0;
      }
    }
  }
}
