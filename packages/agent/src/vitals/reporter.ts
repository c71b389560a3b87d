// What this host tells the tracker of itself each second while it pulls: how it does (vitals), what went wrong, what came to an end.
//
// Figures only; why a host is slow is the tracker's to say. Cheap: one sample a second, of counters that are kept anyway. Numbers are made to fit
// the schema here, because a batch with one that does not is refused whole. Non-goals: when to tell (tracker/poster.ts).

import { MAX_DETAIL_DOWNLOADS, MAX_DETAIL_PEERS, type HostReport, type Limits, type Vitals } from '@flotilla/shared/agent-report';
import { chunkSize } from '@flotilla/shared/chunk-map';
import type { AgentMessage } from '@flotilla/shared/tracker-api';
import type { DownloadStatus } from '../content/download-contract.ts';
import type { BusyMeter } from './busy-meter.ts';
import type { OriginFaults } from './origin-faults.ts';
import type { ToldOnce } from './told-once.ts';

type Stats = Omit<Extract<AgentMessage, { type: 'stats' }>, 'type'>;

/** A sample is not taken anew before this: over less a share of time means nothing. */
const MIN_WINDOW_MS = 500;
/** Of a rate that jumps with each chunk, the share that the last second has. */
const NEWEST = 0.6;
/** A rate that runs down is nought below this. */
const LEAST_RATE = 1024;

export interface PeerFigures {
  readonly peerId: string;
  readonly downRate: number;
  readonly upRate: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
}

export interface ReporterSources {
  readonly totals: () => Pick<Stats, 'bytes' | 'pulls' | 'store'>;
  readonly downloads: () => readonly DownloadStatus[];
  readonly peers: () => readonly PeerFigures[];
  readonly freeBytes: () => number;
  /** Payload bytes off origins' wires since the start. */
  readonly originBytes: () => number;
  /** Payload bytes that peers have taken since the start. */
  readonly uploadedBytes: () => number;
  readonly limits: () => Limits;
  readonly brakes: () => readonly string[];
  readonly disk: BusyMeter;
  readonly faults: OriginFaults;
  readonly told: ToldOnce;
  /** Monotonic ms. */
  readonly now: () => number;
  /** Unix ms. */
  readonly wallClock: () => number;
  /** Share of the last second that the main thread was at work, 0 to 1. */
  readonly loopShare: () => number;
  /** CPU time of the process in ms, since any moment. */
  readonly cpuMs: () => number;
  readonly memoryBytes: () => number;
}

export class Reporter {
  readonly #from: ReporterSources;
  #sampled: { readonly atMs: number; readonly vitals: Vitals } | undefined;
  #last: { readonly atMs: number; readonly originBytes: number; readonly uploaded: number; readonly cpuMs: number };
  #rates = { peer: 0, origin: 0, upload: 0 };
  /** Of each peer that is connected, what had come from it at the last sample. */
  #fromPeers: ReadonlyMap<string, number> = new Map();
  #watchedUntilMs = 0;
  #faultsTold = 0;

  constructor(from: ReporterSources) {
    this.#from = from;
    this.#last = { atMs: from.now(), originBytes: from.originBytes(), uploaded: from.uploadedBytes(), cpuMs: from.cpuMs() };
  }

  /** Somebody looks at this host for so long. */
  watch(forMs: number): void {
    this.#watchedUntilMs = this.#from.now() + forMs;
  }

  /** There is something that should not wait for the next heartbeat. */
  get urgent(): boolean {
    const { told, faults, now, uploadedBytes } = this.#from;
    const sending = this.#rates.upload > 0 || uploadedBytes() !== this.#last.uploaded;
    return told.waiting || faults.total !== this.#faultsTold || now() < this.#watchedUntilMs || sending;
  }

