// One blob on its way to this host: who waits for it, what is asked for on their behalf, and when it is over. Its chunks, and
// whether they are believed, are Chunks' business; which peer to ask is swarm/'s, who may read the origin the coordinator's.
//
//   running --all here, digest right, kept on disk--> finished --no readers--> closed
//      ^  | digest wrong                                                         ^
//      |  v                                                                      |
//   repairing                              running --no readers, lingered--------+
//
// Without room on disk it stays running after the digest was found right: a late reader fetches again what has left memory.
// From every state it closes when the agent stops, and when nothing more can come of it: the chunks are then thrown away.

import type { IndexRange, ReadonlyBitfield } from '@flotilla/shared/bitfield';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { ImportSeat } from '@flotilla/shared/import-seats';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import { AgentError, toAgentError } from '../errors.ts';
import { Chunks } from './chunks.ts';
import { Demand } from './demand.ts';
import { withDefaults, type CompleteInit, type DownloadComponents, type DownloadInit, type DownloadStatus } from './download-contract.ts';
import { HeldLeases } from './held-leases.ts';
import { Patience } from './patience.ts';
import type { ByteRange, ChunkVerdict, Lease, LeaseHandle, LeaseMember, LeaseRoster, OnServed, Source, StoredBlob, SwarmHandle, SwarmMember } from './ports.ts';
import { Provenance, type ByteSource } from './provenance.ts';
import { Readers, type DemandChange } from './readers.ts';
import { Sources, type SourceRight } from './sources.ts';
import { Watch } from './watch.ts';

const URGENT_MS = 1000;
/** A client that has got nothing for so long is not helped by others standing back. */
const STUCK_MS = 5000;

export class Download implements SwarmMember, LeaseMember {
  readonly key: BlobKey;
  /** Where its bytes came from. */
  readonly provenance: Provenance;
  readonly #init: CompleteInit;
  readonly #with: DownloadComponents;
  readonly #chunks: Chunks;
  readonly #readers: Readers;
  readonly #demand: Demand;
  readonly #sources = new Sources();
  readonly #suspects = new Set<string>();
  readonly #leases: HeldLeases;
  readonly #swarm: SwarmHandle;
  readonly #tracker: LeaseHandle;
  readonly #patience: Patience;
  readonly #watch: Watch;
  readonly #startedMs: number;
  #lastError: AgentError | undefined;
  #toldUnkept: boolean;
  /** Where it is read and whether, as the coordinator knows it. */
  #told = '';
  #open = true;
  #gaveWay = false;
  /** Whether the finished blob is on disk, once that is known. */
  readonly #kept = Promise.withResolvers<boolean>();
  #closing: Promise<void> | undefined;
  #closed = false;

