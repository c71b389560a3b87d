// HTTP to the tracker, and whom to believe that it is the tracker.
//
// https with a `caPin` in the join token: the tracker's CA is fetched over a connection that verifies nothing, compared with the
// pin, and is then the only CA that counts. The name in the certificate does not: this CA issues to trackers alone. https without
// a pin: the system's CAs and the usual checks. http: plain.
// Non-goals: sessions, retries and which URL to try (session.ts).

import { readFile } from 'node:fs/promises';
import { caPin, parseJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import { ROUTES, type Problem } from '@flotilla/shared/tracker-api';
import { Client, Pool, type Dispatcher } from 'undici';
import { AgentError } from '../errors.ts';

/** The stream, one post, one locate, four questions that wait for an origin, and one more while a new stream replaces the old. */
const CONNECTIONS_PER_TRACKER = 8;
/** Replies other than the stream are small; whatever is longer is not our tracker. */
const MAX_REPLY_BYTES = 1024 * 1024;

export interface TrackerClientInit {
  /** @default 5000 */
  readonly connectTimeoutMs?: number;
  /** Until the head of a reply is here. @default 10000 */
  readonly replyTimeoutMs?: number;
}

/** A tracker to talk to: its URL, and the pin of its CA where the join token holds one. */
export interface TrackerAddress {
  readonly url: string;
  readonly caPin: string | undefined;
  /** The CA itself, as PEM, where somebody gave it: it alone counts, and names are checked as usual. */
  readonly ca?: string;
}

/** A request of an operator. */
export interface TrackerRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON text. */
  readonly body?: string;
  readonly maxReplyBytes: number;
}

/** @throws JOIN_TOKEN_INVALID */
export async function readJoinToken(path: string): Promise<JoinToken> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new AgentError('JOIN_TOKEN_INVALID', `the join token ${path} cannot be read`, { cause: error });
  }
  try {
    return parseJoinToken(text);
  } catch (error) {
    throw new AgentError('JOIN_TOKEN_INVALID', `${path} holds no join token`, { cause: error });
  }
}

/** Every method throws AgentError: TRACKER_UNREACHABLE, TRACKER_REFUSED (detail: status, code), TRACKER_VERSION, TRACKER_PIN, TRACKER_PROTOCOL. */
export class TrackerClient {
  readonly #connectTimeoutMs: number;
  readonly #replyTimeoutMs: number;
  /** By URL and pin: as many as there are --tracker flags, times the pins seen. */
  readonly #pools = new Map<string, Promise<Pool>>();
  #closed = false;

  constructor({ connectTimeoutMs = 5_000, replyTimeoutMs = 10_000 }: TrackerClientInit = {}) {
    this.#connectTimeoutMs = connectTimeoutMs;
    this.#replyTimeoutMs = replyTimeoutMs;
  }

  /** Posts JSON text. @returns the reply's JSON, undefined for 204 */
  async post(address: TrackerAddress, path: string, body: string, signal: AbortSignal, headers: Record<string, string> = {}): Promise<unknown> {
    const reply = await this.#request(address, { method: 'POST', path, headers, body }, this.#replyTimeoutMs, signal);
    const text = await readText(reply.body, address.url);
    if (reply.statusCode === 204 || text === '') return undefined;
    return parseJson(text, address.url);
  }

  /** @returns the reply's JSON */
  async ask(address: TrackerAddress, request: TrackerRequest, signal: AbortSignal): Promise<unknown> {
    const reply = await this.#request(address, request, this.#replyTimeoutMs, signal);
    return parseJson(await readText(reply.body, address.url, request.maxReplyBytes), address.url);
  }

  /** Posts JSON text and hands over the reply as it comes, without end. Leaving it unread must be followed by aborting `signal`. */
  async stream(address: TrackerAddress, path: string, body: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const reply = await this.#request(address, { method: 'POST', path, headers: {}, body }, 0, signal);
    return pieces(reply.body, address, signal);
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    this.#closed = true;
    const pools = await Promise.allSettled(this.#pools.values());
    this.#pools.clear();
    await Promise.all(pools.filter((pool) => pool.status === 'fulfilled').map((pool) => pool.value.destroy()));
  }

  async #request(
    address: TrackerAddress,
    { method, path, headers, body }: Pick<TrackerRequest, 'method' | 'path' | 'headers' | 'body'>,
    bodyTimeout: number,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const pool = await this.#pool(address, signal);
    let reply: Dispatcher.ResponseData;
    try {
      reply = await pool.request({
        method,
        path: pathOf(address.url, path),
        headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
        ...(body !== undefined && { body }),
        headersTimeout: this.#replyTimeoutMs,
        bodyTimeout,
        signal,
      });
    } catch (error) {
      throw unreachable(error, address, signal);
    }
    if (reply.statusCode >= 200 && reply.statusCode < 300) return reply;
    throw refusal(reply.statusCode, await readText(reply.body, address.url), address.url);
  }

  #pool(address: TrackerAddress, signal: AbortSignal): Promise<Pool> {
    if (this.#closed) throw new AgentError('TRACKER_UNREACHABLE', 'the client is closed');
    const key = `${address.caPin ?? ''} ${address.ca ?? ''} ${address.url}`;
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      pool = this.#openPool(address, signal);
      this.#pools.set(key, pool);
      // A failure is not remembered: the next request asks for the CA again.
      pool.catch(() => this.#pools.delete(key));
    }
    return pool;
  }

