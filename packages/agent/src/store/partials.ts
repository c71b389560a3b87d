// The partials of the store: opened with room reserved, turned into finished blobs, kept for the next pull or removed.
// At most one of a key is open. A partial that the disk has no room for, or fails, is one in memory.

import { chunkCount } from '@flotilla/shared/chunk-map';
import type { BlobKey, PartialBlob, StoredBlob } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { costOnDisk, keyText, type HeldPartial } from './catalogue.ts';
import { diskError } from './disk-io.ts';
import type { FinishedBlobs } from './finished-blobs.ts';
import { MemoryPartial } from './memory-partial.ts';
import { DataFile } from './open-files.ts';
import { DiskPartial, type PartialOwner } from './partial.ts';
import type { FoundPartial } from './reconcile.ts';
import type { Room } from './room.ts';
import type { StoreParts } from './store-parts.ts';

interface Opened {
  readonly held: HeldPartial;
  /** undefined while what is on disk is still being hashed */
  partial: DiskPartial | undefined;
}

export class Partials implements PartialOwner {
  readonly #parts: StoreParts;
  readonly #room: Room;
  readonly #finished: FinishedBlobs;
  readonly #open = new Map<string, Opened>();
  readonly #memory = new Set<MemoryPartial>();

  constructor(parts: StoreParts, room: Room, finished: FinishedBlobs, found: readonly FoundPartial[]) {
    this.#parts = parts;
    this.#room = room;
    this.#finished = finished;
    for (const { key, touchedMs, bytes } of found) {
      parts.catalogue.addPartial({ key, touchedMs, bytes, promisedBytes: 0, open: false });
    }
  }

  get openOnDisk(): number {
    return this.#open.size;
  }

  get inMemory(): number {
    return this.#memory.size;
  }

