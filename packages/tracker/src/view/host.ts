// What the tracker knows of one host, from its sessions and its stats. Pure: time is handed in.
//
// Invariant: figures are those of the last stats, rates those of the last seconds; a host without a session keeps its last figures and has
// no rates. Bounds: faults by MAX_FAULTS of agent-report, the rest is as large as one report. Non-goals: why it is slow (slow-reason.ts).

import type { FaultKind, HostReport, Limits, Vitals } from '@flotilla/shared/agent-report';
import { SLOW_REASONS, type ByteSums, type HostFigures, type HostInfo } from '@flotilla/shared/live-api';
import type { AgentMessage, SessionRequest } from '@flotilla/shared/tracker-api';
import { Rates, SILENT_MS, type Counted } from './rates.ts';
import type { SlowVerdict } from './slow-reason.ts';

export type Stats = Extract<AgentMessage, { type: 'stats' }>;

/** A fault that was told again within this time is going on: an origin that asked for patience is not asked all the time. */
const FAULT_LASTS_MS = 15_000;
/** After this at a pull its rate says something. */
const SETTLED_MS = 2_000;
const KINDS: ReadonlySet<string> = new Set<FaultKind>(['dns', 'throttled', 'credentials', 'unreachable', 'other']);

/** One thing that goes wrong at one origin. */
export interface HostFault {
  readonly origin: string;
  readonly kind: FaultKind;
  count: number;
  /** Since when it goes on, and when it was told last. */
  sinceMs: number;
  lastMs: number;
}

const NO_BYTES: ByteSums = { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 };
const NO_VERDICT: SlowVerdict = { slow: false, reason: '', evidence: '' };

export class Host {
  readonly n: number;
  readonly peerId: string;
  info: HostInfo;
  connected = false;
  openedAtMs: number | undefined;
  heardAtMs = 0;
  clockSkewMs: number | undefined;
  addresses: readonly string[] = [];
  bytes = NO_BYTES;
  pulls = { active: 0, done: 0, failed: 0 };
  store = { bytes: 0, limit: 0, blobs: 0 };
  vitals: Vitals | undefined;
  limits: Limits = {};
  brakeIds: readonly string[] = [];
  detail: { readonly report: HostReport; readonly atMs: number } | undefined;
  readonly #rates = new Rates();
  #heard = false;
  readonly #faults = new Map<string, HostFault>();
  /** Since when it has pulled without a pause. */
  pullingSinceMs: number | undefined;
  /** When the last byte of a pull came. */
  progressAtMs = 0;
  #toldAtMs = 0;
  /** Decided each second by HostBook's owner. */
  verdict = NO_VERDICT;
  /** Of what it fetches: bytes held and bytes in all. */
  fetching = { held: 0, size: 0 };

  constructor(n: number, peerId: string) {
    this.n = n;
    this.peerId = peerId;
    this.info = { n, peerId, name: '', zone: '', version: '', labels: {} };
  }

  /** @param skewed the request's time is the agent's clock */
  opened({ name, zone, labels, agentVersion, addresses, timestampMs }: SessionRequest, nowMs: number): void {
    const { n, peerId } = this;
    this.info = { n, peerId, name, zone: zone ?? '', version: agentVersion, labels };
    this.connected = true;
    this.openedAtMs = nowMs;
    this.heardAtMs = nowMs;
    this.addresses = addresses;
    this.clockSkewMs = timestampMs - nowMs;
    this.#heard = false;
    this.#faults.clear();
  }

  closed(): void {
    this.connected = false;
    this.openedAtMs = undefined;
    this.pulls = { ...this.pulls, active: 0 };
    this.pullingSinceMs = undefined;
    this.fetching = { held: 0, size: 0 };
    this.verdict = NO_VERDICT;
    this.detail = undefined;
  }

