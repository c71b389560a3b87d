// The connections to one origin, its token servers and the hosts that it redirects to: two small pools of kept-alive HTTP/1.1
// connections per host, so that a question (HEAD, manifest, token) never waits behind a blob that a slow reader holds open.
//
// Non-goals: retries, redirects, tokens (calls.ts). HTTP/2 is left out: one connection with one window is slower for blobs.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { lookup as systemLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { createSecureContext, getCACertificates } from 'node:tls';
import { Agent, EnvHttpProxyAgent, buildConnector, type Dispatcher } from 'undici';
import { AgentError } from '../errors.ts';
import { checkLiteral, guardedLookup } from './addresses.ts';
import { connectionError } from './failures.ts';
import type { OriginEntry, OriginTls } from './origins.ts';

export interface ConnectionLimits {
  /** Connections per host, for blobs. @default 8 */
  readonly blobConnections: number;
  /** Connections per host, for everything else. @default 4 */
  readonly talkConnections: number;
  /** @default 5_000 */
  readonly connectTimeoutMs: number;
  /** From the request to its answer. @default 15_000 */
  readonly headersTimeoutMs: number;
  /** Without a byte of the body while the reader wants one. @default 30_000 */
  readonly stallTimeoutMs: number;
  /** @default 30_000 */
  readonly keepAliveMs: number;
}

export const DEFAULT_CONNECTION_LIMITS: ConnectionLimits = {
  blobConnections: 8,
  talkConnections: 4,
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 15_000,
  stallTimeoutMs: 30_000,
  keepAliveMs: 30_000,
};

/** As HTTP_PROXY, HTTPS_PROXY and NO_PROXY are. Through a proxy the proxy looks names up, so it decides about their addresses. */
export interface ProxySettings {
  readonly http?: string;
  readonly https?: string;
  readonly no?: string;
}

/** Which pool a request goes by. */
export type Lane = 'talk' | 'blob';

export interface OutgoingRequest {
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly lane: Lane;
}

/** An answer. Its body must be read or destroyed. */
export interface Answer {
  readonly url: URL;
  readonly status: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  readonly body: Dispatcher.ResponseData['body'];
}

/** The first address family that answers wins; slow links need more than Node's 250 ms per attempt. */
const ADDRESS_ATTEMPT_MS = 1_500;
const MAX_HEADER_BYTES = 64 * 1024;

export class Connections {
  readonly #entry: OriginEntry;
  readonly #lanes: Readonly<Record<Lane, Dispatcher>>;

  /** @throws AgentError CONFIG_INVALID where a file of the TLS settings cannot be read */
  constructor(entry: OriginEntry, limits: ConnectionLimits, proxy: ProxySettings, lookup: LookupFunction = systemLookup) {
    this.#entry = entry;
    const tls = tlsOptions(entry.name, entry.tls);
    this.#lanes = {
      talk: dispatcher(entry, limits, limits.talkConnections, tls, proxy, lookup),
      blob: dispatcher(entry, limits, limits.blobConnections, tls, proxy, lookup),
    };
  }

  /** Sends one request and waits for the head of its answer. @throws AgentError, or the signal's reason */
  async send({ method, url, headers, lane }: OutgoingRequest, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    checkLiteral(url.hostname, this.#entry.privateAllowed);
    try {
      const answer = await this.#lanes[lane].request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers,
        signal,
        // undici would close the connection after each HEAD.
        reset: false,
      });
      // Destroying an unread body emits an error that nobody waits for; readers get it from the iterator.
      answer.body.on('error', () => undefined);
      return { url, status: answer.statusCode, headers: answer.headers, body: answer.body };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw connectionError(error, { origin: this.#entry.name, url }, false);
    }
  }

  /** Ends idle connections at once and the others when their bodies have been read. */
  async release(): Promise<void> {
    await Promise.all(Object.values(this.#lanes).map((lane) => lane.close()));
  }

  /** Cuts all connections. */
  async close(): Promise<void> {
    await Promise.all(Object.values(this.#lanes).map((lane) => lane.destroy()));
  }
}

function dispatcher(
  entry: OriginEntry,
  limits: ConnectionLimits,
  connections: number,
  tls: buildConnector.BuildOptions,
  proxy: ProxySettings,
  lookup: LookupFunction,
): Dispatcher {
  const common = {
    connections,
    allowH2: false,
    headersTimeout: limits.headersTimeoutMs,
    bodyTimeout: limits.stallTimeoutMs,
    connectTimeout: limits.connectTimeoutMs,
    keepAliveTimeout: limits.keepAliveMs,
    keepAliveMaxTimeout: limits.keepAliveMs,
    maxHeaderSize: MAX_HEADER_BYTES,
  };
  const connector = buildConnector({
    ...tls,
    allowH2: false,
    timeout: limits.connectTimeoutMs,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
    lookup: guardedLookup(lookup, entry.privateAllowed),
  });
  // A socket does not look an address up, so that one in the URL is checked here as well.
  const connect: buildConnector.connector = (options, callback) => {
    try {
      checkLiteral(options.hostname, entry.privateAllowed);
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)), null);
      return;
    }
    connector(options, callback);
  };
  if (proxy.http === undefined && proxy.https === undefined) return new Agent({ ...common, connect });
  return new EnvHttpProxyAgent({
    ...common,
    connect,
    requestTls: { ...tls, allowH2: false },
    // Given even when empty: otherwise the environment would decide behind the configuration's back.
    httpProxy: proxy.http ?? '',
    httpsProxy: proxy.https ?? '',
    noProxy: proxy.no ?? '',
  });
}

function tlsOptions(origin: string, tls: OriginTls): buildConnector.BuildOptions {
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new AgentError('CONFIG_INVALID', `the TLS file ${path} of origin "${origin}" cannot be read`, { cause: error });
    }
  };
  if (tls.insecure !== true && tls.caFile === undefined && tls.certFile === undefined && tls.keyFile === undefined) return {};
  try {
    return {
      // One context for all connections: building it parses every trusted certificate.
      secureContext: createSecureContext({
        ...(tls.caFile === undefined ? {} : { ca: [...getCACertificates('default'), ...certificates(read(tls.caFile).toString('utf8'))] }),
        ...(tls.certFile === undefined ? {} : { cert: read(tls.certFile) }),
        ...(tls.keyFile === undefined ? {} : { key: read(tls.keyFile) }),
      }),
      rejectUnauthorized: tls.insecure !== true,
    };
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError('CONFIG_INVALID', `the TLS files of origin "${origin}" are no PEM certificates and keys`, { cause: error });
  }
}

/** The certificates of a PEM file. TLS itself would skip what it cannot read, and fail at every connection. @throws Error */
function certificates(pem: string): string[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new Error('no certificate');
  return blocks.map((block) => new X509Certificate(block).toString());
}
