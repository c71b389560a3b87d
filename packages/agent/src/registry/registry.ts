// The local endpoint: the pull part of the OCI distribution-spec 1.1 under /v2/, on fastify.
//
// It knows Content and nothing behind it: not peers, not the tracker, not the disk. Routing is route.ts's (one handler sees every URL
// as it came), failures become replies in replies.ts alone, and the Host header decides nothing.
// Stopping: drain() refuses new pulls but serves what pulls under way still ask for; close() cuts whatever is left.

import type { Server as SecureServer } from 'node:https';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Content, Repository } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { listenOn, type SocketAddress } from '../listen.ts';
import type { Logger } from '../log.ts';
import type { RegistryMetrics } from '../metrics.ts';
import type { TraceServed } from '../tracing/spans.ts';
import { serveBlob } from './blobs.ts';
import { Call } from './call.ts';
import { refuseConnection } from './client-errors.ts';
import { serveReferrers, serveTags } from './listings.ts';
import { serveManifest } from './manifests.ts';
import { OpenCalls } from './open-calls.ts';
import { sendError } from './replies.ts';
import { parseNamespace, parseTarget, type Target } from './route.ts';
import type { EndpointTls } from './tls.ts';

export interface RegistryComponents {
  readonly content: Content;
  /**
   * Which origin and repository a path means; `ns` as the client sent it.
   * @throws AgentError NAME_UNKNOWN, NAME_INVALID, ORIGIN_FORBIDDEN
   */
  readonly resolveImage: (path: string, ns: string | undefined) => Repository;
  readonly log: Logger;
  readonly metrics: RegistryMetrics;
  /** @default nothing is traced */
  readonly traced?: TraceServed | undefined;
  /** Bytes of a blob go to a client. @default nobody is told */
  readonly moved?: ((bytes: number) => void) | undefined;
}

export interface RegistryInit {
  /** @default 96 KiB: a Range header of 64 KiB (podman's multi-range takes 20) and room for the rest */
  readonly maxHeaderBytes?: number;
  /** A client that sends no credentials is asked for some at once. @default false, as Docker hands out what is meant for others */
  readonly challenge?: boolean;
  /** The endpoint speaks TLS. Closed with it. */
  readonly tls?: EndpointTls | undefined;
  /** How long drain() waits after the last served request for the next one of the same pull. @default 500 */
  readonly drainPauseMs?: number;
  /** @default performance.now */
  readonly nowMs?: () => number;
}

export interface Registry {
  /** @throws AgentError PORT_IN_USE */
  listen(address: SocketAddress): Promise<SocketAddress>;
  /** Requests that are open now. */
  readonly openCalls: number;
  /** Whether any of them has no answer yet, not even its head. */
  readonly clientWaits: boolean;
  /**
   * From now on new pulls (ping, tags) are refused with 503; whatever is asked for by digest is served until nothing has been open for
   * a moment. Then the port is closed. Resolves early when the signal aborts.
   */
  drain(signal: AbortSignal): Promise<void>;
  /** Cuts what is open and frees the port. */
  close(): Promise<void>;
}

const KIB = 1024;
/** Longer than clients keep idle connections between two layers, short enough that dead ones go. */
const KEEP_ALIVE_MS = 72_000;

