// The registry client behind the Origin port: what a manifest is (resolve), how long a blob is (stat), and bytes (read).
//
// Invariants: nothing is answered from a cache; what an origin says of lengths and ranges is checked against what it asked and sends.
// Non-goals: digests of blobs (content/ verifies every byte), who may ask (access/), how answers are got (calls.ts).

import { createHash } from 'node:crypto';
import type { LookupFunction } from 'node:net';
import { digestAlgorithm, isDigest, parseDigest, type Digest } from '@flotilla/shared/digest';
import { isRepository, isTag } from '@flotilla/shared/reference';
import type { Authority, ByteRange, Descriptor, Granted, Origin, OriginBody, Referrers, Repository, Source, TagPage } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import type { TraceAsked } from '../tracing/spans.ts';
import { NO_CREDENTIALS, type CredentialSource } from './credentials/secret.ts';
import { contentLength, contentRange, discard, headerOf, isEncoded, originBody, readWhole, type BodyRules } from './body.ts';
import { Calls, encodedError, mayNotKnowHead, type OriginMetrics, type Question } from './calls.ts';
import { DEFAULT_CONNECTION_LIMITS, type Answer, type ConnectionLimits, type TlsRead } from './connections.ts';
import { field, hungUp } from './failures.ts';
import { OriginLinks, type OriginLink } from './links.ts';
import { listReferrers, listTags } from './listings.ts';
import { isUnlistedHost, resolveImage } from './names.ts';
import { OriginTable, type OriginSettings } from './origins.ts';
import type { ProxySettings } from './proxy.ts';
import { blobQuestion, BlobSizes, withRange, type KnownSize } from './sizes.ts';
import type { OriginStatus } from './standing.ts';

export interface OriginConfig {
  readonly origins: readonly OriginSettings[];
  readonly defaultOrigin?: string;
  /** DNS hosts that are not configured: reached at public addresses, or refused. @default 'public' */
  readonly unlisted?: 'public' | 'refuse';
  readonly proxy?: ProxySettings;
  readonly limits?: Partial<ConnectionLimits>;
  /** @default 200 */
  readonly backoffMs?: number;
}

export interface OriginDeps {
  readonly metrics: OriginMetrics;
  /** @default none: anonymous */
  readonly credentials?: CredentialSource;
  /** Asked where an origin says the length of a blob nowhere. @default nobody knows */
  readonly knownSize?: KnownSize;
  readonly userAgent?: string;
  /** Each request that goes out. @default nothing is traced */
  readonly traced?: TraceAsked | undefined;
  readonly tlsRead?: TlsRead;
  /** Sent as X-Request-Id. @default none */
  readonly requestId?: () => string | undefined;
  /** Milliseconds since the epoch, never going back. */
  readonly nowMs?: () => number;
  readonly random?: () => number;
  readonly lookup?: LookupFunction;
}

export interface OriginClient extends Origin {
  /** @throws AgentError NAME_INVALID, NAME_UNKNOWN, ORIGIN_FORBIDDEN */
  resolveImage(path: string, ns: string | undefined): Repository;
  /** Whether an origin is configured or well known, not just any DNS host. */
  listed(origin: string): boolean;
  /** The URLs of an origin that is listed, in their order; undefined: it is not. */
  urlsOf(origin: string): readonly string[] | undefined;
  /** Origins that are configured, or were asked since the start. */
  status(): OriginStatus[];
  /** Cuts what is open; whoever waits gets DRAINING. */
  close(): Promise<void>;
}

/** Registries refuse larger manifests (distribution-spec, "Pushing manifests"). */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/vnd.docker.distribution.manifest.v1+json',
];
/** @throws AgentError CONFIG_INVALID */
export function createOrigin(config: OriginConfig, deps: OriginDeps): OriginClient {
  return new RegistryClient(config, deps);
}

class RegistryClient implements OriginClient {
  readonly #table: OriginTable;
  readonly #config: OriginConfig;
  readonly #metrics: OriginMetrics;
  readonly #links: OriginLinks;
  readonly #calls: Calls;
  readonly #sizes: BlobSizes;
  readonly #closing = new AbortController();

