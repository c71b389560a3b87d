// The store's index in level: finished blobs with their chunk digests, partials with the digests of their chunks.
//
//   blob!<digest>                      JSON {size, mediaType?, lastUsedMs}
//   map!<digest>                       its chunk digests, 32 bytes each, in order
//   partial!<digest>!<size>!           JSON {touchedMs}
//   partial!<digest>!<size>!<index>    the digest that chunk <index> (8 digits) had when it was written
//
// It is a memory aid, not an authority: a record about a partial is believed only once its bytes were hashed again, and the
// store goes on where a record cannot be written. level's lock keeps a second agent out of the data folder.
// A disk that was full while level compacted makes it refuse all later writes: once there is room again it is opened anew,
// at most every REOPEN_AFTER_MS.

import { Level } from 'level';
import { rm } from 'node:fs/promises';
import { CHUNK_DIGEST_BYTES, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { isDigest, type Digest } from '@flotilla/shared/digest';
import { AgentError } from '../errors.ts';
import { diskError } from './disk-io.ts';

export interface BlobRecord {
  readonly key: BlobKey;
  readonly mediaType: string | undefined;
  readonly lastUsedMs: number;
}

export interface PartialRecord {
  readonly key: BlobKey;
  /** 0 where the record itself was lost. */
  readonly touchedMs: number;
}

export interface IndexInit {
  readonly now: () => number;
  /** Whether a failed write can be for another reason than a full disk. */
  readonly hasRoom: () => Promise<boolean>;
  /** The index was damaged beyond opening and is empty now. */
  readonly onLost: (cause: unknown) => void;
}

type Operation = { type: 'put'; key: string; value: Uint8Array } | { type: 'del'; key: string };

const REOPEN_AFTER_MS = 10_000;
/** Above every character of our keys. */
const END = '~';

export class IndexDb {
  readonly #db: Level<string, Uint8Array>;
  readonly #init: IndexInit;
  #reopening: Promise<void> | undefined;
  #reopenedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(db: Level<string, Uint8Array>, init: IndexInit) {
    this.#db = db;
    this.#init = init;
  }

  /**
   * Opens or makes the index. One that is damaged beyond opening is given up: blobs are then found again by hashing.
   * @throws STORE_LOCKED, DISK_FULL
   */
  static async open(location: string, init: IndexInit): Promise<IndexDb> {
    const db = new Level<string, Uint8Array>(location, { keyEncoding: 'utf8', valueEncoding: 'view' });
    try {
      await db.open();
    } catch (error) {
      // level wraps what went wrong in LEVEL_DATABASE_NOT_OPEN
      const cause = (error as Error).cause ?? error;
      const { code } = cause as { code?: string };
      if (code === 'LEVEL_LOCKED') {
        throw new AgentError('STORE_LOCKED', 'another agent uses this data folder', { cause, detail: { index: location } });
      }
      if (code !== 'LEVEL_CORRUPTION') throw diskError(cause, 'the index of the store cannot be opened', { index: location });
      init.onLost(cause);
      await rm(location, { recursive: true, force: true });
      await db.open();
    }
    return new IndexDb(db, init);
  }

  async close(): Promise<void> {
    await this.#reopening?.catch(() => undefined);
    await this.#db.close();
  }

  // ---- finished blobs

  /** Records that cannot be read are left out: their blobs are hashed again. */
  async *blobs(): AsyncGenerator<BlobRecord> {
    for await (const [name, value] of this.#db.iterator({ gte: 'blob!', lt: `blob!${END}` })) {
      const digest = name.slice('blob!'.length);
      const { size, mediaType, lastUsedMs } = parseJson(value);
      if (!isDigest(digest) || !isSize(size)) continue;
      yield {
        key: { digest, size },
        mediaType: typeof mediaType === 'string' ? mediaType : undefined,
        lastUsedMs: typeof lastUsedMs === 'number' ? lastUsedMs : 0,
      };
    }
  }

  /** The chunk digests of a finished blob; undefined where they are not to be had. */
  async chunkDigests({ digest, size }: BlobKey): Promise<Uint8Array[] | undefined> {
    const bytes = await this.#db.get(`map!${digest}`);
    const count = chunkCount(size);
    if (bytes?.length !== count * CHUNK_DIGEST_BYTES) return undefined;
    return Array.from({ length: count }, (_, index) => bytes.subarray(index * CHUNK_DIGEST_BYTES, (index + 1) * CHUNK_DIGEST_BYTES));
  }

  /** On the disk itself when it resolves. */
  async putBlob(record: BlobRecord, chunkDigests: readonly Uint8Array[]): Promise<void> {
    const { digest } = record.key;
    await this.#write(
      [
        { type: 'put', key: `blob!${digest}`, value: blobValue(record) },
        { type: 'put', key: `map!${digest}`, value: Buffer.concat(chunkDigests) },
      ],
      true,
    );
  }

  /** When the blobs were used last: batched by the caller, lost with a crash without harm. */
  async touchBlobs(records: readonly BlobRecord[]): Promise<void> {
    await this.#write(records.map((record) => ({ type: 'put', key: `blob!${record.key.digest}`, value: blobValue(record) })));
  }

  async removeBlob(digest: Digest): Promise<void> {
    await this.#write([
      { type: 'del', key: `blob!${digest}` },
      { type: 'del', key: `map!${digest}` },
    ]);
  }

  // ---- partials

  async partials(): Promise<PartialRecord[]> {
    const found = new Map<string, PartialRecord>();
    for await (const name of this.#db.keys({ gte: 'partial!', lt: `partial!${END}` })) {
      const [, digest = '', size = '', index] = name.split('!');
      const prefix = `partial!${digest}!${size}!`;
      const key = { digest: digest as Digest, size: Number(size) };
      if (index === '') found.set(prefix, { key, touchedMs: await this.#touchedMs(prefix) });
      else if (!found.has(prefix)) found.set(prefix, { key, touchedMs: 0 });
    }
    return [...found.values()];
  }

  async touchPartial(key: BlobKey, touchedMs: number): Promise<void> {
    await this.#write([{ type: 'put', key: partialPrefix(key), value: toJson({ touchedMs }) }]);
  }

  /** The digests that the partial's chunks had when they were written. */
  async chunks(key: BlobKey): Promise<Map<number, Uint8Array>> {
    const chunks = new Map<number, Uint8Array>();
    const prefix = partialPrefix(key);
    for await (const [name, digest] of this.#db.iterator({ gt: prefix, lt: `${prefix}${END}` })) {
      if (digest.length === CHUNK_DIGEST_BYTES) chunks.set(Number(name.slice(prefix.length)), digest);
    }
    return chunks;
  }

  /** Records chunks, or (undefined) forgets them. */
  async putChunks(key: BlobKey, chunks: ReadonlyMap<number, Uint8Array | undefined>): Promise<void> {
    const prefix = partialPrefix(key);
    const operations: Operation[] = [];
    for (const [index, digest] of chunks) {
      const name = prefix + String(index).padStart(8, '0');
      operations.push(digest === undefined ? { type: 'del', key: name } : { type: 'put', key: name, value: digest });
    }
    await this.#write(operations);
  }

  async removePartial(key: BlobKey): Promise<void> {
    const prefix = partialPrefix(key);
    const names = await this.#db.keys({ gte: prefix, lt: `${prefix}${END}` }).all();
    await this.#write(names.map((name) => ({ type: 'del', key: name })));
  }

  // ---- level

  async #touchedMs(name: string): Promise<number> {
    const { touchedMs } = parseJson((await this.#db.get(name)) ?? new Uint8Array(0));
    return typeof touchedMs === 'number' ? touchedMs : 0;
  }

  async #write(operations: Operation[], sync = false): Promise<void> {
    await this.#reopening;
    try {
      await this.#db.batch(operations, { sync });
    } catch (error) {
      if (!(await this.#reopened())) throw indexError(error);
      try {
        await this.#db.batch(operations, { sync });
      } catch (again) {
        throw indexError(again);
      }
    }
  }

  /** @returns false where opening it anew is of no use, was tried a moment ago, or fails */
  async #reopened(): Promise<boolean> {
    if (this.#reopening === undefined) {
      const { now, hasRoom } = this.#init;
      if (now() - this.#reopenedAtMs < REOPEN_AFTER_MS || !(await hasRoom())) return false;
      this.#reopenedAtMs = now();
      this.#reopening ??= this.#reopen().finally(() => {
        this.#reopening = undefined;
      });
    }
    return this.#reopening.then(
      () => true,
      () => false,
    );
  }

  async #reopen(): Promise<void> {
    await this.#db.close();
    await this.#db.open();
  }
}

function indexError(error: unknown): AgentError {
  return diskError(error, 'the index of the store cannot be written', {});
}

function partialPrefix({ digest, size }: BlobKey): string {
  return `partial!${digest}!${size}!`;
}

function blobValue({ key, mediaType, lastUsedMs }: BlobRecord): Uint8Array {
  return toJson({ size: key.size, mediaType, lastUsedMs });
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function toJson(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** The fields of a record; none where it is no JSON object. */
function parseJson(bytes: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}
