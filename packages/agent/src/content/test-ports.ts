// The ports of content/ in memory, for tests: an origin with faults, a store, a swarm whose peers the test plays, and
// coordinators. They record what was asked of them and let a test wait for it; nothing here sleeps.

import { createHash } from 'node:crypto';
import { Bitfield, toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, chunkSize, chunksOf } from '@flotilla/shared/chunk-map';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import type { ImportSeat } from '@flotilla/shared/import-seats';
import type { LocateResponse, PeerInfo } from '@flotilla/shared/tracker-api';
import { AgentError } from '../errors.ts';
import type {
  Authority,
  BlobKey,
  ByteRange,
  ChunkVerdict,
  Coordinator,
  Descriptor,
  Granted,
  Lease,
  LeaseHandle,
  LeaseMember,
  Origin,
  OriginBody,
  PartialBlob,
  Referrer,
  Referrers,
  Repository,
  Right,
  Source,
  SourceStatus,
  Store,
  StoredBlob,
  Swarm,
  SwarmHandle,
  SwarmMember,
  TagPage,
} from './ports.ts';

export const CHUNK = 64 * 1024;
/** How long a test turns the event loop for what threads and their machine may delay. */
export const PATIENCE_MS = 30_000;

// ---------------------------------------------------------------- blobs, time, waiting

export interface TestBlob {
  readonly key: BlobKey;
  readonly bytes: Uint8Array;
  readonly chunks: number;
  chunk(index: number): Uint8Array;
  chunkDigest(index: number): Uint8Array;
}

/** Bytes that differ from chunk to chunk, the same in every run. */
export function makeBlob(size: number, seed = 'blob', algorithm: 'sha256' | 'sha512' = 'sha256'): TestBlob {
  const bytes = new Uint8Array(size);
  if (size > 0) bytes.set(createHash('shake128', { outputLength: size }).update(seed).digest());
  const digest = parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
  const chunk = (index: number): Uint8Array => {
    const { start, end } = chunkBounds(size, index);
    return bytes.slice(start, end);
  };
  return { key: { digest, size }, bytes, chunks: chunkCount(size), chunk, chunkDigest: (index) => sha256(chunk(index)) };
}

/** The chunk with a bit flipped. */
export function spoilt(bytes: Uint8Array): Uint8Array {
  const wrong = bytes.slice();
  wrong[0]! ^= 1;
  return wrong;
}

export function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}

export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  // Copies: a piece is lent.
  for await (const piece of pieces) parts.push(Uint8Array.from(piece));
  return new Uint8Array(Buffer.concat(parts));
}

/** Time that moves when the test says so, and the timers that hang on it. */
export class TestClock {
  #nowMs = 1_800_000_000_000;
  readonly #ticks = new Set<() => void>();

  readonly now = (): number => this.#nowMs;

  readonly every = (_intervalMs: number, tick: () => void): (() => void) => {
    this.#ticks.add(tick);
    return () => this.#ticks.delete(tick);
  };

  get timers(): number {
    return this.#ticks.size;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const tick of this.#ticks) tick();
  }
}

/** What happened, in order; a test can wait for what is to happen. */
export class Events<T> {
  readonly all: T[] = [];
  readonly #waiting: { readonly matches: (event: T) => boolean; readonly resolve: (event: T) => void }[] = [];

  push(event: T): void {
    this.all.push(event);
    for (const waiting of this.#waiting.splice(0)) {
      if (waiting.matches(event)) waiting.resolve(event);
      else this.#waiting.push(waiting);
    }
  }

  /** The first event that matches, from `from` on. */
  async when(matches: (event: T) => boolean, from = 0): Promise<T> {
    const found = this.all.slice(from).find(matches);
    if (found !== undefined) return found;
    const { promise, resolve } = Promise.withResolvers<T>();
    this.#waiting.push({ matches, resolve });
    return promise;
  }
}

/** Holds back whoever passes until it is opened. */
export class Gate {
  readonly #open = Promise.withResolvers<void>();
  readonly #reached = Promise.withResolvers<void>();

  open(): void {
    this.#open.resolve();
  }

  /** Somebody stands before it. */
  get reached(): Promise<void> {
    return this.#reached.promise;
  }

