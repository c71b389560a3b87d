// What a client sends, request by request, as a table that is played against an agent. Each table was recorded with the client itself through a
// proxy; digests and sizes are filled in from the content at hand.
//
// Every answer is compared with the origin's: body byte for byte, and the headers without which some client fails.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:tls';
import { expect } from 'vitest';
import type { Content } from './content.ts';

/** One request and what its answer must be. */
export interface Step {
  /** `METHOD path`, below the sequence's `base` unless it begins with a slash; `{name}` is the digest of that content. */
  readonly ask: string;
  /** Besides the sequence's. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The content whose bytes, or whose ranges, come back. */
  readonly gives?: string;
  /** The client closes the connection after so many bytes. */
  readonly leavesAfter?: number;
  /** @default 200; 206 where a blob's range is asked for */
  readonly status?: number;
  /** OCI error code of the body. */
  readonly code?: string;
  /** What the JSON body has at least. */
  readonly json?: Readonly<Record<string, unknown>>;
}

/** A TLS hello to the plain port. */
export const TLS_HELLO = 'tls hello';

export interface Sequence {
  /** With version. */
  readonly client: string;
  /** The command that was recorded. */
  readonly does: string;
  /** Path before `manifests/...` */
  readonly base: string;
  /** Query of every request. */
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** One after the other; those of an inner list at once. */
  readonly steps: readonly (Step | typeof TLS_HELLO | readonly Step[])[];
}

export async function play(sequence: Sequence, url: string, content: Content): Promise<void> {
  for (const step of sequence.steps) {
    if (step === TLS_HELLO) await expectPlainHttp(url);
    else await Promise.all([step].flat().map((each) => playStep(sequence, each, url, content)));
  }
}

