// The local readers of one download: what they still need, how far they are, and who starves.
//
// A reader of the whole wants all of it at once. One that asks for ranges wants the next of them only, in steps that grow with what it has
// taken: clients ask for `bytes=N-` and leave after a part, and the rest is then nobody's.
// Invariant: a reader that waits is woken by the event that lets it go on, and by nothing else, so that the time it waits is known.

import type { IndexRange, ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkSize, type BlobKey, type ByteRange } from '@flotilla/shared/chunk-map';
import { release } from '../chunk-memory.ts';
import type { AgentError } from '../errors.ts';
import type { OnServed } from './ports.ts';
import { ReadPlan } from './read-plan.ts';

const MIB = 1024 * 1024;
/** What a reader of ranges has fetched ahead of it: half of what it has taken, within these. */
const MIN_AHEAD_BYTES = MIB;
const MAX_AHEAD_BYTES = 32 * MIB;
/** A reader of ranges, whose bytes nothing checks later, waits so long for word of a chunk that only its giver vouches for. */
const VOUCH_WAIT_MS = 1000;

/** What a reader needs of the chunks: bytes that are here, and word that they are. */
export interface ReadableChunks {
  readonly have: ReadonlyBitfield;
  /** Whether a chunk that is here may go out before the whole was verified. */
  trusts(index: number): boolean;
  /** Whether anybody but its giver says what the chunk is. */
  vouchedFor(index: number): boolean;
  readChunk(index: number): Promise<Uint8Array>;
  /** How a chunk that is here came to this host. */
  sourceOf(index: number): 'store' | 'peer' | 'origin';
  /** The whole blob's digest was verified. */
  readonly verified: boolean;
  /** The chunk that keeps the whole from being verified; undefined: all are here. */
  missing(): number | undefined;
}

interface Reader {
  readonly plan: ReadPlan;
  /** Reads all of the blob, and so waits at its end for the verified digest. */
  readonly whole: boolean;
  /** Wants no more than it will soon take. */
  readonly sparing: boolean;
  /** Wants the chunks but takes no bytes. */
  readonly background: boolean;
  /** Comes after whatever clients wait for. */
  readonly low: boolean;
  readonly onBytes: OnServed | undefined;
  /** The visit of its plan that is next. */
  at: number;
  /** The last visit whose chunk it wants now. */
  ahead: number;
  /** Bytes that it has taken. */
  taken: number;
  /** It has waited in vain for somebody to vouch for a chunk, and does not again. */
  trustsGivers: boolean;
  waitingSinceMs: number | undefined;
  wake: (() => void) | undefined;
  failure: AgentError | undefined;
}

/** Where a reader stands. */
export interface ReaderPosition {
  /** The chunk it needs next. */
  readonly cursor: number;
  /** The last chunk that it takes, or before it jumps. */
  readonly last: number;
  readonly whole: boolean;
}

/** A reader came or went, one wants chunks further on, or one moved on to its next chunk. */
export type DemandChange = 'readers' | 'ahead' | 'cursor';

export interface ReadersOwner {
  demandChanged(what: DemandChange): void;
  /** Whether there is anybody to hear of vouches from. */
  tracked(): boolean;
  /** A reader of ranges goes on with chunks that only their givers vouch for. */
  unvouched(): void;
}

/** The readers of one blob on this host. Single writer of their cursors. */
export class Readers {
  readonly #key: BlobKey;
  readonly #chunks: ReadableChunks;
  readonly #now: () => number;
  readonly #owner: ReadersOwner;
  readonly #readers = new Set<Reader>();
  #version = 0;

  constructor(key: BlobKey, chunks: ReadableChunks, now: () => number, owner: ReadersOwner) {
    this.#key = key;
    this.#chunks = chunks;
    this.#now = now;
    this.#owner = owner;
  }

  get count(): number {
    return this.#readers.size;
  }