  async pass(signal: AbortSignal): Promise<void> {
    this.#reached.resolve();
    const { promise, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([this.#open.promise, promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }
}

// ---------------------------------------------------------------- origin

export type OriginEvent =
  | { readonly type: 'read'; readonly digest: Digest; readonly range: ByteRange | undefined; readonly source: Source; readonly authority: Authority }
  | { readonly type: 'stat'; readonly digest: Digest }
  | { readonly type: 'resolve'; readonly reference: string }
  | { readonly type: 'list'; readonly of: 'tags' | 'referrers' }
  | { readonly type: 'aborted' }
  | { readonly type: 'ended' };

const PIECE_BYTES = 40_000;

export class TestOrigin implements Origin {
  readonly blobs = new Map<Digest, Uint8Array>();
  readonly tags = new Map<string, Descriptor>();
  readonly events = new Events<OriginEvent>();
  /** Referrers by subject; undefined: the origin has no such API. */
  subjects: Map<Digest, readonly Referrer[]> | undefined = new Map();
  bytesSent = 0;
  /** Answers Range requests with ranges. */
  ranges = true;
  /** The right that every answer is given under. */
  right: Right = { anonymous: true, lifetimeMs: undefined };
  /** Thrown by every call while it is set. */
  down: AgentError | undefined;
  /** Thrown by `read` with this right. */
  refuse: (authority: Authority) => AgentError | undefined = () => undefined;
  /** Passed before each piece; gets the place of its first byte in the blob. */
  beforePiece: (at: number, signal: AbortSignal) => Promise<void> | void = () => {};
  /** What is sent for these bytes of the blob. */
  send: (bytes: Uint8Array, range: ByteRange) => Uint8Array = (bytes) => bytes;
  /** Passed before `read` answers. */
  beforeAnswer: (signal: AbortSignal) => Promise<void> | void = () => {};

  add(blob: TestBlob): void {
    this.blobs.set(blob.key.digest, blob.bytes);
  }

  asked(type: OriginEvent['type']): number {
    return this.events.all.filter((event) => event.type === type).length;
  }

  async resolve(_repository: Repository, reference: string, _accept: readonly string[], _authority: Authority, signal: AbortSignal): Promise<Granted<Descriptor>> {
    this.events.push({ type: 'resolve', reference });
    signal.throwIfAborted();
    if (this.down !== undefined) throw this.down;
    const found = this.tags.get(reference) ?? [...this.tags.values()].find(({ digest }) => digest === reference);
    if (found === undefined) throw new AgentError('MANIFEST_UNKNOWN', `no ${reference}`);
    return { ...found, right: this.right };
  }

  async stat(_repository: Repository, digest: Digest, _authority: Authority, signal: AbortSignal): Promise<Granted<{ size: number }>> {
    this.events.push({ type: 'stat', digest });
    signal.throwIfAborted();
    if (this.down !== undefined) throw this.down;
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) throw new AgentError('BLOB_UNKNOWN', `no ${digest}`);
    return { size: bytes.length, right: this.right };
  }

  async read(source: Source, digest: Digest, range: ByteRange | undefined, authority: Authority, signal: AbortSignal): Promise<OriginBody> {
    this.events.push({ type: 'read', digest, range, source, authority });
    await this.beforeAnswer(signal);
    signal.throwIfAborted();
    const failure = this.down ?? this.refuse(authority);
    if (failure !== undefined) throw failure;
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) throw new AgentError('BLOB_UNKNOWN', `no ${digest}`);
    const ranged = range !== undefined && this.ranges;
    const sent = ranged ? range : { start: 0, end: bytes.length };
    const body = this.#body(this.send(bytes.subarray(sent.start, sent.end), sent), sent.start, signal);
    return { start: sent.start, size: bytes.length, ranged, body, cancel: () => void body.return(undefined) };
  }

  async listTags(_repository: Repository, { n, last }: { n?: number; last?: string }, _authority: Authority, signal: AbortSignal): Promise<Granted<TagPage>> {
    this.events.push({ type: 'list', of: 'tags' });
    signal.throwIfAborted();
    if (this.down !== undefined) throw this.down;
    const behind = [...this.tags.keys()].toSorted().filter((tag) => last === undefined || tag > last);
    const tags = behind.slice(0, n);
    return { tags, next: tags.length < behind.length ? tags.at(-1) : undefined, right: this.right };
  }

  async referrers(_repository: Repository, digest: Digest, _authority: Authority, signal: AbortSignal): Promise<Granted<Referrers>> {
    this.events.push({ type: 'list', of: 'referrers' });
    signal.throwIfAborted();
    if (this.down !== undefined) throw this.down;
    return { ...(this.subjects === undefined ? { supported: false } : { supported: true, manifests: this.subjects.get(digest) ?? [] }), right: this.right };
  }

  async *#body(bytes: Uint8Array, start: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      try {
        await this.beforePiece(start + at, signal);
        signal.throwIfAborted();
      } catch (error) {
        this.events.push({ type: 'aborted' });
        throw error;
      }
      const piece = bytes.slice(at, at + PIECE_BYTES);
      this.bytesSent += piece.length;
      yield piece;
    }
    this.events.push({ type: 'ended' });
  }
}

