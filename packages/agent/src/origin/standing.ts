// What the agent knows of an origin at this moment: counts and the last faults for the status, which of its URLs asked us to wait,
// which did not answer lately. Pure; the clock is handed in.

import { AgentError, type ErrorCode } from '../errors.ts';
import type { OriginEntry } from './origins.ts';

export interface OriginStatus {
  readonly name: string;
  readonly urls: readonly string[];
  readonly requests: number;
  /** Bytes of manifests and blobs. */
  readonly bytes: number;
  readonly throttledUntilMs: number | undefined;
  /** Where credentials were last found or not found; undefined: they were never looked for. */
  readonly credentials: string | undefined;
  /** The last kinds of faults, the newest first. */
  readonly faults: readonly OriginFault[];
}

/** One kind of fault at one host. */
export interface OriginFault {
  readonly code: ErrorCode;
  /** Of the newest one. */
  readonly message: string;
  /** The host where it happened: of the origin, its token server or its storage. */
  readonly host: string | undefined;
  readonly count: number;
  readonly firstAtMs: number;
  readonly lastAtMs: number;
}

/** After a failure the other URLs of the origin are tried first for this long. */
const FAILED_URL_MS = 10_000;
/** An origin that says 429 without Retry-After is left alone for this long. */
const DEFAULT_THROTTLE_MS = 30_000;
/** No origin silences us for longer with one answer. */
const MAX_THROTTLE_MS = 15 * 60_000;

/** Kinds of faults that the status remembers of an origin. */
const MAX_FAULTS = 8;
const NO_FAULTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'REPOSITORY_UNKNOWN', 'DRAINING']);

export class OriginStanding {
  readonly #entry: OriginEntry;
  readonly #nowMs: () => number;
  readonly #throttledUntilMs = new Map<URL, number>();
  readonly #failedUntilMs = new Map<URL, number>();
  #requests = 0;
  #bytes = 0;
  #credentials: string | undefined;
  /** By code and host, the newest last. */
  readonly #faults = new Map<string, OriginFault>();
  readonly #noted = new WeakSet<AgentError>();

  constructor(entry: OriginEntry, nowMs: () => number) {
    this.#entry = entry;
    this.#nowMs = nowMs;
  }

  requested(): void {
    this.#requests++;
  }

  received(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Notes a fault for the status. @returns false: it was noted before, or is none, as what the caller asked wrongly */
  failed(error: AgentError): boolean {
    // Names that may not be asked for are refused before a link is made: here an address was found that no origin may have.
    const asked = error.row.fault === 'caller' && error.code !== 'ORIGIN_FORBIDDEN';
    if (NO_FAULTS.has(error.code) || asked || this.#noted.has(error)) return false;
    this.#noted.add(error);
    const said = error.detail?.['host'];
    const host = typeof said === 'string' ? said : undefined;
    const key = `${error.code} ${host}`;
    const { count = 0, firstAtMs = this.#nowMs() } = this.#faults.get(key) ?? {};
    this.#faults.delete(key);
    this.#faults.set(key, { code: error.code, message: error.message, host, count: count + 1, firstAtMs, lastAtMs: this.#nowMs() });
    const [oldest] = this.#faults.keys();
    if (this.#faults.size > MAX_FAULTS && oldest !== undefined) this.#faults.delete(oldest);
    return true;
  }

  /** Where this agent's credentials were found; undefined: nowhere. */
  credentialsFound(from: string | undefined): void {
    this.#credentials = from ?? 'none';
  }

  /** The URLs in the order in which to try them: as configured, those that failed lately last. */
  order(): URL[] {
    const now = this.#nowMs();
    const failed = (url: URL): boolean => (this.#failedUntilMs.get(url) ?? 0) > now;
    return [...this.#entry.urls.filter((url) => !failed(url)), ...this.#entry.urls.filter(failed)];
  }

  urlFailed(url: URL): void {
    this.#failedUntilMs.set(url, this.#nowMs() + FAILED_URL_MS);
  }

  urlAnswered(url: URL): void {
    this.#failedUntilMs.delete(url);
  }

  /** Notes a 429. Returns how long to stay away. */
  throttle(url: URL, retryAfterMs: number | undefined): number {
    const waitMs = Math.min(retryAfterMs ?? DEFAULT_THROTTLE_MS, MAX_THROTTLE_MS);
    this.#throttledUntilMs.set(url, Math.max(this.#throttledUntilMs.get(url) ?? 0, this.#nowMs() + waitMs));
    return waitMs;
  }

  /** @throws AgentError ORIGIN_THROTTLED while the URL asked us to wait */
  checkThrottle(url: URL): void {
    const leftMs = (this.#throttledUntilMs.get(url) ?? 0) - this.#nowMs();
    if (leftMs <= 0) return;
    throw new AgentError('ORIGIN_THROTTLED', `${this.#entry.name} limits requests; the next is sent in ${Math.ceil(leftMs / 1000)} s`, {
      retryAfterMs: Math.ceil(leftMs),
      detail: { origin: this.#entry.name, host: url.host, status: 429 },
    });
  }

  status(): OriginStatus {
    const until = Math.max(0, ...this.#throttledUntilMs.values());
    return {
      name: this.#entry.name,
      urls: this.#entry.urls.map((url) => url.origin),
      requests: this.#requests,
      bytes: this.#bytes,
      throttledUntilMs: until > this.#nowMs() ? until : undefined,
      credentials: this.#credentials,
      faults: [...this.#faults.values()].toReversed(),
    };
  }
}

/** Retry-After in ms: seconds or a date (RFC 9110, 10.2.3). undefined: absent or unreadable. */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Only dates in the one form that has a name of the day; Date.parse alone takes nearly anything.
  const date = /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
