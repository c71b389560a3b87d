// What origins refused, by origin and kind, counted since the start. Seen at the two places where an origin's word is final: the answer to a local
// client, and a leased read.
//
// A refusal of credentials counts where nothing else was left to try: whoever is let in after a first "no" was not refused. Bound: MAX_FAULTS
// pairs of origin and kind. Non-goals: what follows from it (the tracker decides that).

import { MAX_FAULTS, type FaultKind, type OriginFault } from '@flotilla/shared/agent-report';
import type { Content, Origin, OriginBody } from '../content/ports.ts';
import { AgentError, type ErrorCode } from '../errors.ts';

const CREDENTIALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ACCESS_DENIED', 'BLOB_DENIED', 'ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_AUTH_FAILED', 'ORIGIN_REALM_REFUSED', 'ORIGIN_CREDENTIALS', 'ORIGIN_CREDENTIALS_REFUSED', 'ORIGIN_CLIENT_CERT']);
const UNREACHABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ORIGIN_UNREACHABLE', 'ORIGIN_TIMEOUT', 'ORIGIN_TLS', 'ORIGIN_PROXY']);
const OTHER: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ORIGIN_STATUS', 'ORIGIN_LENGTH', 'ORIGIN_REDIRECT', 'ORIGIN_LISTING', 'DIGEST_MISMATCH']);
/** What a resolver says. */
const DNS: ReadonlySet<string> = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_NODATA', 'EAI_NONAME', 'EAI_FAIL', 'ENODATA', 'ESERVFAIL', 'ETIMEOUT']);

/** undefined: the origin is not to blame, or this is an answer like any other. */
export function faultKind(error: unknown): FaultKind | undefined {
  if (!(error instanceof AgentError)) return undefined;
  const root = error.code === 'ACCESS_UNDECIDED' ? error.cause : error;
  if (!(root instanceof AgentError)) return undefined;
  if (root.code === 'ORIGIN_THROTTLED') return 'throttled';
  if (CREDENTIALS.has(root.code)) return 'credentials';
  if (UNREACHABLE.has(root.code)) return isDns(root) ? 'dns' : 'unreachable';
  return OTHER.has(root.code) ? 'other' : undefined;
}

export class OriginFaults {
  readonly #counts = new Map<string, { readonly origin: string; readonly kind: FaultKind; count: number }>();
  readonly #noted: (error: AgentError) => void;
  #total = 0;

  /** @param noted told of each failure, whoever is to blame */
  constructor(noted: (error: AgentError) => void) {
    this.#noted = noted;
  }

  /** Rises with each fault. */
  get total(): number {
    return this.#total;
  }

  told(): OriginFault[] {
    return [...this.#counts.values()].map(({ origin, kind, count }) => [origin, kind, count]);
  }

  /** Local clients' questions, as `content` answers them. */
  watchContent(content: Content): Content {
    return {
      manifest: async (repository, ...rest) => {
        const served = await this.#seen(repository.origin, content.manifest(repository, ...rest));
        return { ...served, bytes: (signal) => this.#seen(repository.origin, served.bytes(signal)) };
      },
      blob: (repository, ...rest) => this.#seen(repository.origin, content.blob(repository, ...rest)),
      tags: (repository, ...rest) => this.#seen(repository.origin, content.tags(repository, ...rest)),
      referrers: (repository, ...rest) => this.#seen(repository.origin, content.referrers(repository, ...rest)),
    };
  }

  /** Leased reads: the right was found before, so a refusal is final. */
  watchReads(origin: Origin): Origin {
    return {
      resolve: (...args) => origin.resolve(...args),
      stat: (...args) => origin.stat(...args),
      listTags: (...args) => origin.listTags(...args),
      referrers: (...args) => origin.referrers(...args),
      read: async (source, ...rest) => {
        const answer = await this.#seen(source.origin, origin.read(source, ...rest));
        return { ...answer, body: this.#body(source.origin, answer), cancel: () => answer.cancel() };
      },
    };
  }

  async #seen<T>(origin: string, answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      this.#note(origin, error);
      throw error;
    }
  }

  async *#body(origin: string, answer: OriginBody): AsyncGenerator<Uint8Array> {
    try {
      yield* answer.body;
    } catch (error) {
      this.#note(origin, error);
      throw error;
    }
  }

  #note(origin: string, error: unknown): void {
    if (error instanceof AgentError) this.#noted(error);
    const kind = faultKind(error);
    if (kind === undefined) return;
    const key = `${kind} ${origin}`;
    const known = this.#counts.get(key);
    if (known === undefined && this.#counts.size >= MAX_FAULTS) return;
    this.#counts.set(key, { origin, kind, count: (known?.count ?? 0) + 1 });
    this.#total++;
  }
}

function isDns(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string' && DNS.has(cause.code)) return true;
    if (cause instanceof AggregateError && cause.errors.some(isDns)) return true;
  }
  return false;
}
