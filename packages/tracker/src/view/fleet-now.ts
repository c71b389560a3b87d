// The fleet in one document, as of one look: what every page shows at its top, and the fleet page whole. Pure.

import type { ActiveImage, Alert, Brake, FleetNow, ThroughputPoint, Verdict } from '@flotilla/shared/live-api';
import { groupsOf } from './groups.ts';
import type { Host } from './host.ts';
import type { Hosts } from './hosts.ts';
import { slowHost } from './image-progress.ts';

const SLOWEST = 10;

export interface FleetNowParts {
  readonly hosts: Hosts;
  readonly states: Omit<FleetNow['hosts'], 'pulling'>;
  readonly verdict: Verdict;
  readonly alerts: Alert[];
  readonly point: ThroughputPoint;
  readonly images: ActiveImage[];
  readonly brakes: Brake[];
}

export function fleetNow({ hosts, states, verdict, alerts, point, images, brakes }: FleetNowParts, nowMs: number): FleetNow {
  const { bytes, pulls, store } = hosts.sums;
  const pulling: Host[] = [];
  const versions = new Map<string, number>();
  for (const host of hosts.connected) {
    versions.set(host.info.version, (versions.get(host.info.version) ?? 0) + 1);
    if (host.pulling(nowMs)) pulling.push(host);
  }
  const taken = bytes.peer + bytes.origin;
  return {
    verdict,
    alerts,
    hosts: { ...states, pulling: pulling.length },
    versions: [...versions].sort(([, a], [, b]) => b - a),
    bytes: { ...bytes },
    sparedBytes: bytes.peer,
    peerShare: taken === 0 ? 0 : Math.floor((1000 * bytes.peer) / taken),
    rates: { peer: point[1], origin: point[2], uploaded: point[3], store: point[4] },
    pulls: { ...pulls },
    store: { ...store },
    images,
    slowest: slowestOf(pulling, nowMs),
    groups: groupsOf(pulling.map((host) => ({ host, held: host.fetching.held, size: host.fetching.size, whole: false, fetching: true })), nowMs),
    brakes,
  };
}

/** Those that are slow first, then those that take longest. */
function slowestOf(pulling: readonly Host[], nowMs: number): FleetNow['slowest'] {
  return pulling
    .map((host) => {
      const rate = host.rate(nowMs);
      const { held, size } = host.fetching;
      const timeLeftMs = rate === 0 || size === 0 ? undefined : Math.ceil(((size - held) * 1000) / rate);
      return { host, held, size, rate, timeLeftMs };
    })
    .sort((a, b) => Number(b.host.verdict.slow) - Number(a.host.verdict.slow) || longer(b.timeLeftMs, a.timeLeftMs) || a.rate - b.rate)
    .slice(0, SLOWEST)
    .map(({ host, held, size, rate, timeLeftMs }) => slowHost(host, held, size, rate, timeLeftMs));
}

/** undefined: for ever. */
function longer(a: number | undefined, b: number | undefined): number {
  if (a === b) return 0;
  return (a ?? Number.MAX_SAFE_INTEGER) - (b ?? Number.MAX_SAFE_INTEGER);
}
