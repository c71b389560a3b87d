// One blob on its way to this host. Single writer of the blob's state: what is here, who vouched for it, who gave it,
// whether the whole was verified. Chunks come as events from peers (accept) and from leases (HeldLeases); each one is
// hashed, written, announced. Non-goals: which peer to ask (swarm/), who may read the origin (the coordinator).
//
//   running --all here, digest right--> finished --no readers--> closed
//      ^  | digest wrong                                           ^
//      |  v                                                        |
//   repairing                running --no readers, lingered--------+

import { toRanges, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkSize, type BlobKey } from '@flotilla/shared/chunk-map';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import { AgentError, toAgentError } from '../errors.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import { HeldLeases } from './held-leases.ts';
import type {
  ByteRange,
  ChunkVerdict,
  Coordinator,
  Lease,
  LeaseHandle,
  LeaseMember,
  Origin,
  PartialBlob,
  Source,
  SourceStatus,
  StoredBlob,
  Swarm,
  SwarmHandle,
  SwarmMember,
} from './ports.ts';
import { Readers, type DemandChange } from './readers.ts';
import type { HashPool } from './verification.ts';
import { Vouching } from './vouching.ts';
import { WholeHash } from './whole-hash.ts';

/** Something out of the ordinary that kept a pull going; each is counted. */
export type DownloadFallback = 'hedge' | 'repair' | 'stalled' | 'unkept' | 'conflict';

export interface DownloadEvents {
  /** Bytes that were delivered by a source, verified. */
  bytes(source: 'peer' | 'origin' | 'duplicate', bytes: number): void;
  fallback(kind: DownloadFallback, download: Download): void;
  /** The blob was verified; `stored` unless there was no room to keep it. */
  finished(download: Download, stored: StoredBlob | undefined): void;
  /** Nobody reads it any more; it takes no readers from now on. `stored`: finished() had told of a stored blob. */
  closed(download: Download, stored: boolean): void;
}

export interface DownloadComponents {
  readonly partial: PartialBlob;
  readonly origin: Origin;
  readonly swarm: Swarm;
  readonly coordinator: Coordinator;
  readonly hashes: HashPool;
  /** Unix ms */
  readonly now: () => number;
  readonly events: DownloadEvents;
}

export interface DownloadInit {
  readonly source: Source;
  /** Whether this host may read the blob at its origin (asked for leases). */
  readonly canRead: boolean;
  readonly mediaType?: string | undefined;
  /** How long a download without readers stays. @default 5000 */
  readonly lingerMs?: number;
  /** No progress for this long asks for a hedge lease. @default 5000 */
  readonly hedgeMs?: number;
  /** No progress for this long breaks the readers. @default 60000 */
  readonly stallMs?: number;
  /** How long a wrong whole waits for the tracker to say which chunks are wrong. @default 15000 */
  readonly auditMs?: number;
  /** What a blob without room on disk may take in memory. @default 32 MiB */
  readonly windowBytes?: number;
}

export interface DownloadStatus {
  readonly digest: string;
  readonly size: number;
  readonly source: Source;
  readonly state: 'running' | 'repairing' | 'finished' | 'closed';
  readonly chunks: number;
  readonly held: number;
  readonly readers: number;
  readonly kept: boolean;
  readonly bytes: { readonly peer: number; readonly origin: number; readonly duplicate: number };
  readonly reading: readonly IndexRange[];
  readonly sources: readonly SourceStatus[];
  readonly startedMs: number;
  readonly lastError?: string;
}

const TICK_MS = 500;
const URGENT_MS = 1000;
/** Failures of the origin in a row, without a chunk between them, that break a pull which has no other source. */
const MAX_ORIGIN_FAILURES = 3;
const DEFAULTS = { lingerMs: 5000, hedgeMs: 5000, stallMs: 60_000, auditMs: 15_000, windowBytes: 32 * 1024 * 1024 };