  /** Never rejects for a disk that is full or broken. @throws INTERNAL where it is open already */
  async open(key: BlobKey): Promise<PartialBlob> {
    for (let opened = this.#open.get(keyText(key)); opened !== undefined; opened = this.#open.get(keyText(key))) {
      if (opened.partial?.closing === undefined) {
        throw new AgentError('INTERNAL', `the partial of ${key.digest} is open already`, { detail: { ...key } });
      }
      await opened.partial.closing;
    }
    try {
      const partial = await this.#openOnDisk(key);
      if (partial !== undefined) return partial;
      this.#parts.logger.info({ digest: key.digest, bytes: key.size, freeBytes: this.#parts.space.last.freeBytes }, 'store: no room');
      this.#parts.metrics?.unkept('no-room');
    } catch (error) {
      this.#unkept(key, diskError(error, `the partial of ${key.digest} cannot be opened`, { ...key }));
    }
    const partial: MemoryPartial = new MemoryPartial(key, () => this.#memory.delete(partial));
    this.#memory.add(partial);
    return partial;
  }

  /** Gives up an idle partial. Never rejects: what cannot be removed is looked at again at start. */
  async evict(held: HeldPartial): Promise<void> {
    this.#parts.metrics?.evicted('partial', held.bytes);
    this.#parts.logger.info({ digest: held.key.digest, bytes: held.bytes }, 'store: partial evicted');
    await this.#remove(held);
  }

  /** Ends all partials; what they hold is kept for the next start. */
  async closeAll(): Promise<void> {
    await Promise.all([...[...this.#open.values()].map(({ partial }) => partial?.close(true)), ...[...this.#memory].map((partial) => partial.close())]);
  }

  // ---- for DiskPartial

  async claim(partial: DiskPartial, bytes: number): Promise<void> {
    await this.#room.claim(this.#held(partial), bytes);
  }

  overflowed(partial: DiskPartial, error: AgentError): void {
    const held = this.#held(partial);
    held.bytes = costOnDisk(partial.bytesOnDisk);
    held.promisedBytes = 0;
    this.#unkept(partial.key, error);
  }

  unrecorded(partial: DiskPartial, error: unknown): void {
    this.#parts.logger.warn({ err: error, digest: partial.key.digest }, 'store: chunk not recorded');
  }

  async finish(partial: DiskPartial, mediaType: string | undefined): Promise<StoredBlob> {
    const { catalogue, files, index, io, paths, now } = this.#parts;
    const { key, file, chunkDigests } = partial;
    await this.#finished.placeFree(key.digest);
    // The handle is held throughout, so that readers need not open the file while its name changes.
    await files.use(file, async (handle) => {
      await io.sync(handle);
      const folder = paths.blobFolder(key.digest);
      await io.makeFolder(folder);
      await index.putBlob({ key, mediaType, lastUsedMs: now() }, chunkDigests);
      try {
        await io.rename(file.path, paths.blob(key.digest));
      } catch (error) {
        await this.#unrecord(key);
        throw error;
      }
      file.path = paths.blob(key.digest);
      file.writable = false;
      await this.#syncFolder(folder, key);
    });
    catalogue.removePartial(key);
    const blob = this.#finished.add(key, mediaType, chunkDigests, file);
    await this.#forgetRecords(key);
    this.#open.delete(keyText(key));
    return blob;
  }

  async closed(partial: DiskPartial, keep: boolean): Promise<void> {
    const { files, index, io, now, logger } = this.#parts;
    const { key, file } = partial;
    const held = this.#held(partial);
    await files.forget(file);
    if (keep && partial.bytesOnDisk > 0) {
      held.touchedMs = now();
      try {
        held.bytes = await io.allocatedBytes(file.path);
        await index.touchPartial(key, held.touchedMs);
      } catch (error) {
        logger.warn({ err: error, digest: key.digest }, 'store: partial not recorded');
      }
      held.promisedBytes = 0;
      held.open = false;
    } else {
      await this.#remove(held);
    }
    this.#open.delete(keyText(key));
  }

  // ----

  async #openOnDisk(key: BlobKey): Promise<DiskPartial | undefined> {
    const { catalogue, files, index, io, cache, paths } = this.#parts;
    const before = catalogue.partial(key);
    const held = await this.#room.reserve(key);
    if (held === undefined) return undefined;
    const opened: Opened = { held, partial: undefined };
    this.#open.set(keyText(key), opened);
    const file = new DataFile(paths.partial(key), true);
    const partial = new DiskPartial(key, file, { io, files, index, cache, owner: this });
    try {
      await index.touchPartial(key, held.touchedMs);
      await io.create(file.path, key.size);
      if (before !== undefined) await partial.resume(await index.chunks(key));
      held.promisedBytes = costOnDisk(key.size - partial.bytesOnDisk);
    } catch (error) {
      await files.forget(file);
      if (before === undefined) await this.#remove(held);
      else catalogue.addPartial(before);
      this.#open.delete(keyText(key));
      throw error;
    }
    opened.partial = partial;
    return partial;
  }

  /** A record without a file is harmless, so it need not succeed. */
  async #unrecord({ digest }: BlobKey): Promise<void> {
    try {
      await this.#parts.index.removeBlob(digest);
    } catch (error) {
      this.#parts.logger.warn({ err: error, digest }, 'store: record of a blob not removed');
    }
  }

  /** The blob is whole and in its place; should the folder's change be lost with the power, the index says so at start. */
  async #syncFolder(folder: string, { digest }: BlobKey): Promise<void> {
    try {
      await this.#parts.io.syncFolder(folder);
    } catch (error) {
      this.#parts.logger.error({ err: error, digest }, 'store: folder not synced');
    }
  }

  async #remove(held: HeldPartial): Promise<void> {
    const { catalogue, io, paths, space, logger } = this.#parts;
    catalogue.removePartial(held.key);
    try {
      await io.remove(paths.partial(held.key));
      space.took(-(held.bytes - held.promisedBytes));
    } catch (error) {
      logger.warn({ err: error, digest: held.key.digest }, 'store: partial not removed');
    }
    await this.#forgetRecords(held.key);
  }

  async #forgetRecords(key: BlobKey): Promise<void> {
    try {
      await this.#parts.index.removePartial(key);
    } catch (error) {
      this.#parts.logger.warn({ err: error, digest: key.digest, chunks: chunkCount(key.size) }, 'store: records of a partial not removed');
    }
  }

  #unkept(key: BlobKey, error: AgentError): void {
    this.#parts.metrics?.unkept(error.code === 'DISK_FULL' ? 'disk-full' : 'disk-failed');
    this.#parts.logger.warn({ err: error, digest: key.digest, bytes: key.size, code: error.code }, 'store: pull goes on unkept');
  }

  #held(partial: DiskPartial): HeldPartial {
    return this.#open.get(keyText(partial.key))!.held;
  }
}