// ---------------------------------------------------------------- store

export class TestPartial implements PartialBlob {
  readonly key: BlobKey;
  readonly have: Bitfield;
  readonly path = undefined;
  kept: boolean;
  /** The disk is full after this many chunks. */
  roomChunks = Number.POSITIVE_INFINITY;
  /** Passed before a write is over. */
  beforeWritten: (index: number) => Promise<void> | void = () => {};
  /** Passed when a chunk can be read, and its write is not over. */
  afterMarked: (index: number) => Promise<void> | void = () => {};
  /** Passed before a read gives its bytes. */
  beforeRead: (index: number) => Promise<void> | void = () => {};
  /** The most chunks that were in memory at a time. */
  peakInMemory = 0;
  state: 'open' | 'finished' | 'kept' | 'removed' = 'open';
  readonly #store: TestStore | undefined;
  readonly #chunks = new Map<number, { readonly digest: Uint8Array; readonly bytes: Uint8Array; readonly inMemory: boolean }>();

  constructor(key: BlobKey, { kept = true, store }: { kept?: boolean; store?: TestStore } = {}) {
    this.key = key;
    this.kept = kept;
    this.have = new Bitfield(chunkCount(key.size));
    this.#store = store;
  }

  /** Chunks that an earlier run has left. */
  resumed(blob: TestBlob, indexes: readonly number[], bytesOf: (index: number) => Uint8Array = (index) => blob.chunk(index)): this {
    for (const index of indexes) this.#put(index, sha256(bytesOf(index)), bytesOf(index), false);
    return this;
  }

  get inMemory(): number {
    return [...this.#chunks.values()].filter((chunk) => chunk.inMemory).length;
  }

  digestOf(index: number): Uint8Array | undefined {
    return this.#chunks.get(index)?.digest;
  }

  async write(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    await this.beforeWritten(index);
    if (this.#chunks.size >= this.roomChunks) this.kept = false;
    this.#put(index, digest, bytes, !this.kept);
    await this.afterMarked(index);
  }

  async read(index: number): Promise<Uint8Array> {
    this.#checkOpen();
    await this.beforeRead(index);
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) throw new AgentError('INTERNAL', `chunk ${index} is not here`);
    return chunk.bytes;
  }

  /** The disk has damaged a chunk: reading it tells. */
  lose(index: number): void {
    this.beforeRead = (read) => {
      if (read !== index) return;
      this.beforeRead = () => {};
      this.#chunks.delete(index);
      this.have.clear(index);
      throw new AgentError('STORE_CORRUPT', `chunk ${index} is damaged`);
    };
  }

  async drop(ranges: readonly IndexRange[]): Promise<void> {
    this.#checkOpen();
    for (const [first, count] of ranges) {
      for (let index = first; index < first + count; index++) {
        this.#chunks.delete(index);
        this.have.clear(index);
      }
    }
  }

  async finish(mediaType: string | undefined): Promise<StoredBlob | undefined> {
    this.#checkOpen();
    if (this.roomChunks <= this.#chunks.size) this.kept = false;
    if (!this.kept) return undefined;
    const chunks = Array.from({ length: this.have.length }, (_, index) => this.#chunks.get(index)!);
    this.state = 'finished';
    const blob = new TestStored(this.key, mediaType, Buffer.concat(chunks.map(({ bytes }) => bytes)), chunks.map(({ digest }) => digest));
    this.#store?.put(blob);
    return blob;
  }

  async close(keep: boolean): Promise<void> {
    if (this.state === 'open') this.state = keep ? 'kept' : 'removed';
    this.#store?.closed(this);
  }

  #put(index: number, digest: Uint8Array, bytes: Uint8Array, inMemory: boolean): void {
    this.#chunks.set(index, { digest, bytes, inMemory });
    this.have.set(index);
    this.peakInMemory = Math.max(this.peakInMemory, this.inMemory);
  }

  #checkOpen(): void {
    if (this.state === 'kept' || this.state === 'removed') throw new AgentError('INTERNAL', 'the partial is closed');
  }
}

export class TestStored implements StoredBlob {
  readonly key: BlobKey;
  readonly mediaType: string | undefined;
  readonly chunkDigests: readonly Uint8Array[];
  /** Thrown by reads while it is set. */
  damaged: AgentError | undefined;
  readonly #bytes: Uint8Array;