export class Download implements SwarmMember, LeaseMember {
  readonly key: BlobKey;
  readonly #init: DownloadInit & typeof DEFAULTS;
  readonly #with: DownloadComponents;
  readonly #partial: PartialBlob;
  readonly #readers: Readers;
  readonly #leases: HeldLeases;
  readonly #whole: WholeHash;
  readonly #vouching: Vouching;
  readonly #swarm: SwarmHandle;
  readonly #tracker: LeaseHandle;
  readonly #timer: NodeJS.Timeout;
  readonly #startedMs: number;
  readonly #bytes = { peer: 0, origin: 0, duplicate: 0 };
  /** Chunks between verification and the end of their write. */
  readonly #writing = new Set<number>();
  #state: DownloadStatus['state'] = 'running';
  /** The whole blob's digest is right; set before it is finished on disk. */
  #verified = false;
  #stored: StoredBlob | undefined;
  #lastArrivalMs: number;
  #idleSinceMs: number | undefined;
  #hedgedAtMs = 0;
  #repairingSinceMs = 0;
  /** Set when nobody could say which peer lied: only the origin is believed from then on. */
  #originOnly = false;
  #originFailures = 0;
  #lastError: AgentError | undefined;
  #needSent = { runs: 0, within: undefined as IndexRange | undefined };
  #settling: Promise<void> | undefined;
  #toldUnkept = false;

