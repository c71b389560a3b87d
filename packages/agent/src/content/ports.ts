// What content/ needs of the rest of the agent, as small interfaces. agent.ts hands in the implementations:
// store/ (disk), origin/ (registry client), swarm/ (peers), tracker/ (leases). They never import one another.

import type { IndexRange, ReadonlyBitfield } from '@flotilla/shared/bitfield';
import type { BlobKey, ByteRange } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { ImportSeat } from '@flotilla/shared/import-seats';
import type { Reference } from '@flotilla/shared/reference';
import type { Grant, LocateResponse, PeerInfo, Source } from '@flotilla/shared/tracker-api';

export type { BlobKey, ByteRange, Source };

// ---------------------------------------------------------------- origin

/** A repository at an origin, by the origin's NAME (or DNS host). */
export interface Repository {
  readonly origin: string;
  readonly repository: string;
}

/** What a registry says of a manifest or blob. */
export interface Descriptor {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
}

/** One answer with bytes. Leaving `body` unread must be followed by `cancel()`. */
export interface OriginBody {
  /** Where the bytes start in the blob: `range.start`, or 0 where the origin ignores Range. */
  readonly start: number;
  /** Total size of the blob where the origin said it. */
  readonly size: number | undefined;
  readonly ranged: boolean;
  /** Pieces as the socket gives them. Throws ORIGIN_LENGTH where fewer or more bytes come than were said. */
  readonly body: AsyncIterable<Uint8Array>;
  cancel(): void;
}

/** Whose right is used at the origin. */
export type Authority =
  /** Nobody's: no credential is ever sent; a token that the origin gives to anybody may be. */
  | { readonly kind: 'anonymous' }
  /** This agent's own: the credentials configured for the repository, where there are any. */
  | { readonly kind: 'agent' }
  /** A local caller's: its Basic or Bearer header, as it came. Tokens got with it are kept under `id`, which no other header shares. */
  | { readonly kind: 'caller'; readonly id: string; readonly authorization: string };

/** The right under which an origin answered. */
export interface Right {
  /** No credential was used: anybody gets this answer there. */
  readonly anonymous: boolean;
  /** How long from now it holds, as its token says; undefined: no token was asked for, or credentials that do not expire. */
  readonly lifetimeMs: number | undefined;
}

/** An answer of the origin and the right it was given under. */
export type Granted<T> = T & { readonly right: Right };

/** A caller was let into a repository, and with whose right. */
export interface Permit {
  readonly repository: Repository;
  /** Used where bytes are read at the origin; undefined: nobody's right is known, the bytes come from this host and its peers alone. */
  readonly authority: Authority | undefined;
  /** The origin shows it to nobody without credentials. */
  readonly private: boolean;
}

/** Some of a repository's tags, in the origin's order. */
export interface TagPage {
  readonly tags: readonly string[];
  /** `last` of the next page; undefined: these are the last ones. */
  readonly next: string | undefined;
}

/** One manifest that names a subject, with all that the origin's index says of it (annotations, data, ...). */
export type Referrer = Descriptor & { readonly artifactType?: string } & Readonly<Record<string, unknown>>;

/** All referrers of a digest, unfiltered; or the origin has no such API, and the tag scheme is what is left. */
export type Referrers = { readonly supported: true; readonly manifests: readonly Referrer[] } | { readonly supported: false };

