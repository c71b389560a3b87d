// What Prometheus is told of the fleet, read off the view when it is asked for.
//
// Labels take few values: states, reasons, kinds, codes that stand in this source. No digest, no image, no host, no zone: with those a fleet of 2,000
// would be as many series. Counters count what hosts told since the tracker's start, and never fall when one of them leaves.

import { HOST_STATES, SLOW_REASONS, type Severity } from '@flotilla/shared/live-api';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Fleet } from '../fleet.ts';
import type { View } from './view.ts';

const SEVERITIES: readonly Severity[] = ['ok', 'notice', 'warning', 'bad'];
const ALERT_CODES = ['origin-errors', 'no-progress', 'disk-nearly-full', 'clock-skew', 'quarantined', 'hosts-lost', 'state-failed', 'brake'];
const LOOK_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

export function viewMetrics(registry: Registry, view: View, fleet: Fleet): void {
  const { hosts } = view;
  const gauge = (name: string, help: string, labelNames: readonly string[], collect: (gauge: Gauge) => void): void => {
    const made: Gauge = new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [],
      collect: () => {
        made.reset();
        collect(made);
      },
    });
    registry.registerMetric(made);
  };
  const counter = (name: string, help: string, read: () => Readonly<Record<string, number>>, label?: string): void => {
    const made: Counter = new Counter({
      name,
      help,
      labelNames: label === undefined ? [] : [label],
      registers: [],
      collect: () => {
        made.reset();
        for (const [value, count] of Object.entries(read())) made.inc(label === undefined ? {} : { [label]: value }, count);
      },
    });
    registry.registerMetric(made);
  };
  const nowMs = (): number => fleet.now();

  counter('flotilla_fleet_blob_bytes_total', 'Verified blob bytes on all hosts by where they came from, as told.', () => ({ peer: hosts.moved.peer, origin: hosts.moved.origin, store: hosts.moved.store }), 'source');
  counter('flotilla_fleet_uploaded_bytes_total', 'Blob bytes that hosts sent to peers, as told.', () => ({ all: hosts.moved.uploaded }));
  counter('flotilla_fleet_duplicate_bytes_total', 'Blob bytes that arrived twice, as told.', () => ({ all: hosts.moved.duplicate }));
  counter('flotilla_fleet_pulls_total', 'Blobs asked for by local clients of all hosts, by how it ended.', () => ({ done: hosts.moved.done, failed: hosts.moved.failed }), 'outcome');

  gauge('flotilla_fleet_hosts', 'Members of the fleet by state.', ['state'], (made) => {
    const { hosts: counts } = view.fleetNow(nowMs());
    for (const state of HOST_STATES) made.set({ state }, counts[state]);
  });
  gauge('flotilla_fleet_hosts_pulling', 'Hosts that pull now.', [], (made) => made.set(view.fleetNow(nowMs()).hosts.pulling));
  gauge('flotilla_fleet_hosts_slow', 'Hosts that are slow now, by the reason that is seen.', ['reason'], (made) => {
    for (const reason of SLOW_REASONS) made.set({ reason: reason === '' ? 'unknown' : reason }, 0);
    for (const { verdict } of hosts.connected) if (verdict.slow) made.inc({ reason: verdict.reason === '' ? 'unknown' : verdict.reason });
  });
  gauge('flotilla_fleet_alerts', 'Hosts that an alert of the dashboard is about, at least 1 while it lasts.', ['code'], (made) => {
    for (const code of ALERT_CODES) made.set({ code }, 0);
    for (const { code, hosts: count } of view.fleetNow(nowMs()).alerts) made.inc({ code }, Math.max(1, count));
  });
  gauge('flotilla_fleet_verdict', 'How bad the verdict of the dashboard is: 0 nothing wrong, 1 notice, 2 warning, 3 bad.', [], (made) => made.set(SEVERITIES.indexOf(view.fleetNow(nowMs()).verdict.severity)));
  gauge('flotilla_fleet_store_bytes', 'Bytes in the stores of connected hosts.', [], (made) => made.set(hosts.sums.store.bytes));
  gauge('flotilla_fleet_store_limit_bytes', 'What these stores may hold.', [], (made) => made.set(hosts.sums.store.limit));
  gauge('flotilla_fleet_brakes', 'Brakes that are on.', [], (made) => made.set(view.brakes.size));
  gauge('flotilla_tracker_live_listeners', 'Pages that listen to the live stream.', [], (made) => made.set(view.live.listeners));
  const look = new Histogram({ name: 'flotilla_tracker_look_seconds', help: 'Time that bringing the view up to date took, once a second.', buckets: LOOK_SECONDS, registers: [registry] });
  view.onLook((seconds) => look.observe(seconds));
}
