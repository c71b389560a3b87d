// A finished blob, read from its file.

import { chunkBounds } from '@flotilla/shared/chunk-map';
import type { BlobKey, StoredBlob } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import { blamesFile, diskError, type DiskIo } from './disk-io.ts';
import type { DataFile, OpenFiles } from './open-files.ts';

export interface StoredBlobComponents {
  readonly io: DiskIo;
  readonly files: OpenFiles;
  /** The file is not what it was when it was finished: the blob must go. */
  readonly onCorrupt: (blob: DiskBlob, error: AgentError) => Promise<void>;
}

export class DiskBlob implements StoredBlob {
  readonly key: BlobKey;
  readonly mediaType: string | undefined;
  readonly chunkDigests: readonly Uint8Array[];
  readonly file: DataFile;
  readonly #with: StoredBlobComponents;

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
  }

  async readChunk(index: number): Promise<Uint8Array> {
    const { start, end } = chunkBounds(this.key.size, index);
    const bytes = await this.#read(start, end);
    const digest = this.chunkDigests[index];
    if (digest !== undefined && sameDigest(await chunkDigest(bytes), digest)) return bytes;
    throw await this.#corrupt(start, end, new Error('the bytes are not what was written'));
  }

  async #read(start: number, end: number): Promise<Uint8Array> {
    if (!(start >= 0 && start <= end && end <= this.key.size)) {
      throw new RangeError(`bytes ${start} to ${end} of a blob of ${this.key.size}`);
    }
    const { io, files } = this.#with;
    const bytes = Buffer.allocUnsafeSlow(end - start);
    try {
      const filled = await files.use(this.file, (handle) => io.read(handle, bytes, start));
      if (filled === bytes.length) return bytes;
    } catch (error) {
      if (!blamesFile(error)) throw diskError(error, `blob ${this.key.digest} cannot be read`, this.#detail(start, end));
      throw await this.#corrupt(start, end, error);
    }
    throw await this.#corrupt(start, end, new Error('the file is shorter than the blob'));
  }

  async #corrupt(start: number, end: number, cause: unknown): Promise<AgentError> {
    const error = new AgentError('STORE_CORRUPT', `the file of blob ${this.key.digest} is damaged or gone`, {
      cause,
      detail: this.#detail(start, end),
    });
    await this.#with.onCorrupt(this, error);
    return error;
  }

  #detail(start: number, end: number): Record<string, unknown> {
    return { digest: this.key.digest, size: this.key.size, start, end };
  }
}
