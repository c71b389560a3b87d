// The chunks asked of one peer, put together from their pieces.
//
// Invariants: a buffer exists only for a chunk that was asked for and whose first piece has come, and has the chunk's exact
// size; pieces come in order. What was not asked for is dropped and counted; pieces that cross a cancel are forgiven, up to
// the bytes that were cancelled, more than SLACK_BYTES beyond that is a fault.

import { CHUNK_DIGEST_BYTES } from '@flotilla/shared/chunk-map';
import type { ChunkPiece } from '@flotilla/shared/exchange';
import { PeerFault } from './peer-fault.ts';

/** Unasked bytes that are forgiven to every peer. */
const SLACK_BYTES = 1024 * 1024;
/** Cancelled bytes that may still be on their way: no more than can be asked for at once. */
const MAX_CANCELLED_BYTES = 32 * 1024 * 1024;

/** A chunk that was asked of a peer. `owner` is whose chunk it is: its blob's state. */
export interface Fetch<Owner> {
  readonly owner: Owner;
  /** Our own channel number of the blob. */
  readonly channel: number;
  readonly index: number;
  readonly bytes: number;
  readonly sinceMs: number;
}

/** A chunk that has arrived whole, unverified. */
export interface Arrival<Owner> {
  readonly fetch: Fetch<Owner>;
  readonly digest: Uint8Array;
  readonly bytes: Uint8Array;
}

interface Assembly<Owner> {
  readonly fetch: Fetch<Owner>;
  buffer: Uint8Array | undefined;
  digest: Uint8Array | undefined;
  received: number;
}

export class Intake<Owner> {
  readonly #assemblies = new Map<number, Assembly<Owner>>();
  readonly #stray: (bytes: number) => void;
  #forgiven = SLACK_BYTES;
  /** When a piece or, with nothing asked for before, a request last moved anything. */
  #movedAtMs = 0;

  /** @param stray told of each byte that was not asked for */
  constructor(stray: (bytes: number) => void) {
    this.#stray = stray;
  }

  get size(): number {
    return this.#assemblies.size;
  }

  /** When this peer last gave anything; the time of the oldest request if it gave nothing since. */
  get movedAtMs(): number {
    return this.#movedAtMs;
  }

  fetches(): Fetch<Owner>[] {
    return [...this.#assemblies.values()].map((assembly) => assembly.fetch);
  }

  expect(fetch: Fetch<Owner>): void {
    if (this.#assemblies.size === 0) this.#movedAtMs = fetch.sinceMs;
    this.#assemblies.set(key(fetch.channel, fetch.index), { fetch, buffer: undefined, digest: undefined, received: 0 });
  }

  has(channel: number, index: number): boolean {
    return this.#assemblies.has(key(channel, index));
  }

  /** The chunk is no longer expected; pieces of it may still come. */
  drop(channel: number, index: number): Fetch<Owner> | undefined {
    const assembly = this.#assemblies.get(key(channel, index));
    if (assembly === undefined) return undefined;
    this.#assemblies.delete(key(channel, index));
    this.#forgiven = Math.min(MAX_CANCELLED_BYTES, this.#forgiven + assembly.fetch.bytes);
    return assembly.fetch;
  }

  /**
   * Takes a piece. `channel` is our own number of the blob, undefined where we have left it.
   * @returns the chunk if this was its last piece @throws PeerFault
   */
  take(piece: ChunkPiece, channel: number | undefined, nowMs: number): Arrival<Owner> | undefined {
    const { index, offset, payload, digest } = piece;
    const assembly = channel === undefined ? undefined : this.#assemblies.get(key(channel, index));
    if (assembly === undefined || (offset > 0 && assembly.received === 0)) {
      this.#astray(payload.length);
      return undefined;
    }
    if (offset === 0) {
      // A second start: the first belonged to a request that was cancelled before this one.
      if (assembly.received > 0) this.#astray(assembly.received);
      if (digest?.length !== CHUNK_DIGEST_BYTES) throw new PeerFault('PEER_PROTOCOL', `chunk ${index} without its digest`);
      assembly.received = 0;
      assembly.digest = new Uint8Array(digest);
    }
    if (offset !== assembly.received || payload.length === 0 || offset + payload.length > assembly.fetch.bytes) {
      throw new PeerFault('PEER_PROTOCOL', `piece ${offset}+${payload.length} of chunk ${index} after ${assembly.received} of ${assembly.fetch.bytes}`);
    }
    // Not zeroed: it is handed on only when every byte has been written.
    assembly.buffer ??= Buffer.allocUnsafeSlow(assembly.fetch.bytes);
    assembly.buffer.set(payload, offset);
    assembly.received += payload.length;
    this.#movedAtMs = nowMs;
    if (assembly.received < assembly.fetch.bytes) return undefined;
    this.#assemblies.delete(key(assembly.fetch.channel, index));
    return { fetch: assembly.fetch, digest: assembly.digest!, bytes: assembly.buffer };
  }

  #astray(bytes: number): void {
    this.#stray(bytes);
    this.#forgiven -= bytes;
    if (this.#forgiven < 0) throw new PeerFault('PEER_PROTOCOL', 'sends chunks that were not asked for');
  }
}

/** Channels count up from 1 in one process: far below 2^21. */
function key(channel: number, index: number): number {
  return channel * 2 ** 32 + index;
}
