// One lease and one reader of a blob, and the sizes and times that follow from how fast the reader is.
// Pure arithmetic; who gets what is decided in leases.ts.

import type { Bitfield, IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkSize, type BlobKey } from '@flotilla/shared/chunk-map';
import type { Grant, TrackerEvent } from '@flotilla/shared/tracker-api';

export interface RunSizes {
  readonly minBytes: number;
  /** Of a reader whose rate nobody knows yet: it may be slow, and would sit on what everybody waits for. */
  readonly firstBytes: number;
  /** A run is about what a reader gets from its origin in this time. */
  readonly ms: number;
  readonly maxChunks: number;
  /** Towards the end of the blob runs shrink: to what is left over `shares` times the readers, and to this at least. @default they do not */
  readonly shrink?: { readonly minBytes: number; readonly shares: number };
}

export const RUN_SIZES: RunSizes = { minBytes: 512 * 1024, firstBytes: 256 * 1024, ms: 100, maxChunks: 16, shrink: { minBytes: 320 * 1024, shares: 1 } };
/** A reader alone in its swarm takes longer runs: fewer requests. No longer than a second reader can wait for its share. */
const SOLO_RUN_MS = 250;
const MAX_SOLO_RUN_CHUNKS = 256;
/** A reader tells every second that it lives; but its word may come late over a full link, or from a machine that is out of breath. */
const MIN_DEADLINE_MS = 20_000;
/** Without a sign of life the longest run ends after this; every one starts the time anew. */
const MAX_DEADLINE_MS = 40_000;
/** So long a reader may live without a byte from its origin: more than its own patience with an origin. */
export const MAX_SILENT_MS = 45_000;
const DEADLINE_FACTOR = 4;
/** Of a reader that has not measured its origin yet, bytes per second. */
const ASSUMED_RATE = 256 * 1024;
const BACKOFF_MS = 500;
const MAX_BACKOFF_MS = 10_000;
/** However long an origin that fails asks us to wait. */
const MAX_WAIT_MS = 60_000;

/** `adopted`: granted before this tracker started, or without one, and told by its reader. */
export type LeaseMode = Grant['mode'] | 'adopted';

/** A member that joined the swarm, as a reader of the blob at its origin. */
export interface Reader {
  readonly peer: string;
  /** What it vouches for counts, and it is not passed over. */
  trusted: boolean;
  /** Its origin lets it read the blob. */
  canRead: boolean;
  /** The NAME of its origin, where it says so. */
  origin: string | undefined;
  /** How many more runs it would take. */
  need: number;
  /** Bytes per second it gets from its origin; 0: unknown. */
  originRate: number;
  /** It keeps only these chunks. */
  within: readonly IndexRange[] | undefined;
  /** Runs that it holds, oldest first. */
  readonly leases: Lease[];
  grantedChunks: number;
  grantedBytes: number;
  lastGrant: number;
  failures: number;
  idleReleases: number;
  backoffUntilMs: number;
}

export interface Lease {
  readonly id: string;
  readonly reader: Reader;
  readonly mode: LeaseMode;
  readonly first: number;
  /** Chunks from `first` on that it covers. */
  readonly count: number;
  /** By offset from `first`: chunks that are not read yet. */
  readonly unread: Bitfield;
  readonly windowMs: number;
  deadlineMs: number;
  /** When bytes of it came last. */
  movedAtMs: number;
  /** Bytes read so far, by what the reader told. */
  bytes: number;
  /** Chunks told as read. */
  chunksRead: number;
  /** Its reader was asked to give it back unread. */
  recalled: boolean;
}

/** What a book tells the world, and what it asks of it. */
export interface BookOutput {
  send(peer: string, event: TrackerEvent): void;
  /** An audit ended without an answer. */
  auditEnded(leaseId: string): void;
  /** The origin said 429 to this member. */
  throttle(origin: string | undefined, peer: string, retryAfterMs: number, nowMs: number): void;
  /** Until when it is to leave its origin alone. */
  throttledUntilMs(origin: string | undefined, peer: string): number;
  newLeaseId(): string;
  granted(mode: Grant['mode'], bytes: number): void;
  /** Of what was granted, so much will not be read. */
  returned(bytes: number): void;
  /** Whether the limits on what leaves an origin let anything be granted now. */
  open(nowMs: number): boolean;
  /** What one run may have at most under these limits. */
  mostBytes(): number;
}

/** What a member says when it joins, or says anew. */
export interface Joining {
  readonly trusted: boolean;
  readonly canRead: boolean;
  readonly origin: string | undefined;
  readonly have: readonly IndexRange[];
  readonly reading: readonly IndexRange[];
}

export interface ReaderStatus {
  readonly peerId: string;
  readonly held: number;
  readonly leases: number;
  readonly grantedBytes: number;
}

export function newReader(peer: string, trusted: boolean): Reader {
  return {
    peer,
    trusted,
    canRead: false,
    origin: undefined,
    need: 0,
    originRate: 0,
    within: undefined,
    leases: [],
    grantedChunks: 0,
    grantedBytes: 0,
    lastGrant: 0,
    failures: 0,
    idleReleases: 0,
    backoffUntilMs: 0,
  };
}

/** How many chunks an ordinary run has for a reader of this rate (bytes per second; 0: unknown). */
export function runChunks(blob: BlobKey, originRate: number, { minBytes, firstBytes, ms, maxChunks }: RunSizes): number {
  const bytes = originRate === 0 ? firstBytes : Math.max(minBytes, (originRate * ms) / 1000);
  return Math.min(maxChunks, Math.max(1, Math.ceil(bytes / chunkSize(blob.size))));
}

/** How many chunks a run has at most, with so many left to be read by so many readers. */
export function lastRunChunks(blob: BlobKey, chunksLeft: number, readers: number, { shrink }: RunSizes): number {
  if (shrink === undefined) return chunksLeft;
  return Math.max(1, Math.ceil(shrink.minBytes / chunkSize(blob.size)), Math.ceil(chunksLeft / (shrink.shares * Math.max(1, readers))));
}

/** How many chunks a run has for a reader of this rate that is alone. */
export function soloRunChunks(blob: BlobKey, originRate: number, { minBytes }: RunSizes): number {
  const bytes = Math.max(minBytes, (originRate * SOLO_RUN_MS) / 1000);
  return Math.min(MAX_SOLO_RUN_CHUNKS, Math.max(1, Math.ceil(bytes / chunkSize(blob.size))));
}

/** Bytes of `count` chunks from `first` on. */
export function rangeBytes(blob: BlobKey, first: number, count: number): number {
  if (count <= 0) return 0;
  return chunkBounds(blob.size, first + count - 1).end - chunkBounds(blob.size, first).start;
}

/** How long a reader may be silent. @param queuedBytes what it has to read before this, and this */
export function deadlineWindowMs(queuedBytes: number, originRate: number): number {
  const expectedMs = (queuedBytes * 1000) / (originRate > 0 ? originRate : ASSUMED_RATE);
  return Math.round(Math.min(MAX_DEADLINE_MS, Math.max(MIN_DEADLINE_MS, expectedMs * DEADLINE_FACTOR)));
}

/** A reader has failed: others go first for a while, longer each time. */
export function backOff(reader: Reader, atLeastMs: number, nowMs: number): void {
  const backoffMs = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** reader.failures++);
  reader.backoffUntilMs = Math.max(reader.backoffUntilMs, nowMs + Math.min(MAX_WAIT_MS, Math.max(atLeastMs, backoffMs)));
}
