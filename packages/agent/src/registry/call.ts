// One request from its first byte to its log line.
//
//   request ── refused method ──> 405
//      │────── bad URL ─────────> 400, 404
//      │────── Content ─────────> 4xx, 503 (rows of errors.ts)
//      │────── headers sent ────> 200, 206, 304, 416
//      └────── error after that > the connection is cut: a client never sees a clean end of wrong bytes
//
// The handlers fill in what they learn; `finish` logs and counts it once, whatever happened.

import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { formatReference } from '@flotilla/shared/reference';
import type { Caller, OnServed, Repository } from '../content/ports.ts';
import { toAgentError, type ErrorCode } from '../errors.ts';
import { errorFields, type Logger } from '../log.ts';
import type { RegistryMetrics } from '../metrics.ts';
import type { ServedSpan, SpanFields } from '../tracing/spans.ts';
import type { Target, TargetKind } from './route.ts';

/** What a client may call its request: it stands in the log and in a header. */
const REQUEST_ID = /^[\w.:/+=-]{1,128}$/;

export class Call {
  /** The client's own name of it (X-Request-Id), or one made here. */
  readonly id: string;
  readonly raw: ServerResponse;
  readonly method: string;
  readonly caller: Caller;
  /** Aborted when the client goes away before its reply is complete. */
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  readonly #startedMs: number;
  readonly #nowMs: () => number;
  target: Target | undefined;
  repository: Repository | undefined;
  /** Where requests are traced. */
  span: ServedSpan | undefined;
  /** Body bytes handed to the socket. */
  bytes = 0;
  /** Bytes of blobs by the source that they came from. */
  readonly #sources = { storeBytes: 0, peerBytes: 0, originBytes: 0 };
  readonly #moved: ((bytes: number) => void) | undefined;
  #code: ErrorCode | undefined;
  #cause: unknown;

  /** @param moved told of bytes of blobs that are handed out */
  constructor(request: IncomingMessage, raw: ServerResponse, nowMs: () => number, moved?: (bytes: number) => void) {
    this.raw = raw;
    this.#moved = moved;
    const given = request.headers['x-request-id']?.toString();
    this.id = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    this.method = request.method ?? '';
    this.caller = { authorization: request.headers.authorization, asksOrigin: this.method === 'HEAD', requestId: this.id };
    this.signal = this.#abort.signal;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
    raw.once('close', () => {
      if (!raw.writableFinished) this.#abort.abort();
    });
  }

  get kind(): TargetKind | 'unknown' {
    return this.target?.kind ?? 'unknown';
  }

  /** Counts bytes of a blob by where they came from. */
  readonly served: OnServed = (source, bytes) => {
    this.#sources[`${source}Bytes`] += bytes;
    this.#moved?.(bytes);
  };

  /** Whether the client left first: what fails after that is no fault of ours. */
  get abandoned(): boolean {
    return this.signal.aborted && this.#code === undefined;
  }

  /** Remembers the failure for the log line. The first one counts. */
  failed(error: unknown): void {
    if (this.signal.aborted || this.#code !== undefined) return;
    this.#code = toAgentError(error).code;
    this.#cause = error;
  }

  /** Called once, when the reply is out or the connection gone. */
  finish(log: Logger, metrics: RegistryMetrics): void {
    const ms = this.#nowMs() - this.#startedMs;
    const status = this.raw.statusCode;
    metrics.request(this.kind, this.abandoned ? 'aborted' : status, ms);
    if (this.#code !== undefined) metrics.error(this.#code);
    const fields = {
      requestId: this.id,
      method: this.method,
      ...this.#target(),
      ...(this.raw.headersSent && { status }),
      bytes: this.bytes,
      ...this.#source(),
      ms: Math.round(ms * 10) / 10,
      ...(this.abandoned && { aborted: true }),
      ...(this.#code !== undefined && { code: this.#code, error: errorFields(this.#cause) }),
    };
    this.span?.end(`${this.method} ${this.kind}`, this.#spanFields(), this.abandoned ? 'aborted' : this.#code);
    const broken = this.#code !== undefined && (status < 400 || status >= 500);
    if (broken) log.warn(fields, 'request failed');
    else if (this.kind === 'base') log.debug(fields, 'request');
    else log.info(fields, 'request');
  }

  #spanFields(): SpanFields {
    const { repository, target } = this;
    return {
      'flotilla.request_id': this.id,
      'http.response.status_code': this.raw.statusCode,
      'http.response.body.size': this.bytes,
      ...(repository !== undefined && { 'flotilla.origin': repository.origin, 'flotilla.repository': repository.repository }),
      ...(target?.kind === 'blob' && { 'flotilla.digest': target.digest }),
    };
  }

  /** The winning source, and what each has given; nothing where no blob was read. */
  #source(): Record<string, unknown> {
    const { storeBytes, peerBytes, originBytes } = this.#sources;
    const most = Math.max(storeBytes, peerBytes, originBytes);
    if (most === 0) return {};
    return { source: most === storeBytes ? 'store' : most === peerBytes ? 'peer' : 'origin', ...this.#sources };
  }

  #target(): Record<string, unknown> {
    const { target, repository } = this;
    if (target === undefined || target.kind === 'base') return { kind: this.kind };
    return {
      kind: target.kind,
      ...(repository ?? { path: target.path }),
      ...(target.kind === 'manifest' && { reference: formatReference(target.reference) }),
      ...((target.kind === 'blob' || target.kind === 'referrers') && { digest: target.digest }),
    };
  }
}
