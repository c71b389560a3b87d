// Traces of pulls, as a collector gets them: from the client's span through the agent to the origin, and who gave the bytes.

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';

const MIB = 1024 * 1024;
/** Kinds of spans, as OTLP numbers them. */
const [SERVER, CLIENT] = [2, 3];

interface CollectedSpan {
  readonly host: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly fields: Readonly<Record<string, string | number>>;
}

type Value = { stringValue?: string; intValue?: number | string; boolValue?: boolean };
type Attributes = { key: string; value: Value }[];
interface Export {
  resourceSpans: { resource: { attributes: Attributes }; scopeSpans: { spans: (Omit<CollectedSpan, 'fields' | 'host'> & { attributes: Attributes })[] }[] }[];
}

function fieldsOf(attributes: Attributes): Record<string, string | number> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]));
}

/** Takes OTLP as JSON over HTTP. */
class Collector {
  readonly spans: CollectedSpan[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      void (async () => {
        let body = '';
        for await (const part of request) body += String(part);
        if (request.url === '/v1/traces') this.#take(JSON.parse(body) as Export);
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      })();
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  of(host: string, name: string): CollectedSpan[] {
    return this.spans.filter((span) => span.host === host && span.name === name);
  }

  #take({ resourceSpans }: Export): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const host = String(fieldsOf(resource.attributes)['host.name']);
      for (const { attributes, ...span } of scopeSpans.flatMap(({ spans }) => spans)) this.spans.push({ ...span, host, fields: fieldsOf(attributes) });
    }
  }
}

let origin: OriginServer;
let fleet: TestFleet;
let collector: Collector;
let traceTo: string;
let image: TestImage;

beforeEach(async () => {
  origin = await OriginServer.start();
  fleet = await TestFleet.start({ lab: origin.url });
  collector = new Collector();
  traceTo = await collector.listen();
  image = origin.addImage('team/app', 'v1', [6 * MIB]);
});

afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
  collector.close();
});

const traceId = '0af7651916cd43dd8448eb211c80319c';
const clientSpan = 'b7ad6b7169203331';

/** As a traced client does it. @returns the blob's digest */
async function pullTraced(agent: TestAgent, flags = '01'): Promise<string> {
  const headers = { traceparent: `00-${traceId}-${clientSpan}-${flags}`, 'x-request-id': 'build-1' };
  await pull(agent, 'lab/team/app/manifests/v1', { headers });
  const { digest } = image.layers[0]!;
  expect((await pull(agent, `lab/team/app/blobs/${digest}`, { headers })).sha256).toBe(digest);
  return digest;
}

describe('with a collector', () => {
  test("a pull hangs on the client's span, what the origin was asked on the pull, and the origin hears of it", async () => {
    const agent = await fleet.agent('a', { traceTo });
    const digest = await pullTraced(agent);
    await agent.stop();
    const [served] = collector.of('a', 'GET blob');
    expect(served).toMatchObject({ traceId, parentSpanId: clientSpan, kind: SERVER });
    expect(served!.fields).toMatchObject({ 'flotilla.request_id': 'build-1', 'http.response.status_code': 200, 'http.response.body.size': 6 * MIB, 'flotilla.digest': digest });
    const [pulled] = collector.of('a', 'pull').filter(({ fields }) => fields['flotilla.digest'] === digest);
    expect(pulled).toMatchObject({ traceId, parentSpanId: served!.spanId });
    expect(pulled!.fields).toMatchObject({ 'flotilla.source': 'origin', 'flotilla.bytes.peer': 0 });
    expect(pulled!.fields['flotilla.bytes.origin']).toBe(6 * MIB);
    const reads = collector.of('a', 'origin GET blob').filter(({ fields }) => String(fields['url.path']).endsWith(digest));
    expect(reads.length).toBeGreaterThan(0);
    for (const read of reads) expect(read).toMatchObject({ traceId, kind: CLIENT, parentSpanId: pulled!.spanId });
    const [tag] = collector.of('a', 'GET manifest');
    expect(tag).toMatchObject({ traceId, parentSpanId: clientSpan });
    // What the origin was told names the spans of these very requests.
    const told = new Set(origin.requests.flatMap(({ traceparent }) => (traceparent === undefined ? [] : [traceparent])));
    for (const read of reads) expect(told).toContain(`00-${traceId}-${read.spanId}-01`);
  });

  test('bytes of peers are one span for each peer', async () => {
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b', { traceTo })];
    await fleet.meshed();
    await pull(a, `lab/team/app/manifests/v1`);
    await pull(a, `lab/team/app/blobs/${image.layers[0]!.digest}`);
    const digest = await pullTraced(b);
    await b.stop();
    const [pulled] = collector.of('b', 'pull').filter(({ fields }) => fields['flotilla.digest'] === digest);
    const gave = collector.of('b', 'from peer').filter(({ parentSpanId }) => parentSpanId === pulled!.spanId);
    expect(gave.map(({ fields }) => fields['flotilla.peer'])).toEqual([a.running.peerId]);
    expect(gave[0]!.fields['flotilla.bytes']).toBe(6 * MIB);
    expect(gave[0]!.traceId).toBe(traceId);
    expect(collector.of('a', 'GET blob')).toEqual([]);
  });

  test('what the client does not sample is not sent, and the origin is told so', async () => {
    const agent = await fleet.agent('a', { traceTo });
    await pullTraced(agent, '00');
    await pull(agent, 'lab/team/app/manifests/v1');
    await agent.stop();
    expect(collector.spans.filter((span) => span.traceId === traceId)).toEqual([]);
    expect(collector.of('a', 'GET manifest')).toHaveLength(1);
    const told = origin.requests.flatMap(({ traceparent }) => (traceparent?.includes(traceId) === true ? [traceparent] : []));
    expect(told.length).toBeGreaterThan(0);
    for (const traceparent of told) expect(traceparent).toMatch(/-00$/);
  });
});

test('a collector that is gone costs a pull nothing, and is counted', async () => {
  collector.close();
  const agent = await fleet.agent('a', { traceTo });
  await pullTraced(agent);
  const { host, port } = agent.running.addresses.admin;
  await until('the loss is counted', async () => /flotilla_fallbacks_total\{kind="trace-lost"\} [1-9]/.test(await (await fetch(`http://${host}:${port}/metrics`)).text()));
});
