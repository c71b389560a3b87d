// What a Download is given, and what it tells: its components, settings, events and status.

import type { IndexRange } from '@flotilla/shared/bitfield';
import type { AgentError } from '../errors.ts';
import type { Download } from './download.ts';
import type { Authority, Coordinator, Origin, PartialBlob, Source, SourceStatus, StoredBlob, Swarm } from './ports.ts';
import type { ByteSource } from './provenance.ts';
import type { SourceRight } from './sources.ts';
import type { HashPool } from './verification.ts';

/** Something out of the ordinary in a pull; each is counted. */
export type DownloadFallback = 'hedge' | 'repair' | 'stalled' | 'unkept' | 'conflict' | 'chunk-lost' | 'unvouched';

export interface DownloadEvents {
  /** Bytes that were delivered by a source, verified. */
  bytes(source: ByteSource, bytes: number): void;
  fallback(kind: DownloadFallback, download: Download): void;
  /** The blob was verified; `stored` unless there was no room to keep it. */
  finished(download: Download, stored: StoredBlob | undefined): void;
  /** The origin does not let this right read the blob (any more). */
  refused(download: Download, right: SourceRight, error: AgentError): void;
  /** Everything is let go of: the blob may be opened anew. */
  closed(download: Download): void;
}

export interface DownloadComponents {
  readonly partial: PartialBlob;
  readonly origin: Origin;
  readonly swarm: Swarm;
  readonly coordinator: Coordinator;
  readonly hashes: HashPool;
  /** Operators want this host to fetch from its origin alone, for now. @default never */
  readonly originOnly?: () => boolean;
  /** Unix ms */
  readonly now: () => number;
  readonly events: DownloadEvents;
  /** Whether clients of this host wait for other blobs, so that what can wait does. @default never */
  readonly clientsWait?: () => boolean;
  /** Calls `tick` at this interval until the returned function is called. @default a timer that keeps no process alive */
  readonly every?: (intervalMs: number, tick: () => void) => () => void;
}

export interface DownloadInit {
  readonly source: Source;
  /** With whose right this host may read the blob at its origin; undefined: it may not, and asks for no leases. */
  readonly authority: Authority | undefined;
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
  /** What a blob without room on disk may take in memory. @default 16 MiB */
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
  readonly bytes: Readonly<Record<ByteSource, number>>;
  readonly reading: readonly IndexRange[];
  readonly sources: readonly SourceStatus[];
  readonly startedMs: number;
  readonly lastError?: string;
}

const DEFAULTS = { lingerMs: 5000, hedgeMs: 5000, stallMs: 60_000, auditMs: 15_000, settleMs: 2000, windowBytes: 16 * 1024 * 1024 };

export type CompleteInit = Required<Omit<DownloadInit, 'mediaType' | 'authority'>> & Pick<DownloadInit, 'mediaType' | 'authority'>;

/** With the defaults: a setting that is `undefined` does not take the place of one. */
export function withDefaults(init: DownloadInit): CompleteInit {
  const present = Object.entries(init).filter(([, value]) => value !== undefined);
  return { ...DEFAULTS, ...(Object.fromEntries(present) as unknown as DownloadInit) };
}
