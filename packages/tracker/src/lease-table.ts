// The live leases of one blob, and which chunks they leave to be leased.
//
// Invariant: `leasable(i)` is true exactly when nobody who counts holds chunk i and no live lease covers it unread; no leasable
// chunk lies below the cursor. Audits are kept here for their deadlines, but cover nothing.
// Non-goals: who gets a lease and why one ends (leases.ts).

import { Bitfield, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, type BlobKey } from '@flotilla/shared/chunk-map';
import type { Holdings } from './holdings.ts';
import { rangeBytes, type Lease, type LeaseMode, type Reader } from './lease.ts';

export interface LeaseInit {
  readonly id: string;
  readonly reader: Reader;
  readonly mode: LeaseMode;
  readonly range: IndexRange;
  readonly windowMs: number;
}

export class LeaseTable {
  readonly #blob: BlobKey;
  readonly #holdings: Holdings;
  readonly #leases = new Map<string, Lease>();
  /** Live leases per chunk, hedges included; made at the first lease. */
  #leased: Uint8Array | undefined;
  #cursor = 0;
  #live = 0;

  constructor(blob: BlobKey, holdings: Holdings) {
    this.#blob = blob;
    this.#holdings = holdings;
  }

  get size(): number {
    return this.#leases.size;
  }

  /** Leases that count against the limit of the blob: neither hedges nor audits. */
  get live(): number {
    return this.#live;
  }

  /** Where to begin looking for leasable chunks; exact after `anyLeasable()`. */
  get cursor(): number {
    return this.#cursor;
  }

  get(id: string): Lease | undefined {
    return this.#leases.get(id);
  }

  values(): Iterable<Lease> {
    return this.#leases.values();
  }

  /** Audits included. */
  of(reader: Reader): Lease[] {
    return [...this.#leases.values()].filter((lease) => lease.reader === reader);
  }

  leasable(index: number): boolean {
    return !this.#holdings.held(index) && (this.#leased?.[index] ?? 0) === 0;
  }

  anyLeasable(): boolean {
    if (this.#holdings.seeded) return false;
    const { chunks } = this.#holdings;
    while (this.#cursor < chunks && !this.leasable(this.#cursor)) this.#cursor++;
    return this.#cursor < chunks;
  }

  /** Chunk `index` may have become leasable. */
  lower(index: number): void {
    if (index < this.#cursor) this.#cursor = index;
  }

  add({ id, reader, mode, range: [first, count], windowMs }: LeaseInit, nowMs: number): Lease {
    const lease: Lease = { id, reader, mode, first, count, unread: new Bitfield(count), windowMs, deadlineMs: nowMs + windowMs, movedAtMs: nowMs, bytes: 0, chunksRead: 0, recalled: false };
    this.#leases.set(id, lease);
    for (let offset = 0; offset < count; offset++) {
      // A stream passes over what others hold or read already; that is not its own.
      if (mode !== 'stream' || this.leasable(first + offset)) lease.unread.set(offset);
    }
    if (mode === 'audit') return lease;
    this.#leased ??= new Uint8Array(this.#holdings.chunks);
    for (let offset = 0; offset < count; offset++) if (lease.unread.has(offset)) this.#leased[first + offset]!++;
    reader.leases.push(lease);
    if (mode !== 'hedge') this.#live++;
    return lease;
  }

  /** Chunks of the lease are here. @returns the bytes that this is more than was known */
  read(lease: Lease, [first, count]: IndexRange): number {
    let bytes = 0;
    const end = Math.min(first + count, lease.first + lease.count);
    for (let index = Math.max(first, lease.first); index < end; index++) {
      if (!lease.unread.clear(index - lease.first)) continue;
      this.#free(index);
      lease.chunksRead++;
      const bounds = chunkBounds(this.#blob.size, index);
      bytes += bounds.end - bounds.start;
    }
    if (bytes === 0) return 0;
    const known = lease.bytes;
    lease.bytes = Math.max(known, rangeBytes(this.#blob, lease.first, Math.min(lease.count, lease.chunksRead)));
    return lease.bytes - known;
  }

  /** Progress on one lease shows that those which wait behind it do so for a reason; older ones must move by themselves. */
  extend(lease: Lease, nowMs: number): void {
    lease.deadlineMs = Math.max(lease.deadlineMs, nowMs + lease.windowMs);
    const at = lease.reader.leases.indexOf(lease);
    if (at < 0) return;
    for (const later of lease.reader.leases.slice(at + 1)) later.deadlineMs = Math.max(later.deadlineMs, nowMs + later.windowMs);
  }

  /** Bytes that the reader still has to read under its leases. */
  queuedBytes(reader: Reader): number {
    let bytes = 0;
    for (const lease of reader.leases) bytes += rangeBytes(this.#blob, lease.first, Math.min(lease.count, lease.unread.count));
    return bytes;
  }

  /** Ends it; what is unread can be leased again. @returns the chunks that were unread */
  end(lease: Lease): IndexRange[] {
    if (!this.#leases.delete(lease.id) || lease.mode === 'audit') return [];
    const { leases } = lease.reader;
    leases.splice(leases.indexOf(lease), 1);
    if (lease.mode !== 'hedge') this.#live--;
    const unread = lease.unread.ranges().map(([first, count]): IndexRange => [lease.first + first, count]);
    for (const [first, count] of unread) for (let index = first; index < first + count; index++) this.#free(index);
    return unread;
  }

  #free(index: number): void {
    this.#leased![index]!--;
    this.lower(index);
  }
}

export function covers(lease: Lease, index: number): boolean {
  return index >= lease.first && index < lease.first + lease.count;
}
