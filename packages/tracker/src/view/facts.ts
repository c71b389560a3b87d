// What is true of the fleet this second, gathered from all hosts for the verdict and the alerts. Pure.

import type { FaultKind } from '@flotilla/shared/agent-report';
import type { Brake } from '@flotilla/shared/live-api';
import type { Member } from '../members.ts';
import type { AlertFacts } from './alerts.ts';
import type { Host } from './host.ts';
import type { Fetching, Hosts } from './hosts.ts';
import type { FleetFacts, OriginFact } from './verdict.ts';

const GIB = 1024 ** 3;
const NO_PROGRESS_MS = 30_000;
/** A store with less than this left is of no more use. */
const LEAST_FREE_BYTES = 2 * GIB;
const SKEW_MS = 30_000;
/** Agents that restart are away for a moment. */
const LOST_AFTER_MS = 10_000;

export interface OriginSources {
  readonly hosts: Hosts;
  readonly fetching: ReadonlyMap<string, Fetching>;
  /** NAMEs of origins that agents were told to leave alone for a while. */
  readonly throttled: readonly string[];
}

export interface FactSources {
  readonly hosts: Hosts;
  readonly quarantined: readonly Member[];
  readonly stale: number;
  readonly brakes: readonly Brake[];
  readonly stateFailed: boolean;
}

/** What origins refuse to whom. Those that are told by most hosts first. */
export function originFacts({ hosts, fetching, throttled }: OriginSources, nowMs: number): OriginFact[] {
  const facts = new Map<string, { origin: string; kind: FaultKind; sinceMs: number; hosts: { n: number; zone: string }[] }>();
  const served = new Map<string, number>();
  for (const host of hosts.connected) {
    for (const { origin, kind, sinceMs } of host.faultsNow(nowMs)) {
      const key = `${kind} ${origin}`;
      const fact = facts.get(key) ?? { origin, kind, sinceMs, hosts: [] };
      facts.set(key, fact);
      fact.sinceMs = Math.min(fact.sinceMs, sinceMs);
      fact.hosts.push({ n: host.n, zone: host.info.zone });
    }
    if (host.rateOf('origin', nowMs) > 0) for (const origin of fetching.get(host.peerId)?.origins ?? []) served.set(origin, (served.get(origin) ?? 0) + 1);
  }
  for (const origin of throttled) {
    const key = `throttled ${origin}`;
    if (!facts.has(key)) facts.set(key, { origin, kind: 'throttled', sinceMs: nowMs, hosts: [] });
  }
  return [...facts.values()].map((fact) => ({ ...fact, served: served.get(fact.origin) ?? 0 })).sort((a, b) => b.hosts.length - a.hosts.length);
}

/** @param origins as `originFacts` found them */
export function gatherFacts({ hosts, quarantined, stale, brakes, stateFailed }: FactSources, origins: readonly OriginFact[], nowMs: number): FleetFacts & AlertFacts {
  const slow: FleetFacts['slow'][number][] = [];
  const noProgress: AlertFacts['noProgress'][number][] = [];
  const diskFull: (FleetFacts['diskFull'][number] & AlertFacts['diskFull'][number])[] = [];
  const skewed: AlertFacts['skewed'][number][] = [];
  let pulling = 0;
  let rate = 0;
  let peerRate = 0;
  for (const host of hosts.connected) {
    const { n, verdict, vitals, clockSkewMs } = host;
    const { name, zone } = host.info;
    peerRate += host.rateOf('peer', nowMs);
    rate += host.rate(nowMs);
    if (host.pulling(nowMs)) {
      pulling++;
      if (verdict.slow) slow.push({ n, zone, reason: verdict.reason, evidence: verdict.evidence });
      if (stuck(host, nowMs)) noProgress.push({ n, name, evidence: verdict.evidence });
    }
    if (vitals !== undefined && vitals.freeBytes < LEAST_FREE_BYTES) diskFull.push({ n, name, zone, freeBytes: vitals.freeBytes });
    if (clockSkewMs !== undefined && Math.abs(clockSkewMs) > SKEW_MS) skewed.push({ n, name, skewMs: clockSkewMs });
  }
  return {
    up: hosts.connected.size - stale,
    stale,
    pulling,
    rate,
    peerRate,
    slow,
    origins,
    lost: hosts.lost(LOST_AFTER_MS, nowMs).map(({ n, info }) => ({ n, name: info.name, zone: info.zone })),
    diskFull,
    stateFailed,
    noProgress,
    skewed,
    quarantined: quarantined.map(({ peerId, reason }) => {
      const { n, info } = hosts.of(peerId);
      return { n, name: info.name === '' ? peerId : info.name, reason: reason ?? 'no reason given' };
    }),
    brakes,
  };
}

function stuck(host: Host, nowMs: number): boolean {
  return host.pullingSinceMs !== undefined && nowMs - Math.max(host.progressAtMs, host.pullingSinceMs) >= NO_PROGRESS_MS && host.rate(nowMs) === 0;
}
