// One question to an origin, with all that may lie between question and answer:
//
//   each URL of the origin -> not throttled? -> authorization -> up to 3 tries -> up to 5 redirects -> answer
//                                                    ^------------- 401: once more with a fresh one
//
// Everything here happens before a byte of a body was handed out, so that trying again is safe (GET and HEAD only).

import { setTimeout as sleep } from 'node:timers/promises';
import type { Authority, Right } from '../content/ports.ts';
import { AgentError, type ErrorCode } from '../errors.ts';
import type { TraceAsked } from '../tracing/spans.ts';
import { authorityKey, Authorizations, type Authorization, type Realm, type TokenQuestion } from './auth.ts';
import { contentLength, discard, headerOf, readWhole } from './body.ts';
import type { Answer, Lane, OutgoingRequest } from './connections.ts';
import type { CredentialSource, FoundSecret } from './credentials/secret.ts';
import { ExpiringMap } from './expiring-map.ts';
import { statusError, systemCodeOf, type RequestKind } from './failures.ts';
import type { OriginLink, OriginLinks } from './links.ts';
import { retryAfterMs } from './standing.ts';

/** Where requests and bytes are counted. */
export interface OriginMetrics {
  /** Payload bytes of manifests and blobs. */
  originBytes(bytes: number): void;
  /** Every request that was sent, redirects and tokens included; `status` is an error code where no answer came. */
  originRequest(kind: RequestKind, status: number | ErrorCode): void;
  /** A fault of an origin: one that ended a question, or one that another URL made good. */
  originFault(code: ErrorCode): void;
  /** Something out of the ordinary that kept a question going. */
  fallback(kind: 'origin-next-url' | 'origin-without-credentials' | 'origin-size-by-reading'): void;
}

export interface Question {
  readonly kind: 'manifest' | 'blob' | 'list';
  readonly method: 'GET' | 'HEAD';
  readonly repository: string;
  readonly authority: Authority;
  /** From the root of the origin. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly lane: Lane;
}

/** An answer and the right it was given under. */
export type Answered = Answer & { readonly right: Right };

export interface CallsSettings {
  readonly userAgent: string;
  /** Of the client's request that is at work, to be told to the origin. */
  readonly requestId: () => string | undefined;
  readonly traced?: TraceAsked | undefined;
  /** First pause before trying again; doubles, with jitter. */
  readonly backoffMs: number;
  readonly random: () => number;
  readonly nowMs: () => number;
}

/** Answers to HEAD that may only mean that the registry does not know HEAD. */
const HEAD_UNKNOWN_STATUS: ReadonlySet<number> = new Set([400, 405, 501]);
const MAX_TRIES = 3;
const MAX_REDIRECTS = 5;
const REDIRECT_STATUS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const RETRIED_STATUS: ReadonlySet<number> = new Set([502, 503, 504]);
/** A connection that was refused or broke; a host that is not there at all is not asked again. */
const RETRIED_SYSTEM_CODES: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'EAI_AGAIN', 'UND_ERR_SOCKET']);
/** Failures of one URL that another URL of the origin may not have. */
const NEXT_URL_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ORIGIN_UNREACHABLE', 'ORIGIN_TIMEOUT', 'ORIGIN_TLS', 'ORIGIN_THROTTLED', 'ORIGIN_AUTH_FAILED', 'ORIGIN_STATUS', 'ORIGIN_FORBIDDEN',
  'ORIGIN_PROXY', 'ORIGIN_CLIENT_CERT',
]);
/** What one URL refuses or does not have another may give. */
const ELSEWHERE_STATUS: ReadonlySet<number> = new Set([403, 404]);
const ELSEWHERE_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ORIGIN_UNAUTHORIZED', 'ORIGIN_CREDENTIALS_REFUSED', 'ORIGIN_REALM_REFUSED', 'ORIGIN_REDIRECT', 'ORIGIN_CREDENTIALS']);
/** Signed URLs live longer; a minute saves the round trip for the runs of one pull. */
const REDIRECT_MS = 60_000;
const MAX_REMEMBERED_REDIRECTS = 1024;
const MAX_ERROR_BODY_BYTES = 16 * 1024;
const ERROR_BODY_MS = 1_000;
const MAX_TOKEN_BYTES = 256 * 1024;

export class Calls {
  readonly #links: OriginLinks;
  readonly #metrics: OriginMetrics;
  readonly #settings: CallsSettings;
  readonly #authorizations: Authorizations;
  readonly #redirects: ExpiringMap<URL>;