export function createRegistry(components: RegistryComponents, init: RegistryInit = {}): Registry {
  const { content, resolveImage, log, metrics, traced, moved } = components;
  const { maxHeaderBytes = 96 * KIB, drainPauseMs = 500, challenge = false, tls, nowMs = () => performance.now() } = init;
  const calls = new OpenCalls(nowMs);
  const answers = new Set<FastifyReply['raw']>();
  let draining = false;

  const transport = { maxHeaderSize: maxHeaderBytes, keepAlive: true };
  const app = fastify({
    // Fastify's type of a server goes by this; all that is done to it here both kinds can do.
    ...((tls === undefined ? { http: transport } : { https: { ...transport, ...tls.pair } }) as { http: typeof transport }),
    keepAliveTimeout: KEEP_ALIVE_MS,
    // A blob may take hours on a slow link: neither side of a request is timed here; headers are (Node's 60 s).
    requestTimeout: 0,
    forceCloseConnections: true,
    return503OnClosing: false,
    logger: false,
    // Every request goes to the one handler below; its URL is read from originalUrl.
    rewriteUrl: () => '/',
    clientErrorHandler: (error, socket) => refuseConnection(error, socket, calls.busy(socket), log, metrics),
  });
  if (tls !== undefined) {
    // TypeScript has been told of the other kind above.
    tls.guard(app.server as unknown as SecureServer);
    app.addHook('preClose', async () => tls.close());
  }
  app.decorateRequest('call');
  const callOf = (request: FastifyRequest): Call => request.getDecorator<Call>('call');

  app.addHook('onRequest', async (request, reply) => {
    const call = new Call(request.raw, reply.raw, nowMs, moved);
    request.setDecorator('call', call);
    call.span = traced?.(call.method, request.raw.headers);
    const socket: Socket = request.raw.socket;
    calls.start(socket);
    answers.add(reply.raw);
    reply.raw.once('close', () => {
      answers.delete(reply.raw);
      calls.end(socket, call.target !== undefined && reply.raw.statusCode < 400);
      call.finish(log, metrics);
    });
    void reply.headers({ 'docker-distribution-api-version': 'registry/2.0', 'x-request-id': call.id });
    if (draining) void reply.header('connection', 'close');
    if (call.method !== 'GET' && call.method !== 'HEAD') {
      // The body of a push is not read: the connection ends with the reply.
      void reply.header('connection', 'close');
      throw new AgentError('UNSUPPORTED', `${call.method} is not supported: the agent only pulls`);
    }
  });

  const handle = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const call = callOf(request);
    const target = parseTarget(request.originalUrl);
    call.target = target;
    if (draining && startsPull(target)) throw new AgentError('DRAINING', 'the agent is stopping');
    if (target.kind === 'base') {
      if (challenge && call.caller.authorization === undefined) throw new AgentError('CREDENTIALS_WANTED', 'credentials for the origin are asked for');
      return reply.send({});
    }
    const ns = parseNamespace(request.originalUrl);
    if (ns !== undefined) void reply.header('oci-namespace', ns);
    const repository = resolveImage(target.path, ns);
    call.repository = repository;
    switch (target.kind) {
      case 'manifest':
        return serveManifest(content, call, request, reply, repository, target.reference);
      case 'blob':
        return serveBlob(content, call, request, reply, repository, target.digest);
      case 'tags':
        return serveTags(content, call, reply, repository, target.path, request.originalUrl);
      case 'referrers':
        return serveReferrers(content, call, reply, repository, target.digest, request.originalUrl);
      default:
        return target satisfies never;
    }
  };
  const serve: typeof handle = (request, reply) => callOf(request).span?.within(() => handle(request, reply)) ?? handle(request, reply);
  app.all('/', serve);
  app.setNotFoundHandler(serve);
  app.setErrorHandler((error, request, reply) => {
    const call = callOf(request);
    call.failed(error);
    call.bytes += sendError(reply, call.method, error);
  });

  return {
    listen: (address) => listenOn(app, address, '--listen'),
    get clientWaits() {
      for (const answer of answers) if (!answer.headersSent) return true;
      return false;
    },
    get openCalls() {
      return calls.count;
    },
    async drain(signal) {
      draining = true;
      await calls.quiet(drainPauseMs, signal);
      stopListening(app);
    },
    close: () => app.close(),
  };
}

/** A client asks these first, and can still go elsewhere when they fail; a layer in the middle of a pull it cannot always. */
function startsPull(target: Target): boolean {
  return target.kind === 'base' || target.kind === 'tags' || (target.kind === 'manifest' && 'tag' in target.reference);
}

function stopListening(app: FastifyInstance): void {
  app.server.close();
  app.server.closeIdleConnections();
}