  constructor(config: OriginConfig, deps: OriginDeps) {
    this.#table = new OriginTable(config.origins);
    this.#config = config;
    this.#metrics = deps.metrics;
    const { defaultOrigin } = config;
    if (defaultOrigin !== undefined && !this.#table.has(defaultOrigin) && !isUnlistedHost(defaultOrigin)) {
      throw new AgentError('CONFIG_INVALID', `--default-origin "${defaultOrigin}" is neither a configured origin nor a DNS host`);
    }
    const { nowMs = () => Math.round(performance.timeOrigin + performance.now()), random = Math.random, userAgent = 'flotilla', requestId = () => undefined } = deps;
    const limits = { ...DEFAULT_CONNECTION_LIMITS, ...config.limits };
    this.#links = new OriginLinks(this.#table, { limits, proxy: config.proxy ?? {}, tlsRead: deps.tlsRead, ...(deps.lookup === undefined ? {} : { lookup: deps.lookup }) }, nowMs);
    this.#calls = new Calls(this.#links, deps.metrics, deps.credentials ?? NO_CREDENTIALS, { userAgent, requestId, traced: deps.traced, backoffMs: config.backoffMs ?? 200, random, nowMs });
    this.#sizes = new BlobSizes({
      calls: this.#calls,
      metrics: deps.metrics,
      known: deps.knownSize ?? (() => Promise.resolve(undefined)),
      read: (repository, digest, authority, signal) => this.read({ ...repository, kind: 'blob' }, digest, undefined, authority, signal),
      nowMs,
    });
  }

  resolveImage(path: string, ns: string | undefined): Repository {
    const { defaultOrigin, unlisted = 'public' } = this.#config;
    return resolveImage(path, ns, { names: this.#table, defaultOrigin, unlisted });
  }

  resolve(repository: Repository, reference: string, accept: readonly string[], authority: Authority, signal: AbortSignal): Promise<Granted<Descriptor>> {
    return this.#observed(repository, authority, signal, async (link, open) => {
      if (!isTag(reference) && !isDigest(reference)) throw new AgentError('TAG_INVALID', `"${reference.slice(0, 160)}" is neither a tag nor a digest`);
      const question = manifestQuestion('HEAD', repository.repository, reference, accept, authority);
      const head = await this.#calls.ask(link, question, open);
      if (head.status !== 200) {
        if (!mayNotKnowHead(head, question)) throw await this.#calls.failureOf(link, head, 'manifest', open);
      } else {
        const descriptor = descriptorOf(head, reference);
        if (descriptor !== undefined) {
          if (descriptor.size > MAX_MANIFEST_BYTES) throw manifestTooLarge(link, descriptor.size);
          discard(head);
          return { ...descriptor, right: head.right };
        }
      }
      discard(head);
      return this.#resolveByGet(link, { ...question, method: 'GET' }, reference, open);
    });
  }

  stat(repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<{ size: number }>> {
    return this.#observed(repository, authority, signal, (link, open) => this.#sizes.sizeOf(link, repository, digest, authority, open));
  }

  read(source: Source, digest: Digest, range: ByteRange | undefined, authority: Authority, signal: AbortSignal): Promise<OriginBody> {
    if (range !== undefined && range.end <= range.start) throw new RangeError(`[${range.start}, ${range.end}) is no range of bytes`);
    return this.#observed(source, authority, signal, async (link, open) => {
      const asked =
        source.kind === 'manifest'
          ? manifestQuestion('GET', source.repository, digest, source.mediaType === undefined ? [] : [source.mediaType], authority)
          : blobQuestion('GET', source.repository, digest, authority);
      const question = range === undefined ? asked : withRange(asked, range);
      const answer = await this.#calls.ask(link, question, open);
      if (answer.status !== 200 && answer.status !== 206) throw await this.#readFailure(link, answer, question.kind, open);
      try {
        const rules = bodyRules(link, answer, question.kind, range);
        return originBody(answer, rules, (bytes) => this.#received(link, bytes), (error) => this.#calls.noted(link, error), open);
      } catch (error) {
        answer.body.destroy();
        throw error;
      }
    });
  }

  listTags(repository: Repository, page: { n?: number; last?: string }, authority: Authority, signal: AbortSignal): Promise<Granted<TagPage>> {
    return this.#observed(repository, authority, signal, (link, open) => listTags(this.#calls, link, repository, page, authority, open));
  }

  referrers(repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<Referrers>> {
    return this.#observed(repository, authority, signal, (link, open) => listReferrers(this.#calls, link, repository, digest, authority, open));
  }

  listed(origin: string): boolean {
    return this.#table.has(origin);
  }

  urlsOf(origin: string): readonly string[] | undefined {
    return this.#table.has(origin) ? this.#table.entry(origin).urls.map((url) => url.origin) : undefined;
  }

  status(): OriginStatus[] {
    return this.#links.all().map(({ standing }) => standing.status());
  }

  async close(): Promise<void> {
    this.#closing.abort(new AgentError('DRAINING', 'the agent is stopping'));
    await this.#links.close();
  }

  /** Runs one call against its origin: aborted by `close`, its failure noted for the status. */
  async #observed<T>(repository: Repository, authority: Authority, signal: AbortSignal, run: (link: OriginLink, signal: AbortSignal) => Promise<T>): Promise<T> {
    const open = AbortSignal.any([signal, this.#closing.signal]);
    open.throwIfAborted();
    if (!isRepository(repository.repository)) throw new AgentError('NAME_INVALID', `"${repository.repository.slice(0, 160)}" is not a repository name`);
    const link = this.#links.get(repository.origin);
    try {
      return await run(link, open);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      // Who asks without the agent's credentials is meant to be refused where they are needed.
      if (authority.kind === 'agent' || !isRefusal(error)) this.#calls.noted(link, error);
      // The certificate is the agent's; whoever has none is not let in, which is an answer.
      const certificateWanted = error.code === 'ORIGIN_CLIENT_CERT' || (link.entry.tls.certFile !== undefined && hungUp(error));
      if (authority.kind === 'agent' || !certificateWanted) throw error;
      throw new AgentError('ORIGIN_UNAUTHORIZED', `${link.entry.name} asks for a client certificate`, { cause: error, detail: { ...error.detail, status: 401 } });
    }
  }

  async #resolveByGet(link: OriginLink, question: Question, reference: string, signal: AbortSignal): Promise<Granted<Descriptor>> {
    const answer = await this.#calls.ask(link, question, signal);
    if (answer.status !== 200) throw await this.#calls.failureOf(link, answer, 'manifest', signal);
    const said = contentLength(answer);
    if (isEncoded(answer) || (said !== undefined && said > MAX_MANIFEST_BYTES)) {
      answer.body.destroy();
      throw isEncoded(answer) ? encodedError(link, answer) : manifestTooLarge(link, said);
    }
    const bytes = await readWhole(answer, MAX_MANIFEST_BYTES, { origin: link.entry.name, url: answer.url }, signal);
    if (bytes === undefined) throw manifestTooLarge(link, undefined);
    this.#received(link, bytes.length);
    const header = headerOf(answer, 'docker-content-digest');
    const expected = isDigest(reference) ? reference : header !== undefined && isDigest(header) ? header : undefined;
    const algorithm = expected === undefined ? 'sha256' : digestAlgorithm(expected);
    const digest = parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
    if (expected !== undefined && expected !== digest) {
      throw new AgentError('DIGEST_MISMATCH', `${link.entry.name} sent a manifest with the digest ${digest} where it said ${expected}`, { detail: { origin: link.entry.name, expected, digest } });
    }
    return { digest, size: bytes.length, mediaType: mediaTypeOf(answer) ?? mediaTypeIn(bytes, link), right: answer.right };
  }

  async #readFailure(link: OriginLink, answer: Answer, kind: Question['kind'], signal: AbortSignal): Promise<AgentError> {
    const failure = await this.#calls.failureOf(link, answer, kind, signal);
    if (answer.status !== 416) return failure;
    // The range lies inside the blob as its manifest or the origin itself described it.
    return new AgentError('ORIGIN_LENGTH', `${link.entry.name} has fewer bytes than it said`, { cause: failure, detail: failure.detail ?? {} });
  }

  #received(link: OriginLink, bytes: number): void {
    link.standing.received(bytes);
    this.#metrics.originBytes(bytes);
  }
}

