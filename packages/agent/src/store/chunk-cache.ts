// Chunks that were written a moment ago, in memory: peers and readers ask for them first. One cache for the whole agent,
// bounded in bytes, least recently used out first. What it hands out is shared (chunk-memory.ts): nobody may change the bytes.

import { own, release, share } from '../chunk-memory.ts';

export const DEFAULT_CACHE_BYTES = 32 * 1024 * 1024;

/** What an entry costs beyond its bytes, roughly: bounds the number of tiny ones. */
const ENTRY_OVERHEAD_BYTES = 256;

interface Entry {
  readonly bytes: Uint8Array;
  readonly cost: number;
}

export class ChunkCache {
  readonly #maxBytes: number;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #owners = 0;

  constructor(maxBytes = DEFAULT_CACHE_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** What is held, overhead included. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A number of its own for each blob that caches here. */
  newOwner(): number {
    return ++this.#owners;
  }

  /** `bytes` are the cache's from now on. */
  put(owner: number, index: number, bytes: Uint8Array): void {
    // A view would keep all of its buffer alive, uncounted.
    const kept = bytes.byteLength * 2 < bytes.buffer.byteLength ? new Uint8Array(bytes) : bytes;
    const entry = { bytes: kept, cost: kept.buffer.byteLength + ENTRY_OVERHEAD_BYTES };
    this.delete(owner, index);
    if (entry.cost > this.#maxBytes) return;
    own(kept);
    this.#entries.set(entryKey(owner, index), entry);
    this.#bytes += entry.cost;
    for (const [oldest, { bytes: oldBytes, cost }] of this.#entries) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#entries.delete(oldest);
      this.#bytes -= cost;
      release(oldBytes);
    }
  }

  /** Shared: to be released. */
  get(owner: number, index: number): Uint8Array | undefined {
    const key = entryKey(owner, index);
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    share(entry.bytes);
    return entry.bytes;
  }

  delete(owner: number, index: number): void {
    const key = entryKey(owner, index);
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.cost;
    release(entry.bytes);
  }

  /** Forgets all chunks of a blob of `count` chunks. */
  deleteAll(owner: number, count: number): void {
    for (let index = 0; index < count; index++) this.delete(owner, index);
  }
}

function entryKey(owner: number, index: number): string {
  return `${owner}/${index}`;
}
