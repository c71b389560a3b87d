// The connections to one origin, its token servers and the hosts that it redirects to: two small pools of kept-alive HTTP/1.1
// connections per host, so that a question (HEAD, manifest, token) never waits behind a blob that a slow reader holds open.
//
// TLS files that change are read again, for the connections made from then on; what is open goes on. Files that do not fit, as while they are
// replaced one after the other, leave in use what was before.
//
// Invariants: a client certificate is shown only to the origin's own hosts and to token servers that the settings name, and only in the
// agent's own name; whoever acts for others has connections of their own. Non-goals: retries, redirects, tokens (calls.ts). HTTP/2 is left
// out: one connection with one window is slower for blobs.

import { lookup as systemLookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { Agent, Pool, ProxyAgent, buildConnector, type Dispatcher } from 'undici';
import { AgentError, toAgentError } from '../errors.ts';
import { watchFiles } from '../watched-files.ts';
import { checkLiteral, guardedLookup } from './addresses.ts';
import { ExpiringMap } from './expiring-map.ts';
import { connectionError } from './failures.ts';
import type { OriginEntry } from './origins.ts';
import { ProxyRules, type ProxySettings } from './proxy.ts';
import { tlsFaces, tlsFilesOf, type TlsFaces } from './tls.ts';

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

/** Which pool a request goes by. */
export type Lane = 'talk' | 'blob';

export interface OutgoingRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly lane: Lane;
  /** In the agent's own name: the client certificate may be shown. */
  readonly asAgent: boolean;
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
/** A name that a proxy will look up is looked up here first, no more often than this. */
const NAME_CHECK_MS = 30_000;
const MAX_NAMES_CHECKED = 256;

/** Told when the TLS files of an origin were read again; with why not, where they cannot be used. */
export type TlsRead = (origin: string, failure: AgentError | undefined) => void;

export interface ConnectionSettings {
  readonly limits: ConnectionLimits;
  readonly proxy: ProxySettings;
  /** @default the system's */
  readonly lookup?: LookupFunction;
  readonly tlsRead?: TlsRead | undefined;
}

export class Connections {
  readonly #entry: OriginEntry;
  readonly #limits: ConnectionLimits;
  readonly #tlsRead: TlsRead | undefined;
  readonly #stopWatching: () => void;
  #tls: TlsFaces;
  readonly #proxies: ProxyRules;
  readonly #lookup: LookupFunction;
  /** By lane, face and proxy; made when first used. */
  readonly #lanes = new Map<string, Dispatcher>();
  readonly #certifiedHosts: ReadonlySet<string>;
  readonly #checkedNames: ExpiringMap<true>;

  /** @throws AgentError CONFIG_INVALID where a file of the TLS settings cannot be used */
  constructor(entry: OriginEntry, { limits, proxy, lookup = systemLookup, tlsRead }: ConnectionSettings, nowMs: () => number) {
    this.#entry = entry;
    this.#limits = limits;
    this.#tls = tlsFaces(entry.name, entry.tls);
    this.#tlsRead = tlsRead;
    this.#stopWatching = watchFiles(tlsFilesOf(entry.tls), () => this.#readTls());
    this.#proxies = new ProxyRules(proxy);
    this.#lookup = guardedLookup(lookup, entry.privateAllowed);
    this.#certifiedHosts = new Set([...entry.urls.map((url) => url.host), ...entry.realms]);
    this.#checkedNames = new ExpiringMap(MAX_NAMES_CHECKED, nowMs);
  }

  /** Sends one request and waits for the head of its answer. @throws AgentError, or the signal's reason */
  async send({ method, url, headers, body, lane, asAgent }: OutgoingRequest, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    checkLiteral(url.hostname, this.#entry.privateAllowed);
    const proxy = this.#proxies.proxyFor(url);
    const place = { origin: this.#entry.name, url, ...(proxy !== undefined && { proxy: proxy.host }) };
    try {
      if (proxy !== undefined) await this.#checkName(url.hostname);
      const answer = await this.#lane(lane, asAgent && this.#shownCertificate(url), proxy).request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers,
        ...(body !== undefined && { body }),
        signal,
        // undici would close the connection after each HEAD.
        reset: false,
      });
      // Destroying an unread body emits an error that nobody waits for; readers get it from the iterator.
      answer.body.on('error', () => undefined);
      return { url, status: answer.statusCode, headers: answer.headers, body: answer.body };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw connectionError(error, place, false);
    }
  }

  /** Ends idle connections at once and the others when their bodies have been read. */
  async release(): Promise<void> {
    this.#stopWatching();
    await Promise.all(this.#lanes.values().map((lane) => lane.close()));
  }

  /** Cuts all connections. */
  async close(): Promise<void> {
    this.#stopWatching();
    await Promise.all(this.#lanes.values().map((lane) => lane.destroy()));
  }

  #readTls(): void {
    try {
      this.#tls = tlsFaces(this.#entry.name, this.#entry.tls);
    } catch (error) {
      this.#tlsRead?.(this.#entry.name, toAgentError(error));
      return;
    }
    const old = [...this.#lanes.values()];
    this.#lanes.clear();
    // Nobody waits for these: each ends with the last body that is still read.
    for (const lane of old) void lane.close();
    this.#tlsRead?.(this.#entry.name, undefined);
  }

  #shownCertificate(url: URL): boolean {
    return this.#tls.certified !== undefined && url.protocol === 'https:' && (this.#certifiedHosts.has(url.host) || this.#certifiedHosts.has(url.hostname));
  }

  #lane(lane: Lane, certified: boolean, proxy: URL | undefined): Dispatcher {
    const key = `${lane} ${certified ? 'certified' : 'plain'} ${proxy?.href ?? ''}`;
    const known = this.#lanes.get(key);
    if (known !== undefined) return known;
    const made = this.#dispatcher(lane, certified, proxy);
    this.#lanes.set(key, made);
    return made;
  }

  #dispatcher(lane: Lane, certified: boolean, proxy: URL | undefined): Dispatcher {
    const limits = this.#limits;
    const common = {
      connections: lane === 'blob' ? limits.blobConnections : limits.talkConnections,
      allowH2: false,
      headersTimeout: limits.headersTimeoutMs,
      bodyTimeout: limits.stallTimeoutMs,
      connectTimeout: limits.connectTimeoutMs,
      keepAliveTimeout: limits.keepAliveMs,
      keepAliveMaxTimeout: limits.keepAliveMs,
      maxHeaderSize: MAX_HEADER_BYTES,
    };
    const tls = { ...(certified ? this.#tls.certified : this.#tls.plain), allowH2: false, timeout: limits.connectTimeoutMs };
    if (proxy !== undefined) {
      return new ProxyAgent({
        ...common,
        uri: proxy.href,
        // Plain requests are the proxy's to forward; many refuse tunnels to other ports than 443.
        proxyTunnel: false,
        requestTls: tls,
        // undici gives the pools to the proxy itself no limits of their own.
        clientFactory: (origin, options) => new Pool(origin, Object.assign({}, common, options)),
        factory: (origin, options) => new Pool(origin, Object.assign({}, common, options)),
      });
    }
    const connector = buildConnector({ ...tls, autoSelectFamily: true, autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS, lookup: this.#lookup });
    // A socket does not look an address up, so that one in the URL is checked here as well.
    const connect: buildConnector.connector = (options, callback) => {
      try {
        checkLiteral(options.hostname, this.#entry.privateAllowed);
      } catch (error) {
        callback(error instanceof Error ? error : new Error(String(error)), null);
        return;
      }
      connector(options, (...connected) => {
        // A TLS 1.3 server refuses a certificate after the handshake; undici would only see that it hung up.
        const [, socket] = connected;
        socket?.prependOnceListener('error', (error: Error) => void socket.destroy(error));
        callback(...connected);
      });
    };
    return new Agent({ ...common, connect });
  }

  /**
   * A proxy looks names up itself, out of sight; a name that this host finds at forbidden addresses alone is refused all the same. One that
   * is not found here may be known to the proxy.
   */
  async #checkName(hostname: string): Promise<void> {
    if (this.#entry.privateAllowed || isIP(hostname.replace(/^\[(.*)\]$/, '$1')) !== 0 || this.#checkedNames.get(hostname) !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<Error | null>();
    this.#lookup(hostname, { all: true }, resolve);
    const error = await promise;
    if (error instanceof AgentError) throw error;
    this.#checkedNames.set(hostname, true, NAME_CHECK_MS);
  }
}