async function playStep(sequence: Sequence, step: Step, url: string, content: Content): Promise<void> {
  const [method = '', path = ''] = step.ask.replace(/\{([a-z0-9.]+)\}/g, (_, name: string) => content.of(name).digest).split(' ');
  const target = `${url}${path.startsWith('/') ? path : `${sequence.base}/${path}`}${sequence.query ?? ''}`;
  const headers = { ...sequence.headers, ...step.headers };
  const asked = request(target, { method, headers, agent: false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const what = `${sequence.client}: ${step.ask}${headers['range'] === undefined ? '' : ` (${headers['range'].slice(0, 60)})`}`;
  const ranges = step.gives !== undefined && content.of(step.gives).isBlob ? rangesOf(headers['range'], content.of(step.gives).bytes.length) : undefined;
  expect(response.statusCode, what).toBe(step.status ?? (ranges === undefined ? 200 : 206));
  expect(response.headers['content-encoding'], what).toBeUndefined();
  if (sequence.query !== undefined) expect(response.headers['oci-namespace'], what).toBe(new URLSearchParams(sequence.query).get('ns'));
  if (step.gives !== undefined) expectHeaders(response, content, step.gives, ranges, what);
  if (step.leavesAfter !== undefined) return leave(response, step.leavesAfter, content.of(step.gives!).bytes, ranges![0]![0], what);
  const body = await readAll(response);
  if (method === 'HEAD') {
    expect(body.length, what).toBe(0);
    return;
  }
  expect(body.length, what).toBe(Number(response.headers['content-length']));
  if (step.gives !== undefined) expectBody(response, body, content.of(step.gives).bytes, ranges, what);
  if (step.code !== undefined) expect(JSON.parse(body.toString()), what).toMatchObject({ errors: [{ code: step.code }] });
  if (step.json !== undefined) expect(JSON.parse(body.toString()), what).toMatchObject(step.json);
}

type Ranges = readonly (readonly [start: number, last: number])[];

function expectHeaders({ headers }: IncomingMessage, content: Content, name: string, ranges: Ranges | undefined, what: string): void {
  const { digest, mediaType, isBlob, bytes } = content.of(name);
  expect(headers['docker-content-digest'], what).toBe(digest);
  expect(headers.etag, what).toBe(`"${digest}"`);
  if (isBlob) expect(headers['accept-ranges'], what).toBe('bytes');
  if (ranges === undefined) expect(headers, what).toMatchObject({ 'content-type': isBlob ? 'application/octet-stream' : mediaType, 'content-length': String(bytes.length) });
  if (ranges?.length === 1) expect(headers['content-range'], what).toBe(`bytes ${ranges[0]!.join('-')}/${bytes.length}`);
}

function expectBody(response: IncomingMessage, body: Buffer, whole: Buffer, ranges: Ranges | undefined, what: string): void {
  if (ranges === undefined) return expectSame(body, whole, what);
  if (ranges.length === 1) return expectSame(body, whole.subarray(ranges[0]![0], ranges[0]![1] + 1), what);
  const boundary = /^multipart\/byteranges; boundary=(\S+)$/.exec(response.headers['content-type'] ?? '')?.[1];
  expect(boundary, what).toBeDefined();
  const parts = splitParts(body, boundary!);
  expect(parts.map(({ range }) => range), what).toEqual(ranges.map(([start, last]) => `bytes ${start}-${last}/${whole.length}`));
  for (const [i, [start, last]] of ranges.entries()) expectSame(parts[i]!.bytes, whole.subarray(start, last + 1), `${what}, part ${i}`);
}

/** RFC 9110, 14.6. */
function splitParts(body: Buffer, boundary: string): { range: string; bytes: Buffer }[] {
  const parts: { range: string; bytes: Buffer }[] = [];
  const delimiter = Buffer.from(`--${boundary}`);
  let at = body.indexOf(delimiter);
  while (at >= 0 && body.subarray(at + delimiter.length, at + delimiter.length + 2).toString() !== '--') {
    const head = body.indexOf('\r\n\r\n', at);
    const fields = body.subarray(at, head).toString();
    const range = /^content-range: (.*)$/im.exec(fields)?.[1]?.trim() ?? '';
    const [start = 0, last = -1] = /(\d+)-(\d+)/.exec(range)?.slice(1).map(Number) ?? [];
    const begin = head + 4;
    parts.push({ range, bytes: body.subarray(begin, begin + last + 1 - start) });
    at = body.indexOf(delimiter, begin + last + 1 - start);
  }
  return parts;
}

/** Buffers, by digest: what a matcher prints of large ones takes minutes. */
function expectSame(bytes: Buffer, expected: Buffer, what: string): void {
  const digest = (of: Buffer): string => `${of.length} bytes, ${createHash('sha256').update(of).digest('hex')}`;
  expect(digest(bytes), what).toBe(digest(expected));
}

function rangesOf(header: string | undefined, size: number): Ranges | undefined {
  if (header === undefined || size === 0) return undefined;
  return header
    .replace('bytes=', '')
    .split(',')
    .map((spec) => {
      const [start = '', last = ''] = spec.trim().split('-');
      return start === '' ? ([size - Number(last), size - 1] as const) : ([Number(start), last === '' ? size - 1 : Math.min(Number(last), size - 1)] as const);
    });
}

async function readAll(response: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

async function leave(response: IncomingMessage, bytes: number, whole: Buffer, start: number, what: string): Promise<void> {
  let taken = Buffer.alloc(0);
  for await (const piece of response) {
    taken = Buffer.concat([taken, piece as Buffer]);
    if (taken.length >= bytes) break;
  }
  expectSame(taken, whole.subarray(start, start + taken.length), what);
  response.destroy();
}

/** Clients written in Go go over to plain HTTP when the answer to their hello begins so. */
async function expectPlainHttp(url: string): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  const [error] = (await once(socket, 'error').catch((thrown: unknown) => [thrown])) as [Error & { code?: string }];
  socket.destroy();
  expect(error.code).toMatch(/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/);
}