  constructor(links: OriginLinks, metrics: OriginMetrics, credentials: CredentialSource, settings: CallsSettings) {
    this.#links = links;
    this.#metrics = metrics;
    this.#settings = settings;
    this.#redirects = new ExpiringMap(MAX_REMEMBERED_REDIRECTS, settings.nowMs);
    this.#authorizations = new Authorizations((...asked) => this.#token(...asked), credentials, (...looked) => this.#looked(...looked), settings.nowMs);
  }

  /**
   * Asks the origin's URLs in turn, as long as one does not answer or does not have it. Where none has it the word of the last one in the
   * settings counts: the others stand before it. Answers of any status but 401, 429 and most 5xx are the caller's to judge.
   * @throws AgentError, or the signal's reason
   */
  async ask(link: OriginLink, question: Question, signal: AbortSignal): Promise<Answered> {
    const lastUrl = link.entry.urls.at(-1);
    let word: { readonly of: URL; readonly said: Answered | AgentError } | undefined;
    try {
      for (const base of link.standing.order()) {
        if (word !== undefined) this.#metrics.fallback('origin-next-url');
        const said = await this.#saidBy(link, base, question, signal);
        if (!(said instanceof AgentError) && !ELSEWHERE_STATUS.has(said.status)) return said;
        const counts: boolean = word?.of !== lastUrl;
        drop(counts ? word?.said : said);
        if (counts) word = { of: base, said };
      }
      const said = word?.said;
      word = undefined;
      if (said instanceof AgentError || said === undefined) throw said ?? new AgentError('INTERNAL', `origin ${link.entry.name} has no URL`);
      return said;
    } finally {
      drop(word?.said);
    }
  }

