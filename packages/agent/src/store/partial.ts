// The chunks of an unfinished blob in one sparse file, written at their places.
//
//   open --finish--> finished                 the file is the blob; chunks can still be read; close is not needed
//     |  \--a write fails--> overflowing --close--> closed
//     \--close--> closed
//
// Invariant: `have` says of no chunk that it is here unless its bytes had its digest, hashed by the caller of `write` in this
// process or by `resume`. When the disk fills up or fails, no write is lost: `kept` turns false, and that chunk and all later
// ones go to memory, bounded like those of a MemoryPartial. What is on disk stays readable, and stays for the next pull.
// A blob that cannot be finished for such a reason is not kept, that is all.

import { Bitfield, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';
import { own } from '../chunk-memory.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import type { PartialBlob, StoredBlob } from '../content/ports.ts';
import { Activity } from './activity.ts';
import type { ChunkCache } from './chunk-cache.ts';
import { ChunkJournal } from './chunk-journal.ts';
import { blamesFile, diskError, type DiskIo } from './disk-io.ts';
import type { IndexDb } from './index-db.ts';
import type { DataFile, OpenFiles } from './open-files.ts';

export interface PartialComponents {
  readonly io: DiskIo;
  readonly files: OpenFiles;
  readonly index: IndexDb;
  readonly cache: ChunkCache;
  readonly owner: PartialOwner;
}

/** What a partial asks of and tells the store. */
export interface PartialOwner {
  /** Claims room for bytes about to be written. @throws DISK_FULL */
  claim(partial: DiskPartial, bytes: number): Promise<void>;
  /** The disk takes no more of it: what is promised and unwritten is free again. */
  overflowed(partial: DiskPartial, error: AgentError): void;
  /** A record about a chunk could not be written. */
  unrecorded(partial: DiskPartial, error: unknown): void;
  /** Makes it a finished blob, which ends the partial as far as the store goes. Where it rejects, the partial is as it was. */
  finish(partial: DiskPartial, mediaType: string | undefined): Promise<StoredBlob>;
  /** It has ended unfinished. */
  closed(partial: DiskPartial, keep: boolean): Promise<void>;
}

/** Chunks read and hashed at once while a partial is resumed: at most 16 MiB in memory. */
const RESUME_CONCURRENCY = 4;

export class DiskPartial implements PartialBlob {
  readonly key: BlobKey;
  readonly file: DataFile;
  readonly #with: PartialComponents;
  readonly #have: Bitfield;
  readonly #digests: (Uint8Array | undefined)[];
  readonly #journal: ChunkJournal;
  readonly #cacheOwner: number;
  readonly #activity: Activity;
  /** Chunks that did not fit on disk. */
  readonly #memory = new Map<number, Uint8Array>();
  #overflowing = false;
  /** The disk has failed: what it gives back is hashed before it is believed. */
  #suspect = false;
  #finished: StoredBlob | undefined;
  #closing: Promise<void> | undefined;

  constructor(key: BlobKey, file: DataFile, components: PartialComponents) {
    this.key = key;
    this.file = file;
    this.#with = components;
    const count = chunkCount(key.size);
    this.#have = new Bitfield(count);
    this.#digests = Array.from({ length: count });
    this.#journal = new ChunkJournal(key, components.index, (error) => components.owner.unrecorded(this, error));
    this.#cacheOwner = components.cache.newOwner();
    this.#activity = new Activity(`the partial of ${key.digest}`);
  }

  get have(): ReadonlyBitfield {
    return this.#have;
  }

  get kept(): boolean {
    return !this.#overflowing;
  }

  get path(): string | undefined {
    return this.#overflowing ? undefined : this.file.path;
  }

  /** Every chunk's digest in order. Only while `have` is full. */
  get chunkDigests(): Uint8Array[] {
    return this.#digests.filter((digest) => digest !== undefined);
  }

  /** Bytes of the blob that are on disk and in `have`. */
  get bytesOnDisk(): number {
    let bytes = 0;
    for (let index = 0; index < this.#have.length; index++) {
      if (this.#have.has(index) && !this.#memory.has(index)) bytes += this.#length(index);
    }
    return bytes;
  }

  digestOf(index: number): Uint8Array | undefined {
    return this.#digests[index];
  }

  /** Takes over what an earlier run has left: every recorded chunk is read and hashed, only what matches counts. */
  async resume(recorded: ReadonlyMap<number, Uint8Array>): Promise<void> {
    const queue = [...recorded];
    const worker = async (): Promise<void> => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
        const [index, digest] = next;
        if (index < this.#have.length && (await this.#matches(index, digest))) {
          this.#have.set(index);
          this.#digests[index] = digest;
        } else {
          this.#record(index, undefined);
        }
      }
    };
    await Promise.all(Array.from({ length: RESUME_CONCURRENCY }, worker));
    await this.#journal.settled();
  }

  write(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    return this.#activity.run(async () => {
      if (index >= this.#have.length || bytes.length !== this.#length(index)) {
        throw new RangeError(`${bytes.length} bytes as chunk ${index} of a blob of ${this.key.size} bytes`);
      }
      const held = this.#digests[index];
      if (this.#finished !== undefined || (held !== undefined && sameDigest(held, digest))) return;
      if (!this.#overflowing && (await this.#writeToDisk(index, bytes))) this.#with.cache.put(this.#cacheOwner, index, bytes);
      else this.#memory.set(index, bytes);
      this.#have.set(index);
      // A view on the frame that it came in would keep all of that in memory.
      this.#digests[index] = new Uint8Array(digest);
      if (!this.#memory.has(index)) this.#record(index, digest);
      else if (held !== undefined) this.#record(index, undefined);
    });
  }

  read(index: number): Promise<Uint8Array> {
    return this.#activity.run(async () => {
      const digest = this.#digests[index];
      if (digest === undefined) throw new AgentError('INTERNAL', `chunk ${index} of ${this.key.digest} is not here`);
      const recent = this.#memory.get(index) ?? this.#with.cache.get(this.#cacheOwner, index);
      if (recent !== undefined) return recent;
      try {
        const bytes = await this.#readFromDisk(index);
        if (bytes !== undefined && (!this.#suspect || sameDigest(await chunkDigest(bytes), digest))) {
          own(bytes);
          return bytes;
        }
      } catch (error) {
        const failure = this.#error(error, 'cannot be read', index);
        if (failure.code === 'STORE_CORRUPT') await this.#forget(index, digest);
        throw failure;
      }
      await this.#forget(index, digest);
      throw new AgentError('STORE_CORRUPT', `chunk ${index} of ${this.key.digest} is not on disk as it was written`, {
        detail: this.#detail(index),
      });
    });
  }

  drop(ranges: readonly IndexRange[]): Promise<void> {
    return this.#activity.run(async () => {
      for (const [first, count] of ranges) {
        for (let index = first; index < Math.min(first + count, this.#have.length); index++) {
          if (this.#clear(index)) this.#record(index, undefined);
        }
      }
      await this.#journal.settled();
    });
  }

  finish(mediaType: string | undefined): Promise<StoredBlob | undefined> {
    return this.#activity.run(async () => {
      if (this.#overflowing) return undefined;
      if (!this.#have.full) throw new AgentError('INTERNAL', `blob ${this.key.digest} is not complete`);
      if (this.#finished === undefined) {
        await this.#journal.settled();
        try {
          this.#finished = await this.#with.owner.finish(this, mediaType);
        } catch (error) {
          this.#overflow(error, 'cannot be finished');
        }
      }
      return this.#finished;
    });
  }

  /** Set once it was told to close; resolves when it is closed. */
  get closing(): Promise<void> | undefined {
    return this.#closing;
  }

  close(keep: boolean): Promise<void> {
    this.#closing ??= this.#close(keep);
    return this.#closing;
  }

  async #close(keep: boolean): Promise<void> {
    await this.#activity.end();
    await this.#journal.settled();
    this.#memory.clear();
    this.#with.cache.deleteAll(this.#cacheOwner, this.#have.length);
    if (this.#finished === undefined) await this.#with.owner.closed(this, keep);
  }

  /** @returns false where the disk does not take it */
  async #writeToDisk(index: number, bytes: Uint8Array): Promise<boolean> {
    const { io, files, owner } = this.#with;
    try {
      await owner.claim(this, bytes.length);
      await files.use(this.file, (handle) => io.write(handle, bytes, this.#start(index)));
      return true;
    } catch (error) {
      this.#overflow(error, 'cannot be written', index);
      return false;
    }
  }

  /** undefined: the file ends too early. */
  async #readFromDisk(index: number): Promise<Uint8Array | undefined> {
    const { io, files } = this.#with;
    const bytes = Buffer.allocUnsafeSlow(this.#length(index));
    const filled = await files.use(this.file, (handle) => io.read(handle, bytes, this.#start(index)));
    return filled === bytes.length ? bytes : undefined;
  }

  async #matches(index: number, digest: Uint8Array): Promise<boolean> {
    try {
      const bytes = await this.#readFromDisk(index);
      return bytes !== undefined && sameDigest(await chunkDigest(bytes), digest);
    } catch (error) {
      if (blamesFile(error)) return false;
      throw error;
    }
  }

  /** After `finish` there is no partial any more to record anything about. */
  #record(index: number, digest: Uint8Array | undefined): void {
    if (this.#finished === undefined) this.#journal.record(index, digest);
  }

  #overflow(error: unknown, message: string, index?: number): void {
    const failure = this.#error(error, message, index);
    this.#suspect ||= failure.code !== 'DISK_FULL';
    if (!this.#overflowing) {
      this.#overflowing = true;
      this.#with.owner.overflowed(this, failure);
    }
  }

  async #forget(index: number, digest: Uint8Array): Promise<void> {
    if (this.#digests[index] !== digest || !this.#clear(index)) return;
    this.#record(index, undefined);
    await this.#journal.settled();
  }

  /** @returns whether it was here */
  #clear(index: number): boolean {
    this.#digests[index] = undefined;
    this.#memory.delete(index);
    this.#with.cache.delete(this.#cacheOwner, index);
    return this.#have.clear(index);
  }

  #start(index: number): number {
    return chunkBounds(this.key.size, index).start;
  }

  #length(index: number): number {
    const { start, end } = chunkBounds(this.key.size, index);
    return end - start;
  }

  #error(error: unknown, message: string, index?: number): AgentError {
    return diskError(error, `the partial of ${this.key.digest} ${message}`, this.#detail(index));
  }

  #detail(index: number | undefined): Record<string, unknown> {
    return { digest: this.key.digest, size: this.key.size, ...(index !== undefined && { index }) };
  }
}
