// Puts an agent together: the only file that knows all the parts.
//
//   registry ─► images ─► downloads ─► store, origin, swarm, coordinator
//
// Order of the start: what may refuse (folder in use, ports) comes before what others see (the endpoint listens last).
// Stopping runs backwards: open responses first, then peers and tracker are told, then the disk is closed.

import { join } from 'node:path';
import type { Limits } from '@flotilla/shared/agent-report';
import type { Digest } from '@flotilla/shared/digest';
import { createAdmin, type Readiness } from './admin.ts';
import { Membership } from './access/membership.ts';
import { Rights } from './access/rights.ts';
import type { AgentConfig } from './config.ts';
import { Brakes, type Held } from './brakes.ts';
import { formatAdvertised } from './config-values.ts';
import { openCredentials, originConfig } from './configured-origin.ts';
import { downloadInit, Images } from './content/images.ts';
import { Downloads } from './content/downloads.ts';
import { FleetResolver } from './content/fleet-resolver.ts';
import { OwnImages } from './content/own-images.ts';
import { RequestLog } from './content/request-log.ts';
import type { Holdings, Repository } from './content/ports.ts';
import { Prefetch } from './content/prefetch.ts';
import { HashPool } from './content/verification.ts';
import { startControl, type AgentStatus, type TrackerStatus } from './control.ts';
import { AgentError } from './errors.ts';
import { FleetMemory } from './fleet-knowledge.ts';
import { openIdentity, type Identity } from './identity.ts';
import { formatAddress, type SocketAddress } from './listen.ts';
import { limitOrigin } from './limited-origin.ts';
import type { Logger } from './log.ts';
import { startMemoryValve } from './memory-valve.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { createOrigin } from './origin/client.ts';
import { faultOf } from './origin/probe.ts';
import { Pulls } from './pull.ts';
import { createRegistry } from './registry/registry.ts';
import { EndpointTls } from './registry/tls.ts';
import { openExecutor } from './rollout-executor.ts';
import type { RolloutExecutor } from './rollouts/executor.ts';
import { openStore } from './store/blob-store.ts';
import { nodeDiskIo } from './store/disk-io.ts';
import { ALONE } from './swarm/alone.ts';
import { TokenBucket } from './swarm/limits.ts';
import { createSwarm, type PeerSwarm } from './swarm/swarm.ts';
import { TrackerCoordinator, type CoordinatorInit, type CoordinatorStatus } from './tracker/coordinator.ts';
import type { Tracing } from './tracing/spans.ts';
import { AGENT_VERSION } from './version.ts';
import type { Reporter } from './vitals/reporter.ts';
import type { TurnRest } from './turn-rest.ts';
import { Vitals } from './vitals/vitals.ts';

/** After this the agent counts as ready although no tracker has enrolled it: pulls work from the origin. */
const ENROL_GRACE_MS = 10_000;

