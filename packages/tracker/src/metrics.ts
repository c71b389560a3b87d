// The tracker's metrics in Prometheus' text format. Values are read when asked for; no image names, and hosts only where a
// setting lets them be series of their own.

import { Counter, Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import type { Fleet } from './fleet.ts';
import { fleetTotals } from './status.ts';

export interface TrackerMetrics {
  readonly registry: Registry;
  readonly problems: Counter<'code'>;
  /** Messages of agents that are newer. */
  readonly messagesIgnored: Counter;
  /** Questions of agents what origins show to anybody; `asked`: an origin was asked for it. */
  readonly resolved: Counter<'answer' | 'asked'>;
  /** As the agents' own of this name. */
  readonly originRequests: Counter<'kind' | 'status'>;
}

const PREFIX = 'flotilla_tracker_';
/** Longer than any process lives. */
const NEVER_MS = 2 ** 31 - 1;
/** What would say how late a timer of every few ms comes: without agents such a timer is most of what a tracker costs. */
const TIMED_LAGS = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map((what) => `${PREFIX}nodejs_eventloop_lag_${what}_seconds`);

/** The metrics of the process itself that cost nothing while nobody asks. As the agent has them. */
function collectProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry, prefix: PREFIX, eventLoopMonitoringPrecision: NEVER_MS });
  for (const name of TIMED_LAGS) registry.removeSingleMetric(name);
}

export function createMetrics(fleet: Fleet, perHost: boolean): TrackerMetrics {
  const registry = new Registry();
  collectProcessMetrics(registry);
  const { totals } = fleet.swarms;

  const gauge = (name: string, help: string, value: () => number): void => {
    registry.registerMetric(new Gauge({ name, help, registers: [], collect() { this.set(value()); } }));
  };
  const counter = (name: string, help: string, value: () => number): void => {
    registry.registerMetric(new Counter({ name, help, registers: [], collect() { this.reset(); this.inc(value()); } }));
  };
  gauge('flotilla_tracker_members', 'Members of the fleet, banned ones included', () => fleet.members.size);
  gauge('flotilla_tracker_members_banned', 'Members in quarantine or expelled', () => fleet.members.banned().length);
  gauge('flotilla_tracker_sessions', 'Agents that are connected', () => fleet.sessions.size);
  gauge('flotilla_tracker_swarms', 'Blobs that somebody holds or wants', () => fleet.swarms.size);
  gauge('flotilla_tracker_epoch', 'Rises with each start', () => fleet.epoch);
  gauge('flotilla_tracker_state_healthy', '0 once something could not be written that must survive', () => (fleet.healthy ? 1 : 0));
  gauge('flotilla_tracker_origin_limit_bytes_per_second', 'What all blobs together may leave their origins at; 0: no limit', () => fleet.originLimit.bytesPerSecond ?? 0);
  gauge('flotilla_fleet_pulls_active', 'Pulls at work on all connected agents', () => fleetTotals(fleet).pulls.active);
  counter('flotilla_tracker_granted_bytes_total', 'Bytes that may be read at origins by lease', () => totals.grantedBytes);
  counter('flotilla_tracker_done_bytes_total', 'Bytes read at origins, as reported', () => totals.doneBytes);
  counter('flotilla_tracker_hedged_bytes_total', 'Bytes that may be read twice because a pull stood still', () => totals.hedgedBytes);
  counter('flotilla_tracker_audited_bytes_total', 'Bytes read again to find out who is right', () => totals.auditedBytes);
  counter('flotilla_tracker_maps_signed_total', 'Chunk maps signed by seeds', () => totals.mapsSigned);
  counter('flotilla_tracker_maps_refused_total', 'Signatures of seeds that do not fit the digests known', () => totals.mapsRefused);
  counter('flotilla_tracker_messages_refused_total', 'Messages that made no sense for their blob', () => totals.messagesRefused);
  const rollouts = new Gauge({
    name: 'flotilla_tracker_rollouts',
    help: 'Rollouts that are kept, by state',
    labelNames: ['state'],
    registers: [],
    collect() {
      for (const [state, count] of fleet.rollouts.countByState()) this.set({ state }, count);
    },
  });
  registry.registerMetric(rollouts);
  if (perHost) hostMetrics(fleet, registry);
  return {
    registry,
    problems: new Counter({ name: 'flotilla_tracker_problems_total', help: 'Refused requests', labelNames: ['code'], registers: [registry] }),
    resolved: new Counter({ name: 'flotilla_tracker_resolved_total', help: 'Questions of agents what origins show to anybody, by the answer and whether an origin was asked for it', labelNames: ['answer', 'asked'], registers: [registry] }),
    originRequests: new Counter({ name: 'flotilla_tracker_origin_requests_total', help: 'Requests to origins for the fleet', labelNames: ['kind', 'status'], registers: [registry] }),
    messagesIgnored: new Counter({ name: 'flotilla_tracker_messages_ignored_total', help: 'Messages of newer agents, of kinds that this release does not know', registers: [registry] }),
  };
}

function hostMetrics(fleet: Fleet, registry: Registry): void {
  const bytes = new Gauge({
    name: 'flotilla_host_bytes',
    help: "Bytes since the agent's start, by where they came from or went",
    labelNames: ['host', 'peer_id', 'kind'],
    registers: [],
    collect() {
      this.reset();
      for (const { peerId, request } of fleet.sessions.all()) {
        const stats = fleet.statsOf(peerId);
        for (const [kind, value] of Object.entries(stats?.bytes ?? {})) this.set({ host: request.name, peer_id: peerId, kind }, value);
      }
    },
  });
  registry.registerMetric(bytes);
}
