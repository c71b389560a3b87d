// A finished blob, read from its file. No byte leaves here that was not compared with the digest of its chunk: now, or a short while ago
// and the file has not changed since (verified-chunks.ts).

import type { FileHandle } from 'node:fs/promises';
import { chunkBounds, chunksOf, chunkSize, type ByteRange } from '@flotilla/shared/chunk-map';
import type { BlobKey, StoredBlob } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { own } from '../chunk-memory.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import { blamesFile, diskError, type DiskIo } from './disk-io.ts';
import type { DataFile, OpenFiles } from './open-files.ts';
import { readAhead } from './read-ahead.ts';
import type { ReadBuffers } from './read-buffers.ts';
import { VerifiedChunks } from './verified-chunks.ts';

/** What is read and handed on at once, or one chunk where chunks are larger. */
const PIECE_BYTES = 1024 * 1024;

export interface StoredBlobComponents {
  readonly io: DiskIo;
  readonly files: OpenFiles;
  readonly buffers: ReadBuffers;
  /** Wall clock in ms. */
  readonly now: () => number;
  /** The file is not what it was when it was finished: the blob must go. */
  readonly onCorrupt: (blob: DiskBlob, error: AgentError) => Promise<void>;
}

/** The file is not the blob. */
class Damage extends Error {}

export class DiskBlob implements StoredBlob {
  readonly key: BlobKey;
  readonly mediaType: string | undefined;
  readonly chunkDigests: readonly Uint8Array[];
  readonly file: DataFile;
  readonly #with: StoredBlobComponents;
  readonly #verified: VerifiedChunks;

  constructor(
    key: BlobKey,
    mediaType: string | undefined,
    chunkDigests: readonly Uint8Array[],
    file: DataFile,
    components: StoredBlobComponents,
  ) {
    this.key = key;
    this.mediaType = mediaType;
    this.chunkDigests = chunkDigests;
    this.file = file;
    this.#with = components;
    this.#verified = new VerifiedChunks(chunkDigests.length);
  }

  async readChunk(index: number): Promise<Uint8Array> {
    const range = chunkBounds(this.key.size, index);
    this.#check(range);
    const bytes = await this.#read(Buffer.allocUnsafeSlow(range.end - range.start), range);
    own(bytes);
    return bytes;
  }

  async *read(range: ByteRange): AsyncGenerator<Uint8Array, void, void> {
    this.#check(range);
    const { size } = this.key;
    const { first, last } = chunksOf(size, range);
    if (last < first) return;
    const [from, to] = [chunkBounds(size, first).start, chunkBounds(size, last).end];
    const bufferBytes = Math.max(PIECE_BYTES, chunkSize(size));
    if (to - from <= bufferBytes) {
      yield await this.#read(Buffer.allocUnsafeSlow(to - from), range);
      return;
    }
    const pieces: ByteRange[] = [];
    for (let start = from; start < to; start += bufferBytes) {
      pieces.push({ start: Math.max(start, range.start), end: Math.min(start + bufferBytes, range.end) });
    }
    yield* readAhead(pieces, bufferBytes, this.#with.buffers, (into, piece) => this.#read(into, piece));
  }

  #check({ start, end }: ByteRange): void {
    if (start >= 0 && start <= end && end <= this.key.size) return;
    throw new RangeError(`bytes ${start} to ${end} of a blob of ${this.key.size}`);
  }

  /**
   * The verified bytes of the range, in a part of `into`.
   * @param into has room for all chunks that the range touches
   */
  async #read(into: Buffer, range: ByteRange): Promise<Uint8Array> {
    try {
      return await this.#with.files.use(this.file, async (handle) => (await this.#readUnchanged(handle, into, range)) ?? (await this.#readVerifying(handle, into, range)));
    } catch (error) {
      if (error instanceof Damage || blamesFile(error)) throw await this.#corrupt(range, error);
      throw diskError(error, `blob ${this.key.digest} cannot be read`, this.#detail(range));
    }
  }

  /** Just these bytes; undefined where they have to be compared. */
  async #readUnchanged(handle: FileHandle, into: Buffer, range: ByteRange): Promise<Uint8Array | undefined> {
    const { io, now } = this.#with;
    const { first, last } = chunksOf(this.key.size, range);
    if (!this.#verified.recent(first, last, now())) return undefined;
    const bytes = into.subarray(0, range.end - range.start);
    await this.#fill(handle, bytes, range.start);
    // After the read: whatever was changed before it shows.
    return this.#verified.unchanged(await io.stamp(handle)) ? bytes : undefined;
  }

  async #readVerifying(handle: FileHandle, into: Buffer, range: ByteRange): Promise<Uint8Array> {
    const { io, now } = this.#with;
    const { size } = this.key;
    const { first, last } = chunksOf(size, range);
    const from = chunkBounds(size, first).start;
    const chunks = into.subarray(0, chunkBounds(size, last).end - from);
    // Before the read: whatever changes from now on will show.
    const stamp = await io.stamp(handle);
    await this.#fill(handle, chunks, from);
    const compared: Promise<void>[] = [];
    for (let index = first; index <= last; index++) {
      const { start, end } = chunkBounds(size, index);
      compared.push(this.#compare(index, chunks.subarray(start - from, end - from)));
    }
    await Promise.all(compared);
    this.#verified.mark(stamp, first, last, now());
    return chunks.subarray(range.start - from, range.end - from);
  }

  async #fill(handle: FileHandle, bytes: Buffer, start: number): Promise<void> {
    const filled = await this.#with.io.read(handle, bytes, start);
    if (filled < bytes.length) throw new Damage('the file is shorter than the blob');
  }

  async #compare(index: number, bytes: Uint8Array): Promise<void> {
    const digest = this.chunkDigests[index];
    if (digest === undefined || !sameDigest(await chunkDigest(bytes), digest)) throw new Damage('the bytes are not what was written');
  }

  async #corrupt(range: ByteRange, cause: unknown): Promise<AgentError> {
    const error = new AgentError('STORE_CORRUPT', `the file of blob ${this.key.digest} is damaged or gone`, {
      cause,
      detail: this.#detail(range),
    });
    await this.#with.onCorrupt(this, error);
    return error;
  }

  #detail({ start, end }: ByteRange): Record<string, unknown> {
    return { digest: this.key.digest, size: this.key.size, start, end };
  }
}