/** An agent that runs. `drain` before `close` lets open responses finish. */
export interface RunningAgent {
  readonly addresses: { readonly registry: SocketAddress; readonly peers?: SocketAddress; readonly admin: SocketAddress };
  readonly peerId: string;
  status(): Promise<AgentStatus>;
  drain(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts an agent.
 * @param rest where the process is the agent's alone. @default it never rests
 * @throws AgentError, with everything closed again that was already open
 */
export async function startAgent(config: AgentConfig, log: Logger, rest?: TurnRest): Promise<RunningAgent> {
  const opened = new AsyncDisposableStack();
  try {
    const agent = await assemble(config, log, rest, opened);
    const closing = opened.move();
    return { ...agent, close: () => closing.disposeAsync() };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function assemble(config: AgentConfig, log: Logger, rest: TurnRest | undefined, opened: AsyncDisposableStack): Promise<Omit<RunningAgent, 'close'>> {
  const tracker = trackerOf(config);
  const startedMs = Date.now();
  const metrics = createMetrics();
  const vitals = new Vitals({ now: Date.now, mayName: (secret) => config.tellPrivateNames || !secret, restedMs: () => rest?.restedMs ?? 0 });
  opened.defer(() => vitals.close());
  const store = await openStore({
    dir: config.data,
    io: { ...nodeDiskIo, write: (...args) => vitals.disk.measure(() => nodeDiskIo.write(...args)), sync: (file) => vitals.disk.measure(() => nodeDiskIo.sync(file)) },
    limitBytes: config.storeLimit,
    minFreeShare: config.storeMinFreeShare,
    cacheBytes: config.cacheBytes,
    logger: log,
    metrics: {
      evicted: () => undefined,
      unkept: (reason) => metrics.content.fallback(`unkept-${reason}`),
      corrupt: () => metrics.error('STORE_CORRUPT'),
    },
  });
  opened.defer(() => store.close());
  const identity = await openIdentity(config.data);
  const tracing = await openTracing(config, identity, metrics);
  if (tracing !== undefined) opened.defer(() => tracing.close());
  const membership = await Membership.open(config.data);
  if (membership.damaged !== undefined) log.error({ err: membership.damaged }, 'membership is asked for again');
  const hashes = new HashPool();
  opened.defer(() => hashes.close());
  const origin = createOrigin(originConfig(config), {
    metrics: {
      ...metrics.origin,
      originBytes: (bytes) => {
        vitals.fromOrigin(bytes);
        rest?.moved(bytes);
        metrics.origin.originBytes(bytes);
      },
    },
    knownSize: async (repository, digest, authority, signal) => {
      const stored = (await store.find(digest))?.key.size;
      // To ask is to tell the repository's name.
      if (stored !== undefined || (authority.kind !== 'anonymous' && !config.tellPrivateNames)) return stored;
      return located(coordinator, repository, digest, log, signal);
    },
    credentials: await openCredentials(config, log),
    userAgent: `flotilla/${AGENT_VERSION}`,
    requestId: vitals.requestId,
    traced: tracing?.asked,
    tlsRead: (name, failure) => {
      if (failure === undefined) log.info({ origin: name }, 'TLS files read again');
      else log.warn({ origin: name, err: failure }, 'TLS files that cannot be used; those before stay in use');
    },
  });
  opened.defer(() => origin.close());
  const rights = await Rights.open(join(config.data, 'rights'), {
    rules: { mode: config.rights, allow: config.allow, originDown: config.originDown, challenge: config.challenge, tellPrivateNames: config.tellPrivateNames },
    key: identity.secretFor('rights'),
    listed: (name) => origin.listed(name),
    decided: (outcome) => metrics.access.decided(outcome),
    unnoted: (error) => log.warn({ err: error }, 'what the origin said could not be kept'),
  });
  opened.defer(() => rights.close());
  warnOfRights(config, log);

  // One for both: it says what peers and origins may take together.
  const downloadLimit = new TokenBucket(config.downloadLimit);
  const originLimit = new TokenBucket(config.originLimit);
  const active: Late = {};
  const coordinator = createCoordinator(config, tracker, { identity, membership, log, metrics, active, store });
  const swarm = tracker === undefined ? undefined : await startSwarm(config, { identity, membership, coordinator, log, metrics, active, downloadLimit, rest });
  active.swarm = swarm;
  const limitedOrigin = limitOrigin(vitals.faults.watchReads(tracing?.watchReads(origin) ?? origin), [originLimit, downloadLimit], Date.now);
  const downloads = new Downloads(
    {
      store,
      origin: limitedOrigin,
      swarm: swarm ?? ALONE,
      coordinator,
      hashes,
      now: Date.now,
      log,
      metrics: metrics.content,
      onEnd: (ended) => {
        tracing?.ended(ended);
        vitals.ended(ended);
      },
      originOnly: () => active.brakes?.held.originOnly ?? false,
      rights: {
        reading: (source, digest) => rights.reading(source, digest),
        refused: ({ source, authority }, digest, error) => void rights.refused(source, authority, digest, error),
      },
    },
    { stallMs: config.stallMs },
  );
  active.downloads = downloads;
  const brakes = new Brakes({ own: { downloadLimit: config.downloadLimit, uploadLimit: config.uploadLimit, originLimit: config.originLimit, zoneLimit: config.zoneLimit }, apply: (held) => holdBack(held, { downloadLimit, originLimit, swarm, coordinator, log }), now: () => performance.now(), after: timerOf });
  active.brakes = brakes;
  const memory = new FleetMemory(Date.now);
  active.memory = memory;
  opened.defer(() => brakes.close());
  active.reporter = vitals.reporter({
    totals: () => totalsOf(store, metrics, downloads),
    downloads: () => downloads.status(),
    peers: () => swarm?.status().peers ?? [],
    freeBytes: () => store.usage().freeBytes,
    uploadedBytes: () => metrics.totals().uploaded,
    limits: () => limitsOf(brakes.held),
    brakes: () => brakes.ids,
  });
  store.onEvict((key) => {
    swarm?.evicted(key);
    coordinator.evicted(key);
  });
  opened.defer(async () => {
    await downloads.close();
    await swarm?.close();
    await coordinator.close();
  });

  const prefetch = new Prefetch(
    (permit, reference, signal) => downloads.fetch({ digest: reference.digest, size: reference.size }, downloadInit(permit, reference), signal),
    (error, { digest }) => log.info({ digest, err: error }, 'prefetch failed'),
    { enabled: config.prefetch },
  );
  opened.defer(() => prefetch.close());
  const resolver =
    config.resolveBy === 'tracker'
      ? new FleetResolver({
          ask: (request, signal) => coordinator.resolve(request, signal),
          urlsOf: (name) => origin.urlsOf(name),
          fallback: (kind) => metrics.content.fallback(kind),
          now: () => performance.now(),
        })
      : undefined;
  const images = new Images({ origin, downloads, rights, coordinator, resolver, prefetch, log, fallback: (kind) => metrics.content.fallback(kind), onManifest: vitals.manifest, now: Date.now });
  const asked = new RequestLog(vitals.watch(tracing?.watch(images, (digest) => downloads.status().some((download) => download.digest === digest)) ?? images), Date.now);
  const tls = await endpointTls(config, log);
  const registry = createRegistry(
    { content: asked, resolveImage: (path, ns) => origin.resolveImage(path, ns), log, metrics: metrics.registry, traced: tracing?.served, moved: rest && ((bytes) => rest.moved(bytes)) },
    { challenge: config.rights === 'pass-through' && config.challenge, tls },
  );
  rest?.attend(() => registry.clientWaits);
  const rollouts = await openExecutor(config, {
    images: new OwnImages({ images, downloads, store, rights, low: true }),
    report: (message) => coordinator.report(message),
    endpoint: () => formatAddress(asLocal(addresses.registry)),
    log,
  });
  active.rollouts = rollouts;
  opened.defer(() => rollouts.close());
  const state = { current: 'starting' as AgentStatus['state'] };
  const admin = createAdmin({ readiness: () => readiness(state.current, config, membership, startedMs), metrics });
  opened.defer(() => admin.close());
  opened.defer(() => registry.close());
  const addresses = { admin: await admin.listen(config.adminListen), registry: await registry.listen(config.listen), ...(swarm && { peers: { host: config.p2pListen.host, port: swarm.port } }) };
  const status = async (): Promise<AgentStatus> => ({
    version: AGENT_VERSION,
    name: config.name,
    zone: config.zone,
    pid: process.pid,
    startedAt: new Date(startedMs).toISOString(),
    state: state.current,
    addresses,
    peerId: identity.peerId,
    tracker: trackerStatus(coordinator.status()),
    peers: { connected: swarm?.status().peers.length ?? 0, known: active.meshSize },
    store: store.usage(),
    bytes: metrics.totals(),
    downloads: downloads.status(),
    rollouts: rollouts.status(),
    limits: { upload: brakes.held.uploadLimit, download: brakes.held.downloadLimit, origin: brakes.held.originLimit, zone: brakes.held.zoneLimit },
    brakes: brakes.ids,
    minFreeShare: config.storeMinFreeShare,
    defaultOrigin: config.defaultOrigin,
    rights: rights.status(),
    ...(resolver !== undefined && { resolvedByTracker: resolver.status() }),
    origins: origin.status(),
  });
  const pulls = new Pulls({
    images: new OwnImages({ images, downloads, store, rights, low: false }),
    resolveImage: (path, ns) => origin.resolveImage(path, ns),
    endpoint: formatAddress(addresses.registry),
    downloads: () => downloads.status(),
    now: Date.now,
  });
  const control = await startControl(config.data, status, {
    pull: (request, signal) => pulls.pull(request, signal),
    fleet: () =>
      memory.tell({
        name: config.name,
        peerId: identity.peerId,
        tracker: () => ({ ...trackerStatus(coordinator.status()), sinceMs: coordinator.status().sinceMs }),
        swarm: () => swarm?.status() ?? { peers: [], bans: [] },
        banned: () => membership.banned,
        downloads: () => downloads.status(),
      }),
    requests: () => asked.requests,
    limit: (change) => {
      if (change === 'settings') brakes.unlimit();
      else brakes.limit(change);
      return limitsOf(brakes.held);
    },
    probe: async (name, signal) => {
      const fault = await faultOf(origin, name, signal);
      return { origin: name, answers: fault === undefined, ...(fault && { code: fault.code, message: fault.message, help: fault.row.help }) };
    },
  });
  opened.defer(() => control.close());
  // Last: it begins with a collection of what starting has left behind.
  opened.defer(startMemoryValve());
  metrics.observe({
    storeUsage: () => store.usage(),
    peersConnected: () => swarm?.status().peers.length ?? 0,
    trackerConnected: () => coordinator.connected,
    downloadsActive: () => downloads.status().length,
  });
  coordinator.start();
  state.current = 'ready';
  return {
    addresses,
    peerId: identity.peerId,
    status,
    drain: (signal) => {
      state.current = 'draining';
      return registry.drain(signal);
    },
  };
}

interface Late {
  downloads?: Downloads;
  rollouts?: RolloutExecutor;
  swarm?: PeerSwarm;
  /** Peers that the tracker last named. */
  meshSize?: number;
  brakes?: Brakes;
  memory?: FleetMemory;
  reporter?: Reporter;
}

function holdBack(held: Held, parts: { downloadLimit: TokenBucket; originLimit: TokenBucket; swarm: PeerSwarm | undefined; coordinator: TrackerCoordinator; log: Logger }): void {
  const { downloadLimit, originLimit, swarm, coordinator, log } = parts;
  log.warn({ ...held }, 'limits and brakes');
  downloadLimit.set(held.downloadLimit);
  originLimit.set(held.originLimit);
  swarm?.setLimits({ upload: held.uploadLimit, download: held.downloadLimit, zone: held.zoneLimit });
  swarm?.stopUploads(held.stopUploads);
  coordinator.readByItself(held.originOnly);
}

function limitsOf({ uploadLimit, downloadLimit, originLimit, zoneLimit }: Held): Limits {
  return { ...(uploadLimit !== undefined && { upload: uploadLimit }), ...(downloadLimit !== undefined && { download: downloadLimit }), ...(originLimit !== undefined && { origin: originLimit }), ...(zoneLimit !== undefined && { zone: zoneLimit }) };
}

function totalsOf(store: { usage(): { bytes: number; limitBytes: number; blobs: number } }, metrics: Metrics, downloads: Downloads | undefined): Pick<ReturnType<CoordinatorInit['stats']>, 'bytes' | 'pulls' | 'store'> {
  const { bytes, limitBytes, blobs } = store.usage();
  return { bytes: metrics.totals(), pulls: { active: downloads?.status().length ?? 0, ...metrics.pulls() }, store: { bytes, limit: limitBytes, blobs } };
}

/** Keeps no process alive. */
function timerOf(delayMs: number, act: () => void): () => void {
  const timer = setTimeout(act, delayMs).unref();
  return () => clearTimeout(timer);
}

/** @throws AgentError CONFIG_INVALID: retrying for ever with a token that was never named would say so in the log alone */
function trackerOf({ tracker: urls, joinTokenFile }: AgentConfig): CoordinatorInit['tracker'] {
  if (urls.length === 0) return undefined;
  if (joinTokenFile === undefined) throw new AgentError('CONFIG_INVALID', "--tracker needs --join-token-file: the file join-token in the tracker's data folder");
  return { urls, joinTokenFile };
}

/** The length of a blob, as somebody in the fleet knows it. */
async function located(coordinator: TrackerCoordinator, repository: Repository, digest: Digest, log: Logger, signal: AbortSignal): Promise<number | undefined> {
  try {
    return (await coordinator.locate(repository, digest, signal))?.size;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    log.warn({ digest, err: error }, 'the tracker could not be asked');
    return undefined;
  }
}

function warnOfRights({ rights, challenge, listen, tlsCert }: AgentConfig, log: Logger): void {
  if (challenge && rights === 'agent') log.warn({ setting: 'challenge' }, 'has no effect without rights: pass-through');
  const local = listen.host === '::1' || listen.host.startsWith('127.');
  if (rights === 'pass-through' && !local && tlsCert === undefined) log.warn({ listen: formatAddress(listen) }, "callers' credentials cross the network unencrypted");
}

/** @throws AgentError CONFIG_INVALID */
async function endpointTls({ tlsCert: certFile, tlsKey: keyFile }: AgentConfig, log: Logger): Promise<EndpointTls | undefined> {
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) throw new AgentError('CONFIG_INVALID', '--tls-cert and --tls-key go together');
  return EndpointTls.open({ certFile, keyFile }, log);
}

function createCoordinator(
  config: AgentConfig,
  tracker: CoordinatorInit['tracker'],
  parts: { identity: Identity; membership: Membership; log: Logger; metrics: Metrics; active: Late; store: Awaited<ReturnType<typeof openStore>> },
): TrackerCoordinator {
  const { identity, membership, log, metrics, active, store } = parts;
  return new TrackerCoordinator(
    { identity, membership, log },
    {
      ...(tracker !== undefined && { tracker }),
      inventory: () => store.list(),
      onMesh: (peers) => {
        active.meshSize = peers.length;
        active.swarm?.setMesh(peers);
      },
      onConnected: (connected) => active.swarm?.trackerChanged(connected),
      mayName: (source) => config.tellPrivateNames || source.private !== true,
      describe: () => ({
        addresses: active.swarm?.addresses ?? [],
        name: config.name,
        ...(config.zone !== undefined && { zone: config.zone }),
        labels: config.label,
        agentVersion: AGENT_VERSION,
      }),
      onRollouts: (tasks) => active.rollouts?.tasks(tasks),
      onBrakes: (orders) => active.brakes?.told(orders),
      onFleetWord: (word) => active.memory?.heard(word),
      onWatch: (forMs) => active.reporter?.watch(forMs),
      stats: () => active.reporter?.stats() ?? totalsOf(store, metrics, active.downloads),
      urgent: () => (active.downloads?.status().length ?? 0) > 0 || (active.reporter?.urgent ?? false),
    },
  );
}

function startSwarm(
  config: AgentConfig,
  parts: { identity: Identity; membership: Membership; coordinator: TrackerCoordinator; log: Logger; metrics: Metrics; active: Late; downloadLimit: TokenBucket; rest: TurnRest | undefined },
): Promise<PeerSwarm> {
  const { identity, membership, coordinator, log, metrics, active, downloadLimit, rest } = parts;
  const holdings: Holdings = { find: async (key) => active.downloads?.find(key), givesWay: () => active.downloads?.givesWay() };
  const started = createSwarm({
    privateKey: identity.privateKey,
    listen: formatAddress(config.p2pListen),
    announce: config.advertise.map(formatAdvertised),
    membership: () => membership.own(),
    checkMembership: (text, peerId) => {
      membership.check(text, peerId, Date.now());
    },
    banned: (peerId) => membership.banned.has(peerId),
    holdings,
    counters: metrics.swarm,
    log,
    onForged: (peerId, key, index) => coordinator.accuse(key, index, peerId),
    agentVersion: AGENT_VERSION,
    zone: config.zone,
    uploadLimit: config.uploadLimit,
    zoneLimit: config.zoneLimit,
    downloadLimit,
    pace: rest,
  });
  return started.then((swarm) => {
    membership.onChange(() => swarm.bansChanged());
    return swarm;
  });
}

/** As a client of this host reaches it. */
function asLocal({ host, port }: SocketAddress): SocketAddress {
  if (host === '0.0.0.0') return { host: '127.0.0.1', port };
  return host === '::' ? { host: '::1', port } : { host, port };
}

function readiness(state: AgentStatus['state'], config: AgentConfig, membership: Membership, startedMs: number): Readiness {
  const enrolled = config.tracker.length === 0 || membership.own() !== undefined || Date.now() - startedMs >= ENROL_GRACE_MS;
  const waitingFor = [...(state === 'ready' ? [] : [state]), ...(enrolled ? [] : ['enrolment'])];
  return { ready: waitingFor.length === 0, waitingFor };
}

function trackerStatus({ state, url, lastError }: CoordinatorStatus): TrackerStatus {
  const names = { alone: 'none', connecting: 'connecting', connected: 'connected', waiting: 'lost', closed: 'lost' } as const;
  return { state: names[state], url, lastError: lastError as TrackerStatus['lastError'] };
}

/** What does the tracing is loaded only where somebody asks for it. */
async function openTracing({ traceTo, name, zone }: AgentConfig, { peerId }: Identity, metrics: Metrics): Promise<Tracing | undefined> {
  if (traceTo === undefined) return undefined;
  const { startTracing } = await import('./tracing/otlp.ts');
  const lost = (): void => metrics.content.fallback('trace-lost');
  return startTracing({ url: traceTo, host: name, peerId, version: AGENT_VERSION, zone, now: Date.now, lost });
}
