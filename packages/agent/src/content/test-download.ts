// A Download with all its ports in memory, for tests.

import { afterAll } from 'vitest';
import { Download } from './download.ts';
import type { DownloadFallback, DownloadInit } from './download-contract.ts';
import type { ByteRange, StoredBlob } from './ports.ts';
import { Events, TestClock, TestCoordinator, TestOrigin, TestPartial, TestSwarm, type TestBlob, type TestLeaseHandle, type TestSwarmHandle } from './test-ports.ts';
import type { ByteSource } from './provenance.ts';
import type { SourceRight } from './sources.ts';
import { HashPool } from './verification.ts';

type DownloadEvent =
  | { readonly type: 'fallback'; readonly kind: DownloadFallback }
  | { readonly type: 'finished'; readonly stored: StoredBlob | undefined }
  | { readonly type: 'refused'; readonly right: SourceRight; readonly code: string }
  | { readonly type: 'closed' };

export interface Bench {
  readonly blob: TestBlob;
  readonly download: Download;
  readonly origin: TestOrigin;
  readonly swarm: TestSwarm;
  readonly peers: TestSwarmHandle;
  readonly tracker: TestLeaseHandle;
  readonly coordinator: TestCoordinator;
  readonly partial: TestPartial;
  readonly clock: TestClock;
  readonly events: Events<DownloadEvent>;
  /** Bytes by source, as they stood when it was finished. */
  readonly ended: Readonly<Record<ByteSource, number>>[];
  /** A reader of the whole blob, of a range, or of what a Range header asked for. */
  readonly read: (asked?: ByteRange | readonly ByteRange[], signal?: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;
  readonly fallbacks: () => DownloadFallback[];
}

let pool: HashPool | undefined;
afterAll(async () => {
  await pool?.close();
  pool = undefined;
});

export function hashPool(): HashPool {
  pool ??= new HashPool();
  return pool;
}

export function bench(
  blob: TestBlob,
  { partial = new TestPartial(blob.key), coordinator = new TestCoordinator(), origin = new TestOrigin(), ...init }: Partial<DownloadInit> & { partial?: TestPartial; coordinator?: TestCoordinator; origin?: TestOrigin } = {},
): Bench {
  origin.add(blob);
  const swarm = new TestSwarm();
  const clock = new TestClock();
  const events = new Events<DownloadEvent>();
  const ended: Readonly<Record<ByteSource, number>>[] = [];
  const download = new Download(
    {
      partial,
      origin,
      swarm,
      coordinator,
      hashes: hashPool(),
      now: clock.now,
      every: clock.every,
      events: {
        bytes: () => {},
        fallback: (kind) => events.push({ type: 'fallback', kind }),
        finished: ({ provenance }, stored) => {
          ended.push(provenance.bytes);
          events.push({ type: 'finished', stored });
        },
        refused: (_, right, { code }) => events.push({ type: 'refused', right, code }),
        closed: () => events.push({ type: 'closed' }),
      },
    },
    { source: { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' }, authority: { kind: 'anonymous' }, ...init },
  );
  return {
    blob,
    download,
    origin,
    swarm,
    peers: swarm.handle,
    tracker: coordinator.handle,
    coordinator,
    partial,
    clock,
    events,
    ended,
    read: (asked = { start: 0, end: blob.key.size }, signal = new AbortController().signal) => download.read(asked, signal),
    fallbacks: () => events.all.flatMap((event) => (event.type === 'fallback' ? [event.kind] : [])),
  };
}
