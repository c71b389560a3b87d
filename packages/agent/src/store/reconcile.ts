// Brings folders and index together at start, whatever the last run was doing when it ended.
//
//   blob file with record of its size     trusted: the record was written after the file was complete and verified
//   blob file without, or of another size hashed whole: adopted if it has the digest that it is named after, else removed
//   partial file with record              kept, unless its blob is finished or nobody touched it for long; hashed when opened
//   record without file                   removed
//   anything else in our folders          removed

import { lstat, readdir } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { digestAlgorithm, digestHex, type Digest } from '@flotilla/shared/digest';
import { chunkDigest } from '../hash.ts';
import { STALE_PARTIAL_MS } from './catalogue.ts';
import { blamesFile, type DiskIo } from './disk-io.ts';
import type { BlobRecord, IndexDb, PartialRecord } from './index-db.ts';
import { ALGORITHMS, digestOfBlobFile, keyOfPartialFile, type StorePaths } from './paths.ts';

export interface FoundPartial extends PartialRecord {
  readonly bytes: number;
}

export interface Found {
  readonly blobs: readonly BlobRecord[];
  readonly partials: readonly FoundPartial[];
  /** Blobs that had to be hashed, and files that did not belong here. */
  readonly adopted: number;
  readonly removed: number;
}

/** Files looked at at once. */
const CONCURRENCY = 16;

export class Reconciliation {
  readonly #paths: StorePaths;
  readonly #index: IndexDb;
  readonly #io: DiskIo;
  readonly #nowMs: number;
  readonly #blobs = new Map<Digest, BlobRecord>();
  readonly #partials: FoundPartial[] = [];
  #adopted = 0;
  #removed = 0;

  constructor(paths: StorePaths, index: IndexDb, io: DiskIo, nowMs: number) {
    this.#paths = paths;
    this.#index = index;
    this.#io = io;
    this.#nowMs = nowMs;
  }

  /** Run once, before anything else uses the folders. */
  async run(): Promise<Found> {
    await this.#findBlobs();
    await this.#findPartials();
    return { blobs: [...this.#blobs.values()], partials: this.#partials, adopted: this.#adopted, removed: this.#removed };
  }

  async #findBlobs(): Promise<void> {
    const records = new Map<Digest, BlobRecord>();
    for await (const record of this.#index.blobs()) records.set(record.key.digest, record);
    const root = this.#paths.blobs;
    for (const algorithm of await this.#expected(root, ALGORITHMS)) {
      for (const folder of await this.#folders(join(root, algorithm))) {
        const names = await readdir(join(root, algorithm, folder));
        await inParallel(names, async (name) => {
          const digest = digestOfBlobFile(algorithm, folder, name);
          const path = join(root, algorithm, folder, name);
          const size = digest && (await fileSize(path));
          const blob = digest && size !== undefined && (await this.#blob(digest, size, path, records.get(digest)));
          if (blob) this.#blobs.set(blob.key.digest, blob);
          else await this.#remove(path);
        });
      }
    }
    for (const digest of records.keys()) if (!this.#blobs.has(digest)) await this.#index.removeBlob(digest);
  }

  async #blob(digest: Digest, size: number, path: string, record: BlobRecord | undefined): Promise<BlobRecord | undefined> {
    if (record?.key.size === size) return record;
    const chunkDigests = await hashFile(this.#io, path, { digest, size });
    if (chunkDigests === undefined) return undefined;
    const adopted = { key: { digest, size }, mediaType: record?.mediaType, lastUsedMs: record?.lastUsedMs ?? this.#nowMs };
    await this.#index.putBlob(adopted, chunkDigests);
    this.#adopted++;
    return adopted;
  }

  async #findPartials(): Promise<void> {
    const records = new Map<string, PartialRecord>();
    for (const record of await this.#index.partials()) records.set(this.#paths.partial(record.key), record);
    const root = this.#paths.partials;
    for (const algorithm of await this.#expected(root, ALGORITHMS)) {
      for (const name of await readdir(join(root, algorithm))) {
        const path = join(root, algorithm, name);
        const record = keyOfPartialFile(algorithm, name) && records.get(path);
        if (record && !this.#over(record) && (await fileSize(path)) === record.key.size) {
          this.#partials.push({ ...record, bytes: await this.#io.allocatedBytes(path) });
          records.delete(path);
        } else {
          await this.#remove(path);
        }
      }
    }
    for (const { key } of records.values()) await this.#index.removePartial(key);
  }

  #over({ key, touchedMs }: PartialRecord): boolean {
    return this.#blobs.has(key.digest) || this.#nowMs - touchedMs > STALE_PARTIAL_MS;
  }

  /** The expected folders; whatever else lies there is removed. */
  async #expected(root: string, names: readonly string[]): Promise<readonly string[]> {
    for (const name of await readdir(root)) if (!names.includes(name)) await this.#remove(join(root, name));
    return names;
  }

  /** The two-digit folders; whatever else lies there is removed. */
  async #folders(root: string): Promise<string[]> {
    const folders: string[] = [];
    for (const entry of await readdir(root, { withFileTypes: true })) {
      if (entry.isDirectory() && /^[0-9a-f]{2}$/.test(entry.name)) folders.push(entry.name);
      else await this.#remove(join(root, entry.name));
    }
    return folders;
  }

  async #remove(path: string): Promise<void> {
    this.#removed++;
    await this.#io.remove(path);
  }
}

/**
 * Reads a whole blob file chunk by chunk.
 * @returns its chunk digests, or undefined where it is not what the digest says or cannot be read
 */
export async function hashFile(io: DiskIo, path: string, { digest, size }: BlobKey): Promise<Uint8Array[] | undefined> {
  try {
    return await hashChunks(io, path, digest, size);
  } catch (error) {
    if (blamesFile(error)) return undefined;
    throw error;
  }
}

async function hashChunks(io: DiskIo, path: string, digest: Digest, size: number): Promise<Uint8Array[] | undefined> {
  const whole = createHash(digestAlgorithm(digest));
  const chunkDigests: Uint8Array[] = [];
  const file = await io.open(path, false);
  try {
    for (let index = 0; index < chunkCount(size); index++) {
      const { start, end } = chunkBounds(size, index);
      const bytes = Buffer.allocUnsafe(end - start);
      if ((await io.read(file, bytes, start)) < bytes.length) return undefined;
      whole.update(bytes);
      chunkDigests.push(await chunkDigest(bytes));
    }
  } finally {
    await file.close();
  }
  return whole.digest('hex') === digestHex(digest) ? chunkDigests : undefined;
}

/** undefined: no plain file. */
async function fileSize(path: string): Promise<number | undefined> {
  const stats = await lstat(path);
  return stats.isFile() ? stats.size : undefined;
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      for (const item of queue) await work(item);
    }),
  );
}
