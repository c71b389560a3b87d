// What operators see of the fleet, as one JSON document. Digests and sizes, no image names.

import type { AgentMessage } from '@flotilla/shared/tracker-api';
import type { Fleet } from './fleet.ts';
import type { SwarmStatus } from './swarm.ts';
import { TRACKER_VERSION } from './version.ts';

type Stats = Omit<Extract<AgentMessage, { type: 'stats' }>, 'type'>;

export interface MemberStatus {
  readonly peerId: string;
  readonly state: string;
  readonly reason?: string;
  /** False: it was caught in a lie, and neither vouches nor reads for others. */
  readonly trusted: boolean;
  readonly enrolledAtMs: number;
  readonly seenAtMs: number;
  /** Absent while it has no session. */
  readonly session?: {
    readonly name: string;
    readonly zone?: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly addresses: readonly string[];
    readonly agentVersion: string;
    readonly openedAtMs: number;
    readonly heardAtMs: number;
    readonly stats?: Stats;
  };
}

export interface FleetStatus {
  readonly version: string;
  readonly fleetId: string;
  readonly epoch: number;
  readonly startedAtMs: number;
  readonly healthy: boolean;
  readonly sessions: number;
  readonly members: readonly MemberStatus[];
  readonly swarms: { readonly total: number; readonly active: readonly SwarmStatus[] };
  /** Bytes read at origins under leases since the start of the tracker. */
  readonly origin: { readonly grantedBytes: number; readonly doneBytes: number; readonly hedgedBytes: number; readonly auditedBytes: number };
  /** Sums of what the connected agents told last; since the start of each agent. */
  readonly totals: { readonly bytes: Stats['bytes']; readonly pulls: Stats['pulls']; readonly storeBytes: number };
}

export function fleetStatus(fleet: Fleet): FleetStatus {
  const { members, sessions, swarms } = fleet;
  const { grantedBytes, doneBytes, hedgedBytes, auditedBytes } = swarms.totals;
  return {
    version: TRACKER_VERSION,
    fleetId: members.fleet.id,
    epoch: fleet.epoch,
    startedAtMs: fleet.startedAtMs,
    healthy: fleet.healthy,
    sessions: sessions.size,
    members: [...members.all()].map(({ peerId }) => memberStatus(fleet, peerId)),
    swarms: swarms.status(),
    origin: { grantedBytes, doneBytes, hedgedBytes, auditedBytes },
    totals: fleetTotals(fleet),
  };
}

/** Sums over the agents that are connected. */
export function fleetTotals(fleet: Fleet): FleetStatus['totals'] {
  const bytes = { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 };
  const pulls = { active: 0, done: 0, failed: 0 };
  let storeBytes = 0;
  for (const { peerId } of fleet.sessions.all()) {
    const stats = fleet.statsOf(peerId);
    if (stats === undefined) continue;
    for (const key of Object.keys(bytes) as (keyof typeof bytes)[]) bytes[key] += stats.bytes[key];
    for (const key of Object.keys(pulls) as (keyof typeof pulls)[]) pulls[key] += stats.pulls[key];
    storeBytes += stats.store.bytes;
  }
  return { bytes, pulls, storeBytes };
}

function memberStatus(fleet: Fleet, peerId: string): MemberStatus {
  const { publicKey: _, ...member } = fleet.members.get(peerId)!;
  const session = fleet.sessions.of(peerId);
  const status = { ...member, trusted: fleet.swarms.trusted(peerId) };
  if (session === undefined) return status;
  const { name, zone, labels, addresses, agentVersion } = session.request;
  const stats = fleet.statsOf(peerId);
  const { openedAtMs, heardAtMs } = session;
  return {
    ...status,
    session: {
      name,
      ...(zone !== undefined && { zone }),
      labels,
      addresses,
      agentVersion,
      openedAtMs,
      heardAtMs,
      ...(stats !== undefined && { stats: { bytes: stats.bytes, pulls: stats.pulls, store: stats.store } }),
    },
  };
}
