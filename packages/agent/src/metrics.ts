// What the agent counts, for Prometheus and for /status. Each part is handed its own small face.
//
// Names are an interface that dashboards and alerts stand on: changed only with a line in the changelog.
// Invariant: labels take few values (kinds, codes, status classes), never an image, digest, peer or origin.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Store } from './content/ports.ts';
import type { ErrorCode } from './errors.ts';

/** What the local endpoint reports. */
export interface RegistryMetrics {
  /** One finished request; `aborted`: the client left before the end. */
  request(route: string, status: number | 'aborted', ms: number): void;
  error(code: ErrorCode): void;
}

/** What downloads report: verified bytes by the source that delivered them. */
export interface ContentMetrics {
  bytes(source: 'peer' | 'origin' | 'duplicate', bytes: number): void;
  /** Bytes read from a finished blob on disk for a local client. */
  stored(bytes: number): void;
  /** Something out of the ordinary that kept a pull going. */
  fallback(kind: string): void;
}

/** What the decisions of who may read what come to. */
export interface AccessMetrics {
  decided(outcome: string): void;
}

/** What the registry client reports. */
export interface OriginMetrics {
  /** `status` is an error's code where no answer came. */
  originRequest(kind: string, status: number | ErrorCode): void;
  /** Payload bytes of blobs and manifests off the origin's wire. */
  originBytes(bytes: number): void;
  originFault(code: ErrorCode): void;
  fallback(kind: string): void;
}

/** What the exchange with peers reports. */
export interface SwarmMetrics {
  /** Bytes for counters that end in `_bytes`, else how often. */
  add(counter: string, amount: number): void;
}

export interface ByteTotals {
  readonly peer: number;
  readonly origin: number;
  readonly store: number;
  readonly uploaded: number;
  readonly duplicate: number;
}

/** What is read when somebody asks. */
export interface MetricSources {
  readonly storeUsage: () => ReturnType<Store['usage']>;
  readonly peersConnected: () => number;
  readonly trackerConnected: () => boolean;
  readonly downloadsActive: () => number;
}

export interface Metrics {
  readonly registry: RegistryMetrics;
  readonly content: ContentMetrics;
  readonly access: AccessMetrics;
  readonly origin: OriginMetrics;
  readonly swarm: SwarmMetrics;
  /** A typed failure outside a request. */
  error(code: ErrorCode): void;
  /** Since the agent's start. */
  totals(): ByteTotals;
  /** Blobs asked for at the local endpoint since the start, by how it ended. */
  pulls(): { readonly done: number; readonly failed: number };
  /** Gauges are read from these from now on. Once. */
  observe(sources: MetricSources): void;
  readonly contentType: string;
  /** Everything in Prometheus' text format. */
  text(): Promise<string>;
}

/** Longer than any process lives. */
const NEVER_MS = 2 ** 31 - 1;
/** What would say how late a timer of every few ms comes: such a timer is most of what an agent at rest costs. Reports say how full the thread is (vitals/loop-meter.ts). */
const TIMED_LAGS = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map((what) => `nodejs_eventloop_lag_${what}_seconds`);

/** The metrics of the process itself that cost nothing while nobody asks. */
function collectProcessMetrics(register: Registry): void {
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: NEVER_MS });
  for (const name of TIMED_LAGS) register.removeSingleMetric(name);
}

/** More values of one label than this are counted as `other`: a bound that a new caller cannot break by accident. */
const MAX_LABEL_VALUES = 32;
const REQUEST_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600];

