// The finished blobs of the store: finding, dropping, and when each was used last.
//
// Bounds: digests of MAX_LOADED_BLOBS blobs stay in memory; uses are written to the index in batches.

import type { Digest } from '@flotilla/shared/digest';
import type { BlobKey, StoredBlob } from '../content/ports.ts';
import type { AgentError } from '../errors.ts';
import { costOnDisk, type HeldBlob } from './catalogue.ts';
import type { BlobRecord } from './index-db.ts';
import { DataFile } from './open-files.ts';
import { hashFile } from './reconcile.ts';
import type { StoreParts } from './store-parts.ts';
import { DiskBlob } from './stored-blob.ts';

/** A blob has at most a few hundred KiB of chunk digests. */
const MAX_LOADED_BLOBS = 32;
const TOUCH_INTERVAL_MS = 10_000;

export class FinishedBlobs {
  readonly #parts: StoreParts;
  readonly #listeners: ((key: BlobKey) => void)[] = [];
  /** Least recently found first. */
  readonly #loaded = new Map<Digest, DiskBlob>();
  /** Used since the last batch. */
  readonly #touched = new Set<HeldBlob>();
  /** Being removed from disk; a new file must not come to lie there before. */
  readonly #dropping = new Map<Digest, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: StoreParts, found: readonly BlobRecord[]) {
    this.#parts = parts;
    const byUse = [...found].sort((a, b) => a.lastUsedMs - b.lastUsedMs);
    for (const record of byUse) parts.catalogue.addBlob(record, new DataFile(parts.paths.blob(record.key.digest), false));
  }

  onEvict(listener: (key: BlobKey) => void): void {
    this.#listeners.push(listener);
  }

  /** Marks the use. */
  async find(digest: Digest): Promise<StoredBlob | undefined> {
    const held = this.#parts.catalogue.blob(digest);
    if (held === undefined) return undefined;
    this.#touch(held);
    const known = this.#loaded.get(digest);
    const chunkDigests = known?.chunkDigests ?? (await this.#chunkDigests(held));
    // It may have been evicted meanwhile.
    if (this.#parts.catalogue.blob(digest) !== held) return undefined;
    if (chunkDigests === undefined) {
      await this.#corrupt(held, undefined);
      return undefined;
    }
    return this.#remember(known ?? this.#open(held, chunkDigests));
  }

  /** Resolves when nothing is under way that would remove what lies in the blob's place. */
  async placeFree(digest: Digest): Promise<void> {
    await this.#dropping.get(digest);
  }

  /** A blob whose file has just come to lie in its place. */
  add(key: BlobKey, mediaType: string | undefined, chunkDigests: readonly Uint8Array[], file: DataFile): StoredBlob {
    const held = this.#parts.catalogue.addBlob({ key, mediaType, lastUsedMs: this.#parts.now() }, file);
    return this.#remember(this.#open(held, chunkDigests));
  }

  /** Gives up a blob to make room. */
  async evict(held: HeldBlob): Promise<void> {
    this.#parts.metrics?.evicted('blob', held.key.size);
    this.#parts.logger.info({ digest: held.key.digest, bytes: held.key.size }, 'store: blob evicted');
    await this.#drop(held);
  }

  /** Writes to the index when blobs were used. */
  async writeTouched(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const records = [...this.#touched].filter((held) => this.#parts.catalogue.blob(held.key.digest) === held);
    this.#touched.clear();
    try {
      await this.#parts.index.touchBlobs(records);
    } catch (error) {
      this.#parts.logger.warn({ err: error, blobs: records.length }, 'store: uses not recorded');
    }
  }

  #touch(held: HeldBlob): void {
    this.#parts.catalogue.touch(held, this.#parts.now());
    this.#touched.add(held);
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.writeTouched(), TOUCH_INTERVAL_MS);
    this.#timer.unref();
  }

  /** From the index, or from the file where the index lost them. undefined: the file is not the blob any more. */
  async #chunkDigests({ key, file }: HeldBlob): Promise<readonly Uint8Array[] | undefined> {
    try {
      const recorded = await this.#parts.index.chunkDigests(key);
      if (recorded !== undefined) return recorded;
    } catch (error) {
      this.#parts.logger.warn({ err: error, digest: key.digest }, 'store: index not readable');
    }
    return hashFile(this.#parts.io, file.path, key);
  }

  #open({ key, mediaType, file }: HeldBlob, chunkDigests: readonly Uint8Array[]): DiskBlob {
    const { io, files, buffers, now } = this.#parts;
    return new DiskBlob(key, mediaType, chunkDigests, file, { io, files, buffers, now, onCorrupt: (blob, error) => this.#onCorrupt(blob, error) });
  }

  #remember(blob: DiskBlob): DiskBlob {
    this.#loaded.delete(blob.key.digest);
    this.#loaded.set(blob.key.digest, blob);
    for (const oldest of this.#loaded.keys()) {
      if (this.#loaded.size <= MAX_LOADED_BLOBS) break;
      this.#loaded.delete(oldest);
    }
    return blob;
  }

  async #onCorrupt(blob: DiskBlob, error: AgentError): Promise<void> {
    const held = this.#parts.catalogue.blob(blob.key.digest);
    // Evicted, or there again by another pull: then it is not this file that is held.
    if (held?.file === blob.file) await this.#corrupt(held, error);
  }

  async #corrupt(held: HeldBlob, error: AgentError | undefined): Promise<void> {
    this.#parts.metrics?.corrupt();
    this.#parts.logger.error({ err: error, digest: held.key.digest, bytes: held.key.size, code: 'STORE_CORRUPT' }, 'store: damaged blob dropped');
    await this.#drop(held);
  }

  async #drop({ key, file }: HeldBlob): Promise<void> {
    this.#parts.catalogue.removeBlob(key.digest);
    this.#loaded.delete(key.digest);
    const dropping = this.#removeFile(key, file).finally(() => this.#dropping.delete(key.digest));
    this.#dropping.set(key.digest, dropping);
    await dropping;
    for (const listener of this.#listeners) listener(key);
  }

  /** File first: a record without a file is harmless. Never rejects: what cannot be removed is looked at again at start. */
  async #removeFile(key: BlobKey, file: DataFile): Promise<void> {
    const { files, index, io, space, logger } = this.#parts;
    try {
      await io.remove(file.path);
      space.took(-costOnDisk(key.size));
      await index.removeBlob(key.digest);
    } catch (error) {
      logger.warn({ err: error, digest: key.digest }, 'store: blob not removed');
    }
    // Not awaited: whoever reads the file at this moment may finish.
    void files.forget(file);
  }
}
