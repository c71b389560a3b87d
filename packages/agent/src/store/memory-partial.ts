// A partial for which the disk has no room: chunks live in memory until its Download drops them, which bounds it by the
// window that the Download keeps. Nothing survives it.

import { Bitfield, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';
import type { PartialBlob } from '../content/ports.ts';

export class MemoryPartial implements PartialBlob {
  readonly key: BlobKey;
  readonly kept = false;
  readonly path = undefined;
  readonly #have: Bitfield;
  readonly #chunks = new Map<number, { digest: Uint8Array; bytes: Uint8Array }>();
  readonly #onClose: () => void;

  constructor(key: BlobKey, onClose: () => void) {
    this.key = key;
    this.#have = new Bitfield(chunkCount(key.size));
    this.#onClose = onClose;
  }

  get have(): ReadonlyBitfield {
    return this.#have;
  }

  digestOf(index: number): Uint8Array | undefined {
    return this.#chunks.get(index)?.digest;
  }

  async write(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    this.#have.set(index);
    // A view on the frame that the digest came in would keep all of that in memory.
    this.#chunks.set(index, { digest: new Uint8Array(digest), bytes });
  }

  async read(index: number): Promise<Uint8Array> {
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) throw new AgentError('INTERNAL', `chunk ${index} of ${this.key.digest} is not here`);
    return chunk.bytes;
  }

  async drop(ranges: readonly IndexRange[]): Promise<void> {
    for (const [first, count] of ranges) {
      for (let index = first; index < first + count; index++) {
        this.#have.clear(index);
        this.#chunks.delete(index);
      }
    }
  }

  async finish(): Promise<undefined> {
    return undefined;
  }

  async close(): Promise<void> {
    this.#chunks.clear();
    this.#have.clearRange([0, this.#have.length]);
    this.#onClose();
  }
}