function isRefusal({ code }: AgentError): boolean {
  return code === 'ORIGIN_UNAUTHORIZED' || code === 'ORIGIN_DENIED' || code === 'ORIGIN_CLIENT_CERT';
}

function manifestQuestion(method: 'GET' | 'HEAD', repository: string, reference: string, accept: readonly string[], authority: Authority): Question {
  const headers = { accept: (accept.length === 0 ? MANIFEST_TYPES : accept).join(', ') };
  return { kind: 'manifest', method, repository, authority, path: `/v2/${repository}/manifests/${reference}`, headers, lane: 'talk' };
}

/** What the head of an answer says of a manifest; undefined where anything is missing. */
function descriptorOf(answer: Answer, reference: string): Descriptor | undefined {
  const header = headerOf(answer, 'docker-content-digest');
  const digest = isDigest(reference) ? reference : header;
  const size = contentLength(answer);
  const mediaType = mediaTypeOf(answer);
  if (digest === undefined || !isDigest(digest) || size === undefined || mediaType === undefined || isEncoded(answer)) return undefined;
  return { digest, size, mediaType };
}

function mediaTypeOf(answer: Answer): string | undefined {
  const type = headerOf(answer, 'content-type')?.split(';')[0]?.trim();
  return type === '' ? undefined : type;
}