  /** All there is to tell now; what is told once counts as told. */
  stats(): Stats {
    const { totals, downloads, faults, limits, brakes, told, now } = this.#from;
    const running = downloads();
    const { finished, manifests } = told.take();
    const braked = [...brakes()];
    const refused = faults.told();
    this.#faultsTold = faults.total;
    return {
      ...totals(),
      vitals: this.#sample(running),
      limits: limits(),
      ...(refused.length > 0 && { faults: refused }),
      ...(braked.length > 0 && { brakes: braked }),
      ...(finished.length > 0 && { finished }),
      ...(manifests.length > 0 && { manifests }),
      ...(now() < this.#watchedUntilMs && { detail: this.#detail(running) }),
    };
  }

  #sample(running: readonly DownloadStatus[]): Vitals {
    const nowMs = this.#from.now();
    if (this.#sampled !== undefined && nowMs - this.#sampled.atMs < MIN_WINDOW_MS) return this.#sampled.vitals;
    const { peers, disk, freeBytes, originBytes, uploadedBytes, loopShare, cpuMs, memoryBytes, wallClock } = this.#from;
    const connected = peers();
    const write = disk.take();
    const fromPeers = new Map(connected.map(({ peerId, bytesDown }) => [peerId, bytesDown]));
    const peerBytes = [...fromPeers].reduce((sum, [peerId, bytes]) => sum + Math.max(0, bytes - (this.#fromPeers.get(peerId) ?? bytes)), 0);
    this.#fromPeers = fromPeers;
    const current = { atMs: nowMs, originBytes: originBytes(), uploaded: uploadedBytes(), cpuMs: cpuMs() };
    const windowMs = Math.max(1, nowMs - this.#last.atMs);
    // What runs down after a pull would be told until the next heartbeat: a pull that is over gets nothing.
    this.#rates.peer = running.length === 0 ? 0 : smooth(this.#rates.peer, peerBytes, windowMs);
    this.#rates.origin = running.length === 0 && current.originBytes === this.#last.originBytes ? 0 : smooth(this.#rates.origin, current.originBytes - this.#last.originBytes, windowMs);
    this.#rates.upload = smooth(this.#rates.upload, current.uploaded - this.#last.uploaded, windowMs);
    const vitals: Vitals = {
      atMs: whole(wallClock()),
      peerRate: whole(this.#rates.peer),
      originRate: whole(this.#rates.origin),
      uploadRate: whole(this.#rates.upload),
      loop: share(loopShare()),
      cpu: Math.min(1024, Math.max(0, (current.cpuMs - this.#last.cpuMs) / windowMs)),
      diskWriteMs: Math.max(0, write.meanMs),
      diskBusy: share(write.busy),
      peers: connected.length,
      sources: usefulSources(running),
      missingBytes: whole(running.reduce((sum, download) => sum + missing(download), 0)),
      freeBytes: whole(freeBytes()),
      memoryBytes: whole(memoryBytes()),
    };
    this.#last = current;
    this.#sampled = { atMs: nowMs, vitals };
    return vitals;
  }

  #detail(running: readonly DownloadStatus[]): HostReport {
    const peers = [...this.#from.peers()].sort((a, b) => b.downRate + b.upRate - a.downRate - a.upRate).slice(0, MAX_DETAIL_PEERS);
    return {
      peers: peers.map(({ peerId, downRate, upRate, bytesDown, bytesUp }) => [peerId, whole(downRate), whole(upRate), whole(bytesDown), whole(bytesUp)]),
      downloads: running.slice(0, MAX_DETAIL_DOWNLOADS).map(({ digest, size, bytes, sources, lastError }) => ({
        digest,
        size,
        peerBytes: whole(bytes.peer),
        originBytes: whole(bytes.origin),
        duplicateBytes: whole(bytes.duplicate),
        sources: [...sources]
          .sort((a, b) => b.downRate + b.upRate - a.downRate - a.upRate)
          .slice(0, MAX_DETAIL_PEERS)
          .map(({ peerId, downRate, upRate }) => [peerId, whole(downRate), whole(upRate)]),
        ...(lastError !== undefined && { error: lastError.slice(0, 255) }),
      })),
      errors: this.#from.told.errors.map((error) => ({ ...error })),
    };
  }
}

/** Peers that have, or are asked for, something of a running download. */
function usefulSources(running: readonly DownloadStatus[]): number {
  const useful = new Set<string>();
  for (const { sources } of running) for (const source of sources) if (source.useful) useful.add(source.peerId);
  return useful.size;
}

function missing({ size, chunks, held }: DownloadStatus): number {
  return Math.max(0, Math.min(size, (chunks - held) * chunkSize(size)));
}

/** What was before counts the less the longer ago it was. */
function smooth(before: number, bytes: number, windowMs: number): number {
  const kept = (1 - NEWEST) ** (windowMs / 1000);
  const rate = before * kept + ((bytes * 1000) / windowMs) * (1 - kept);
  return bytes === 0 && rate < LEAST_RATE ? 0 : rate;
}

function whole(value: number): number {
  return Number.isFinite(value) ? Math.max(0, Math.min(Number.MAX_SAFE_INTEGER, Math.round(value))) : 0;
}

function share(value: number): number {
  return Number.isFinite(value) ? Math.max(0, Math.min(1, value)) : 0;
}