  async #openPool(address: TrackerAddress, signal: AbortSignal): Promise<Pool> {
    const { protocol, origin } = new URL(address.url);
    const timeout = this.#connectTimeoutMs;
    const pinned = protocol === 'https:' && address.caPin !== undefined && address.ca === undefined;
    const ca = pinned ? await this.#pinnedCa(address, address.caPin, signal) : undefined;
    const given = address.ca === undefined ? {} : { ca: address.ca };
    const trust = ca === undefined ? given : { ca, checkServerIdentity: () => undefined };
    return new Pool(origin, { connections: CONNECTIONS_PER_TRACKER, allowH2: false, connect: { timeout, ...trust } });
  }

  /** @throws TRACKER_PIN */
  async #pinnedCa(address: TrackerAddress, pin: string, signal: AbortSignal): Promise<string> {
    const client = new Client(new URL(address.url).origin, { allowH2: false, connect: { timeout: this.#connectTimeoutMs, rejectUnauthorized: false } });
    try {
      const path = pathOf(address.url, ROUTES.ca);
      const reply = await client
        .request({ method: 'GET', path, headersTimeout: this.#replyTimeoutMs, bodyTimeout: this.#replyTimeoutMs, signal })
        .catch((error: unknown) => {
          throw unreachable(error, address, signal);
        });
      const text = await readText(reply.body, address.url);
      if (reply.statusCode >= 500) throw refusal(reply.statusCode, text, address.url);
      const shown = reply.statusCode === 200 ? pinOf(text, address.url) : `status ${reply.statusCode}`;
      if (shown !== pin) {
        throw new AgentError('TRACKER_PIN', `${address.url} shows another CA than the join token pins`, { detail: { tracker: address.url, pinned: pin, shown } });
      }
      return text;
    } finally {
      await client.destroy();
    }
  }
}

/** A URL as --tracker takes it, without a trailing slash. @throws CONFIG_INVALID */
export function trackerUrl(text: string): string {
  if (!URL.canParse(text)) throw new AgentError('CONFIG_INVALID', `--tracker ${text} is no URL`);
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new AgentError('CONFIG_INVALID', `--tracker ${text} is neither https nor http`);
  return url.origin + url.pathname.replace(/\/+$/, '');
}

function pathOf(url: string, path: string): string {
  return new URL(url).pathname.replace(/\/+$/, '') + path;
}

function pinOf(pem: string, url: string): string {
  try {
    return caPin(pem);
  } catch (error) {
    throw new AgentError('TRACKER_PIN', `${url} shows no certificate as its CA`, { cause: error, detail: { tracker: url } });
  }
}

/** Certificate trouble after the CA was pinned means that somebody else answers. */
function unreachable(error: unknown, { url, caPin }: TrackerAddress, signal: AbortSignal): AgentError {
  if (error instanceof AgentError) return error;
  if (signal.aborted && signal.reason instanceof AgentError) return signal.reason;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const detail = { tracker: url, reason: code };
  if (caPin !== undefined && /CERT|SIGNATURE|ISSUER/.test(code)) {
    return new AgentError('TRACKER_PIN', `the certificate of ${url} was not issued by the pinned CA`, { cause: error, detail });
  }
  return new AgentError('TRACKER_UNREACHABLE', `${url} does not answer`, { cause: error, detail });
}

function refusal(status: number, text: string, url: string): AgentError {
  let problem: Partial<Problem> = {};
  try {
    problem = (JSON.parse(text) ?? {}) as Partial<Problem>;
  } catch (error) {
    return refused(status, problem, url, { cause: error });
  }
  return refused(status, problem, url, {});
}

function refused(status: number, { code, detail }: Partial<Problem>, url: string, options: ErrorOptions): AgentError {
  if (code === 'PROTOCOL_UNSUPPORTED') return new AgentError('TRACKER_VERSION', `${url}: ${detail ?? code}`, { ...options, detail: { tracker: url, status, code, said: detail } });
  const passing = status >= 500 || status === 429 || status === 408;
  const message = `${url} answered ${status}${code === undefined ? '' : ` ${code}`}${detail === undefined ? '' : `: ${detail}`}`;
  return new AgentError(passing ? 'TRACKER_UNREACHABLE' : 'TRACKER_REFUSED', message, { ...options, detail: { tracker: url, status, code, said: detail } });
}

async function* pieces(body: AsyncIterable<Uint8Array>, address: TrackerAddress, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stream = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const piece = await stream.next().catch((error: unknown) => {
        throw unreachable(error, address, signal);
      });
      if (piece.done === true) return;
      yield piece.value;
    }
  } finally {
    await stream.return?.();
  }
}

async function readText(body: AsyncIterable<Uint8Array>, url: string, maxBytes = MAX_REPLY_BYTES): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const part of body) {
      parts.push(part);
      bytes += part.length;
      if (bytes > maxBytes) throw new AgentError('TRACKER_PROTOCOL', `${url} answered with more than ${maxBytes} bytes`);
    }
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError('TRACKER_UNREACHABLE', `${url} broke off its answer`, { cause: error });
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseJson(text: string, url: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AgentError('TRACKER_PROTOCOL', `${url} answered with what is no JSON`, { cause: error });
  }
}
