// One blob on its way to this host. Single writer of the blob's state: what is here, who vouched for it, who gave it,
// whether the whole was verified. Chunks come as events from peers (accept) and from leases (HeldLeases); each one is
// hashed, written, announced. Non-goals: which peer to ask (swarm/), who may read the origin (the coordinator).
//
//   running --all here, digest right, kept on disk--> finished --no readers--> closed
//      ^  | digest wrong                                                         ^
//      |  v                                                                      |
//   repairing                              running --no readers, lingered--------+
//
// Without room on disk it stays running after the digest was found right: a late reader fetches again what has left memory.
// Invariant: no chunk that contradicts one that was hashed goes out as that chunk, so what was verified once is what all read.

import { toRanges, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, type BlobKey } from '@flotilla/shared/chunk-map';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import { AgentError, toAgentError } from '../errors.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import { Demand } from './demand.ts';
import { HeldLeases } from './held-leases.ts';
import { Patience } from './patience.ts';
import type {
  ByteRange,
  ChunkVerdict,
  Coordinator,
  Lease,
  LeaseHandle,
  LeaseMember,
  LeaseRoster,
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

/** Something out of the ordinary in a pull; each is counted. */
export type DownloadFallback = 'hedge' | 'repair' | 'stalled' | 'unkept' | 'conflict' | 'chunk-lost';

export interface DownloadEvents {
  /** Bytes that were delivered by a source, verified. */
  bytes(source: 'peer' | 'origin' | 'duplicate', bytes: number): void;
  fallback(kind: DownloadFallback, download: Download): void;
  /** The blob was verified; `stored` unless there was no room to keep it. */
  finished(download: Download, stored: StoredBlob | undefined): void;
  /** Everything is let go of: the blob may be opened anew. */
  closed(download: Download): void;
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
  /** Calls `tick` at this interval until the returned function is called. @default a timer that keeps no process alive */
  readonly every?: (intervalMs: number, tick: () => void) => () => void;
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
  /** An origin that fails is no reason to give up before peers had this long to say what they hold. @default 2000 */
  readonly settleMs?: number;
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
const DEFAULTS = { lingerMs: 5000, hedgeMs: 5000, stallMs: 60_000, auditMs: 15_000, settleMs: 2000, windowBytes: 32 * 1024 * 1024 };

export class Download implements SwarmMember, LeaseMember {
  readonly key: BlobKey;
  readonly #init: Required<Omit<DownloadInit, 'mediaType'>> & Pick<DownloadInit, 'mediaType'>;
  readonly #with: DownloadComponents;
  readonly #partial: PartialBlob;
  readonly #readers: Readers;
  readonly #demand: Demand;
  readonly #leases: HeldLeases;
  readonly #whole: WholeHash;
  readonly #vouching: Vouching;
  readonly #swarm: SwarmHandle;
  readonly #tracker: LeaseHandle;
  readonly #patience: Patience;
  readonly #stopTicking: () => void;
  readonly #startedMs: number;
  readonly #bytes = { peer: 0, origin: 0, duplicate: 0 };
  /** Chunks between verification and the end of their write. `wrong`: to be dropped then. */
  readonly #writing = new Map<number, { readonly done: Promise<void>; wrong: boolean }>();
  #state: DownloadStatus['state'] = 'running';
  /** The whole blob's digest is right; set before it is finished on disk. */
  #verified = false;
  /** The whole was wrong once: until it is right, only what was read here goes out. */
  #doubted = false;
  #stored: StoredBlob | undefined;
  /** Set when nobody could say which peer lied: only the origin is believed from then on. */
  #originOnly = false;
  #lastError: AgentError | undefined;
  #needSent = { runs: 0, within: undefined as IndexRange | undefined };
  #settling: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #toldUnkept: boolean;

  constructor(components: DownloadComponents, init: DownloadInit) {
    this.#with = components;
    this.#init = { ...DEFAULTS, ...definedOf(init) };
    this.#partial = components.partial;
    this.#toldUnkept = !components.partial.kept;
    this.key = components.partial.key;
    this.#startedMs = components.now();
    this.#patience = new Patience(this.#init, this.#startedMs);
    this.#vouching = new Vouching(this.key);
    this.#whole = new WholeHash(this.#partial, components.hashes.open(this.key.digest), (index) => this.readChunk(index));
    this.#readers = new Readers(
      this.key,
      {
        has: (index) => this.have.has(index),
        trusted: (index) => this.#trusts(index),
        readChunk: (index) => this.readChunk(index),
        verified: () => this.#verified,
        missing: () => this.#demand.missing(),
      },
      components.now,
      (what) => this.#demandChanged(what),
    );
    this.#demand = new Demand(this.key, this.#init.windowBytes, this.#readers, {
      have: this.have,
      kept: () => this.#partial.kept,
      hashed: () => this.#whole.next,
      doubted: () => this.#doubted,
      verified: () => this.#verified,
    });
    this.#leases = new HeldLeases(this.key, init.source, {
      origin: components.origin,
      handle: () => this.#tracker,
      now: components.now,
      onBytes: (lease) => this.#patience.progressed(components.now(), lease.mode === 'hedge'),
      onChunk: (lease, index, bytes) => this.#fromOrigin(lease, index, bytes),
      onFailure: (error) => this.#originFailed(error),
      onChange: () => this.#leasesChanged(),
      has: (index) => this.have.has(index),
    });
    this.#swarm = components.swarm.join(this);
    this.#tracker = components.coordinator.join(this, init.source, init.canRead);
    this.#stopTicking = (components.every ?? everyUnref)(TICK_MS, () => this.#tick());
    this.#settle();
  }

  get have(): ReadonlyBitfield {
    return this.#partial.have;
  }

  /** False once it takes no readers any more: after `closed` a new download can be opened. */
  get open(): boolean {
    return this.#closing === undefined;
  }

  /** Joins as a reader, at once; see Readers.read. Only while `open`. */
  read(range: ByteRange, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    return this.#readers.read(range, signal);
  }

  /** Fetches the whole blob for nobody in particular; resolves when it is verified. @throws DISK_FULL where it cannot be kept */
  async background(signal: AbortSignal): Promise<void> {
    if (!this.#partial.kept) throw this.#noRoom();
    await this.#readers.background(signal);
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
  close(error = new AgentError('DRAINING', 'the agent is stopping')): Promise<void> {
    this.#readers.fail(error);
    return this.#close(true);
  }

  // ---- what the swarm asks (Holding, SwarmMember)

  digestOf(index: number): Uint8Array | undefined {
    return this.#partial.digestOf(index);
  }

  async readChunk(index: number): Promise<Uint8Array> {
    if (this.#stored !== undefined) return this.#stored.read(chunkBounds(this.key.size, index));
    const held = this.have.has(index);
    try {
      return await this.#partial.read(index);
    } catch (error) {
      if (held && !this.have.has(index)) this.#chunkLost(index, toAgentError(error));
      throw error;
    }
  }

  wants(index: number): boolean {
    if (this.#state !== 'running' || this.#originOnly) return false;
    // The whole was wrong once: a chunk that only its sender vouches for is not believed again.
    if (this.#doubted && this.#vouching.expected(index) === undefined) return false;
    return !this.have.has(index) && !this.#writing.has(index) && this.#demand.includes(index) && !this.#leases.covers(index);
  }

  urgent(): number | undefined {
    const starving = this.#readers.starving(true);
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

  roster(): LeaseRoster {
    if (this.#originOnly) return { peers: [], heldByPeer: () => false, readByPeer: () => false };
    return {
      peers: this.#swarm.peers(),
      heldByPeer: (index) => this.#swarm.heldByPeer(index),
      readByPeer: (index) => this.#swarm.readByPeer(index),
    };
  }

  grant(lease: Lease): void {
    if (lease.mode === 'run' || lease.mode === 'stream') this.#needSent.runs = Math.max(0, this.#needSent.runs - 1);
    const useful = lease.mode === 'audit' || (this.#state === 'running' && this.#readers.count > 0 && !this.have.full);
    if (useful && this.open) this.#leases.add(lease);
    else this.#tracker.release(lease.leaseId, 'unneeded');
  }

  revoke(leaseId: string, keep: number): void {
    this.#leases.revoke(leaseId, keep);
  }

  vouched(first: number, digests: readonly Uint8Array[], by: string): void {
    digests.slice(0, Math.max(0, this.have.length - first)).forEach((digest, offset) => {
      const index = first + offset;
      const here = this.#digestHere(index);
      if (!this.#verified) this.#vouching.vouch(index, digest, by);
      if (here !== undefined && !sameDigest(here, digest)) this.#contradicted(index, here, digest, by);
    });
  }

  invalid(ranges: readonly IndexRange[]): void {
    if (this.#verified) return;
    this.#forget(ranges.flatMap((range) => this.#indexes(range)).filter((index) => !this.#vouching.isReadHere(index)));
    // In memory only, the wrong chunks are gone already.
    if (this.#state === 'repairing' && !this.#partial.kept) this.#goOn();
  }

  peers(peers: readonly PeerInfo[]): void {
    this.#swarm.connect(peers);
  }

  trackerChanged(connected: boolean): void {
    this.#needSent = { runs: 0, within: undefined };
    if (!connected && this.#state === 'repairing') this.#distrustPeers();
    this.#updateNeed();
  }

  // ---- chunks arrive

  async #judge(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    const actual = await chunkDigest(bytes);
    const { start, end } = chunkBounds(this.key.size, index);
    if (!sameDigest(actual, digest) || bytes.length !== end - start) return 'forged';
    const expected = this.#vouching.expected(index);
    if (expected !== undefined && !sameDigest(expected.digest, digest)) {
      if (expected.certain) return 'forged';
      this.#conflict(index, peerId, digest, expected.digest);
      return 'conflict';
    }
    if (this.#doubted && expected === undefined) return 'duplicate';
    const taken = this.#state === 'running' && !this.#originOnly && !this.have.has(index) && !this.#writing.has(index);
    if (!taken || (!this.#partial.kept && !this.#demand.includes(index))) return 'duplicate';
    this.#vouching.given(index, peerId);
    if (!(await this.#write(index, digest, bytes))) return 'duplicate';
    const since = this.#vouching.expected(index);
    if (since?.by !== undefined && !sameDigest(since.digest, digest)) {
      // Vouched for otherwise while it was being written.
      this.#contradicted(index, digest, since.digest, since.by);
      return 'conflict';
    }
    this.#arrived(index, 'peer', bytes.length);
    return 'kept';
  }

  async #fromOrigin(lease: Lease, index: number, bytes: Uint8Array): Promise<void> {
    const digest = await chunkDigest(bytes);
    if (lease.mode === 'audit') {
      this.#tracker.done(lease.leaseId, index, [digest]);
      return;
    }
    // A peer's chunk on its way to the disk has to be compared as well.
    await this.#writing.get(index)?.done;
    const expected = this.#vouching.expected(index);
    if (expected !== undefined && !sameDigest(expected.digest, digest)) {
      if (expected.certain) throw this.#mismatch('the origin sent other bytes than');
      if (expected.by !== undefined) this.#conflict(index, expected.by, expected.digest, digest);
    }
    const here = this.#digestHere(index);
    if (here !== undefined && !sameDigest(here, digest)) {
      const giver = this.#vouching.giver(index);
      if (giver !== undefined && giver !== expected?.by) this.#conflict(index, giver, here, digest);
      this.#forget([index]);
    }
    this.#vouching.readHere(index);
    if (this.have.has(index) || (!this.#partial.kept && !this.#demand.includes(index))) {
      this.#count('duplicate', bytes.length);
    } else if (await this.#write(index, digest, bytes)) {
      this.#patience.originWell();
      this.#arrived(index, 'origin', bytes.length, lease.mode === 'hedge');
    }
    this.#tracker.done(lease.leaseId, index, [digest]);
  }

  /** @returns whether the chunk is here now */
  async #write(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const write = { done: promise, wrong: false };
    this.#writing.set(index, write);
    try {
      await this.#partial.write(index, digest, bytes);
    } finally {
      this.#writing.delete(index);
      resolve();
    }
    if (!this.open) return false;
    if (!this.#partial.kept) this.#wroteToMemory(index);
    if (write.wrong) this.#drop([[index, 1]]);
    return this.have.has(index);
  }

  #wroteToMemory(index: number): void {
    this.#demand.wroteToMemory(index);
    if (this.#toldUnkept) return;
    this.#toldUnkept = true;
    this.#with.events.fallback('unkept', this);
    this.#readers.failBackground(this.#noRoom());
  }

  #arrived(index: number, source: 'peer' | 'origin', bytes: number, hedged = false): void {
    this.#patience.progressed(this.#with.now(), hedged);
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

  /** The digest of a chunk that is here, or that was here and left memory. */
  #digestHere(index: number): Uint8Array | undefined {
    return this.have.has(index) ? this.digestOf(index) : this.#vouching.passed(index);
  }

  // ---- the whole

  /** Hashes on, and decides when the end is reached. One at a time; runs until nothing more can be done. */
  #settle(): void {
    this.#settling ??= this.#hashOn()
      .catch((error: unknown) => this.#breakDown(toAgentError(error)))
      .finally(() => {
        this.#settling = undefined;
        if (this.#hashable()) this.#settle();
      });
  }

  #hashable(): boolean {
    return this.#state === 'running' && this.open && !this.#verified && (this.#whole.atEnd || this.have.has(this.#whole.next));
  }

  async #hashOn(): Promise<void> {
    while (this.#hashable()) {
      await this.#whole.advance();
      if (!this.#partial.kept) this.#windowMoved();
      if (this.#whole.atEnd && this.#hashable()) await this.#decide();
    }
  }

  async #decide(): Promise<void> {
    const right = await this.#whole.matches();
    if (right === undefined || !this.#hashable()) return;
    if (right) await this.#finish();
    else this.#repair();
  }

  async #finish(): Promise<void> {
    this.#verified = true;
    this.#doubted = false;
    this.#vouching.prove();
    this.#readers.wake();
    if (this.#partial.kept) {
      await this.#leases.stop();
      this.#stored = await this.#partial.finish(this.#init.mediaType).catch((error: unknown) => {
        this.#lastError = toAgentError(error);
        return undefined;
      });
      // The bytes are right and can still be served; they are only not kept.
      if (this.#stored === undefined) this.#with.events.fallback('unkept', this);
    }
    if (this.#stored !== undefined) {
      this.#tracker.seed(this.#stored.chunkDigests);
      this.#with.swarm.seeded(this.key);
      this.#state = 'finished';
    }
    this.#with.events.finished(this, this.#stored);
    if (this.#stored !== undefined && this.#readers.count === 0) void this.#close(true);
  }

  /** Every chunk matches what was vouched for, the whole does not: somebody lied, or the origin has changed. */
  #repair(): void {
    const error = this.#mismatch('the bytes that arrived are not');
    this.#with.events.fallback('repair', this);
    const believed = this.#indexes([0, this.have.length]).filter((index) => !this.#vouching.isReadHere(index));
    if (believed.length === 0) {
      this.#breakDown(error);
      return;
    }
    this.#lastError = error;
    this.#doubted = this.#partial.kept;
    this.#startOver();
    if (this.#partial.kept) this.#readers.failTaken(error, (index) => !this.#vouching.isReadHere(index));
    else this.#readers.fail(error);
    this.#state = 'repairing';
    this.#patience.repairing(this.#with.now());
    if (this.#with.coordinator.connected) this.#tracker.mismatch();
    else this.#distrustPeers();
  }

  /** Drops every chunk that this host did not read at the origin itself, and takes no other from now on. */
  #distrustPeers(): void {
    this.#originOnly = true;
    this.#forget(this.#indexes([0, this.have.length]).filter((index) => !this.#vouching.isReadHere(index)));
    if (this.#state === 'repairing') this.#goOn();
  }

  /** The end of a repair: what was wrong has been dropped. */
  #goOn(): void {
    this.#state = 'running';
    this.#updateNeed();
    this.#swarm.poke();
    this.#readers.wake();
    this.#settle();
  }

  /** A held chunk is not what `by` vouches for. */
  #contradicted(index: number, here: Uint8Array, vouched: Uint8Array, by: string): void {
    if (this.#verified || this.#vouching.isReadHere(index) || this.#vouching.expected(index)?.certain === true) {
      this.#conflict(index, by, vouched, here);
      return;
    }
    const giver = this.#vouching.giver(index);
    if (giver !== undefined && giver !== by) this.#conflict(index, giver, here, vouched);
    this.#forget([index]);
    this.#vouching.vouch(index, vouched, by);
  }

  #conflict(index: number, peerId: string, heard: Uint8Array, expected: Uint8Array): void {
    this.#with.events.fallback('conflict', this);
    this.#tracker.conflict(index, peerId, heard, expected);
  }

  /** Drops chunks that are or may be wrong, breaks the readers that took them, and fetches them again. */
  #forget(indexes: readonly number[]): void {
    const wrong = new Set(indexes.filter((index) => this.#digestHere(index) !== undefined));
    for (const index of indexes) {
      this.#vouching.forget(index);
      const write = this.#writing.get(index);
      if (write !== undefined) write.wrong = true;
    }
    if (wrong.size === 0) return;
    const hashed = this.#whole.fed;
    const restarted = this.#whole.forget(Math.min(...wrong));
    this.#drop(toRanges([...wrong].filter((index) => this.have.has(index))));
    if (restarted) this.#startOver();
    // Without the disk what was hashed cannot be hashed again: its readers have to begin anew.
    this.#readers.failTaken(this.#mismatch('a part of what arrived is not of'), (index) => wrong.has(index) || (restarted && !this.#partial.kept && index < hashed));
    if (this.#state === 'repairing') this.#goOn();
    else this.#settle();
  }

  /** The hash begins at the first chunk again. */
  #startOver(): void {
    this.#whole.forget(0);
    this.#vouching.forgetPassed();
  }

  #chunkLost(index: number, error: AgentError): void {
    this.#lastError = error;
    this.#with.events.fallback('chunk-lost', this);
    this.#retracted([[index, 1]]);
  }

  #drop(ranges: readonly IndexRange[]): void {
    if (ranges.length === 0) return;
    this.#partial.drop(ranges).catch((error: unknown) => this.#breakDown(toAgentError(error)));
    this.#retracted(ranges);
  }

  #retracted(ranges: readonly IndexRange[]): void {
    this.#tracker.lost(ranges);
    this.#swarm.retract();
    this.#updateNeed();
    this.#swarm.poke();
  }

  #trusts(index: number): boolean {
    return this.#verified || this.#vouching.isReadHere(index) || !(this.#doubted || this.#state === 'repairing');
  }

  #indexes([first, count]: IndexRange): number[] {
    return Array.from({ length: Math.max(0, Math.min(count, this.have.length - first)) }, (_, offset) => first + offset);
  }

  #mismatch(what: string): AgentError {
    return new AgentError('DIGEST_MISMATCH', `${what} ${this.key.digest}`, { detail: { ...this.#init.source } });
  }

  #noRoom(): AgentError {
    return new AgentError('DISK_FULL', `no room to keep ${this.key.digest}: it is fetched when somebody reads it`, { cause: this.#lastError, detail: { size: this.key.size } });
  }

  // ---- demand, leases, time

  #demandChanged(what: DemandChange): void {
    if (what === 'readers') {
      this.#patience.readersChanged(this.#readers.count, this.#with.now());
      if (this.#readers.count === 0) this.#leases.releaseSpares();
      if (this.#readers.count === 0 && this.#state === 'finished') void this.#close(true);
    }
    if (!this.#partial.kept) this.#windowMoved();
    else if (what === 'readers') this.#demandMoved();
  }

  /** In memory only: what no reader and not the hash needs any more makes room for what comes next. */
  #windowMoved(): void {
    if (!this.open) return;
    const passed = this.#demand.takePassed();
    const hashed = this.#whole.fed;
    for (const index of passed.flatMap((range) => this.#indexes(range))) {
      const digest = this.digestOf(index);
      if (index < hashed && digest !== undefined) this.#vouching.pass(index, digest);
    }
    if (passed.length > 0) this.#drop(passed);
    else this.#demandMoved();
  }

  #demandMoved(): void {
    this.#updateNeed();
    this.#swarm.poke();
  }

  #leasesChanged(): void {
    if (!this.open) return;
    this.#swarm.reading(this.#leases.reading());
    this.#demandMoved();
    if (this.#patience.hedging) this.#tick();
  }

  #updateNeed(): void {
    if (this.#state !== 'running' || !this.open) return;
    const asked = this.#readers.count > 0 ? this.#demand.range() : undefined;
    const runs = asked !== undefined && this.#init.canRead ? this.#leases.wanted : 0;
    const within = asked?.[1] === this.have.length ? undefined : asked;
    const sent = this.#needSent;
    if (sent.runs === runs && sent.within?.[0] === within?.[0] && sent.within?.[1] === within?.[1]) return;
    this.#needSent = { runs, within };
    this.#tracker.need(runs, this.#leases.originRate, within);
  }

  #originFailed(error: AgentError): void {
    this.#lastError = error;
    this.#patience.originFailed(error, this.#with.now());
  }

  #tick(): void {
    if (!this.open || this.#state === 'finished') return;
    const now = this.#with.now();
    this.#patience.received(this.#swarm.sources().reduce((sum, source) => sum + source.bytesDown, 0), now);
    const starving = this.#readers.starving();
    const roster = this.roster();
    const verdict = this.#patience.decide(
      {
        repairing: this.#state === 'repairing',
        // A stream of the whole blob is read on for the peers that follow it.
        followed: this.#leases.streaming && roster.peers.length > 0,
        starving,
        expected: starving !== undefined && (roster.heldByPeer(starving.index) || roster.readByPeer(starving.index)),
        covered: starving !== undefined && this.#leases.covers(starving.index),
        alone: roster.peers.length === 0,
      },
      now,
    );
    switch (verdict.kind) {
      case 'close':
        void this.#close(true);
        return;
      case 'unrepaired':
        this.#breakDown(this.#mismatch('nobody could say which part is not of'));
        return;
      case 'give-up':
        if (verdict.error.code === 'DIGEST_MISMATCH') this.#breakDown(verdict.error);
        else this.#readers.failStarving(verdict.error);
        return;
      case 'stalled':
        this.#stalled(this.#patience.stuckMs(starving!.sinceMs, now));
        return;
      case 'hedge':
        if (this.#init.canRead && this.#demand.includes(starving!.index)) this.#hedge(starving!.index);
        break;
      case 'wait':
    }
    if (starving !== undefined) this.#swarm.poke();
  }

  #hedge(index: number): void {
    this.#with.events.fallback('hedge', this);
    this.#tracker.hedge(index);
  }

  #stalled(stuckMs: number): void {
    this.#with.events.fallback('stalled', this);
    const cause = this.#lastError;
    this.#readers.failStarving(
      new AgentError('PULL_STALLED', `no bytes of ${this.key.digest} for ${Math.round(stuckMs / 1000)} s`, { cause, detail: { lastError: cause?.code } }),
    );
  }

  /** Nothing more can come of this download: readers are told why, and its chunks are not believed again. */
  #breakDown(error: AgentError): void {
    this.#lastError = error;
    this.#readers.fail(error);
    void this.#close(false);
  }

  #close(keep: boolean): Promise<void> {
    this.#closing ??= this.#end(keep);
    return this.#closing;
  }

  /** Never rejects: what fails stands in lastError. */
  async #end(keep: boolean): Promise<void> {
    this.#stopTicking();
    // A verified blob is first finished on disk: closing now would throw it away.
    if (this.#verified) await this.#settling;
    this.#state = 'closed';
    try {
      await this.#leases.stop();
      this.#tracker.leave(this.#stored !== undefined);
      this.#swarm.leave();
      this.#whole.close();
      await this.#partial.close(keep);
    } catch (error) {
      this.#lastError = toAgentError(error);
    } finally {
      this.#with.events.closed(this);
    }
  }
}

function everyUnref(intervalMs: number, tick: () => void): () => void {
  const timer = setInterval(tick, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}

/** Settings that are present: `undefined` does not take the place of a default. */
function definedOf(init: DownloadInit): DownloadInit {
  return Object.fromEntries(Object.entries(init).filter(([, value]) => value !== undefined)) as unknown as DownloadInit;
}