  constructor(key: BlobKey, mediaType: string | undefined, bytes: Uint8Array, chunkDigests: readonly Uint8Array[]) {
    this.key = key;
    this.mediaType = mediaType;
    this.#bytes = bytes;
    this.chunkDigests = chunkDigests;
  }

  async readChunk(index: number): Promise<Uint8Array> {
    if (this.damaged !== undefined) throw this.damaged;
    const { start, end } = chunkBounds(this.key.size, index);
    return this.#bytes.slice(start, end);
  }

  /** Chunk by chunk, each in the memory of the last one. */
  async *read(range: ByteRange): AsyncGenerator<Uint8Array, void, void> {
    const { first, last } = chunksOf(this.key.size, range);
    const memory = new Uint8Array(chunkSize(this.key.size));
    for (let index = first; index <= last; index++) {
      const { start } = chunkBounds(this.key.size, index);
      const chunk = await this.readChunk(index);
      memory.set(chunk);
      yield memory.subarray(Math.max(0, range.start - start), Math.min(chunk.length, range.end - start));
      memory.fill(0);
    }
  }
}

export class TestStore implements Store {
  readonly blobs = new Map<Digest, TestStored>();
  readonly pins = new Map<Digest, number>();
  readonly partials: TestPartial[] = [];
  readonly #open = new Set<string>();
  kept = true;
  /** Passed before a look into the store is answered; the answer is of before. */
  beforeFound: () => Promise<void> | void = () => {};

  put(blob: TestStored): void {
    this.blobs.set(blob.key.digest, blob);
  }

  async find(digest: Digest): Promise<StoredBlob | undefined> {
    const found = this.blobs.get(digest);
    await this.beforeFound();
    return found;
  }

  pin(digest: Digest): void {
    this.pins.set(digest, (this.pins.get(digest) ?? 0) + 1);
  }

  unpin(digest: Digest): void {
    this.pins.set(digest, (this.pins.get(digest) ?? 0) - 1);
  }

  async openPartial(key: BlobKey): Promise<PartialBlob> {
    if (this.#open.has(key.digest)) throw new AgentError('INTERNAL', 'the partial is open already');
    this.#open.add(key.digest);
    const partial = new TestPartial(key, { kept: this.kept, store: this });
    this.partials.push(partial);
    return partial;
  }

  closed(partial: TestPartial): void {
    this.#open.delete(partial.key.digest);
  }

  async list(): Promise<BlobKey[]> {
    return [...this.blobs.values()].map(({ key }) => key);
  }

  onEvict(): void {}

  usage(): { bytes: number; limitBytes: number; blobs: number; freeBytes: number } {
    return { bytes: 0, limitBytes: 0, blobs: this.blobs.size, freeBytes: 0 };
  }
}

// ---------------------------------------------------------------- swarm

/** One joined member; the test plays its peers. */
export class TestSwarmHandle implements SwarmHandle {
  /** What was said to have changed; undefined: anything. */
  readonly poked: (readonly IndexRange[] | undefined)[] = [];
  readonly member: SwarmMember;
  readonly announced: number[] = [];
  readonly held = new Map<string, Bitfield>();
  reads: IndexRange[] = [];
  /** Whether the last of it did not wait for company. */
  readsSoon = false;
  received = 0;
  retracted = 0;
  /** The chunks that are believed all the same. */
  readonly distrusted = new Map<string, number[]>();
  seat: ImportSeat | undefined;
  left = false;
  #readByPeers: ReadonlySet<number> = new Set();

