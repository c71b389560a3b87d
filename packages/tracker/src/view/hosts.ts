// All hosts of the fleet by number and by peer id, sums over those that are connected, and why each of those that pull is slow. Pure.
//
// Invariant: sums are those of the connected hosts' last stats, kept up to date with each of them. A number is never given twice.

import type { Limits } from '@flotilla/shared/agent-report';
import type { Brake, ByteSums } from '@flotilla/shared/live-api';
import type { SessionRequest } from '@flotilla/shared/tracker-api';
import { median } from '../median.ts';
import { Host, type Stats } from './host.ts';
import { slowReason, type Surroundings } from './slow-reason.ts';
import type { OriginFact } from './verdict.ts';

/** With fewer hosts that pull there is nobody to compare with. */
const MIN_NEIGHBOURS = 3;
/** Sessions that ended without a word, for so long. */
const LOST_MS = 60_000;

export interface Sums {
  readonly bytes: ByteSums;
  readonly pulls: { readonly active: number; readonly done: number; readonly failed: number };
  readonly store: { readonly bytes: number; readonly limit: number };
}

/** What a host fetches, as its swarms say. */
export interface Fetching {
  readonly held: number;
  readonly size: number;
  /** Somebody else holds chunks that it lacks. */
  readonly heldElsewhere: boolean;
  /** NAMEs of the origins of its blobs. */
  readonly origins: ReadonlySet<string>;
}

export class Hosts {
  readonly #byPeer = new Map<string, Host>();
  readonly #byNumber: (Host | undefined)[] = [];
  readonly #connected = new Set<Host>();
  readonly #lost = new Map<Host, number>();
  readonly #bytes = { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 };
  readonly #pulls = { active: 0, done: 0, failed: 0 };
  readonly #store = { bytes: 0, limit: 0 };
  /** Since the tracker's start, from what hosts told more than before: it never falls. */
  readonly #moved = { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0, done: 0, failed: 0 };
  /** Hosts whose totals of this session are known. */
  readonly #told = new Set<Host>();
  #median: number | undefined;

