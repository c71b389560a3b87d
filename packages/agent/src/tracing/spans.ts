// What is traced of a pull, as the parts that do the work see it. Without --trace-to nothing of this exists (otlp.ts is not even loaded).
//
//   client's span (traceparent) ── GET blob ──┬── origin GET blob        one for each request that goes out, with a traceparent of its own
//                                             └── pull                   the Download, once: who joins it has no second one
//                                                  ├── from peer         one for each peer: bytes summed, never a span for each chunk
//                                                  └── origin GET blob   leased reads, whoever asked first
//
// Non-goals: metrics, logs; what other hosts do (a peer sees no request id and no trace).

import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Digest } from '@flotilla/shared/digest';
import type { EndedDownload } from '../content/downloads.ts';
import type { Content, Origin } from '../content/ports.ts';

export type SpanFields = Readonly<Record<string, string | number | boolean>>;

/** A client's request. */
export interface ServedSpan {
  /** What is done within is done for this request. */
  within<T>(work: () => T): T;
  /** The reply is out, or the connection gone. */
  end(name: string, fields: SpanFields, failure: string | undefined): void;
}

/** A request to an origin. */
export interface AskedSpan {
  /** To be sent with it. */
  readonly headers: Readonly<Record<string, string>>;
  /** The head is here; it ends with the body. */
  answered(status: number, body: Readable): void;
  failed(error: unknown): void;
}

/** Starts the span of a client's request, as a child of the one that the client names. */
export type TraceServed = (method: string, headers: IncomingHttpHeaders) => ServedSpan;

/** Starts the span of a request to an origin. */
export type TraceAsked = (kind: string, method: string, url: URL) => AskedSpan;

export interface Tracing {
  readonly served: TraceServed;
  readonly asked: TraceAsked;
  /**
   * Remembers for whom a blob is pulled.
   * @param underWay whether there is a Download of it now
   */
  watch(content: Content, underWay: (digest: Digest) => boolean): Content;
  /** Leased reads belong to the pull that they are for, whatever made them begin. */
  watchReads(origin: Origin): Origin;
  ended(download: EndedDownload): void;
  /** Sends what is left. */
  close(): Promise<void>;
}