  /** What one URL says; a failure that another URL may not have is returned. */
  async #saidBy(link: OriginLink, base: URL, question: Question, signal: AbortSignal): Promise<Answered | AgentError> {
    try {
      const answer = await this.#askUrl(link, base, question, signal);
      link.standing.urlAnswered(base);
      return answer;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof AgentError)) throw error;
      if (NEXT_URL_CODES.has(error.code)) {
        link.standing.urlFailed(base);
        this.noted(link, error);
        return error;
      }
      if (!ELSEWHERE_CODES.has(error.code)) throw error;
      return error;
    }
  }

  /** Notes a fault for status and metrics, once; what the caller asked wrongly is none. */
  noted(link: OriginLink, error: AgentError): void {
    if (link.standing.failed(error)) this.#metrics.originFault(error.code);
  }

  /** Reads the rest of an answer that is a failure, and says what it means. */
  async failureOf(link: OriginLink, answer: Answer, kind: RequestKind, signal: AbortSignal): Promise<AgentError> {
    const place = { origin: link.entry.name, url: answer.url };
    let body = '';
    // Neither a long explanation nor one that never ends holds the news back.
    if ((contentLength(answer) ?? 0) > MAX_ERROR_BODY_BYTES) answer.body.destroy();
    const timer = setTimeout(() => answer.body.destroy(), ERROR_BODY_MS);
    try {
      body = (await readWhole(answer, MAX_ERROR_BODY_BYTES, place, signal))?.toString('utf8') ?? '';
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      // The status is the news; that its explanation was cut short is not.
      if (!(error instanceof AgentError)) throw error;
    } finally {
      clearTimeout(timer);
    }
    return statusError(answer.status, body, kind, place, retryAfterMs(headerOf(answer, 'retry-after'), this.#settings.nowMs()));
  }

  async #askUrl(link: OriginLink, base: URL, question: Question, signal: AbortSignal): Promise<Answered> {
    link.standing.checkThrottle(base);
    const realm: Realm = { entry: link.entry, base, repository: question.repository, authority: question.authority };
    let authorization = await this.#authorizations.current(realm, signal);
    let answer = await this.#tried(() => this.#redirected(link, base, question, authorization, signal), signal);
    if (answer.status === 401 && answer.url.origin === base.origin) {
      const used = authorization;
      const refused = answer;
      authorization = await this.#authorizations.answer(realm, refused.headers['www-authenticate'], used, signal).catch((error: unknown) => {
        discard(refused);
        throw error;
      });
      // The same once more would be refused once more, and counts against an account that is locked after so many wrong passwords.
      if (authorization.header !== used?.header) {
        discard(answer);
        answer = await this.#tried(() => this.#redirected(link, base, question, authorization, signal), signal);
      }
      const refusal = answer.status === 401 && authorization !== undefined ? this.#authorizations.refused(realm, authorization) : undefined;
      if (refusal !== undefined) {
        discard(answer);
        throw refusal;
      }
    }
    if ((answer.status === 401 || answer.status === 403) && authorization?.withheld !== undefined) {
      discard(answer);
      throw authorization.withheld;
    }
    if (answer.status === 429) throw await this.#throttled(link, base, answer, question.kind, signal);
    if (answer.status === 401 || (answer.status >= 500 && answer.status !== 501)) throw await this.failureOf(link, answer, question.kind, signal);
    return { ...answer, right: this.#authorizations.rightOf(authorization) };
  }

  /** Follows redirects by hand: credentials stay with the origin, and each target is judged. */
  async #redirected(link: OriginLink, base: URL, question: Question, authorization: Authorization | undefined, signal: AbortSignal): Promise<Answer> {
    const key = question.method === 'GET' && question.kind === 'blob' ? `${link.entry.name} ${base.origin}${question.path} ${authorityKey(question.authority)}` : undefined;
    const shortcut = key === undefined ? undefined : await this.#shortcut(link, key, question, signal);
    if (shortcut !== undefined) return shortcut;
    let url = new URL(question.path, base);
    for (let hops = 0; ; hops++) {
      // Once the way has led to another host nothing secret is sent, should it lead back.
      if (url.origin !== base.origin) authorization = undefined;
      const answer = await this.#send(link, question, url, authorization?.header, hops > 0, signal);
      const location = headerOf(answer, 'location');
      if (!REDIRECT_STATUS.has(answer.status) || location === undefined) {
        if (key !== undefined && url.origin !== base.origin && isSuccess(answer)) this.#redirects.set(key, url, REDIRECT_MS);
        return answer;
      }
      discard(answer);
      if (hops === MAX_REDIRECTS) throw redirectError(link, `redirects more than ${MAX_REDIRECTS} times`);
      url = redirectTarget(link, location, url, base);
    }
  }

  #looked({ entry }: Realm, { from, failure, secret }: FoundSecret): void {
    const link = this.#links.get(entry.name);
    link.standing.credentialsFound(from);
    if (failure === undefined) return;
    this.noted(link, failure);
    if (secret === undefined) this.#metrics.fallback('origin-without-credentials');
  }

  /** Goes where the blob was found last time; undefined: it must be asked for again. */
  async #shortcut(link: OriginLink, key: string, question: Question, signal: AbortSignal): Promise<Answer | undefined> {
    const url = this.#redirects.get(key);
    if (url === undefined) return undefined;
    try {
      const answer = await this.#send(link, question, url, undefined, true, signal);
      if (isSuccess(answer)) return answer;
      discard(answer);
    } catch (error) {
      if (signal.aborted || !(error instanceof AgentError)) throw error;
      // Counted by #send; the origin knows better where the blob is now.
    }
    this.#redirects.delete(key);
    return undefined;
  }

  async #send(link: OriginLink, question: Question, url: URL, authorization: string | undefined, redirect: boolean, signal: AbortSignal): Promise<Answer> {
    const { method, lane, kind } = question;
    const headers = { ...question.headers, ...(authorization === undefined ? {} : { authorization }) };
    try {
      return await this.#sent(link, kind, { method, url, headers, lane, asAgent: question.authority.kind === 'agent' }, signal);
    } catch (error) {
      if (redirect && error instanceof AgentError && error.code === 'ORIGIN_FORBIDDEN') {
        throw redirectError(link, `redirects to ${url.host}, which is not allowed`, error);
      }
      throw error;
    }
  }

  async #sent(link: OriginLink, kind: RequestKind, request: OutgoingRequest, signal: AbortSignal): Promise<Answer> {
    link.standing.requested();
    // `identity`: nobody on the way may re-encode a blob.
    const requestId = this.#settings.requestId();
    const span = this.#settings.traced?.(kind, request.method, request.url);
    const headers = { 'user-agent': this.#settings.userAgent, 'accept-encoding': 'identity', ...(requestId !== undefined && { 'x-request-id': requestId }), ...span?.headers, ...request.headers };
    try {
      const answer = await link.connections.send({ ...request, headers }, signal);
      this.#metrics.originRequest(kind, answer.status);
      span?.answered(answer.status, answer.body);
      return answer;
    } catch (error) {
      span?.failed(error);
      if (error instanceof AgentError) this.#metrics.originRequest(kind, error.code);
      throw error;
    }
  }

  async #token(realm: Realm, { url, authorization, form }: TokenQuestion, signal: AbortSignal): Promise<string> {
    const link = this.#links.get(realm.entry.name);
    const request: OutgoingRequest = {
      method: form === undefined ? 'GET' : 'POST',
      url,
      headers: { ...(authorization !== undefined && { authorization }), ...(form !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }) },
      ...(form !== undefined && { body: form.toString() }),
      lane: 'talk',
      asAgent: realm.authority.kind === 'agent',
    };
    try {
      const answer = await this.#tried(() => this.#sent(link, 'token', request, signal), signal);
      if (answer.status === 429) throw await this.#throttled(link, realm.base, answer, 'token', signal);
      if (answer.status !== 200) throw await this.failureOf(link, answer, 'token', signal);
      const body = await readWhole(answer, MAX_TOKEN_BYTES, { origin: realm.entry.name, url }, signal);
      if (body === undefined) throw new AgentError('ORIGIN_AUTH_FAILED', `${realm.entry.name}: the token is over ${MAX_TOKEN_BYTES} bytes`);
      return body.toString('utf8');
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'ORIGIN_FORBIDDEN') throw error;
      throw new AgentError('ORIGIN_REALM_REFUSED', `the realm ${url.origin} has no address that is allowed`, { cause: error, detail: { origin: realm.entry.name } });
    }
  }

  async #throttled(link: OriginLink, base: URL, answer: Answer, kind: RequestKind, signal: AbortSignal): Promise<AgentError> {
    const failure = await this.failureOf(link, answer, kind, signal);
    const waitMs = link.standing.throttle(base, failure.retryAfterMs);
    return new AgentError('ORIGIN_THROTTLED', failure.message, { ...(failure.detail === undefined ? {} : { detail: failure.detail }), retryAfterMs: waitMs });
  }

  /** Tries again after a broken connection or a gateway's 5xx. */
  async #tried(run: () => Promise<Answer>, signal: AbortSignal): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      try {
        const answer = await run();
        if (!RETRIED_STATUS.has(answer.status) || tries === MAX_TRIES) return answer;
        discard(answer);
      } catch (error) {
        if (signal.aborted || !(error instanceof AgentError) || tries === MAX_TRIES) throw error;
        if (!RETRIED_SYSTEM_CODES.has(systemCodeOf(error) ?? '')) throw error;
      }
      await this.#pause(this.#settings.backoffMs * 2 ** (tries - 1), signal);
    }
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    try {
      await sleep(ms * (0.5 + this.#settings.random()), undefined, { signal });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw error;
    }
  }
}

