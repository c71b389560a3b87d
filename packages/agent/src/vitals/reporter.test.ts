import fc from 'fast-check';
import { AgentMessage } from '@flotilla/shared/tracker-api';
import { parseDigest } from '@flotilla/shared/digest';
import { Compile } from 'typebox/compile';
import { expect, test } from 'vitest';
import type { DownloadStatus } from '../content/download-contract.ts';
import { AgentError } from '../errors.ts';
import { BusyMeter } from './busy-meter.ts';
import { OriginFaults } from './origin-faults.ts';
import { Reporter, type ReporterSources } from './reporter.ts';
import { ToldOnce } from './told-once.ts';

const PEER = '12D3KooWGRUaJpVWw5vBvxUYv4tSbZ6dUFq3xGvHpYMeT5rHmXyA';
const DIGEST = parseDigest(`sha256:${'a'.repeat(64)}`);
const message = Compile(AgentMessage);

class World {
  nowMs = 1_000;
  totals = { bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, pulls: { active: 1, done: 0, failed: 0 }, store: { bytes: 1, limit: 2, blobs: 1 } };
  downloads: DownloadStatus[] = [];
  originBytes = 0;
  /** What has come from the one peer. */
  peerBytes = 5;
  loop = 0.25;
  cpuMs = 0;
  faults = new OriginFaults(() => undefined);
  told = new ToldOnce(() => this.nowMs);
  readonly reporter: Reporter;

  constructor(more: Partial<ReporterSources> = {}) {
    this.reporter = new Reporter({
      totals: () => this.totals,
      downloads: () => this.downloads,
      peers: () => [{ peerId: PEER, downRate: 1000.4, upRate: 10, bytesDown: this.peerBytes, bytesUp: 6 }],
      freeBytes: () => 1e12,
      originBytes: () => this.originBytes,
      uploadedBytes: () => this.totals.bytes.uploaded,
      limits: () => ({ download: 5_000_000 }),
      brakes: () => [],
      disk: new BusyMeter(() => this.nowMs),
      faults: this.faults,
      told: this.told,
      now: () => this.nowMs,
      wallClock: () => 1_800_000_000_000 + this.nowMs,
      loopShare: () => this.loop,
      cpuMs: () => this.cpuMs,
      memoryBytes: () => 2e8,
      ...more,
    });
  }
}

function download(more: Partial<DownloadStatus> = {}): DownloadStatus {
  return { digest: DIGEST, size: 1024 * 1024, source: { origin: 'lab', repository: 'app', kind: 'blob' }, state: 'running', chunks: 16, held: 4, readers: 1, kept: true, bytes: { peer: 1, origin: 2, duplicate: 3 }, reading: [], sources: [], startedMs: 1, ...more };
}

test('a second at work, in figures', () => {
  const world = new World();
  world.downloads = [download({ sources: [{ peerId: PEER, held: 5, useful: true, downRate: 1, upRate: 0, bytesDown: 0, bytesUp: 0 }, { peerId: 'other', held: 5, useful: false, downRate: 0, upRate: 0, bytesDown: 0, bytesUp: 0 }] })];
  world.reporter.stats();
  world.nowMs += 1_000;
  world.peerBytes += 10_000;
  world.originBytes = 1_000_000;
  world.cpuMs = 1_500;
  const { vitals, limits, faults, detail } = world.reporter.stats();
  expect(vitals).toMatchObject({ peerRate: 6_000, originRate: 600_000, loop: 0.25, cpu: 1.5, peers: 1, sources: 1, missingBytes: 786_432 });
  expect([limits, faults, detail]).toEqual([{ download: 5_000_000 }, undefined, undefined]);
});

test('who only sends tells it each second until it has stopped; a pull that is over gets nothing, however fast it was', () => {
  const world = new World();
  const second = (ms = 1_000): { peerRate: number; originRate: number; uploadRate: number } => {
    world.nowMs += ms;
    return world.reporter.stats().vitals!;
  };
  world.downloads = [download()];
  second();
  world.originBytes += 5_000_000;
  world.peerBytes += 1_000_000;
  expect(second()).toMatchObject({ peerRate: 600_000, originRate: 3_000_000, uploadRate: 0 });
  expect(world.reporter.urgent).toBe(false);
  world.downloads = [];
  world.totals.bytes.uploaded += 1_000_000;
  expect(world.reporter.urgent).toBe(true);
  expect(second()).toMatchObject({ peerRate: 0, originRate: 0, uploadRate: 600_000 });
  let seconds = 0;
  while (world.reporter.urgent) {
    second();
    seconds++;
  }
  expect([seconds > 1, second().uploadRate]).toEqual([true, 0]);
  // After a long silence the window says it all.
  world.totals.bytes.uploaded += 30_000_000;
  expect(second(30_000).uploadRate).toBe(1_000_000);
});

test('of a peer that is new it is not known since when its bytes came; those of one that has gone are no debt', () => {
  let peers: { peerId: string; bytesDown: number }[] = [];
  const world = new World({ peers: () => peers.map((peer) => ({ ...peer, downRate: 0, upRate: 0, bytesUp: 0 })) });
  world.downloads = [download()];
  const rateWith = (...connected: typeof peers): number => {
    world.nowMs += 1_000;
    peers = connected;
    return world.reporter.stats().vitals!.peerRate;
  };
  expect(rateWith({ peerId: 'a', bytesDown: 1e9 })).toBe(0);
  expect(rateWith({ peerId: 'a', bytesDown: 1e9 + 1e6 }, { peerId: 'b', bytesDown: 1e9 })).toBe(600_000);
  expect(rateWith({ peerId: 'b', bytesDown: 1e9 + 1e6 })).toBe(840_000);
});

