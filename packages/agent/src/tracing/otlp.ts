// Spans by OpenTelemetry, sent to a collector by OTLP over HTTP. Loaded only where --trace-to is given.
//
// The context goes through AsyncLocalStorage of this file alone: nothing global is set. Who is asked by a client with a `traceparent` follows
// its sampling; else every request is sampled. Bounds: QUEUED spans wait for the collector, MAX_PULLS blobs are remembered
// with who asked for them; what is dropped is told to `lost`. A collector that is gone costs a pull nothing.

import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { defaultTextMapGetter, defaultTextMapSetter, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, type Context, type Span, type Tracer } from '@opentelemetry/api';
import { ExportResultCode, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace';
import type { Digest } from '@flotilla/shared/digest';
import { toAgentError } from '../errors.ts';
import type { ServedSpan, Tracing } from './spans.ts';

const QUEUED = 4096;
const SEND_EVERY_MS = 2_000;
const SEND_TIMEOUT_MS = 5_000;
/** A stopping agent waits no longer for its collector. */
const FAREWELL_MS = 1_000;
const MAX_PULLS = 1024;
/** Peers of one blob that have a span of their own; the rest has one together. */
const MAX_PEERS = 32;

export interface TracingInit {
  /** Of the collector, such as http://127.0.0.1:4318; /v1/traces is added where it has no path. */
  readonly url: string;
  readonly host: string;
  readonly peerId: string;
  readonly version: string;
  readonly zone?: string | undefined;
  /** Unix ms. */
  readonly now: () => number;
  /** Spans that the collector did not take. */
  readonly lost: (spans: number) => void;
}

/** The span of a pull, opened by who asks first, ended with the Download. */
interface PullSpan {
  readonly span: Span;
  readonly context: Context;
}

export function startTracing({ url, host, peerId, version, zone, now, lost }: TracingInit): Tracing {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'flotilla', 'service.version': version, 'service.instance.id': peerId, 'host.name': host, ...(zone !== undefined && { 'flotilla.zone': zone }) }),
    spanProcessors: [new BatchSpanProcessor({ exporter: counted(new OTLPTraceExporter({ url: collectorUrl(url), timeoutMillis: SEND_TIMEOUT_MS }), lost), maxQueueSize: QUEUED, scheduledDelayMillis: SEND_EVERY_MS, exportTimeoutMillis: SEND_TIMEOUT_MS })],
  });
  const tracer = provider.getTracer('flotilla', version);
  const propagator = new W3CTraceContextPropagator();
  const current = new AsyncLocalStorage<Context>();
  const pulls = new Map<string, PullSpan>();
  const here = (): Context => current.getStore() ?? ROOT_CONTEXT;

  /** A span for the blob. It is sent if a Download comes of it; where none did, the next request for the blob has its own. */
  const pulling = (digest: Digest, underWay: (digest: Digest) => boolean): void => {
    if (current.getStore() === undefined || (pulls.has(digest) && underWay(digest))) return;
    pulls.delete(digest);
    if (pulls.size >= MAX_PULLS) pulls.delete(pulls.keys().next().value!);
    const span = tracer.startSpan('pull', { attributes: { 'flotilla.digest': digest }, startTime: now() }, here());
    pulls.set(digest, { span, context: trace.setSpan(here(), span) });
  };

  return {
    served: (method, headers) => {
      const parent = propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
      const span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes: { 'http.request.method': method }, startTime: now() }, parent);
      const context = trace.setSpan(parent, span);
      return {
        within: (work) => current.run(context, work),
        end: (name, fields, failure) => {
          span.updateName(name);
          span.setAttributes(fields);
          if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
          span.end(now());
        },
      } satisfies ServedSpan;
    },

    asked: (kind, method, { protocol, host: server, pathname }) => {
      const attributes = { 'http.request.method': method, 'server.address': server, 'url.scheme': protocol.slice(0, -1), 'url.path': pathname, 'flotilla.kind': kind };
      const span = tracer.startSpan(`origin ${method} ${kind}`, { kind: SpanKind.CLIENT, attributes, startTime: now() }, here());
      const headers: Record<string, string> = {};
      propagator.inject(trace.setSpan(here(), span), headers, defaultTextMapSetter);
      return {
        headers,
        answered: (status, body) => {
          span.setAttribute('http.response.status_code', status);
          if (status >= 400) span.setStatus({ code: SpanStatusCode.ERROR });
          body.once('close', () => span.end(now()));
        },
        failed: (error) => {
          span.setStatus({ code: SpanStatusCode.ERROR, message: toAgentError(error).code });
          span.end(now());
        },
      };
    },

    watch: (content, underWay) => ({
      manifest: (...asked) => content.manifest(...asked),
      tags: (...asked) => content.tags(...asked),
      referrers: (...asked) => content.referrers(...asked),
      blob: (repository, digest, ...rest) => {
        pulling(digest, underWay);
        return content.blob(repository, digest, ...rest);
      },
    }),

    watchReads: (origin) => ({
      resolve: (...asked) => origin.resolve(...asked),
      stat: (...asked) => origin.stat(...asked),
      listTags: (...asked) => origin.listTags(...asked),
      referrers: (...asked) => origin.referrers(...asked),
      read: (source, digest, ...rest) => {
        const pull = pulls.get(digest);
        return pull === undefined ? origin.read(source, digest, ...rest) : current.run(pull.context, () => origin.read(source, digest, ...rest));
      },
    }),

    ended: ({ key, startedMs, provenance, error }) => {
      const pull = pulls.get(key.digest);
      pulls.delete(key.digest);
      if (pull === undefined) return;
      const { from, peerBytes, originBytes, resumedBytes, duplicateBytes } = provenance.summary();
      pull.span.setAttributes({
        'flotilla.size': key.size,
        'flotilla.source': from,
        'flotilla.bytes.peer': peerBytes,
        'flotilla.bytes.origin': originBytes,
        'flotilla.bytes.resumed': resumedBytes,
        'flotilla.bytes.duplicate': duplicateBytes,
      });
      if (error !== undefined) pull.span.setStatus({ code: SpanStatusCode.ERROR, message: error });
      peerSpans(tracer, provenance.sources(Number.POSITIVE_INFINITY), pull.context, startedMs, now());
      pull.span.end(now());
    },

    close: () => Promise.race([provider.shutdown(), delay(FAREWELL_MS, undefined, { ref: false })]),
  };
}

/** Chunks are summed: when each came is not told, only from whom how much. */
function peerSpans(tracer: Tracer, sources: readonly [peerId: string, bytes: number][], parent: Context, startTime: number, endTime: number): void {
  const named = sources.slice(0, MAX_PEERS);
  const rest = sources.slice(MAX_PEERS);
  for (const [peerId, bytes] of named) tracer.startSpan('from peer', { attributes: { 'flotilla.peer': peerId, 'flotilla.bytes': bytes }, startTime }, parent).end(endTime);
  if (rest.length === 0) return;
  const bytes = rest.reduce((sum, [, given]) => sum + given, 0);
  tracer.startSpan('from other peers', { attributes: { 'flotilla.peers': rest.length, 'flotilla.bytes': bytes }, startTime }, parent).end(endTime);
}

function counted(exporter: SpanExporter, lost: (spans: number) => void): SpanExporter {
  return {
    export: (spans, told) =>
      exporter.export(spans, (result) => {
        if (result.code !== ExportResultCode.SUCCESS) lost(spans.length);
        told(result);
      }),
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
  };
}

function collectorUrl(text: string): string {
  const url = new URL(text);
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url.href;
}