  constructor(member: SwarmMember) {
    this.member = member;
  }

  /** A peer that holds the blob, or these chunks of it. */
  peer(peerId: string, indexes?: readonly number[]): void {
    const held = indexes === undefined ? Bitfield.full(this.member.have.length) : new Bitfield(this.member.have.length);
    for (const index of indexes ?? []) held.set(index);
    this.held.set(peerId, held);
    this.member.sourcesChanged();
  }

  /** Peers tell that they read these chunks. */
  peersRead(...indexes: number[]): void {
    this.#readByPeers = new Set(indexes);
    this.member.sourcesChanged();
  }

  /** A peer sends a chunk, with the digest of its bytes unless another is given. */
  deliver(peerId: string, index: number, bytes: Uint8Array, digest = sha256(bytes)): Promise<ChunkVerdict> {
    return this.member.accept(index, digest, bytes, peerId);
  }

  announce(indexes: readonly number[]): void {
    this.announced.push(...indexes);
  }

  reading(ranges: readonly IndexRange[], soon = false): void {
    this.reads = [...ranges];
    this.readsSoon = soon;
  }

  poke(ranges?: readonly IndexRange[]): void {
    this.poked.push(ranges);
  }

  retract(): void {
    this.retracted++;
  }

  distrust(peerId: string, believed: (index: number) => boolean): void {
    this.distrusted.set(peerId, Array.from({ length: this.member.have.length }, (_, index) => index).filter(believed));
  }

  connect(peers: readonly PeerInfo[]): void {
    for (const { peerId } of peers) this.peer(peerId, []);
  }

  importer(seat: ImportSeat | undefined): void {
    this.seat = seat;
  }

  heldByPeer(index: number): boolean {
    return [...this.held.values()].some((held) => held.has(index));
  }

  readByPeer(index: number): boolean {
    return this.#readByPeers.has(index);
  }

  peers(): string[] {
    return [...this.held.keys()];
  }

  sources(): SourceStatus[] {
    return [{ peerId: 'all', held: 0, downRate: 0, upRate: 0, bytesDown: this.received, bytesUp: 0 }];
  }

  leave(): void {
    this.left = true;
  }
}

export class TestSwarm implements Swarm {
  readonly handles: TestSwarmHandle[] = [];
  readonly seeds: BlobKey[] = [];

  get handle(): TestSwarmHandle {
    return this.handles.at(-1)!;
  }

  join(member: SwarmMember): SwarmHandle {
    if (this.handles.some((handle) => !handle.left && handle.member.key.digest === member.key.digest)) throw new Error('a second member of one blob');
    const handle = new TestSwarmHandle(member);
    this.handles.push(handle);
    return handle;
  }

  seeded(key: BlobKey): void {
    this.seeds.push(key);
  }
}

// ---------------------------------------------------------------- coordinator

export type LeaseEvent =
  | { readonly type: 'need'; readonly runs: number; readonly within: readonly IndexRange[] | undefined }
  | { readonly type: 'have' | 'lost'; readonly ranges: readonly IndexRange[] }
  | { readonly type: 'hedge'; readonly index: number }
  | { readonly type: 'progress'; readonly leaseId: string; readonly bytes: number }
  | { readonly type: 'done'; readonly leaseId: string; readonly first: number; readonly digests: readonly Uint8Array[] }
  | { readonly type: 'release'; readonly leaseId: string; readonly reason: string; readonly retryAfterMs: number | undefined }
  | { readonly type: 'conflict'; readonly index: number; readonly peerId: string }
  | { readonly type: 'seed' | 'mismatch' | 'leave' };

/** One joined member; the test plays the tracker. */
export class TestLeaseHandle implements LeaseHandle {
  readonly member: LeaseMember;
  /** As it joined, and as it said later. */
  readonly wants: { readonly source: Source; readonly canRead: boolean }[];
  readonly events = new Events<LeaseEvent>();

  constructor(member: LeaseMember, source: Source, canRead: boolean) {
    this.member = member;
    this.wants = [{ source, canRead }];
  }

  source(source: Source, canRead: boolean): void {
    this.wants.push({ source, canRead });
  }

