// A blob in memory as the swarm sees it: a Download's place in tests and benchmarks, with the real hashing.

import { createHash, randomBytes } from 'node:crypto';
import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import type { ChunkVerdict, Holding, Holdings, SwarmHandle, SwarmMember } from '../content/ports.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import { blobId } from './blob-swarm.ts';

/** Random content with its true key. */
export function randomBlob(size: number): { key: BlobKey; bytes: Buffer } {
  const bytes = randomBytes(size);
  return { key: { digest: parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`), size }, bytes };
}

/** A chunk's digest, by the other way than hash.ts. */
function digestOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}

export class MemoryMember implements SwarmMember {
  readonly key: BlobKey;
  readonly have: Bitfield;
  readonly bytes: Buffer;
  /** Chunks by the peer that gave them. */
  readonly from = new Map<string, number>();
  readonly verdicts: Record<ChunkVerdict, number> = { kept: 0, duplicate: 0, forged: 0, conflict: 0 };
  /** Chunks that are not to be asked of peers. */
  readonly unwanted = new Set<number>();
  /** What members vouched for; another digest is a conflict. */
  readonly vouched = new Map<number, Uint8Array>();
  starving: number | undefined;
  handle: SwarmHandle | undefined;
  changes = 0;
  readonly #digests = new Map<number, Uint8Array>();
  readonly #finished = Promise.withResolvers<void>();
  readonly #waiting: { test: () => boolean; resolve: () => void }[] = [];

  /** Without `content` it holds nothing. */
  constructor(key: BlobKey, content?: Buffer) {
    this.key = key;
    const chunks = chunkCount(key.size);
    this.have = content === undefined ? new Bitfield(chunks) : Bitfield.full(chunks);
    this.bytes = content ?? Buffer.alloc(key.size);
    if (content !== undefined) for (let index = 0; index < chunks; index++) this.#digests.set(index, digestOf(this.chunk(index)));
    if (this.have.full) this.#finished.resolve();
  }

  /** Every chunk is here. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** Resolves as soon as `test` holds, looked at after each chunk. */
  when(test: () => boolean): Promise<void> {
    if (test()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ test, resolve }));
  }

  chunk(index: number): Buffer {
    const { start, end } = chunkBounds(this.key.size, index);
    return this.bytes.subarray(start, end);
  }

  digestOf(index: number): Uint8Array | undefined {
    return this.#digests.get(index);
  }

  readChunk(index: number): Promise<Uint8Array> {
    return Promise.resolve(this.chunk(index));
  }

  wants(index: number): boolean {
    return !this.have.has(index) && !this.unwanted.has(index);
  }

  urgent(): number | undefined {
    return this.starving;
  }

  async accept(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    const verdict = await this.#judge(index, digest, bytes);
    this.verdicts[verdict]++;
    if (verdict === 'kept') {
      this.from.set(peerId, (this.from.get(peerId) ?? 0) + 1);
      this.put(index, bytes);
    }
    return verdict;
  }

  /** The chunk is here, from wherever. */
  put(index: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, chunkBounds(this.key.size, index).start);
    this.#digests.set(index, digestOf(bytes));
    this.have.set(index);
    this.handle?.announce([index]);
    if (this.have.full) this.#finished.resolve();
    this.#look();
  }

  /** The chunk is no longer here. */
  lose(index: number): void {
    this.have.clear(index);
    this.handle?.retract();
  }

  sourcesChanged(): void {
    this.changes++;
    this.#look();
  }

  #look(): void {
    for (const waiter of this.#waiting.filter(({ test }) => test())) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resolve();
    }
  }

  async #judge(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<ChunkVerdict> {
    if (!sameDigest(await chunkDigest(bytes), digest)) return 'forged';
    const vouched = this.vouched.get(index);
    if (vouched !== undefined && !sameDigest(vouched, digest)) return 'conflict';
    return this.have.has(index) ? 'duplicate' : 'kept';
  }
}

/** What a host holds, by blob. */
export class MemoryHoldings implements Holdings {
  readonly #held = new Map<string, Holding>();

  add(holding: Holding): void {
    this.#held.set(blobId(holding.key), holding);
  }

  remove(key: BlobKey): void {
    this.#held.delete(blobId(key));
  }

  find(key: BlobKey): Promise<Holding | undefined> {
    return Promise.resolve(this.#held.get(blobId(key)));
  }
}