  /** The host of this peer; made where there is none. */
  of(peerId: string): Host {
    let host = this.#byPeer.get(peerId);
    if (host === undefined) {
      host = new Host(this.#byNumber.length, peerId);
      this.#byPeer.set(peerId, host);
      this.#byNumber.push(host);
    }
    return host;
  }

  find(peerId: string): Host | undefined {
    return this.#byPeer.get(peerId);
  }

  at(n: number): Host | undefined {
    return this.#byNumber[n];
  }

  all(): Iterable<Host> {
    return this.#byPeer.values();
  }

  get size(): number {
    return this.#byPeer.size;
  }

  get connected(): ReadonlySet<Host> {
    return this.#connected;
  }

  get sums(): Sums {
    return { bytes: this.#bytes, pulls: this.#pulls, store: this.#store };
  }

  /** Bytes by where they came from or went, and pulls by how they ended, since the tracker's start. */
  get moved(): Readonly<Record<'peer' | 'origin' | 'store' | 'uploaded' | 'duplicate' | 'done' | 'failed', number>> {
    return this.#moved;
  }

  /** What hosts that pull get in the middle. */
  get medianRate(): number | undefined {
    return this.#median;
  }

  opened(request: SessionRequest, nowMs: number): Host {
    const host = this.of(request.peerId);
    if (host.connected) this.#count(host, -1);
    host.opened(request, nowMs);
    this.#told.delete(host);
    this.#connected.add(host);
    this.#lost.delete(host);
    this.#count(host, 1);
    return host;
  }

  /** @param meant it said that it goes, or was told to */
  closed(peerId: string, meant: boolean, nowMs: number): void {
    const host = this.#byPeer.get(peerId);
    if (host === undefined || !host.connected) return;
    this.#count(host, -1);
    host.closed();
    this.#told.delete(host);
    this.#connected.delete(host);
    if (!meant) this.#lost.set(host, nowMs);
  }

  stats(peerId: string, stats: Stats, nowMs: number): Host | undefined {
    const host = this.#byPeer.get(peerId);
    if (host === undefined || !host.connected) return undefined;
    this.#count(host, -1);
    if (this.#told.has(host)) this.#grow(host, stats);
    this.#told.add(host);
    host.stats(stats, nowMs);
    this.#count(host, 1);
    return host;
  }

  /** It is no member any more. */
  forget(peerId: string): void {
    const host = this.#byPeer.get(peerId);
    if (host === undefined) return;
    this.closed(peerId, true, 0);
    this.#byPeer.delete(peerId);
    this.#byNumber[host.n] = undefined;
    this.#lost.delete(host);
  }

  /** Hosts that were lost within a minute, and `afterMs` ago at least. */
  lost(afterMs: number, nowMs: number): Host[] {
    for (const [host, atMs] of this.#lost) if (nowMs - atMs >= LOST_MS) this.#lost.delete(host);
    return [...this.#lost].filter(([, atMs]) => nowMs - atMs >= afterMs).map(([host]) => host);
  }

  /** Decides for each host that pulls why it is slow. Each second. */
  judge(fetching: ReadonlyMap<string, Fetching>, origins: readonly OriginFact[], brakesOf: (host: Host) => readonly Brake[], nowMs: number): void {
    const pulling: Host[] = [];
    for (const host of this.#connected) {
      const fetches = fetching.get(host.peerId);
      host.fetching = fetches === undefined ? { held: 0, size: 0 } : { held: fetches.held, size: fetches.size };
      if (host.pulling(nowMs)) pulling.push(host);
      else host.verdict = { slow: false, reason: '', evidence: '' };
    }
    this.#median = usualOf(pulling.filter((host) => host.settled(nowMs)).map((host) => host.rate(nowMs)));
    for (const host of pulling) host.verdict = this.#verdictOf(host, fetching.get(host.peerId), origins, brakesOf(host), nowMs);
  }

  #verdictOf(host: Host, fetches: Fetching | undefined, origins: readonly OriginFact[], brakes: readonly Brake[], nowMs: number): Host['verdict'] {
    const refusing = origins.find(({ origin }) => fetches?.origins.has(origin) ?? false);
    const around: Surroundings = {
      medianRate: this.#median,
      heldElsewhere: fetches?.heldElsewhere ?? false,
      originFault: refusing && { origin: refusing.origin, kind: refusing.kind, hosts: refusing.hosts.length },
    };
    const { vitals } = host;
    const limits: Limits = host.limits;
    return slowReason(
      {
        peerRate: host.rateOf('peer', nowMs),
        originRate: host.rateOf('origin', nowMs),
        pulling: true,
        settled: host.settled(nowMs),
        loop: vitals?.loop ?? 0,
        diskBusy: vitals?.diskBusy ?? 0,
        diskWriteMs: vitals?.diskWriteMs ?? 0,
        peers: vitals?.peers,
        sources: vitals?.sources,
        limits: { ...(limits.download !== undefined && { download: limits.download }), ...(limits.origin !== undefined && { origin: limits.origin }) },
        brakes: brakes.filter(({ id }) => host.brakeIds.includes(id)),
        faults: host.faultsNow(nowMs),
      },
      around,
    );
  }

  /** What an agent told before its session is not new, nor are the totals of one that started anew. */
  #grow(before: Host, { bytes, pulls }: Stats): void {
    for (const kind of ['peer', 'origin', 'store', 'uploaded', 'duplicate'] as const) this.#moved[kind] += Math.max(0, bytes[kind] - before.bytes[kind]);
    for (const kind of ['done', 'failed'] as const) this.#moved[kind] += Math.max(0, pulls[kind] - before.pulls[kind]);
  }

  #count({ bytes, pulls, store }: Host, sign: 1 | -1): void {
    this.#bytes.peer += sign * bytes.peer;
    this.#bytes.origin += sign * bytes.origin;
    this.#bytes.store += sign * bytes.store;
    this.#bytes.uploaded += sign * bytes.uploaded;
    this.#bytes.duplicate += sign * bytes.duplicate;
    this.#pulls.active += sign * pulls.active;
    this.#pulls.done += sign * pulls.done;
    this.#pulls.failed += sign * pulls.failed;
    this.#store.bytes += sign * store.bytes;
    this.#store.limit += sign * store.limit;
  }
}

/** undefined: too few to compare. */
function usualOf(rates: readonly number[]): number | undefined {
  return rates.length < MIN_NEIGHBOURS ? undefined : median(rates);
}
