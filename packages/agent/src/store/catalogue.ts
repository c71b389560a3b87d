// What the store holds at this moment, in memory: blobs in order of use, partials, pins, and how much all of it takes.
// The figures here are what room is decided by. No I/O.
//
// Bounds: MAX_FILES blobs and partials; what they cost is bounded by the store's limit.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { Candidate } from './eviction.ts';
import type { BlobRecord } from './index-db.ts';
import type { DataFile } from './open-files.ts';

export const MAX_FILES = 200_000;

/** Partials that nobody has touched for this long are given up. */
export const STALE_PARTIAL_MS = 7 * 24 * 3600 * 1000;

/** File systems give out whole blocks; the common size. */
const BLOCK_BYTES = 4096;

export interface HeldBlob {
  readonly key: BlobKey;
  readonly mediaType: string | undefined;
  lastUsedMs: number;
  readonly file: DataFile;
}

export interface HeldPartial {
  readonly key: BlobKey;
  touchedMs: number;
  open: boolean;
  /** What it takes of the limit: all that it may come to take while it is open, what lies on disk while it is idle. */
  bytes: number;
  /** Of `bytes`, what is not written yet. */
  promisedBytes: number;
}

export type Held = { readonly blob: HeldBlob } | { readonly partial: HeldPartial };

export class Catalogue {
  /** Least recently used first. */
  readonly #blobs = new Map<Digest, HeldBlob>();
  readonly #partials = new Map<string, HeldPartial>();
  readonly #pins = new Map<Digest, number>();
  #blobBytes = 0;

  get blobs(): number {
    return this.#blobs.size;
  }

  get pinned(): number {
    return this.#pins.size;
  }

  get files(): number {
    return this.#blobs.size + this.#partials.size;
  }

  get idlePartials(): number {
    return [...this.#partials.values()].filter(({ open }) => !open).length;
  }

  get usedBytes(): number {
    let bytes = this.#blobBytes;
    for (const partial of this.#partials.values()) bytes += partial.bytes;
    return bytes;
  }

  get promisedBytes(): number {
    let bytes = 0;
    for (const partial of this.#partials.values()) bytes += partial.promisedBytes;
    return bytes;
  }

  blob(digest: Digest): HeldBlob | undefined {
    return this.#blobs.get(digest);
  }

  allBlobs(): Iterable<HeldBlob> {
    return this.#blobs.values();
  }

  /** Adds it as the one used last. */
  addBlob(record: BlobRecord, file: DataFile): HeldBlob {
    this.removeBlob(record.key.digest);
    const blob = { ...record, file };
    this.#blobs.set(record.key.digest, blob);
    this.#blobBytes += costOnDisk(record.key.size);
    return blob;
  }

  removeBlob(digest: Digest): boolean {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return false;
    this.#blobs.delete(digest);
    this.#blobBytes -= costOnDisk(blob.key.size);
    return true;
  }

  touch(blob: HeldBlob, nowMs: number): void {
    blob.lastUsedMs = nowMs;
    this.#blobs.delete(blob.key.digest);
    this.#blobs.set(blob.key.digest, blob);
  }

  partial(key: BlobKey): HeldPartial | undefined {
    return this.#partials.get(keyText(key));
  }

  /** Idle partials that nobody has touched since. */
  stalePartials(sinceMs: number): HeldPartial[] {
    return [...this.#partials.values()].filter(({ open, touchedMs }) => !open && touchedMs < sinceMs);
  }

  addPartial(partial: HeldPartial): void {
    this.#partials.set(keyText(partial.key), partial);
  }

  removePartial(key: BlobKey): void {
    this.#partials.delete(keyText(key));
  }

  pin(digest: Digest): void {
    this.#pins.set(digest, (this.#pins.get(digest) ?? 0) + 1);
  }

  unpin(digest: Digest): void {
    const pins = this.#pins.get(digest) ?? 0;
    if (pins > 1) this.#pins.set(digest, pins - 1);
    else this.#pins.delete(digest);
  }

  /**
   * What may be given up, in the order in which it should go: idle partials, longest untouched first, then blobs, least
   * recently used first. Nothing pinned, open, or (`busy`) being read.
   * @param except this one is wanted, it must not go for itself
   */
  *candidates(busy: (file: DataFile) => boolean, except?: BlobKey): Generator<Candidate<Held>> {
    const wanted = except && keyText(except);
    const idle = [...this.#partials.values()].filter(
      (partial) => !partial.open && !this.#pins.has(partial.key.digest) && keyText(partial.key) !== wanted,
    );
    for (const partial of idle.sort((a, b) => a.touchedMs - b.touchedMs)) yield { item: { partial }, bytes: partial.bytes };
    for (const blob of this.#blobs.values()) {
      if (this.#pins.has(blob.key.digest) || busy(blob.file)) continue;
      yield { item: { blob }, bytes: costOnDisk(blob.key.size) };
    }
  }
}

/** What a file of this many bytes takes on disk. */
export function costOnDisk(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** A blob key as the key of a map. */
export function keyText({ digest, size }: BlobKey): string {
  return `${digest}!${size}`;
}