/** The media type that a manifest gives itself. */
function mediaTypeIn(bytes: Buffer, link: OriginLink): string {
  try {
    const type = field(JSON.parse(bytes.toString('utf8')), 'mediaType');
    if (typeof type === 'string' && type !== '') return type;
  } catch (error) {
    throw new AgentError('MANIFEST_MALFORMED', `${link.entry.name} sent a manifest that is no JSON`, { cause: error, detail: { origin: link.entry.name } });
  }
  throw new AgentError('MANIFEST_MALFORMED', `${link.entry.name} says no media type of the manifest`, { detail: { origin: link.entry.name } });
}

/** How the body of a 200 or 206 must look. @throws AgentError ORIGIN_LENGTH, ORIGIN_STATUS, MANIFEST_TOO_LARGE */
function bodyRules(link: OriginLink, answer: Answer, kind: Question['kind'], range: ByteRange | undefined): BodyRules {
  const said = contentLength(answer);
  if (isEncoded(answer)) throw encodedError(link, answer);
  const maxBytes = kind === 'manifest' ? MAX_MANIFEST_BYTES : Infinity;
  if (said !== undefined && said > maxBytes) throw manifestTooLarge(link, said);
  const common = { maxBytes, tooLong: () => manifestTooLarge(link, undefined), place: { origin: link.entry.name, url: answer.url } };
  if (answer.status === 200) return { ...common, start: 0, size: said, ranged: false, expectedBytes: said };
  const part = contentRange(answer);
  const bytes = range === undefined ? undefined : range.end - range.start;
  const fits = part !== undefined && part.start === range?.start && part.end === range.end && (said === undefined || said === bytes);
  if (!fits) {
    throw new AgentError('ORIGIN_LENGTH', `${link.entry.name} answered another range than was asked for`, {
      detail: { origin: link.entry.name, status: 206, asked: range, contentRange: headerOf(answer, 'content-range'), contentLength: said },
    });
  }
  return { ...common, start: part.start, size: part.size, ranged: true, expectedBytes: bytes };
}

function manifestTooLarge(link: OriginLink, bytes: number | undefined): AgentError {
  return new AgentError('MANIFEST_TOO_LARGE', `${link.entry.name} has a manifest over ${MAX_MANIFEST_BYTES} bytes`, {
    detail: { origin: link.entry.name, maxBytes: MAX_MANIFEST_BYTES, bytes },
  });
}