/** @param defaults also collect the metrics of the process itself */
export function createMetrics({ defaults = true }: { readonly defaults?: boolean } = {}): Metrics {
  const register = new Registry();
  const registers = [register];
  if (defaults) collectProcessMetrics(register);
  const counter = <T extends string>(name: string, help: string, labelNames: readonly T[] = []): Counter<T> =>
    new Counter({ name, help, labelNames, registers });

  const blobBytes = counter('flotilla_blob_bytes_total', 'Verified blob bytes by where they came from.', ['source']);
  const originBytes = counter('flotilla_origin_bytes_total', 'Payload bytes read from origins.');
  const duplicateBytes = counter('flotilla_duplicate_bytes_total', 'Blob bytes that arrived twice.');
  const uploadedBytes = counter('flotilla_uploaded_bytes_total', 'Blob bytes sent to peers.');
  const zoneBytes = counter('flotilla_zone_bytes_total', 'Chunk bytes from (in) and to (out) peers of other zones.', ['direction']);
  const requests = counter('flotilla_requests_total', 'Requests at the local endpoint.', ['route', 'status']);
  const requestSeconds = new Histogram({
    name: 'flotilla_request_seconds',
    help: 'Time from a request to the end of its reply.',
    labelNames: ['route'],
    buckets: REQUEST_SECONDS,
    registers,
  });
  const originRequests = counter('flotilla_origin_requests_total', 'Requests to origins.', ['kind', 'status']);
  const originFaults = counter('flotilla_origin_faults_total', 'Faults of origins by code (docs/errors.md).', ['code']);
  const fallbacks = counter('flotilla_fallbacks_total', 'Times that a pull went on by other means than the usual.', ['kind']);
  const errors = counter('flotilla_errors_total', 'Failures by code (docs/errors.md).', ['code']);
  const swarmEvents = counter('flotilla_swarm_events_total', 'What happened in the exchange with peers.', ['kind']);

  const decisions = counter('flotilla_access_total', 'Questions of who may read what, by their outcome.', ['outcome']);

  const outcomeKind = boundedLabel();
  const fallbackKind = boundedLabel();
  const originKind = boundedLabel();
  const swarmKind = boundedLabel();
  const routeKind = boundedLabel();
  const totals = { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 };
  const pulls = { done: 0, failed: 0 };
  for (const source of ['peer', 'origin', 'store'] as const) blobBytes.inc({ source }, 0);

  const error = (code: ErrorCode): void => errors.inc({ code });
  return {
    registry: {
      error,
      request(route, status, ms) {
        requests.inc({ route: routeKind(route), status: statusClass(status) });
        if (route === 'blob' && status !== 'aborted') pulls[status < 400 ? 'done' : 'failed']++;
        requestSeconds.observe({ route: routeKind(route) }, ms / 1000);
      },
    },
    content: {
      bytes(source, bytes) {
        totals[source] += bytes;
        if (source === 'duplicate') duplicateBytes.inc(bytes);
        else blobBytes.inc({ source }, bytes);
      },
      stored(bytes) {
        totals.store += bytes;
        blobBytes.inc({ source: 'store' }, bytes);
      },
      fallback: (kind) => fallbacks.inc({ kind: fallbackKind(kind) }),
    },
    access: { decided: (outcome) => decisions.inc({ outcome: outcomeKind(outcome) }) },
    origin: {
      originRequest: (kind, status) => originRequests.inc({ kind: originKind(kind), status: statusClass(typeof status === 'number' ? status : 'error') }),
      originBytes: (bytes) => originBytes.inc(bytes),
      originFault: (code) => originFaults.inc({ code }),
      fallback: (kind) => fallbacks.inc({ kind: fallbackKind(kind) }),
    },
    swarm: {
      add(kind, amount) {
        if (kind === 'uploaded_bytes') {
          totals.uploaded += amount;
          uploadedBytes.inc(amount);
        } else if (kind === 'zone_in_bytes') zoneBytes.inc({ direction: 'in' }, amount);
        else if (kind === 'zone_out_bytes') zoneBytes.inc({ direction: 'out' }, amount);
        else swarmEvents.inc({ kind: swarmKind(kind) }, amount);
      },
    },
    error,
    totals: () => ({ ...totals }),
    pulls: () => ({ ...pulls }),
    observe: (sources) => addGauges(register, sources),
    contentType: register.contentType,
    text: () => register.metrics(),
  };
}

function addGauges(register: Registry, sources: MetricSources): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    const made: Gauge = new Gauge({ name, help, registers: [], collect: () => made.set(read()) });
    register.registerMetric(made);
  };
  gauge('flotilla_peers_connected', 'Peers connected now.', sources.peersConnected);
  gauge('flotilla_tracker_connected', '1 while the tracker is connected.', () => Number(sources.trackerConnected()));
  gauge('flotilla_downloads_active', 'Blobs being downloaded now.', sources.downloadsActive);
  gauge('flotilla_store_bytes', 'Bytes in the store.', () => sources.storeUsage().bytes);
  gauge('flotilla_store_limit_bytes', 'Bytes that the store may use.', () => sources.storeUsage().limitBytes);
  gauge('flotilla_store_free_bytes', 'Free bytes of the file system of the data folder.', () => sources.storeUsage().freeBytes);
  gauge('flotilla_store_blobs', 'Finished blobs in the store.', () => sources.storeUsage().blobs);
}

function statusClass(status: number | 'aborted' | 'error'): string {
  return typeof status === 'number' ? `${Math.floor(status / 100)}xx` : status;
}

function boundedLabel(): (value: string) => string {
  const known = new Set<string>();
  return (value) => {
    if (known.has(value)) return value;
    if (known.size >= MAX_LABEL_VALUES) return 'other';
    known.add(value);
    return value;
  };
}
