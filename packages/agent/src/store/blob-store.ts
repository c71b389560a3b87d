// The agent's store on disk: finished blobs and partials in one data folder (paths.ts), indexed in level (index-db.ts).
//
//   openPartial --reserve room, hash again what an earlier run left--> DiskPartial (no room: MemoryPartial)
//   finish: fsync the file -> record in the index, synced -> rename into blobs/ -> fsync the folder
//   find --> DiskBlob; a read that fails or comes short drops the blob
//
// Invariant: a file under blobs/ that has a record was whole, verified and on the disk itself before it got there; so a crash
// between any two steps leaves a partial that resumes or a blob that is found. reconcile.ts settles the rest at start.
// The record comes before the rename, because a record without a file costs nothing, a file without one a hash of it all.
// A blob is evicted only while nobody has pinned it, reads it or has its partial open: who reads for long must pin.
// Non-goals: whether bytes are right (content/ verifies before `write` and `finish`), who may read them (access/).

import { mkdir } from 'node:fs/promises';
import { pino } from 'pino';
import type { Digest } from '@flotilla/shared/digest';
import type { BlobKey, PartialBlob, Store, StoredBlob } from '../content/ports.ts';
import { Activity } from './activity.ts';
import { Catalogue } from './catalogue.ts';
import { ChunkCache } from './chunk-cache.ts';
import { diskError, nodeDiskIo, type DiskIo } from './disk-io.ts';
import { DiskSpace, type StatFs } from './disk-space.ts';
import { FinishedBlobs } from './finished-blobs.ts';
import { IndexDb } from './index-db.ts';
import { OpenFiles } from './open-files.ts';
import { Partials } from './partials.ts';
import { StorePaths, checkLayout, makeLayout } from './paths.ts';
import { ReadBuffers } from './read-buffers.ts';
import { Reconciliation, type Found } from './reconcile.ts';
import { Room, type RoomLimits } from './room.ts';
import type { StoreLogger, StoreMetrics, StoreParts } from './store-parts.ts';

export interface StoreOptions extends RoomLimits {
  /** The agent's data folder; made if need be. */
  readonly dir: string;
  /** For chunks written a moment ago. @default 32 MiB */
  readonly cacheBytes?: number | undefined;
  /** Wall clock in ms. @default Date.now */
  readonly clock?: () => number;
  /** @default node's */
  readonly statfs?: StatFs;
  /** @default node's */
  readonly io?: DiskIo;
  readonly logger?: StoreLogger;
  readonly metrics?: StoreMetrics;
}

export interface StoreStatus {
  readonly bytes: number;
  readonly limitBytes: number;
  readonly freeBytes: number;
  readonly blobs: number;
  readonly pinned: number;
  readonly openPartials: number;
  readonly idlePartials: number;
  /** Partials for which there was no room on disk. */
  readonly memoryPartials: number;
  readonly openFiles: number;
  readonly cacheBytes: number;
}

/** What level needs at most to write down what it has in memory, and some. */
const ROOM_FOR_INDEX_BYTES = 16 * 1024 * 1024;

/** Opens the data folder. @throws STORE_LAYOUT, STORE_LOCKED, DISK_FULL, STORE_CORRUPT */
export async function openStore(options: StoreOptions): Promise<BlobStore> {
  const { dir, clock = Date.now, io = nodeDiskIo, logger = pino({ enabled: false }), statfs, cacheBytes, metrics } = options;
  const paths = new StorePaths(dir);
  const space = new DiskSpace(dir, clock, statfs);
  let index: IndexDb | undefined;
  try {
    await mkdir(dir, { recursive: true });
    const marked = await checkLayout(paths);
    index = await IndexDb.open(paths.index, {
      now: clock,
      hasRoom: async () => (await space.current()).freeBytes > ROOM_FOR_INDEX_BYTES,
      onLost: (error) => logger.warn({ err: error }, 'store: index lost'),
    });
    await makeLayout(paths, marked);
    const found = await new Reconciliation(paths, index, io, clock()).run();
    const { partials, adopted, removed } = found;
    const parts: StoreParts = {
      paths,
      index,
      io,
      files: new OpenFiles(io),
      cache: new ChunkCache(cacheBytes),
      buffers: new ReadBuffers(),
      space,
      catalogue: new Catalogue(),
      now: clock,
      logger,
      metrics,
    };
    const store = new BlobStore(parts, options, found);
    await store.trim();
    logger.info({ ...store.usage(), partials: partials.length, adopted, removed }, 'store: opened');
    return store;
  } catch (error) {
    await index?.close();
    throw diskError(error, 'the data folder cannot be opened', { dir });
  }
}

export class BlobStore implements Store {
  readonly #parts: StoreParts;
  readonly #room: Room;
  readonly #finished: FinishedBlobs;
  readonly #partials: Partials;
  readonly #activity = new Activity('the store');
  #closing: Promise<void> | undefined;

  /** Use `openStore`. */
  constructor(parts: StoreParts, limits: RoomLimits, found: Found) {
    const { catalogue, files, space, now } = parts;
    this.#parts = parts;
    this.#room = new Room(
      {
        catalogue,
        space,
        now,
        busy: (file) => files.busy(file),
        evict: (held) => ('blob' in held ? this.#finished.evict(held.blob) : this.#partials.evict(held.partial)),
      },
      limits,
    );
    this.#finished = new FinishedBlobs(parts, found.blobs);
    this.#partials = new Partials(parts, this.#room, this.#finished, found.partials);
  }

  find(digest: Digest): Promise<StoredBlob | undefined> {
    return this.#activity.run(() => this.#finished.find(digest));
  }

  pin(digest: Digest): void {
    this.#parts.catalogue.pin(digest);
  }

  unpin(digest: Digest): void {
    this.#parts.catalogue.unpin(digest);
  }

  openPartial(key: BlobKey): Promise<PartialBlob> {
    return this.#activity.run(() => this.#partials.open(key));
  }

  async list(): Promise<BlobKey[]> {
    return Array.from(this.#parts.catalogue.allBlobs(), ({ key }) => key);
  }

  onEvict(listener: (key: BlobKey) => void): void {
    this.#finished.onEvict(listener);
  }

  /** `freeBytes` as last seen; asking has it looked at again. */
  usage(): { bytes: number; limitBytes: number; blobs: number; freeBytes: number } {
    const { catalogue, space, logger } = this.#parts;
    space.current().catch((error: unknown) => logger.warn({ err: error }, 'store: free space unknown'));
    return {
      bytes: catalogue.usedBytes - catalogue.promisedBytes,
      limitBytes: this.#room.limitBytes,
      blobs: catalogue.blobs,
      freeBytes: space.last.freeBytes,
    };
  }

  status(): StoreStatus {
    const { catalogue, files, cache } = this.#parts;
    return {
      ...this.usage(),
      pinned: catalogue.pinned,
      openPartials: this.#partials.openOnDisk,
      idlePartials: catalogue.idlePartials,
      memoryPartials: this.#partials.inMemory,
      openFiles: files.size,
      cacheBytes: cache.bytes,
    };
  }

  /** Evicts what the limits ask for, where they were lowered or others have filled the disk. */
  trim(): Promise<void> {
    return this.#activity.run(() => this.#room.trim());
  }

  /** Waits for what is under way, keeps open partials for the next start, and lets go of the data folder. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#activity.end();
    await this.#partials.closeAll();
    await this.#finished.writeTouched();
    await this.#parts.files.close();
    await this.#parts.index.close();
  }
}