  constructor(components: DownloadComponents, init: DownloadInit) {
    const { partial, hashes, now } = components;
    this.#with = components;
    this.#init = withDefaults(init);
    this.#toldUnkept = !partial.kept;
    this.key = partial.key;
    this.provenance = new Provenance(this.key, partial.have);
    this.#startedMs = now();
    this.#patience = new Patience(this.#init, this.#startedMs);
    this.#chunks = new Chunks(partial, hashes, init.source, {
      wanted: (index) => this.#demand.includes(index),
      inMemory: (index) => this.#wroteToMemory(index),
      came: (bytes, peerId) => {
        if (peerId !== undefined) this.provenance.gave(peerId, bytes);
        this.#count(peerId === undefined ? 'origin' : 'peer', bytes);
      },
      hashed: () => {
        if (!this.#chunks.kept) this.#windowMoved();
      },
      forgotten: (ranges, damage) => this.#forgotten(ranges, damage),
      disbelieved: (error, which) => this.#readers.failTaken(error, which),
      conflict: (index, peerId, heard, expected) => {
        this.#with.events.fallback('conflict', this);
        this.#tracker.conflict(index, peerId, heard, expected);
      },
      suspected: (peerId) => {
        this.#suspects.add(peerId);
        this.#distrust();
      },
      verified: () => this.#finish(),
      mismatch: (error, doubtful) => this.#mismatched(error, doubtful),
      stillWrong: () => {
        if (this.#with.coordinator.connected) this.#tracker.mismatch();
      },
      repaired: () => {
        this.#demandMoved();
        this.#readers.wake();
      },
      failed: (error) => this.#breakDown(error),
    });
    this.#readers = new Readers(this.key, this.#chunks, now, {
      demandChanged: (what) => this.#demandChanged(what),
      tracked: () => components.coordinator.connected,
      unvouched: () => this.#with.events.fallback('unvouched', this),
    });
    this.#demand = new Demand(this.key, this.#init.windowBytes, this.#readers, this.#chunks);
    this.#admit(init);
    this.#leases = new HeldLeases(this.key, {
      origin: components.origin,
      right: () => this.#sources.best,
      handle: () => this.#tracker,
      now,
      onBytes: (lease) => this.#patience.progressed(now(), lease.mode === 'hedge'),
      onChunk: (lease, index, digest, bytes) => this.#fromOrigin(lease, index, digest, bytes),
      onFailure: (error, right) => this.#originFailed(error, right),
      onChange: (changed) => this.#leasesChanged(changed),
      has: (index) => this.have.has(index),
    });
    this.#swarm = components.swarm.join(this);
    this.#tracker = components.coordinator.join(this, this.#source, this.#canRead);
    this.#watch = new Watch(this.#patience, { ...components, chunks: this.#chunks, readers: this.#readers, leases: this.#leases, swarm: this.#swarm }, {
      roster: () => this.roster(),
      givesWay: () => this.#givesWay(),
      hedge: (index) => this.#hedge(index),
      stalled: (stuckMs) => this.#stalled(stuckMs),
      over: () => void this.#close(true),
      hopeless: (error) => this.#breakDown(error),
    });
  }

  get have(): ReadonlyBitfield {
    return this.#chunks.have;
  }

  /** False once it takes no readers any more: after `closed` a new download can be opened. */
  get open(): boolean {
    return this.#open;
  }

  /** Somebody who joins has a right to read it at the origin too, perhaps a better one. */
  admit(init: Pick<DownloadInit, 'source' | 'authority'>): void {
    if (this.#admit(init)) this.#rightsChanged(false);
  }

  /** Joins as a reader, at once; see Readers.read. Only while `open`. */
  read(asked: ByteRange | readonly ByteRange[], signal: AbortSignal, onBytes?: OnServed): Promise<AsyncIterable<Uint8Array>> {
    return this.#readers.read(asked, signal, onBytes);
  }

  /**
   * Fetches the whole blob for nobody in particular; resolves when it is verified and kept. @param low behind whatever clients wait for
   * @throws DISK_FULL where it cannot be kept
   */
  async background(signal: AbortSignal, low = false): Promise<void> {
    if (!this.#chunks.kept) throw this.#noRoom();
    await this.#readers.background(signal, low);
    if (!(await this.#kept.promise)) throw this.#noRoom();
  }

  /** A client waits for a chunk of it, and chunks do come. */
  get waitedFor(): boolean {
    const sinceMs = this.#readers.clientWaitsSinceMs;
    return sinceMs !== undefined && this.#patience.stuckMs(sinceMs, this.#with.now()) < STUCK_MS;
  }

  status(): DownloadStatus {
    return {
      digest: this.key.digest,
      size: this.key.size,
      source: this.#source,
      state: this.#state,
      chunks: this.have.length,
      held: this.have.count,
      readers: this.#readers.count,
      kept: this.#chunks.kept,
      bytes: this.provenance.bytes,
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

  get #originOnly(): boolean {
    return this.#chunks.originOnly || (this.#with.originOnly?.() ?? false);
  }

  get #state(): DownloadStatus['state'] {
    if (this.#closed) return 'closed';
    if (this.#chunks.stored !== undefined) return 'finished';
    return this.#chunks.repairing ? 'repairing' : 'running';
  }

  /** Where it is read, or would be. */
  get #source(): Source {
    return this.#sources.best?.source ?? this.#init.source;
  }

  get #canRead(): boolean {
    return this.#sources.best !== undefined;
  }

  /** @returns whether another right is the best now */
  #admit({ source, authority }: Pick<DownloadInit, 'source' | 'authority'>): boolean {
    const before = this.#sources.best;
    if (authority !== undefined) this.#sources.admit({ source, authority });
    return this.#sources.best !== before;
  }

  /** @param refused whoever leases takes it that this host may not read any more */
  #rightsChanged(refused: boolean): void {
    const told = `${this.#canRead} ${JSON.stringify(this.#source)}`;
    if (refused || told !== this.#told) {
      this.#told = told;
      this.#leases.forgetAsked();
      this.#tracker.source(this.#source, this.#canRead);
    }
    this.#updateNeed();
  }

  // ---- what the swarm asks (Holding, SwarmMember)

  digestOf(index: number): Uint8Array | undefined {
    return this.#chunks.digestOf(index);
  }

  readChunk(index: number): Promise<Uint8Array> {
    return this.#chunks.readChunk(index);
  }

  wants(index: number): boolean {
    return !this.#originOnly && this.#chunks.takes(index) && this.#demand.includes(index) && !this.#leases.covers(index) && !this.#mustWait;
  }

  urgent(): number | undefined {
    const starving = this.#readers.starving(true);
    return starving !== undefined && this.#with.now() - starving.sinceMs >= URGENT_MS ? starving.index : undefined;
  }

  async accept(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    // Of what was written the store may have freed the memory by then.
    const { length } = bytes;
    try {
      const verdict = await this.#chunks.fromPeer(index, digest, bytes, peerId);
      if (verdict === 'kept') this.#arrived(index);
      else if (verdict === 'duplicate') this.#count('duplicate', length);
      return verdict;
    } catch (error) {
      this.#breakDown(toAgentError(error));
      return 'duplicate';
    }
  }

  sourcesChanged(): void {
    // Without a tracker the rules of who reads what depend on what peers hold and read.
    if (this.#with.coordinator.connected) return;
    const roster = this.roster();
    this.#leases.giveWay((index) => roster.readByPeer(index));
    this.#updateNeed();
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
    const useful = lease.mode === 'audit' || (this.#state === 'running' && this.#readers.count > 0 && !this.have.full);
    this.#leases.grant(lease, useful && this.#open);
  }

  revoke(leaseId: string, keep: number, spareOnly?: boolean): void {
    this.#leases.revoke(leaseId, keep, spareOnly);
  }

  vouched(first: number, digests: readonly Uint8Array[], by: string): void {
    this.#chunks.vouched(first, digests, by);
    // In doubt only what somebody vouches for is wanted.
    if (this.#chunks.doubted) this.#swarm.poke([[first, Math.min(digests.length, this.have.length - first)]]);
    this.#distrust();
    this.#readers.wake();
  }

  invalid(ranges: readonly IndexRange[]): void {
    this.#chunks.invalid(ranges);
  }

  peers(peers: readonly PeerInfo[]): void {
    this.#swarm.connect(peers);
  }

  importer(seat: ImportSeat): void {
    this.#swarm.importer(seat);
  }

  trackerChanged(connected: boolean): void {
    if (!connected) this.#swarm.importer(undefined);
    this.#leases.forgetAsked();
    if (!connected) this.#chunks.trackerLost();
    // Also what was leased a moment ago.
    if (!connected) this.#tellReading();
    if (!connected && this.#chunks.repairing) this.#chunks.distrustPeers();
    this.#demandMoved();
    this.#readers.wake();
  }

  #distrust(): void {
    for (const peerId of this.#suspects) this.#swarm.distrust(peerId, (index) => !this.#chunks.suspicious(index, peerId));
  }

  // ---- chunks come and go

  async #fromOrigin(lease: Lease, index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    const { length } = bytes;
    const verdict = await this.#chunks.fromOrigin(index, digest, bytes);
    if (verdict === 'kept') {
      this.#patience.originWell();
      this.#arrived(index, lease.mode === 'hedge');
    } else this.#count('duplicate', length);
  }

  #arrived(index: number, hedged = false): void {
    this.#patience.progressed(this.#with.now(), hedged);
    // It may have gone again: found wrong, or passed by all.
    if (this.#open && this.have.has(index)) {
      this.#swarm.announce([index]);
      this.#tracker.have([index]);
    }
    this.#readers.wake();
  }

  #count(source: ByteSource, bytes: number): void {
    this.provenance.count(source, bytes);
    this.#with.events.bytes(source, bytes);
  }

  #forgotten(ranges: readonly IndexRange[], damage: AgentError | undefined): void {
    if (damage !== undefined) {
      this.#lastError = damage;
      this.#with.events.fallback('chunk-lost', this);
    }
    this.#tracker.lost(ranges);
    this.#swarm.retract();
    this.#demandMoved();
  }

  #wroteToMemory(index: number): void {
    this.#demand.wroteToMemory(index);
    if (this.#toldUnkept) return;
    this.#toldUnkept = true;
    this.#with.events.fallback('unkept', this);
    this.#readers.failBackground(this.#noRoom());
  }

  async #finish(): Promise<void> {
    this.#readers.wake();
    // What it says of where the bytes came from is whole.
    await this.#chunks.written();
    let stored: StoredBlob | undefined;
    if (this.#chunks.kept) {
      await this.#leases.stop();
      stored = await this.#chunks.finish(this.#init.mediaType).catch((error: unknown) => {
        this.#lastError = toAgentError(error);
        return undefined;
      });
      // The bytes are right and can still be served; they are only not kept.
      if (stored === undefined) this.#with.events.fallback('unkept', this);
    }
    if (stored !== undefined) {
      this.#tracker.seed(stored.chunkDigests);
      this.#with.swarm.seeded(this.key);
    }
    this.#with.events.finished(this, stored);
    this.#kept.resolve(stored !== undefined);
    if (stored !== undefined && this.#readers.count === 0) void this.#close(true);
  }

  #mismatched(error: AgentError, doubtful: ReadonlySet<number>): void {
    this.#with.events.fallback('repair', this);
    if (doubtful.size === 0) {
      this.#breakDown(error);
      return;
    }
    this.#lastError = error;
    if (this.#chunks.kept) this.#readers.failTaken(error, (index) => doubtful.has(index));
    else this.#readers.fail(error);
    this.#patience.repairing(this.#with.now());
    if (this.#with.coordinator.connected) this.#tracker.mismatch();
    else this.#chunks.distrustPeers();
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
    if (!this.#chunks.kept) this.#windowMoved();
    else if (what !== 'cursor') this.#demandMoved();
  }

  /** In memory only: what no reader and not the hash needs any more makes room for what comes next. */
  #windowMoved(): void {
    if (!this.#open) return;
    const passed = this.#demand.takePassed();
    if (passed.length > 0) this.#chunks.pass(passed);
    else this.#demandMoved();
  }

  #demandMoved(): void {
    this.#updateNeed();
    this.#swarm.poke();
  }

  /** Without a tracker peers go by it: two must not begin the same run because the news of it waited. */
  #tellReading(): void {
    this.#swarm.reading(this.#leases.reading(), !this.#with.coordinator.connected);
  }

  #leasesChanged(changed: IndexRange): void {
    if (!this.#open) return;
    this.#tellReading();
    this.#updateNeed();
    this.#swarm.poke([changed]);
    if (this.#patience.hedging) this.#watch.look();
  }

  /** Nothing is asked for, neither of peers nor of the origin: others wait, and this can. */
  get #mustWait(): boolean {
    return this.#readers.low && this.#with.clientsWait?.() === true;
  }

  #givesWay(): boolean {
    const givesWay = this.#mustWait;
    if (givesWay !== this.#gaveWay) {
      this.#gaveWay = givesWay;
      this.#demandMoved();
    }
    return givesWay;
  }

  #updateNeed(): void {
    if (!this.#open || this.#state === 'finished') return;
    const needs = this.#state === 'running' && this.#canRead && this.#readers.count > 0 && !this.#mustWait;
    this.#leases.ask(needs ? this.#demand.ranges() : undefined);
  }

  #originFailed(error: AgentError, right: SourceRight | undefined): void {
    this.#lastError = error;
    if (right !== undefined && isRefusal(error)) {
      this.#with.events.refused(this, right, error);
      this.#sources.refuse(right);
      this.#rightsChanged(true);
      // Another reader's right may do.
      if (this.#canRead) return;
    }
    this.#patience.originFailed(error, this.#with.now());
  }

  #hedge(index: number): void {
    if (!this.#canRead || !this.#demand.includes(index)) return;
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
    this.#open = false;
    this.#closing ??= this.#end(keep);
    return this.#closing;
  }

  /** Never rejects: what fails stands in lastError. */
  async #end(keep: boolean): Promise<void> {
    this.#watch.stop();
    await this.#chunks.stop();
    this.#closed = true;
    try {
      await this.#leases.stop();
      this.#tracker.leave(this.#chunks.stored !== undefined);
      this.#swarm.leave();
      await this.#chunks.close(keep);
    } catch (error) {
      this.#lastError = toAgentError(error);
    } finally {
      this.#kept.resolve(false);
      this.#with.events.closed(this);
    }
  }
}

/** The origin does not take the right that was used. */
function isRefusal({ code }: AgentError): boolean {
  return code === 'ORIGIN_DENIED' || code === 'ORIGIN_UNAUTHORIZED' || code === 'ORIGIN_CREDENTIALS_REFUSED' || code === 'BLOB_UNKNOWN' || code === 'MANIFEST_UNKNOWN';
}
