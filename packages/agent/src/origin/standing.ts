// What the agent knows of an origin at this moment: counts and the last error for the status, which of its URLs asked us to wait,
// which did not answer lately. Pure; the clock is handed in.

import { AgentError } from '../errors.ts';
import type { OriginEntry } from './origins.ts';

export interface OriginStatus {
  readonly name: string;
  readonly urls: readonly string[];
  readonly requests: number;
  /** Bytes of manifests and blobs. */
  readonly bytes: number;
  readonly throttledUntilMs: number | undefined;
  readonly lastError: { readonly code: string; readonly message: string; readonly atMs: number } | undefined;
}

/** After a failure the other URLs of the origin are tried first for this long. */
const FAILED_URL_MS = 10_000;
/** An origin that says 429 without Retry-After is left alone for this long. */
const DEFAULT_THROTTLE_MS = 30_000;
/** No origin silences us for longer with one answer. */
const MAX_THROTTLE_MS = 15 * 60_000;

export class OriginStanding {
  readonly #entry: OriginEntry;
  readonly #nowMs: () => number;
  readonly #throttledUntilMs = new Map<URL, number>();
  readonly #failedUntilMs = new Map<URL, number>();
  #requests = 0;
  #bytes = 0;
  #lastError: OriginStatus['lastError'];

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

  /** Notes a failure for the status. What the caller asked wrongly is none. */
  failed(error: AgentError): void {
    if (error.code === 'MANIFEST_UNKNOWN' || error.code === 'BLOB_UNKNOWN' || error.code === 'REPOSITORY_UNKNOWN' || error.row.fault === 'caller') return;
    this.#lastError = { code: error.code, message: error.message, atMs: this.#nowMs() };
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
      lastError: this.#lastError,
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
