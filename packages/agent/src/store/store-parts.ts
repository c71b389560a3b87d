// What the classes of the store share: one of each per open store, put together by `openStore`.

import type { Logger } from 'pino';
import type { Catalogue } from './catalogue.ts';
import type { ChunkCache } from './chunk-cache.ts';
import type { DiskIo } from './disk-io.ts';
import type { DiskSpace } from './disk-space.ts';
import type { IndexDb } from './index-db.ts';
import type { OpenFiles } from './open-files.ts';
import type { ReadBuffers } from './read-buffers.ts';
import type { StorePaths } from './paths.ts';

export type StoreLogger = Pick<Logger, 'info' | 'warn' | 'error'>;

/** What the store counts. */
export interface StoreMetrics {
  evicted(kind: 'blob' | 'partial', bytes: number): void;
  /** A pull goes on without being kept: no room for it, or the disk filled up or failed under it. */
  unkept(reason: 'no-room' | 'disk-full' | 'disk-failed'): void;
  /** A finished blob was found damaged and dropped. */
  corrupt(): void;
}

export interface StoreParts {
  readonly paths: StorePaths;
  readonly index: IndexDb;
  readonly io: DiskIo;
  readonly files: OpenFiles;
  readonly cache: ChunkCache;
  readonly buffers: ReadBuffers;
  readonly space: DiskSpace;
  readonly catalogue: Catalogue;
  readonly now: () => number;
  readonly logger: StoreLogger;
  readonly metrics: StoreMetrics | undefined;
}