  /** Nobody is here but who comes after whatever clients wait for. */
  get low(): boolean {
    for (const reader of this.#readers) if (!reader.low) return false;
    return this.#readers.size > 0;
  }

  /** Since when a client, or what is fetched ahead for one, waits for a chunk; undefined: none does. */
  get clientWaitsSinceMs(): number | undefined {
    let since: number | undefined;
    for (const reader of this.#readers) {
      if (reader.low || reader.waitingSinceMs === undefined || reader.waitingSinceMs >= (since ?? Number.POSITIVE_INFINITY)) continue;
      if (this.#lacks(reader) !== undefined) since = reader.waitingSinceMs;
    }
    return since;
  }

  /** Another number after every change of who reads what. */
  get version(): number {
    return this.#version;
  }

  /** Whether some reader wants all of the blob now. */
  get wantWhole(): boolean {
    for (const reader of this.#readers) if (reader.whole && !reader.sparing) return true;
    return false;
  }

  /** Whether some reader wants this chunk now, and has still to pass it. */
  demands(index: number): boolean {
    for (const reader of this.#readers) if (reader.plan.visitsBetween(index, reader.at, reader.ahead)) return true;
    return false;
  }

  /** Where the readers stand that have chunks to pass, in the order in which they came. */
  positions(): ReaderPosition[] {
    return [...this.#readers]
      .filter(({ at, plan }) => at < plan.length)
      .map(({ at, ahead, plan, whole }) => ({ cursor: plan.visits[at]!.index, last: plan.straightTo(at, ahead), whole }));
  }

  /** The chunks that readers want now, passed ones excluded, in the order in which the readers came. */
  *wanted(): Generator<IndexRange> {
    for (const { plan, at, ahead } of this.#readers) yield* plan.stretches(at, ahead);
  }

  /** The chunk that a reader has waited for the longest, and since when. @param foreground of those that take bytes */
  starving(foreground = false): { index: number; sinceMs: number } | undefined {
    let longest: { index: number; sinceMs: number } | undefined;
    for (const reader of this.#readers) {
      if (reader.waitingSinceMs === undefined || (foreground && reader.background)) continue;
      if (longest !== undefined && reader.waitingSinceMs >= longest.sinceMs) continue;
      const index = this.#lacks(reader);
      if (index !== undefined) longest = { index, sinceMs: reader.waitingSinceMs };
    }
    return longest;
  }

  /** Chunks arrived or were vouched for, the blob was verified, or time has passed. */
  wake(): void {
    for (const reader of this.#readers) {
      if (reader.background) this.#moveBackground(reader);
      if (this.#ready(reader)) reader.wake?.();
    }
  }

  /** Breaks all readers. */
  fail(error: AgentError): void {
    this.#failWhere(error, () => true);
  }

  /** Breaks the readers that lack a chunk now; those whose next chunk is here may still come to their end. */
  failStarving(error: AgentError): void {
    this.#failWhere(error, (reader) => reader.waitingSinceMs !== undefined && this.#lacks(reader) !== undefined);
  }

  failBackground(error: AgentError): void {
    this.#failWhere(error, (reader) => reader.background);
  }

  /** Chunks were found wrong and dropped: breaks the readers that took bytes of them; who took none fetches them again. */
  failTaken(error: AgentError, wrong: (index: number) => boolean): void {
    for (const reader of this.#readers) {
      if (!reader.background) continue;
      reader.at = 0;
      this.#moveBackground(reader);
    }
    this.#failWhere(error, (reader) => !reader.background && someTaken(reader, wrong));
  }

  /** Wants the whole blob without taking bytes, until the signal aborts. Resolves when the blob is verified. @param low after whatever clients wait for */
  async background(signal: AbortSignal, low = false): Promise<void> {
    const reader = this.#add({ start: 0, end: this.#key.size }, { background: true, low });
    try {
      this.#moveBackground(reader);
      await this.#untilReady(reader, signal);
    } finally {
      this.#remove(reader);
    }
  }

  /**
   * Resolves once the first bytes are here; then yields the range, or several one after the other. A piece is lent until the next one is asked for.
   * The end of a whole-blob read waits for the verified digest. A list of ranges is fetched no further ahead than it is read.
   * The reader is gone when the iteration ends or the signal aborts.
   */
  async read(asked: ByteRange | readonly ByteRange[], signal: AbortSignal, onBytes?: OnServed): Promise<AsyncIterable<Uint8Array>> {
    const reader = this.#add(asked, { onBytes });
    try {
      await this.#untilReady(reader, signal);
    } catch (error) {
      this.#remove(reader);
      throw error;
    }
    // Also where nobody ever iterates.
    const stop = (): void => this.#remove(reader);
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    return this.#yield(reader, signal, stop);
  }

  async *#yield(reader: Reader, signal: AbortSignal, stop: () => void): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const visit = reader.plan.visits[reader.at];
        if (visit === undefined) break;
        await this.#untilReady(reader, signal);
        const bytes = await this.#readChunk(reader, visit.index);
        if (bytes === undefined) continue;
        for (const [from, to] of visit.pieces) {
          yield bytes.subarray(from, to);
          reader.taken += to - from;
          reader.onBytes?.(this.#chunks.sourceOf(visit.index), to - from);
        }
        // Asked for more: the last piece has been dealt with. Where the iteration ends before, somebody may still have it.
        release(bytes);
        reader.at++;
        this.#changed(this.#lookAhead(reader) ? 'ahead' : 'cursor');
      }
    } finally {
      signal.removeEventListener('abort', stop);
      this.#remove(reader);
    }
  }

  /** The chunk at the cursor; undefined where it was lost or found wrong meanwhile, and has to be waited for again. */
  async #readChunk(reader: Reader, index: number): Promise<Uint8Array | undefined> {
    try {
      const bytes = await this.#chunks.readChunk(index);
      if (reader.failure !== undefined) throw reader.failure;
      // Checked after the read as well: bytes that are no longer believed must not go out.
      return this.#ready(reader) ? bytes : undefined;
    } catch (error) {
      if (reader.failure !== undefined) throw reader.failure;
      if (this.#chunks.have.has(index)) throw error;
      return undefined;
    }
  }

  #ready(reader: Reader): boolean {
    if (reader.background) return this.#chunks.verified;
    const { at, plan } = reader;
    if (reader.whole && at >= plan.length - 1 && !this.#chunks.verified) return false;
    const index = plan.visits[at]?.index;
    if (index === undefined) return true;
    return this.#chunks.have.has(index) && this.#chunks.trusts(index) && (reader.whole || this.#vouchedFor(reader, index));
  }

  /** A 206 has no end at which its bytes could be found wrong. */
  #vouchedFor(reader: Reader, index: number): boolean {
    if (reader.trustsGivers || this.#chunks.vouchedFor(index) || !this.#owner.tracked()) return true;
    if (reader.waitingSinceMs === undefined || this.#now() - reader.waitingSinceMs < VOUCH_WAIT_MS) return false;
    // After a restart of the tracker nobody may be left that has read it: its giver, a member too, has vouched for it by sending it.
    reader.trustsGivers = true;
    this.#owner.unvouched();
    return true;
  }

  /** The chunk that a waiting reader waits for; undefined: only for the hash of the whole, or for a vouch. */
  #lacks({ at, plan, whole }: Reader): number | undefined {
    const index = plan.visits[at]?.index;
    if (index !== undefined && !this.#chunks.have.has(index)) return index;
    return whole || index === undefined || !this.#chunks.trusts(index) ? this.#chunks.missing() : undefined;
  }

  #moveBackground(reader: Reader): void {
    const before = reader.at;
    while (reader.at < reader.plan.length && this.#chunks.have.has(reader.plan.visits[reader.at]!.index)) reader.at++;
    if (reader.at === before) return;
    if (reader.waitingSinceMs !== undefined) reader.waitingSinceMs = this.#now();
    this.#changed('cursor');
  }

  /**
   * Not at each step, but once half of what was fetched ahead is used up: whoever leases chunks gets stretches of them.
   * @returns whether the reader wants more now
   */
  #lookAhead(reader: Reader): boolean {
    const bytes = Math.min(MAX_AHEAD_BYTES, Math.max(MIN_AHEAD_BYTES, reader.taken / 2));
    const visits = Math.max(1, Math.floor(bytes / chunkSize(this.#key.size)));
    const end = reader.plan.length - 1;
    if (reader.ahead >= end || reader.ahead - reader.at > visits / 2) return false;
    reader.ahead = Math.min(end, reader.at + visits);
    return true;
  }

  async #untilReady(reader: Reader, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (reader.failure !== undefined) throw reader.failure;
    if (this.#ready(reader)) return;
    reader.waitingSinceMs = this.#now();
    try {
      // Woken for one state of things, it may find another: the chunk can be dropped before it gets to run.
      while (!this.#ready(reader)) {
        await this.#woken(reader, signal);
        if (reader.failure !== undefined) throw reader.failure;
      }
    } finally {
      reader.waitingSinceMs = undefined;
    }
  }

  #woken(reader: Reader, signal: AbortSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const end = (settle: () => void): void => {
        reader.wake = undefined;
        signal.removeEventListener('abort', abort);
        settle();
      };
      const abort = (): void => end(() => reject(signal.reason as Error));
      reader.wake = () => end(resolve);
      signal.addEventListener('abort', abort, { once: true });
    });
  }

  #failWhere(error: AgentError, concerned: (reader: Reader) => boolean): void {
    const failed = [...this.#readers].filter(concerned);
    // Gone at once: a client that has stopped reading would keep the download at work.
    for (const reader of failed) {
      this.#readers.delete(reader);
      reader.failure = error;
    }
    for (const reader of failed) reader.wake?.();
    if (failed.length > 0) this.#changed('readers');
  }

  #changed(what: DemandChange): void {
    this.#version++;
    this.#owner.demandChanged(what);
  }

  #add(asked: ByteRange | readonly ByteRange[], { background = false, low = false, onBytes }: { background?: boolean; low?: boolean; onBytes?: OnServed | undefined } = {}): Reader {
    const ranges = 'start' in asked ? [asked] : asked;
    const plan = new ReadPlan(this.#key, ranges);
    const sparing = ranges === asked || !plan.whole;
    const { whole, length } = plan;
    const reader: Reader = { plan, whole, sparing, background, low, onBytes, at: 0, ahead: length - 1, taken: 0, trustsGivers: false, waitingSinceMs: undefined, wake: undefined, failure: undefined };
    if (sparing) {
      reader.ahead = 0;
      this.#lookAhead(reader);
    }
    this.#readers.add(reader);
    this.#changed('readers');
    return reader;
  }

  #remove(reader: Reader): void {
    if (this.#readers.delete(reader)) this.#changed('readers');
  }
}

function someTaken(reader: Reader, taken: (index: number) => boolean): boolean {
  // A reader that waits has not taken the chunk of its visit; one that does not may be giving it out now.
  const end = reader.waitingSinceMs === undefined ? reader.at : reader.at - 1;
  return reader.plan.visits.slice(0, end + 1).some(({ index }) => taken(index));
}