/** The registry client. Every method throws AgentError with an ORIGIN_* code, MANIFEST_UNKNOWN, BLOB_UNKNOWN or REPOSITORY_UNKNOWN. */
export interface Origin {
  /** HEAD of a manifest (GET where the origin's HEAD lacks a header). Never from a cache. */
  resolve(repository: Repository, reference: string, accept: readonly string[], authority: Authority, signal: AbortSignal): Promise<Granted<Descriptor>>;
  /** HEAD of a blob; size and whether it exists. */
  stat(repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<{ size: number }>>;
  /** Bytes of a blob or manifest; a range is asked for as one bounded Range, never `bytes=N-`. No range: the whole. */
  read(source: Source, digest: Digest, range: ByteRange | undefined, authority: Authority, signal: AbortSignal): Promise<OriginBody>;
  /** At most `n` tags behind the tag `last`. Never from a cache. */
  listTags(repository: Repository, page: { readonly n?: number; readonly last?: string }, authority: Authority, signal: AbortSignal): Promise<Granted<TagPage>>;
  /** Every manifest whose subject is this digest, all pages of it. Never from a cache. */
  referrers(repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<Referrers>>;
}

// ---------------------------------------------------------------- store

/** A finished blob on disk; its bytes had its digest when it was finished. */
export interface StoredBlob {
  readonly key: BlobKey;
  readonly mediaType: string | undefined;
  /** 32 bytes per chunk, in order. */
  readonly chunkDigests: readonly Uint8Array[];
  /** Reads a whole chunk that has its digest, as disks rot. May be released (chunk-memory.ts). @throws STORE_CORRUPT, and the blob is dropped */
  readChunk(index: number): Promise<Uint8Array>;
  /**
   * Verified bytes of the range in order, read ahead. A piece is lent: its memory is used again once the next one is asked for.
   * Must be read to its end or ended by `return()`. @throws STORE_CORRUPT, and the blob is dropped
   */
  read(range: ByteRange): AsyncGenerator<Uint8Array, void, void>;
}

/** The chunks of an unfinished blob. One writer: its Download. */
export interface PartialBlob {
  readonly key: BlobKey;
  /** False: no room on disk, so chunks are kept in memory until `drop`ped, and `finish` keeps nothing. Turns false when the disk fills up or fails. */
  readonly kept: boolean;
  /** What was found on disk and hashed again at opening, and what was written since. */
  readonly have: ReadonlyBitfield;
  digestOf(index: number): Uint8Array | undefined;
  /** Stores verified bytes, which are its own from then on; on return they can be read: from memory where the disk is full or fails, see `kept`. */
  write(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<void>;
  /** The whole chunk, from memory where it is recent. May be released (chunk-memory.ts). @throws STORE_CORRUPT, after which the chunk is in `have` no more */
  read(index: number): Promise<Uint8Array>;
  /** Forgets chunks: found wrong, or (kept: false) passed by all readers. When this has been called `have` is without them. */
  drop(ranges: readonly IndexRange[]): Promise<void>;
  /** Where the bytes lie, for hashing the whole off the main thread; undefined while in memory only. */
  readonly path: string | undefined;
  /**
   * fsync, index, rename into place, fsync the folder. Only after the blob's digest was verified. undefined: it could not be kept.
   * A blob that is kept may be evicted from then on unless it is pinned; `close` is not needed after it.
   */
  finish(mediaType: string | undefined): Promise<StoredBlob | undefined>;
  /** Ends the writer. `keep`: chunks stay for the next pull; otherwise they are removed. */
  close(keep: boolean): Promise<void>;
}

export interface Store {
  /** Marks the use. `pin` until `unpin` keeps eviction away. */
  find(digest: Digest): Promise<StoredBlob | undefined>;
  pin(digest: Digest): void;
  unpin(digest: Digest): void;
  /** Opens or resumes a partial; makes room by eviction. Never fails for lack of room: see `kept`. */
  openPartial(key: BlobKey): Promise<PartialBlob>;
  /** All finished blobs. */
  list(): Promise<BlobKey[]>;
  /** Called after a finished blob was evicted. */
  onEvict(listener: (key: BlobKey) => void): void;
  usage(): { bytes: number; limitBytes: number; blobs: number; freeBytes: number };
}

// ---------------------------------------------------------------- swarm

/** Something this host can upload from: a finished blob or a Download at work. */
export interface Holding {
  readonly key: BlobKey;
  readonly have: ReadonlyBitfield;
  /** Known for every chunk in `have`. */
  digestOf(index: number): Uint8Array | undefined;
  /** May be released (chunk-memory.ts). */
  readChunk(index: number): Promise<Uint8Array>;
}

/** What became of a chunk that a peer sent. The swarm acts on it: count, ban, ask elsewhere. */
export type ChunkVerdict =
  | 'kept'
  /** it was here already, or is no longer wanted */
  | 'duplicate'
  /** the bytes do not have the digest that the sender gave: the sender is to blame */
  | 'forged'
  /** bytes and digest agree, but another member vouched for another digest: not kept, reported */
  | 'conflict';

/** A Download as the swarm sees it. */
export interface SwarmMember extends Holding {
  /** True while chunk `index` should be asked of peers: not here, not being read at the origin, inside the window. */
  wants(index: number): boolean;
  /** The chunk that the slowest reader waits for since 1 s or more, if any. */
  urgent(): number | undefined;
  /** Hands over a whole, unverified chunk. `bytes` belongs to the callee. Never rejects. */
  accept(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict>;
  /** A peer announced chunks that this host lacks, or a source appeared or went. */
  sourcesChanged(): void;
}

/** A peer as a source of one blob, for the status. Rates in bytes per second. */
export interface SourceStatus {
  readonly peerId: string;
  readonly held: number;
  /** It holds what is wanted here and not asked for yet, or was asked for something. */
  readonly useful?: boolean;
  readonly downRate: number;
  readonly upRate: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
}

export interface SwarmHandle {
  /** Chunks that are now in `have`: told to all interested peers. */
  announce(indexes: readonly number[]): void;
  /**
   * Chunks being read at the origin by this host: peers do not read them too. Replaces the last list.
   * @param soon peers decide by it now: it does not wait for company. @default false
   */
  reading(ranges: readonly IndexRange[], soon?: boolean): void;
  /** What `wants` answers has changed. @param ranges where. @default anywhere, which costs a look at every chunk */
  poke(ranges?: readonly IndexRange[]): void;
  /** Chunks that this host no longer holds (window moved, found wrong): peers get a fresh bitfield. */
  retract(): void;
  /** Of what the peer announces only chunks that are `believed` are asked for, or count. To be called again when that has changed. */
  distrust(peerId: string, believed: (index: number) => boolean): void;
  /** Connects to holders outside the mesh. */
  connect(peers: readonly PeerInfo[]): void;
  /** This host's seat among those of its zone that bring chunks of the blob into it; undefined: nobody gives out seats. */
  importer(seat: ImportSeat | undefined): void;
  /** Whether any connected peer announces chunk `index` / reads it at the origin. */
  heldByPeer(index: number): boolean;
  readByPeer(index: number): boolean;
  /** Ids of live peers in this swarm: the roster for leases without a tracker. */
  peers(): string[];
  sources(): SourceStatus[];
  leave(): void;
}

export interface Swarm {
  /** Starts trading a blob. At most one member per blob. */
  join(member: SwarmMember): SwarmHandle;
  /** A finished blob may be uploaded from now on: tells peers that were interested. */
  seeded(key: BlobKey): void;
}

/** Where the swarm looks up what a peer asks for. */
export interface Holdings {
  /** The Download at work or the finished blob; undefined: not here. */
  find(key: BlobKey): Promise<Holding | undefined>;
  /**
   * Which blobs give way, where they are sent to peers, to what clients of this host wait for: those that are none of its own pulls of these minutes.
   * undefined: no client waits. @default nothing gives way
   */
  givesWay?(): ((key: BlobKey) => boolean) | undefined;
}

// ---------------------------------------------------------------- coordinator (tracker, or rules without one)

export type Lease = Pick<Grant, 'leaseId' | 'first' | 'count' | 'deadlineMs' | 'mode'>;

export type ReleaseReason = 'unneeded' | 'failed' | 'denied' | 'throttled' | 'no-ranges';

/** Who else trades this blob now: what the rules without a tracker decide by (SwarmHandle answers it). */
export interface LeaseRoster {
  /** Ids of the live peers in the blob's swarm. */
  readonly peers: readonly string[];
  heldByPeer(index: number): boolean;
  readByPeer(index: number): boolean;
}

/** A Download as the coordinator sees it. */
export interface LeaseMember {
  readonly key: BlobKey;
  readonly have: ReadonlyBitfield;
  /** Ranges of chunks it is reading at the origin now (re-announced to a tracker that restarted). */
  reading(): IndexRange[];
  grant(lease: Lease): void;
  /** Keeps the first `keep` chunks of a lease. @param spareOnly one that is being read goes on */
  revoke(leaseId: string, keep: number, spareOnly?: boolean): void;
  /** `by` vouches for these digests. */
  vouched(first: number, digests: readonly Uint8Array[], by: string): void;
  /** Forget these chunks. */
  invalid(ranges: readonly IndexRange[]): void;
  peers(peers: readonly PeerInfo[]): void;
  /** Its seat among those of its zone that bring the blob's chunks into it. Good until the tracker goes. */
  importer(seat: ImportSeat): void;
  /** The tracker came or went. While it is away leases follow the rules without a tracker. */
  trackerChanged(connected: boolean): void;
  /** Absent: it has no peers, and without a tracker it reads alone. */
  roster?(): LeaseRoster;
}

/** Reports of one Download. All are fire-and-forget: queued in order, sent in batches, dropped with the tracker. */
export interface LeaseHandle {
  /** Where this host may read the blob now, or whether it may no more. */
  source(source: Source, canRead: boolean): void;
  have(indexes: readonly number[]): void;
  lost(ranges: readonly IndexRange[]): void;
  /** @param within only chunks of these stretches, which ascend, are of use; absent: all are */
  need(runs: number, originRate: number, within?: readonly IndexRange[]): void;
  hedge(index: number): void;
  progress(leaseId: string, bytes: number): void;
  done(leaseId: string, first: number, digests: readonly Uint8Array[]): void;
  release(leaseId: string, reason: ReleaseReason, retryAfterMs?: number): void;
  seed(chunkDigests: readonly Uint8Array[]): void;
  leave(kept: boolean): void;
  conflict(index: number, peerId: string, heard: Uint8Array, expected: Uint8Array): void;
  mismatch(): void;
}

export interface Coordinator {
  /** Whether a tracker decides about leases right now. */
  readonly connected: boolean;
  join(member: LeaseMember, source: Source, canRead: boolean): LeaseHandle;
  accuse(key: BlobKey, index: number, peerId: string): void;
  /** Asks the fleet about a digest whose origin is unreachable. undefined without a tracker. */
  locate(repository: Repository, digest: Digest, signal: AbortSignal): Promise<LocateResponse['found']>;
}

// ---------------------------------------------------------------- what registry/ is offered

/** A manifest, decided and located; its bytes are fetched when asked for. */
export interface ServedManifest {
  readonly descriptor: Descriptor;
  /** True: the origin did not answer and this is the agent's own last resolution (reply with `Warning: 110`). */
  readonly stale: boolean;
  /** The exact, verified bytes. */
  bytes(signal: AbortSignal): Promise<Uint8Array>;
}

/** Told of the bytes that a reader gets, and of how they came to this host: now, or (`store`) in an earlier download. */
export type OnServed = (source: 'store' | 'peer' | 'origin', bytes: number) => void;

/** A blob, decided and measured; nothing is fetched before `open`. */
export interface ServedBlob {
  readonly key: BlobKey;
  /**
   * Starts or joins the download (or opens the stored blob). Resolves once the first bytes of the range are here and verified,
   * so that an error can still become a status. The iterable yields the range in order and throws where it cannot be
   * completed; the last bytes of a whole-blob read come only after the blob's digest was verified. A piece may be overwritten once the
   * next one is asked for.
   * A list: what a Range header asked for, one after the other. It is fetched no further ahead than it is read, because clients ask for
   * `bytes=N-` and leave after a part.
   */
  open(asked: ByteRange | readonly ByteRange[], signal: AbortSignal, onBytes?: OnServed): Promise<AsyncIterable<Uint8Array>>;
}

/** Who asks at the local endpoint, and how. */
export interface Caller {
  /** The Authorization header as it came, if any. Never logged, never kept. */
  readonly authorization: string | undefined;
  /** What is remembered is not enough while the origin answers: HEAD. */
  readonly asksOrigin: boolean;
  /** The agent itself, on its operator's word: its own credentials are used, whatever the rules for local callers say. */
  readonly own?: true;
  /** The tracker itself named the repository: it may be told the name. */
  readonly named?: true;
  /** What the client calls its request, or the endpoint does. */
  readonly requestId?: string;
}

/** Images as the local endpoint serves them, to a caller that may read them at the origin. Throws AgentError. */
export interface Content {
  manifest(repository: Repository, reference: Reference, accept: readonly string[], caller: Caller, signal: AbortSignal): Promise<ServedManifest>;
  blob(repository: Repository, digest: Digest, caller: Caller, signal: AbortSignal): Promise<ServedBlob>;
  /** At most `n` tags behind the tag `last`; always the origin's own answer. */
  tags(repository: Repository, page: { readonly n?: number; readonly last?: string }, caller: Caller, signal: AbortSignal): Promise<TagPage>;
  /** Every manifest whose subject is this digest; always the origin's own answer. Not the tag scheme's. */
  referrers(repository: Repository, digest: Digest, caller: Caller, signal: AbortSignal): Promise<Referrers>;
}
