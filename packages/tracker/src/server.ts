// Builds the tracker from its settings and runs it: data folder, certificates, tokens, state, fleet, HTTP.
//
// HTTPS with the tracker's own CA (or given certificates); plain HTTP for this machine alone (plain-loopback.ts), or where `insecureHttp` says so. Errors become
// problem details here and nowhere else. `close` ends the agents' streams at once: they go on by the rules without a tracker.

import { mkdir } from 'node:fs/promises';
import type { Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import cookie from '@fastify/cookie';
import rateLimit from '@fastify/rate-limit';
import { TypeBoxValidatorCompiler, type TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { caPin } from '@flotilla/shared/join-token';
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify';
import { agentRoutes } from './agent-api.ts';
import { originConfig } from './config-origins.ts';
import { formatAddress, type SocketAddress, type TrackerConfig } from './config.ts';
import { dashboard } from './dashboard.ts';
import { toProblem, toTrackerError, TrackerError } from './errors.ts';
import { Fleet } from './fleet.ts';
import { createLogger, type Logger } from './log.ts';
import { createMetrics, type TrackerMetrics } from './metrics.ts';
import { describeApi } from './openapi.ts';
import { operatorRoutes } from './operator-api.ts';
import { operatorTokenFile } from './operators/operator-tokens.ts';
import { operatorAccountRoutes } from './operators/operator-routes.ts';
import { Operators } from './operators/operators.ts';
import { servePlainOnLoopback } from './plain-loopback.ts';
import { PublicAnswers } from './public-answers.ts';
import type { PublicOrigin } from './public-origin.ts';
import { announceAddress, withdrawAddress } from './running.ts';
import { auditRollouts, rolloutRoutes } from './rollouts/rollout-routes.ts';
import { State } from './state.ts';
import { certificateNames, ensureOwnTls, readGivenTls, type Credentials } from './tls.ts';
import { ensureJoinToken, joinTokenFile } from './tokens.ts';
import { actionRoutes } from './view/action-routes.ts';
import { registerTopics } from './view/live-topics.ts';
import { noteStart } from './view/settings-watch.ts';
import { viewMetrics } from './view/view-metrics.ts';
import { viewRoutes } from './view/view-routes.ts';
import { View } from './view/view.ts';

const RENEWAL_CHECK_MS = 24 * 60 * 60 * 1000;

export type App = FastifyInstance<RawServerDefault, RawRequestDefaultExpression, RawReplyDefaultExpression, FastifyBaseLogger, TypeBoxTypeProvider>;

/** A tracker that runs. */
export interface Tracker {
  /** Where it answers; a wildcard address is shown as loopback. */
  readonly url: string;
  readonly address: SocketAddress;
  /** Its own CA, where it has one. */
  readonly caPem: string | undefined;
  readonly joinTokenFile: string;
  readonly operatorTokenFile: string;
  readonly fleet: Fleet;
  readonly view: View;
  /** Ends all streams at once, then everything else. Safe to call twice. */
  close(): Promise<void>;
}

export interface TrackerOptions {
  readonly log?: Logger;
  /** An agent's stream that stays above this is ended. @default 8 MiB */
  readonly maxQueuedBytes?: number;
}

/** @throws TrackerError with what to change */
export async function startTracker(config: TrackerConfig, { log = createLogger(config.logLevel), maxQueuedBytes }: TrackerOptions = {}): Promise<Tracker> {
  await makeDataDir(config.data);
  const tls = await tlsOf(config);
  await ensureJoinToken(config.data, tls?.caPem === undefined ? undefined : caPin(tls.caPem));
  const state = await State.open(config.state);
  let fleet: Fleet;
  let app: App;
  let view: View;
  let origins: PublicOrigin | undefined;
  let url: string;
  try {
    fleet = await Fleet.open({ dataDir: config.data, heartbeatMs: config.heartbeatMs, maxQueuedBytes, originLimit: config.originLimit, resolves: config.resolve }, state, log);
    const writeFailed = (error: unknown): void => log.error({ error }, 'state could not be written');
    const operators = await Operators.open({ dataDir: config.data, fleetId: fleet.members.fleet.id, now: fleet.now, writeFailed }, state);
    view = await View.open(fleet, operators.audit, state, log);
    registerTopics(view, fleet);
    const metrics = createMetrics(fleet, config.metricsPerHost);
    viewMetrics(metrics.registry, view, fleet);
    await noteStart(config, state, operators.audit);
    origins = config.resolve ? await openOrigins(config, metrics, log) : undefined;
    const answers = origins && answersOf(origins, metrics);
    app = await buildApp({ fleet, operators, view, dataDir: config.data, metrics, answers }, tls, log);
    await listen(app, config.listen);
    url = `${tls === undefined ? 'http' : 'https'}://${formatAddress(reachable(addressOf(app)))}`;
    await announceAddress(config.data, url).catch((error: unknown) => log.warn({ error }, '`flotilla-tracker login` will not find this tracker'));
  } catch (error) {
    await origins?.close();
    await state.close();
    throw error;
  }
  fleet.start();
  view.start();
  const renewal = tls?.caPem === undefined ? undefined : keepRenewed(app, config, log);
  const address = addressOf(app);
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    clearInterval(renewal);
    await withdrawAddress(config.data);
    await fleet.close();
    await view.close();
    await app.close();
    await origins?.close();
    await state.close();
  };
  log.info({ listen: formatAddress(address), https: tls !== undefined, epoch: fleet.epoch, members: fleet.members.size }, 'tracker runs');
  return {
    url,
    address,
    caPem: tls?.caPem,
    joinTokenFile: joinTokenFile(config.data),
    operatorTokenFile: operatorTokenFile(config.data),
    fleet,
    view,
    close: () => (closing ??= close()),
  };
}

type Tls = Credentials & { readonly caPem?: string };

interface AppParts {
  readonly fleet: Fleet;
  readonly operators: Operators;
  readonly view: View;
  readonly dataDir: string;
  readonly metrics: TrackerMetrics;
  readonly answers: PublicAnswers | undefined;
}

async function buildApp({ fleet, operators, view, dataDir, metrics, answers }: AppParts, tls: Tls | undefined, log: Logger): Promise<App> {
  const options = { loggerInstance: log as FastifyBaseLogger, logController: new LogController({ disableRequestLogging: true }), forceCloseConnections: true } as const;
  const server = tls === undefined ? fastify(options) : fastify({ ...options, https: { cert: tls.cert, key: tls.key } });
  const app = server.withTypeProvider<TypeBoxTypeProvider>().setValidatorCompiler(TypeBoxValidatorCompiler) as unknown as App;
  app.setErrorHandler((thrown, request, reply) => {
    const error = toTrackerError(thrown);
    const { status } = error.row;
    metrics.problems.inc({ code: error.code });
    log[status >= 500 ? 'error' : 'info']({ code: error.code, method: request.method, url: request.url, from: request.ip, error }, 'request refused');
    return reply.code(status).type('application/problem+json').send(toProblem(error));
  });
  if (tls !== undefined) {
    const plain = servePlainOnLoopback(app.server as HttpsServer);
    app.addHook('preClose', (done) => {
      plain.close();
      done();
    });
  }
  const page = await dashboard(app);
  app.setNotFoundHandler(async (request, reply) => {
    if (await page.show(request, reply)) return;
    throw new TrackerError('ROUTE_UNKNOWN', `${request.method} ${request.url.slice(0, 200)}`);
  });
  await app.register(rateLimit, { global: false });
  await app.register(cookie);
  await describeApi(app);
  app.decorateRequest('operator', undefined);
  agentRoutes(app, fleet, { caPem: tls?.caPem, answers, onIgnored: (messages) => metrics.messagesIgnored.inc(messages) });
  operatorRoutes(app, fleet, metrics, operators);
  operatorAccountRoutes(app, operators, fleet.members.fleet.id);
  viewRoutes(app, { fleet, view, operators });
  actionRoutes(app, { fleet, view, operators }, dataDir);
  rolloutRoutes(app, fleet, operators);
  auditRollouts(fleet, operators, log);
  return app;
}

/** The registry client is loaded only where the settings want it. @throws TrackerError CONFIG_INVALID */
async function openOrigins({ origin, httpProxy: http, httpsProxy: https, noProxy: no }: TrackerConfig, metrics: TrackerMetrics, log: Logger): Promise<PublicOrigin> {
  const { PublicOrigin } = await import('./public-origin.ts');
  const statusOf = (status: number | string): string => (typeof status === 'number' ? `${Math.floor(status / 100)}xx` : 'error');
  try {
    return new PublicOrigin(originConfig(origin, { http, https, no }), log, (kind, status) => metrics.originRequests.inc({ kind, status: statusOf(status) }));
  } catch (error) {
    throw new TrackerError('CONFIG_INVALID', error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function answersOf(origins: PublicOrigin, metrics: TrackerMetrics): PublicAnswers {
  return new PublicAnswers({
    ask: (request) => origins.ask(request),
    answered: (answer, asked) => metrics.resolved.inc({ answer, asked: String(asked) }),
    now: () => performance.now(),
  });
}

async function makeDataDir(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new TrackerError('STATE_FAILED', `the data folder ${path} cannot be made`, { cause: error });
  }
}

async function tlsOf(config: TrackerConfig): Promise<Tls | undefined> {
  if (config.insecureHttp) return undefined;
  if (config.tlsCert !== undefined && config.tlsKey !== undefined) return readGivenTls(config.tlsCert, config.tlsKey);
  return ensureOwnTls(config.data, certificateNames(config.listen.host, config.tlsName), Date.now());
}

/** A tracker may run longer than its certificate. */
function keepRenewed(app: App, config: TrackerConfig, log: Logger): NodeJS.Timeout {
  const renew = async (): Promise<void> => {
    const { cert, key } = await ensureOwnTls(config.data, certificateNames(config.listen.host, config.tlsName), Date.now());
    (app.server as HttpsServer).setSecureContext({ cert, key });
  };
  const timer = setInterval(() => {
    renew().catch((error: unknown) => log.error({ error }, 'the certificate could not be renewed'));
  }, RENEWAL_CHECK_MS);
  return timer.unref();
}

async function listen(app: App, { host, port }: SocketAddress): Promise<void> {
  try {
    await app.listen({ host, port, listenTextResolver: () => 'accepting connections' });
  } catch (error) {
    await app.close();
    const where = formatAddress({ host, port });
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') throw new TrackerError('PORT_IN_USE', `port ${port} is in use (--listen ${where})`, { cause: error });
    throw new TrackerError('LISTEN_FAILED', `cannot listen on ${where} (--listen): ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function addressOf(app: App): SocketAddress {
  const { address: host, port } = app.server.address() as AddressInfo;
  return { host, port };
}

function reachable({ host, port }: SocketAddress): SocketAddress {
  if (host === '0.0.0.0') return { host: '127.0.0.1', port };
  return host === '::' ? { host: '::1', port } : { host, port };
}