test('asked twice in a moment it does not sample anew; what is told once is told once', () => {
  const world = new World();
  world.told.blob({ digest: DIGEST, size: 1, startedAtMs: 1, endedAtMs: 2, originBytes: 1, resumedBytes: 0, duplicateBytes: 0, peerBytes: 0, sources: [] });
  expect(world.reporter.urgent).toBe(true);
  world.nowMs += 1_000;
  const first = world.reporter.stats();
  world.loop = 0.9;
  world.nowMs += 100;
  const second = world.reporter.stats();
  expect(second.vitals).toEqual(first.vitals);
  expect([first.finished?.length, second.finished]).toEqual([1, undefined]);
  expect(world.reporter.urgent).toBe(false);
});

test('a fault is urgent until it was told; who looks closer is told more, for a while', async () => {
  const world = new World();
  const content = world.faults.watchContent({ blob: () => Promise.reject(new AgentError('ORIGIN_THROTTLED', '429')) } as never);
  await content.blob({ origin: 'lab', repository: 'app' }, DIGEST, {} as never, new AbortController().signal).catch(() => undefined);
  expect(world.reporter.urgent).toBe(true);
  expect(world.reporter.stats().faults).toEqual([['lab', 'throttled', 1]]);
  expect(world.reporter.urgent).toBe(false);
  world.reporter.watch(5_000);
  expect(world.reporter.urgent).toBe(true);
  expect(world.reporter.stats().detail).toEqual({ peers: [[PEER, 1000, 10, 5, 6]], downloads: [], errors: [] });
  world.nowMs += 5_000;
  expect([world.reporter.urgent, world.reporter.stats().detail]).toEqual([false, undefined]);
});

test('whatever the sources say, the tracker takes it', () => {
  const odd = fc.oneof(fc.double(), fc.constantFrom(Number.NaN, -1, Number.POSITIVE_INFINITY, 1e300));
  fc.assert(
    fc.property(odd, odd, odd, odd, odd, fc.string({ maxLength: 400 }), (a, b, c, d, e, text) => {
      const world = new World({ freeBytes: () => a, loopShare: () => b, memoryBytes: () => c, peers: () => [{ peerId: PEER, downRate: d, upRate: e, bytesDown: a, bytesUp: b }] });
      world.downloads = [download({ lastError: text, held: 20 })];
      world.told.error(text, text);
      world.told.manifest({ repository: { origin: text, repository: text }, digest: DIGEST, size: 1, mediaType: text, tag: text, references: [], platforms: new Map(), named: true });
      world.reporter.watch(1_000);
      world.nowMs += 600;
      world.cpuMs = Number.isNaN(c) ? 0 : Math.min(1e9, Math.abs(c));
      expect([...message.Errors({ type: 'stats', ...world.reporter.stats() })]).toEqual([]);
    }),
  );
});

test('a manifest is told again after a minute, by another tag at once; names that are kept back are not told', () => {
  let nowMs = 0;
  const told = new ToldOnce(() => nowMs);
  const manifest = (tag: string | undefined, named = true): void => told.manifest({ repository: { origin: 'lab', repository: 'app' }, digest: DIGEST, size: 1, mediaType: 'm', ...(tag !== undefined && { tag }), references: [{ digest: DIGEST, size: 2, mediaType: 'l', kind: 'blob' }], platforms: new Map(), named });
  manifest('v1');
  manifest('v1');
  manifest('v2');
  expect(told.take().manifests.map(({ tag, origin }) => [tag, origin])).toEqual([['v1', 'lab'], ['v2', 'lab']]);
  nowMs = 60_000;
  manifest('v1');
  manifest('v3', false);
  expect(told.take().manifests.map(({ tag, origin }) => [tag, origin])).toEqual([['v1', 'lab'], [undefined, undefined]]);
  expect(told.waiting).toBe(false);
});

test('a report has room in a post, whatever has piled up', () => {
  const told = new ToldOnce(() => 0);
  const sources = Array.from({ length: 64 }, (): [string, number] => [PEER, 1_000_000_000]);
  for (let at = 0; at < 256; at++) told.blob({ digest: DIGEST, size: at, startedAtMs: 1, endedAtMs: 2, originBytes: 0, resumedBytes: 0, duplicateBytes: 0, peerBytes: 0, sources });
  const references = Array.from({ length: 2_000 }, (_, n) => ({ digest: parseDigest(`sha256:${n.toString(16).padStart(64, '0')}`), size: 1, mediaType: 'l', kind: 'blob' as const }));
  for (let at = 0; at < 40; at++) told.manifest({ repository: { origin: 'lab', repository: `app-${at}` }, digest: DIGEST, size: 1, mediaType: 'm', references, platforms: new Map(), named: true });
  const sizes: number[] = [];
  const told256: number[] = [];
  while (told.waiting) {
    const taken = told.take();
    told256.push(...taken.finished.map(({ size }) => size));
    sizes.push(Buffer.byteLength(JSON.stringify(taken)));
  }
  expect(Math.max(...sizes)).toBeLessThan(700_000);
  expect(told256).toEqual(Array.from({ length: 256 }, (_, at) => at));
});

test('without a tracker the oldest goes', () => {
  const told = new ToldOnce(() => 0);
  for (let at = 0; at < 300; at++) told.blob({ digest: DIGEST, size: at, startedAtMs: 1, endedAtMs: 2, originBytes: 0, resumedBytes: 0, duplicateBytes: 0, peerBytes: 0, sources: [] });
  const { finished } = told.take();
  expect([finished.length, finished[0]!.size, finished.at(-1)!.size]).toEqual([256, 44, 299]);
});