/** Signed redirects may be good for GET only. */
export function mayNotKnowHead(answer: Answer, question: Question): boolean {
  return HEAD_UNKNOWN_STATUS.has(answer.status) || (answer.status === 403 && answer.url.pathname !== question.path);
}

export function encodedError(link: OriginLink, answer: Answer): AgentError {
  return new AgentError('ORIGIN_STATUS', `${link.entry.name} encodes what was asked for as it is`, {
    detail: { origin: link.entry.name, status: answer.status, contentEncoding: headerOf(answer, 'content-encoding') },
  });
}

function drop(said: Answered | AgentError | undefined): void {
  if (said !== undefined && !(said instanceof AgentError)) discard(said);
}

function isSuccess(answer: Answer): boolean {
  return answer.status === 200 || answer.status === 206;
}

function redirectTarget(link: OriginLink, location: string, from: URL, base: URL): URL {
  if (!URL.canParse(location, from)) throw redirectError(link, 'redirects to what is no URL');
  const url = new URL(location, from);
  url.hash = '';
  if (!/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') throw redirectError(link, `redirects to ${url.protocol}//${url.host}`);
  if (url.protocol === 'http:' && base.protocol !== 'http:') throw redirectError(link, `redirects to ${url.host} without encryption`);
  return url;
}

function redirectError(link: OriginLink, what: string, cause?: unknown): AgentError {
  return new AgentError('ORIGIN_REDIRECT', `${link.entry.name} ${what}`, { cause, detail: { origin: link.entry.name } });
}