  constructor(components: DownloadComponents, init: DownloadInit) {
    this.#with = components;
    this.#init = { ...DEFAULTS, ...init };
    this.#partial = components.partial;
    this.key = components.partial.key;
    this.#startedMs = components.now();
    this.#lastArrivalMs = this.#startedMs;
    this.#idleSinceMs = this.#startedMs;
    this.#vouching = new Vouching(this.key);
    this.#whole = new WholeHash(this.#partial, components.hashes.open(this.key.digest));
    this.#readers = new Readers(
      this.key,
      { has: (index) => this.have.has(index), readChunk: (index) => this.readChunk(index), verified: () => this.#verified },
      components.now,
      (what) => this.#demandChanged(what),
    );
    this.#leases = new HeldLeases(this.key, init.source, {
      origin: components.origin,
      handle: () => this.#tracker,
      now: components.now,
      onChunk: (lease, index, bytes) => this.#fromOrigin(lease, index, bytes),
      onFailure: (error) => this.#originFailed(error),
      onChange: () => this.#leasesChanged(),
      has: (index) => this.have.has(index),
    });
    this.#swarm = components.swarm.join(this);
    this.#tracker = components.coordinator.join(this, init.source, init.canRead);
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
    this.#settle();
  }

  get have(): ReadonlyBitfield {
    return this.#partial.have;
  }

  /** False once it takes no readers any more: a new download has to be opened. */
  get open(): boolean {
    return this.#state !== 'closed';
  }

  /** Joins as a reader; see Readers.read. */
  read(range: ByteRange, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    this.#originFailures = 0;
    return this.#readers.read(range, signal);
  }

  /** Fetches the whole blob for nobody in particular; resolves when it is verified. */
  background(signal: AbortSignal): Promise<void> {
    return this.#readers.background(signal);
  }

  status(): DownloadStatus {
    return {
      digest: this.key.digest,
      size: this.key.size,
      source: this.#init.source,
      state: this.#state,
      chunks: this.have.length,
      held: this.have.count,
      readers: this.#readers.count,
      kept: this.#partial.kept,
      bytes: { ...this.#bytes },
      reading: this.reading(),
      sources: this.#swarm.sources(),
      startedMs: this.#startedMs,
      ...(this.#lastError && { lastError: `${this.#lastError.code}: ${this.#lastError.message}` }),
    };
  }

  /** Ends it, with its readers broken by `error` where there are any. */
  async close(error = new AgentError('DRAINING', 'the agent is stopping')): Promise<void> {
    this.#readers.fail(error);
    await this.#close(true);
  }

  // ---- what the swarm asks (Holding, SwarmMember)

  digestOf(index: number): Uint8Array | undefined {
    return this.#partial.digestOf(index);
  }

  readChunk(index: number): Promise<Uint8Array> {
    if (this.#stored !== undefined) return this.#stored.read(chunkBounds(this.key.size, index));
    return this.#partial.read(index);
  }

  wants(index: number): boolean {
    if (this.#state !== 'running' || this.#originOnly) return false;
    return !this.have.has(index) && !this.#writing.has(index) && this.#inWindow(index) && this.#readers.demands(index) && !this.#leases.covers(index);
  }

  urgent(): number | undefined {
    const starving = this.#readers.starving();
    return starving !== undefined && this.#with.now() - starving.sinceMs >= URGENT_MS ? starving.index : undefined;
  }

  async accept(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    try {
      const verdict = await this.#judge(index, digest, bytes, peerId);
      if (verdict === 'duplicate') this.#count('duplicate', bytes.length);
      return verdict;
    } catch (error) {
      this.#breakDown(toAgentError(error));
      return 'duplicate';
    }
  }

  sourcesChanged(): void {
    // Without a tracker the rules of who reads what depend on what peers hold and read.
    if (!this.#with.coordinator.connected) this.#updateNeed();
  }

  // ---- what the coordinator says (LeaseMember)

  reading(): IndexRange[] {
    return this.#leases.reading();
  }

  roster(): { peers: string[]; heldByPeer(index: number): boolean; readByPeer(index: number): boolean } {
    if (this.#originOnly) return { peers: [], heldByPeer: () => false, readByPeer: () => false };
    return {
      peers: this.#swarm.peers(),
      heldByPeer: (index) => this.#swarm.heldByPeer(index),
      readByPeer: (index) => this.#swarm.readByPeer(index),
    };
  }

  grant(lease: Lease): void {
    if (lease.mode === 'run' || lease.mode === 'stream') this.#needSent.runs = Math.max(0, this.#needSent.runs - 1);
    const useful = lease.mode === 'audit' || (this.#state === 'running' && this.#readers.count > 0);
    if (useful) this.#leases.add(lease);
    else this.#tracker.release(lease.leaseId, 'unneeded');
  }

  revoke(leaseId: string, keep: number): void {
    this.#leases.revoke(leaseId, keep);
  }

  vouched(first: number, digests: readonly Uint8Array[], by: string): void {
    digests.forEach((digest, offset) => {
      const index = first + offset;
      if (index >= this.have.length) return;
      this.#vouching.vouch(index, digest, by);
      const held = this.have.has(index) ? this.digestOf(index) : undefined;
      if (held !== undefined && !sameDigest(held, digest)) this.#contradicted(index, held, { digest, by });
    });
  }

  invalid(ranges: readonly IndexRange[]): void {
    const indexes = ranges.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
    this.#forget(indexes.filter((index) => index < this.have.length && !this.#vouching.isReadHere(index)));
  }

  peers(peers: readonly PeerInfo[]): void {
    this.#swarm.connect(peers);
  }

  trackerChanged(): void {
    this.#needSent = { runs: 0, within: undefined };
    this.#updateNeed();
  }

  // ---- chunks arrive

  async #judge(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    const actual = await chunkDigest(bytes);
    if (!sameDigest(actual, digest)) return 'forged';
    const expected = this.#vouching.expected(index);
    if (expected !== undefined && !sameDigest(expected.digest, digest)) {
      // The digest of a one-chunk blob is the authority itself: these bytes are wrong whoever says otherwise.
      if (expected.by === undefined) return 'forged';
      this.#conflict(index, peerId, digest, expected.digest);
      return 'conflict';
    }
    if (this.#state !== 'running' || this.have.has(index) || this.#writing.has(index) || !this.#inWindow(index)) return 'duplicate';
    await this.#write(index, digest, bytes);
    this.#vouching.given(index, peerId);
    this.#arrived(index, 'peer', bytes.length);
    return 'kept';
  }

  async #fromOrigin(lease: Lease, index: number, bytes: Uint8Array): Promise<void> {
    const digest = await chunkDigest(bytes);
    if (lease.mode === 'audit') {
      this.#tracker.done(lease.leaseId, index, [digest]);
      return;
    }
    const expected = this.#vouching.expected(index);
    if (expected !== undefined && !sameDigest(expected.digest, digest)) {
      if (expected.by === undefined) {
        throw new AgentError('DIGEST_MISMATCH', `the origin sent other bytes than ${this.key.digest}`, { detail: { ...this.#init.source } });
      }
      this.#conflict(index, expected.by, expected.digest, digest);
    }
    if (this.#writing.has(index) || (this.have.has(index) && sameDigest(this.digestOf(index)!, digest))) {
      this.#vouching.readHere(index);
      this.#count('duplicate', bytes.length);
    } else {
      if (this.have.has(index)) this.#forget([index]);
      await this.#write(index, digest, bytes);
      this.#vouching.readHere(index);
      this.#arrived(index, 'origin', bytes.length);
    }
    this.#tracker.done(lease.leaseId, index, [digest]);
  }

  async #write(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    this.#writing.add(index);
    try {
      await this.#partial.write(index, digest, bytes);
    } finally {
      this.#writing.delete(index);
    }
    if (!this.#partial.kept && !this.#toldUnkept) {
      this.#toldUnkept = true;
      this.#with.events.fallback('unkept', this);
    }
  }

  #arrived(index: number, source: 'peer' | 'origin', bytes: number): void {
    this.#lastArrivalMs = this.#with.now();
    this.#originFailures = 0;
    this.#count(source, bytes);
    this.#swarm.announce([index]);
    this.#tracker.have([index]);
    this.#readers.wake();
    this.#settle();
  }

  #count(kind: 'peer' | 'origin' | 'duplicate', bytes: number): void {
    this.#bytes[kind] += bytes;
    this.#with.events.bytes(kind, bytes);
  }

  // ---- the whole

  /** Hashes on, and decides when the end is reached. One at a time; runs until nothing more can be done. */
  #settle(): void {
    this.#settling ??= this.#hashOn()
      .catch((error: unknown) => this.#breakDown(toAgentError(error)))
      .finally(() => {
        this.#settling = undefined;
        if (this.#state === 'running' && this.#hashable()) this.#settle();
      });
  }

  #hashable(): boolean {
    return this.#whole.atEnd || this.have.has(this.#whole.next);
  }

  async #hashOn(): Promise<void> {
    while (this.#state === 'running' && this.#hashable()) {
      await this.#whole.advance();
      await this.#dropPassed();
      if (this.#whole.atEnd && this.#state === 'running') await this.#decide();
    }
  }

  async #decide(): Promise<void> {
    if (await this.#whole.matches()) await this.#finish();
    else this.#repair();
  }

  async #finish(): Promise<void> {
    this.#verified = true;
    this.#readers.wake();
    await this.#leases.close('unneeded');
    this.#stored = await this.#partial.finish(this.#init.mediaType).catch((error: unknown) => {
      // The bytes are right and can still be served; they are only not kept.
      this.#lastError = toAgentError(error);
      this.#with.events.fallback('unkept', this);
      return undefined;
    });
    if (this.#stored !== undefined) {
      this.#tracker.seed(this.#stored.chunkDigests);
      this.#with.swarm.seeded(this.key);
    }
    this.#state = 'finished';
    this.#with.events.finished(this, this.#stored);
    if (this.#readers.count === 0) await this.#close(false);
  }

  /** Every chunk matches what was vouched for, the whole does not: somebody lied, or the origin has changed. */
  #repair(): void {
    this.#whole.forget(0);
    this.#with.events.fallback('repair', this);
    const believed = this.have.ranges().flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i)).filter((index) => !this.#vouching.isReadHere(index));
    const error = this.#mismatch();
    if (believed.length === 0) {
      this.#breakDown(error);
      return;
    }
    this.#lastError = error;
    this.#readers.fail(error, (index) => !this.#vouching.isReadHere(index));
    if (this.#with.coordinator.connected) {
      this.#state = 'repairing';
      this.#repairingSinceMs = this.#with.now();
      this.#tracker.mismatch();
    } else {
      this.#originOnly = true;
      this.#forget(believed);
    }
  }

  #mismatch(): AgentError {
    return new AgentError('DIGEST_MISMATCH', `the bytes that arrived are not ${this.key.digest}`, { detail: { ...this.#init.source } });
  }

  /** A held chunk is not what `other` vouches for. */
  #contradicted(index: number, held: Uint8Array, other: { digest: Uint8Array; by: string }): void {
    if (this.#vouching.isReadHere(index)) {
      this.#conflict(index, other.by, other.digest, held);
      return;
    }
    const giver = this.#vouching.giver(index);
    if (giver !== undefined && giver !== other.by) this.#conflict(index, giver, held, other.digest);
    this.#forget([index]);
    this.#vouching.vouch(index, other.digest, other.by);
  }

  #conflict(index: number, peerId: string, heard: Uint8Array, expected: Uint8Array): void {
    this.#with.events.fallback('conflict', this);
    this.#tracker.conflict(index, peerId, heard, expected);
  }

  /** Drops chunks that are or may be wrong, breaks the readers that took them, and fetches them again. */
  #forget(indexes: readonly number[]): void {
    const held = indexes.filter((index) => this.have.has(index));
    for (const index of indexes) this.#vouching.forget(index);
    if (held.length === 0) return;
    const wrong = new Set(held);
    const ranges = toRanges(held);
    this.#whole.forget(Math.min(...held));
    this.#readers.fail(this.#mismatch(), (index) => wrong.has(index));
    this.#partial.drop(ranges).catch((error: unknown) => this.#breakDown(toAgentError(error)));
    this.#swarm.retract();
    this.#tracker.lost(ranges);
    if (this.#state === 'repairing') this.#state = 'running';
    this.#updateNeed();
    this.#swarm.poke();
  }

  // ---- demand, leases, time

  #demandChanged(what: DemandChange): void {
    // Readers calls back while the constructor still runs only for readers, of which there are none yet.
    if (what === 'readers') {
      this.#idleSinceMs = this.#readers.count === 0 ? this.#with.now() : undefined;
      if (this.#readers.count === 0) this.#leases.releaseSpares();
      if (this.#readers.count === 0 && this.#state === 'finished') void this.#close(false);
    }
    if (what === 'readers' || !this.#partial.kept) {
      this.#updateNeed();
      this.#swarm.poke();
      if (!this.#partial.kept) this.#settle();
    }
  }

  #leasesChanged(): void {
    this.#swarm.reading(this.#leases.reading());
    this.#updateNeed();
    this.#swarm.poke();
  }

  #updateNeed(): void {
    if (this.#state !== 'running') return;
    const asked = this.#partial.kept ? this.#readers.asked() : this.#window();
    const runs = asked !== undefined && this.#init.canRead ? this.#leases.wanted : 0;
    const within = asked?.[1] === this.have.length ? undefined : asked;
    const sent = this.#needSent;
    if (sent.runs === runs && sent.within?.[0] === within?.[0] && sent.within?.[1] === within?.[1]) return;
    this.#needSent = { runs, within };
    this.#tracker.need(runs, this.#leases.originRate, within);
  }

  /** The chunks worth having now, as one range: what is demanded, within what memory allows. */
  #window(): IndexRange | undefined {
    const demanded = this.#readers.demanded();
    if (demanded === undefined) return undefined;
    const { first, last } = demanded;
    if (this.#partial.kept) return [first, last - first + 1];
    // Chunks that the whole's hash still needs stay in memory, so the window starts at the earlier of both.
    const start = Math.min(first, this.#whole.next);
    const chunks = Math.max(2, Math.floor(this.#init.windowBytes / chunkSize(this.key.size)));
    return [start, Math.min(chunks, last - start + 1)];
  }

  #inWindow(index: number): boolean {
    const window = this.#window();
    return window !== undefined && index >= window[0] && index < window[0] + window[1];
  }

  /** In memory only: chunks that all readers and the hash have passed make room. */
  async #dropPassed(): Promise<void> {
    if (this.#partial.kept) return;
    const first = this.#readers.demanded()?.first ?? this.have.length;
    const end = Math.min(first, this.#whole.next);
    const ranges = this.have.ranges().filter(([start]) => start < end).map(([start, count]): IndexRange => [start, Math.min(count, end - start)]);
    if (ranges.length === 0) return;
    await this.#partial.drop(ranges);
    this.#swarm.retract();
    this.#tracker.lost(ranges);
    this.#updateNeed();
    this.#swarm.poke();
  }

  #originFailed(error: AgentError): void {
    this.#lastError = error;
    this.#originFailures++;
    const alone = this.#swarm.peers().length === 0;
    if (error.row.retryable && !alone && this.#originFailures < MAX_ORIGIN_FAILURES) return;
    const demanded = this.#readers.demanded();
    if (demanded === undefined) return;
    let next = demanded.first;
    while (next < demanded.last && this.have.has(next)) next++;
    if (this.#swarm.heldByPeer(next) || this.#swarm.readByPeer(next)) return;
    if (error.code === 'DIGEST_MISMATCH') this.#breakDown(error);
    else this.#readers.fail(error);
  }

  #tick(): void {
    const now = this.#with.now();
    if (this.#verified) return;
    if (this.#idleSinceMs !== undefined && now - this.#idleSinceMs >= this.#init.lingerMs && this.#leases.idle) {
      void this.#close(true);
      return;
    }
    if (this.#state === 'repairing' && now - this.#repairingSinceMs >= this.#init.auditMs) {
      this.#breakDown(this.#mismatch());
      return;
    }
    const starving = this.#readers.starving();
    if (starving === undefined || this.#state !== 'running') return;
    const stuckMs = now - Math.max(this.#lastArrivalMs, starving.sinceMs);
    if (stuckMs >= this.#init.stallMs) {
      this.#with.events.fallback('stalled', this);
      const cause = this.#lastError;
      this.#readers.fail(new AgentError('PULL_STALLED', `no bytes of ${this.key.digest} for ${Math.round(stuckMs / 1000)} s`, { cause, detail: { lastError: cause?.code } }));
    } else if (stuckMs >= this.#init.hedgeMs && now - this.#hedgedAtMs >= this.#init.hedgeMs && this.#init.canRead && !this.#leases.covers(starving.index)) {
      this.#hedgedAtMs = now;
      this.#with.events.fallback('hedge', this);
      this.#tracker.hedge(starving.index);
    }
    this.#swarm.poke();
  }

  /** Nothing more can come of this download: readers are told why, and its chunks are not believed again. */
  #breakDown(error: AgentError): void {
    this.#lastError = error;
    this.#readers.fail(error);
    void this.#close(false);
  }

  async #close(keep: boolean): Promise<void> {
    // A verified blob is first finished on disk: closing now would throw it away.
    if (this.#verified && this.#state === 'running') await this.#settling;
    if (this.#state === 'closed') return;
    const kept = this.#stored !== undefined;
    this.#state = 'closed';
    clearInterval(this.#timer);
    this.#with.events.closed(this, kept);
    await this.#leases.close('unneeded');
    this.#tracker.leave(kept);
    this.#swarm.leave();
    this.#whole.close();
    if (!kept) await this.#partial.close(keep).catch((error: unknown) => { this.#lastError = toAgentError(error); });
  }
}
