// The leases of this host on one blob: it asks for one run to read and a spare, and holds what was granted besides.
// Reads the runs from the origin and reports them; what a chunk means is the Download's business.

import type { IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { AgentError, toAgentError } from '../errors.ts';
import { chunkDigest } from '../hash.ts';
import { NoRangesError, readOriginRun } from './origin-run.ts';
import type { Lease, LeaseHandle, Origin, ReleaseReason } from './ports.ts';
import type { SourceRight } from './sources.ts';

/** One run being read and one spare, so that the next run's round trip is hidden (docs/decisions/0014). */
const WANTED_RUNS = 2;
/** Where what is needed lies far apart, a run is a chunk or two, and its round trip is all its time: so many are held, and read together. */
const WANTED_SCATTERED_RUNS = 6;
/** From so many stretches on. */
const SCATTERED = 3;
/** Chunks that may be hashed and written while the socket is read on. */
const PIPELINE_CHUNKS = 4;
const PROGRESS_INTERVAL_MS = 250;
/** Who waits for bytes of a slow origin says this often that it lives, or its lease would go to another. */
const ALIVE_INTERVAL_MS = 1000;
/** A run whose bytes have paused for this long is not waited for when it is taken back. */
const STALLED_MS = 1000;

interface HeldLease {
  readonly lease: Lease;
  readonly abort: AbortController;
  /** Chunks of the lease that are still ours; shrinks when revoked. */
  count: number;
  reading: boolean;
  bytesLeft: number;
  /** The chunk that is read next. */
  next: number;
  /** Chunks that were handed on and are not dealt with yet. */
  readonly inWork: Set<number>;
  byteAtMs: number;
  progressAtMs: number;
  progressBytes: number;
}

export interface HeldLeasesComponents {
  readonly origin: Origin;
  /** With whose right the origin is read now; undefined: with nobody's. */
  readonly right: () => SourceRight | undefined;
  readonly handle: () => LeaseHandle;
  readonly now: () => number;
  /** Bytes came from the origin. */
  onBytes(lease: Lease): void;
  /** A whole chunk and its digest, unverified. Resolves once it was dealt with; what it throws ends the run. Not for audits. */
  onChunk(lease: Lease, index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void>;
  /** A run that was read with this right failed and was given back. */
  onFailure(error: AgentError, right: SourceRight | undefined): void;
  /** What is read or held has changed, and with it what `covers` answers for these chunks. */
  onChange(changed: IndexRange): void;
  has(index: number): boolean;
}

export class HeldLeases {
  readonly #key: BlobKey;
  readonly #with: HeldLeasesComponents;
  readonly #held = new Map<string, HeldLease>();
  readonly #running = new Set<Promise<void>>();
  /** What the coordinator was told that this host needs. */
  #asked: { runs: number; readonly within: readonly IndexRange[] | undefined } = { runs: 0, within: undefined };
  /** Bytes per second that this host last got from the origin; 0: not known yet. */
  #originRate = 0;
  /** What `covers` looks at; undefined: it has changed since. */
  #unfinished: readonly IndexRange[] | undefined;
  #stopping = false;

  constructor(key: BlobKey, components: HeldLeasesComponents) {
    this.#key = key;
    this.#with = components;
  }

  /** Whether the whole blob is being read because the origin has no Range. */
  get streaming(): boolean {
    return [...this.#held.values()].some((held) => held.reading && held.lease.mode === 'stream');
  }

  /** Whether this chunk is being or will be read under a lease of this host. */
  covers(index: number): boolean {
    // Asked for every chunk of the blob, again and again: no iterators here.
    const ranges = (this.#unfinished ??= this.reading());
    for (let at = 0; at < ranges.length; at++) {
      const [first, count] = ranges[at]!;
      if (index >= first && index < first + count) return true;
    }
    return false;
  }

  reading(): IndexRange[] {
    return [...this.#held.values()].map(unfinished).filter(([, count]) => count > 0);
  }

  /** Asks for the runs that are missing, somewhere in these chunks. undefined: none is needed. Says nothing twice. */
  ask(chunks: readonly IndexRange[] | undefined): void {
    const runs = chunks === undefined ? 0 : this.#missingRuns(chunks.length >= SCATTERED ? WANTED_SCATTERED_RUNS : WANTED_RUNS);
    const within = chunks?.[0]?.[1] === chunkCount(this.#key.size) ? undefined : chunks;
    if (this.#asked.runs === runs && sameRanges(this.#asked.within, within)) return;
    this.#asked = { runs, within };
    this.#with.handle().need(runs, this.#originRate, within);
  }

  /** The coordinator is another one: it knows nothing of what was asked. */
  forgetAsked(): void {
    this.#asked = { runs: 0, within: undefined };
  }

  /** @param useful false: the lease is given back at once */
  grant(lease: Lease, useful: boolean): void {
    if (isRun(lease)) this.#asked.runs = Math.max(0, this.#asked.runs - 1);
    if (!useful || this.#stopping) {
      this.#with.handle().release(lease.leaseId, 'unneeded');
      return;
    }
    this.#unfinished = undefined;
    this.#held.set(lease.leaseId, {
      lease,
      abort: new AbortController(),
      count: lease.count,
      reading: false,
      bytesLeft: this.#bytes(lease.first, lease.count),
      next: lease.first,
      inWork: new Set(),
      byteAtMs: this.#with.now(),
      progressAtMs: this.#with.now(),
      progressBytes: 0,
    });
    this.#startNext();
    this.#with.onChange([lease.first, lease.count]);
  }

  /** To be called a few times per second: tells of leases under which no byte comes that they are still waited for. */
  tellAlive(): void {
    const now = this.#with.now();
    for (const held of this.#held.values()) {
      if (!held.reading || now - held.progressAtMs < ALIVE_INTERVAL_MS) continue;
      held.progressAtMs = now;
      this.#with.handle().progress(held.lease.leaseId, held.progressBytes);
    }
  }

  /** Keeps the first `keep` chunks; what is already read beyond them still counts. @param spareOnly one that is being read goes on */
  revoke(leaseId: string, keep: number, spareOnly = false): void {
    const held = this.#held.get(leaseId);
    if (held === undefined || (spareOnly && held.reading)) return;
    const count = Math.min(held.count, Math.max(keep, held.next - held.lease.first));
    if (count === held.count) return;
    const cut: IndexRange = [held.lease.first + count, held.count - count];
    held.bytesLeft -= this.#bytes(...cut);
    held.count = count;
    this.#unfinished = undefined;
    if (unread(held) === 0) {
      if (!held.reading) this.#end(held, 'unneeded');
      // A chunk that is coming in is read to its end; one that stalls would keep the spare waiting.
      else if (this.#with.now() - held.byteAtMs >= STALLED_MS) held.abort.abort(new Error('lease revoked'));
    }
    this.#with.onChange(cut);
  }

  /** Gives back spares, because nobody here reads on; a run being read is finished. */
  releaseSpares(): void {
    for (const held of this.#held.values()) if (!held.reading) this.#end(held, 'unneeded');
  }

  /** Gives back spares of which somebody else reads a part: without a tracker two may take one run before they hear of one another. */
  giveWay(readByPeer: (index: number) => boolean): void {
    for (const held of this.#held.values()) {
      if (held.reading || !isRun(held.lease)) continue;
      const [first, count] = unfinished(held);
      for (let index = first; index < first + count; index++) {
        if (!readByPeer(index)) continue;
        this.#end(held, 'unneeded');
        break;
      }
    }
  }

  /** Stops everything at once and gives it back. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const held of this.#held.values()) {
      held.abort.abort(new Error('lease given back'));
      if (!held.reading) this.#end(held, 'unneeded');
    }
    await Promise.all(this.#running);
    this.#stopping = false;
  }

  #missingRuns(wanted: number): number {
    let runs = 0;
    for (const held of this.#held.values()) if (isRun(held.lease)) runs++;
    return Math.max(0, wanted - runs);
  }

  #startNext(): void {
    if (this.#stopping) return;
    for (const held of this.#held.values()) {
      if (held.reading || (isRun(held.lease) && this.#busy())) continue;
      held.reading = true;
      const run = this.#read(held).finally(() => this.#running.delete(run));
      this.#running.add(run);
    }
  }

  /** A run with more than its last chunk to come keeps the spare waiting: two at once would slow both. */
  #busy(): boolean {
    const lastChunkBytes = this.#bytes(0, 1);
    for (const held of this.#held.values()) {
      if (held.reading && isRun(held.lease) && held.bytesLeft > lastChunkBytes) return true;
    }
    return false;
  }

  async #read(held: HeldLease): Promise<void> {
    const { lease, abort } = held;
    const right = this.#with.right();
    const startedMs = this.#with.now();
    let bytes = 0;
    const inWork: Promise<void>[] = [];
    let failure: { readonly error: unknown } | undefined;
    const handOn = async (index: number, chunk: Uint8Array): Promise<void> => {
      held.inWork.add(index);
      this.#unfinished = undefined;
      try {
        const digest = await chunkDigest(chunk);
        if (lease.mode !== 'audit') await this.#with.onChunk(lease, index, digest, chunk);
        this.#with.handle().done(lease.leaseId, index, [digest]);
      } catch (error) {
        // Told by the loop below, which may be waiting for the socket now.
        failure ??= { error };
      } finally {
        held.inWork.delete(index);
        this.#unfinished = undefined;
      }
    };
    try {
      if (right === undefined) throw new AgentError('ORIGIN_DENIED', `nobody here may read ${this.#key.digest} at its origin`);
      if (lease.mode !== 'audit') this.#skipHeld(held);
      if (unread(held) > 0) {
        const run = { first: held.next, count: unread(held), whole: lease.mode === 'stream' };
        const end = held.next + run.count;
        const onBytes = (n: number): void => {
          bytes += n;
          this.#progress(held, n);
        };
        for await (const chunk of readOriginRun(this.#with.origin, right, this.#key, run, onBytes, abort.signal)) {
          held.next = Math.max(held.next, chunk.index + 1);
          this.#unfinished = undefined;
          inWork.push(handOn(chunk.index, chunk.bytes));
          if (inWork.length >= PIPELINE_CHUNKS) await inWork.shift();
          if (failure !== undefined) throw failure.error;
          // Left early only where it was cut: an answer that is read to its end leaves the connection usable.
          if (held.next < end && unread(held) === 0) break;
        }
      }
      await Promise.all(inWork);
      if (failure !== undefined) throw failure.error;
      this.#measure(bytes, this.#with.now() - startedMs);
      this.#end(held, 'unneeded');
    } catch (error) {
      await Promise.all(inWork);
      this.#fail(held, error, right);
    }
  }

  #fail(held: HeldLease, error: unknown, right: SourceRight | undefined): void {
    if (held.abort.signal.aborted) {
      this.#end(held, 'unneeded');
      return;
    }
    if (error instanceof NoRangesError) {
      this.#end(held, 'no-ranges');
      return;
    }
    const failure = toAgentError(error);
    this.#end(held, releaseReason(failure), failure.retryAfterMs);
    this.#with.onFailure(failure, right);
  }

  #skipHeld(held: HeldLease): void {
    while (unread(held) > 0 && this.#with.has(held.next)) held.next++;
    this.#unfinished = undefined;
    held.bytesLeft = this.#bytes(held.next, unread(held));
  }

  #progress(held: HeldLease, bytes: number): void {
    this.#with.onBytes(held.lease);
    held.bytesLeft -= bytes;
    held.progressBytes += bytes;
    const now = this.#with.now();
    held.byteAtMs = now;
    if (now - held.progressAtMs >= PROGRESS_INTERVAL_MS) {
      held.progressAtMs = now;
      this.#with.handle().progress(held.lease.leaseId, held.progressBytes);
    }
    this.#startNext();
  }

  #measure(bytes: number, ms: number): void {
    if (bytes === 0) return;
    const rate = (bytes * 1000) / Math.max(1, ms);
    this.#originRate = this.#originRate === 0 ? rate : this.#originRate * 0.7 + rate * 0.3;
  }

  #end(held: HeldLease, reason: ReleaseReason, retryAfterMs?: number): void {
    if (!this.#held.delete(held.lease.leaseId)) return;
    this.#unfinished = undefined;
    this.#with.handle().release(held.lease.leaseId, reason, retryAfterMs);
    this.#startNext();
    // A chunk that was coming in when the rest was taken back was read to its end.
    this.#with.onChange([held.lease.first, Math.max(held.count, held.next - held.lease.first)]);
  }

  #bytes(first: number, count: number): number {
    if (count <= 0) return 0;
    return chunkBounds(this.#key.size, first + count - 1).end - chunkBounds(this.#key.size, first).start;
  }
}

function unread({ lease, count, next }: HeldLease): number {
  return Math.max(0, lease.first + count - next);
}

/** What of the lease is not here yet, as one range. What an audit reads is not kept. */
function unfinished(held: HeldLease): IndexRange {
  if (held.lease.mode === 'audit') return [held.lease.first, 0];
  const first = Math.min(held.next, ...held.inWork);
  return [first, held.next + unread(held) - first];
}

function sameRanges(a: readonly IndexRange[] | undefined, b: readonly IndexRange[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every(([first, count], i) => b[i]![0] === first && b[i]![1] === count);
}

function isRun(lease: Lease): boolean {
  return lease.mode === 'run' || lease.mode === 'stream';
}

function releaseReason(error: AgentError): ReleaseReason {
  switch (error.code) {
    case 'ORIGIN_THROTTLED':
      return 'throttled';
    case 'BLOB_UNKNOWN':
    case 'MANIFEST_UNKNOWN':
    case 'ORIGIN_UNAUTHORIZED':
    case 'ORIGIN_CREDENTIALS_REFUSED':
    case 'ORIGIN_DENIED':
    case 'ORIGIN_FORBIDDEN':
      return 'denied';
    default:
      return 'failed';
  }
}