  stats(stats: Stats, nowMs: number): void {
    const { bytes, pulls, vitals } = stats;
    if (bytes.peer + bytes.origin > this.bytes.peer + this.bytes.origin) this.progressAtMs = nowMs;
    const active = pulls.active > 0;
    if (!active) this.pullingSinceMs = undefined;
    else if (this.pullingSinceMs === undefined) {
      this.pullingSinceMs = nowMs;
      this.progressAtMs = nowMs;
    }
    this.#rates.take(bytes, nowMs);
    this.#toldAtMs = nowMs;
    this.bytes = bytes;
    this.pulls = pulls;
    this.store = stats.store;
    this.vitals = vitals;
    this.limits = stats.limits ?? {};
    this.brakeIds = stats.brakes ?? [];
    if (stats.detail !== undefined) this.detail = { report: stats.detail, atMs: nowMs };
    for (const [origin, kind, count] of stats.faults ?? []) this.#fault(origin, kind, count, nowMs);
    this.#heard = true;
  }

  /** Pulls, or tries to: an origin refuses it, and so nothing has begun. */
  pulling(nowMs: number): boolean {
    return this.connected && (this.pulls.active > 0 || this.faultsNow(nowMs).length > 0);
  }

  settled(nowMs: number): boolean {
    return this.pullingSinceMs !== undefined && nowMs - this.pullingSinceMs >= SETTLED_MS;
  }

  /** What goes wrong now, the latest first. */
  faultsNow(nowMs: number): HostFault[] {
    if (this.#faults.size === 0) return [];
    return [...this.#faults.values()].filter(({ lastMs }) => nowMs - lastMs < FAULT_LASTS_MS).sort((a, b) => b.lastMs - a.lastMs);
  }

  faults(): Iterable<HostFault> {
    return this.#faults.values();
  }

  /** Bytes per second, as it tells itself; of an older agent, or of what it does not tell, from its totals. */
  rateOf(kind: Counted, nowMs: number): number {
    if (this.vitals === undefined || kind === 'store') return this.#rates.of(kind, nowMs);
    if (nowMs - this.#toldAtMs > SILENT_MS) return 0;
    return kind === 'peer' ? this.vitals.peerRate : kind === 'origin' ? this.vitals.originRate : this.vitals.uploadRate;
  }

  /** What arrives over the network. */
  rate(nowMs: number): number {
    return this.rateOf('peer', nowMs) + this.rateOf('origin', nowMs);
  }

  /** In thousandths; -1: it fetches nothing. */
  get share(): number {
    return this.pulls.active === 0 || this.fetching.size === 0 ? -1 : Math.floor((1000 * this.fetching.held) / this.fetching.size);
  }

  /** Index into SLOW_REASONS; 0 where nothing says that it is slow. */
  get slowIndex(): number {
    return this.verdict.slow ? SLOW_REASONS.indexOf(this.verdict.reason) : 0;
  }

  figures(state: number, nowMs: number): HostFigures {
    const { bytes, store } = this;
    return [
      this.n,
      state,
      this.rateOf('peer', nowMs),
      this.rateOf('origin', nowMs),
      this.rateOf('uploaded', nowMs),
      this.pulls.active,
      bytes.peer,
      bytes.origin,
      bytes.uploaded,
      store.bytes,
      store.limit,
      this.slowIndex,
      this.share,
      this.heardAtMs,
    ];
  }

  #fault(origin: string, kind: string, count: number, nowMs: number): void {
    if (!KINDS.has(kind)) return;
    const key = `${kind} ${origin}`;
    const known = this.#faults.get(key);
    // At the first word of a session it is not known when it happened.
    if (known === undefined) this.#faults.set(key, { origin, kind: kind as FaultKind, count, sinceMs: nowMs, lastMs: this.#heard ? nowMs : Number.NEGATIVE_INFINITY });
    else if (count > known.count) {
      if (nowMs - known.lastMs >= FAULT_LASTS_MS) known.sinceMs = nowMs;
      known.count = count;
      known.lastMs = nowMs;
    }
  }
}