  grant(leaseId: string, first: number, count: number, mode: Lease['mode'] = 'run'): void {
    this.member.grant({ leaseId, first, count, deadlineMs: 30_000, mode });
  }

  of<T extends LeaseEvent['type']>(type: T): Extract<LeaseEvent, { type: T }>[] {
    return this.events.all.filter((event): event is Extract<LeaseEvent, { type: T }> => event.type === type);
  }

  released(leaseId: string): Promise<LeaseEvent> {
    return this.events.when((event) => event.type === 'release' && event.leaseId === leaseId);
  }

  have(indexes: readonly number[]): void {
    this.events.push({ type: 'have', ranges: toRanges(indexes) });
  }

  lost(ranges: readonly IndexRange[]): void {
    this.events.push({ type: 'lost', ranges });
  }

  need(runs: number, _originRate: number, within?: readonly IndexRange[]): void {
    this.events.push({ type: 'need', runs, within });
  }

  hedge(index: number): void {
    this.events.push({ type: 'hedge', index });
  }

  progress(leaseId: string, bytes: number): void {
    this.events.push({ type: 'progress', leaseId, bytes });
  }

  done(leaseId: string, first: number, digests: readonly Uint8Array[]): void {
    this.events.push({ type: 'done', leaseId, first, digests });
  }

  release(leaseId: string, reason: string, retryAfterMs?: number): void {
    this.events.push({ type: 'release', leaseId, reason, retryAfterMs });
  }

  seed(): void {
    this.events.push({ type: 'seed' });
  }

  leave(): void {
    this.events.push({ type: 'leave' });
  }

  conflict(index: number, peerId: string): void {
    this.events.push({ type: 'conflict', index, peerId });
  }

  mismatch(): void {
    this.events.push({ type: 'mismatch' });
  }
}

export class TestCoordinator implements Coordinator {
  connected: boolean;
  readonly handles: TestLeaseHandle[] = [];
  found: LocateResponse['found'];
  located = 0;
  locateError: Error | undefined;
  readonly #onJoin: (handle: TestLeaseHandle) => void;

  constructor({ connected = true, onJoin = (): void => {} }: { connected?: boolean; onJoin?: (handle: TestLeaseHandle) => void } = {}) {
    this.connected = connected;
    this.#onJoin = onJoin;
  }

  /** The last one that joined. */
  get handle(): TestLeaseHandle {
    return this.handles.at(-1)!;
  }

  join(member: LeaseMember, source: Source, canRead: boolean): LeaseHandle {
    const handle = new TestLeaseHandle(member, source, canRead);
    this.handles.push(handle);
    this.#onJoin(handle);
    return handle;
  }

  accuse(): void {}

  async locate(): Promise<LocateResponse['found']> {
    this.located++;
    if (this.locateError !== undefined) throw this.locateError;
    return this.found;
  }
}

/** Leases to an agent that is alone: whatever it needs and neither has nor reads. A failure stops it until the next need. */
export function grantingCoordinator({ connected = false, runChunks = 4 } = {}): TestCoordinator {
  let granted = 0;
  return new TestCoordinator({
    connected,
    onJoin: (handle) => {
      let wanted = { runs: 0, within: undefined as readonly IndexRange[] | undefined };
      const look = (): void => {
        const { member } = handle;
        const taken = Bitfield.fromBytes(member.have.length, member.have.bytes());
        for (const range of member.reading()) taken.setRange(range);
        for (const [from, count] of wanted.within ?? [[0, member.have.length]]) {
          for (let first = from; wanted.runs > 0 && first < from + count; first++) {
            if (taken.has(first)) continue;
            let end = first;
            while (end < from + count && end - first < runChunks && !taken.has(end)) taken.set(end++);
            wanted.runs--;
            handle.grant(`granted-${++granted}`, first, end - first);
          }
        }
      };
      const watch = (event: LeaseEvent): void => {
        if (event.type === 'release' && event.reason !== 'unneeded') wanted.runs = 0;
        if (event.type === 'need') wanted = { runs: event.runs, within: event.within };
        if (event.type === 'need' || event.type === 'release') setImmediate(look);
      };
      const push = handle.events.push.bind(handle.events);
      handle.events.push = (event) => {
        push(event);
        watch(event);
      };
    },
  });
}
