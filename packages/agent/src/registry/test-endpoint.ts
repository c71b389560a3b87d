// The local endpoint on a socket with Content in memory, and a client for it: for tests.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { connect, type Socket } from 'node:net';
import { pino } from 'pino';
import { afterEach, expect } from 'vitest';
import { isDigest, type Digest } from '@flotilla/shared/digest';
import type { ByteRange, Caller, Content, Referrers, Repository, ServedBlob, TagPage } from '../content/ports.ts';
import { AgentError, type ErrorCode } from '../errors.ts';
import type { SocketAddress } from '../listen.ts';
import { createRegistry, type Registry, type RegistryInit } from './registry.ts';

export const MANIFEST = Buffer.from('{"schemaVersion":2,"layers":[]}\n');
export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const BLOB = randomBytes(300_000);
export const REPOSITORY: Repository = { origin: 'docker.io', repository: 'library/nginx' };

export function digestOf(bytes: Uint8Array): Digest {
  const text = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  if (!isDigest(text)) throw new Error(text);
  return text;
}

/** Content in memory. `open` may be replaced to be slow, short or broken. */
export class MemoryContent implements Content {
  readonly accepts: (readonly string[])[] = [];
  readonly opened: (ByteRange | readonly ByteRange[])[] = [];
  readonly callers: Caller[] = [];
  readonly pages: { n?: number; last?: string }[] = [];
  /** Manifests by tag, besides `latest`. */
  readonly tagged = new Map<string, Buffer>();
  tagPage: TagPage = { tags: [], next: undefined };
  found: Referrers = { supported: false };
  stale = false;
  open: ServedBlob['open'] = async (asked) => pieces(Buffer.concat(('start' in asked ? [asked] : asked).map(({ start, end }) => BLOB.subarray(start, end))));

  async manifest(repository: Repository, reference: { tag: string } | { digest: Digest }, accept: readonly string[], caller: Caller) {
    expect(repository).toEqual(REPOSITORY);
    this.accepts.push(accept);
    this.callers.push(caller);
    const tagged = 'tag' in reference ? this.tagged.get(reference.tag) : undefined;
    if (tagged !== undefined) {
      return { descriptor: { digest: digestOf(tagged), size: tagged.length, mediaType: 'application/vnd.oci.image.index.v1+json' }, stale: false, bytes: async () => tagged };
    }
    if ('tag' in reference ? reference.tag !== 'latest' : reference.digest !== digestOf(MANIFEST)) {
      throw new AgentError('MANIFEST_UNKNOWN', 'no such manifest');
    }
    return {
      descriptor: { digest: digestOf(MANIFEST), size: MANIFEST.length, mediaType: MANIFEST_TYPE },
      stale: this.stale,
      bytes: async () => MANIFEST,
    };
  }

  async tags(_repository: Repository, page: { n?: number; last?: string }, caller: Caller): Promise<TagPage> {
    this.pages.push(page);
    this.callers.push(caller);
    return this.tagPage;
  }

  async referrers(_repository: Repository, _digest: Digest, caller: Caller): Promise<Referrers> {
    this.callers.push(caller);
    return this.found;
  }

  async blob(_repository: Repository, digest: Digest): Promise<ServedBlob> {
    if (digest === digestOf(Buffer.alloc(0))) return { key: { digest, size: 0 }, open: async () => pieces(Buffer.alloc(0)) };
    if (digest !== digestOf(BLOB)) throw new AgentError('BLOB_UNKNOWN', 'no such blob', { detail: { digest } });
    return {
      key: { digest, size: BLOB.length },
      open: (asked, signal, onBytes) => {
        this.opened.push(asked);
        return this.open(asked, signal, onBytes);
      },
    };
  }
}

export async function* pieces(bytes: Uint8Array, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export interface Served {
  readonly registry: Registry;
  readonly content: MemoryContent;
  readonly address: SocketAddress;
  readonly lines: Record<string, unknown>[];
  readonly requests: [string, number | 'aborted'][];
  readonly codes: ErrorCode[];
  /** Resolves with the log line of the next request that ends. */
  line(): Promise<Record<string, unknown>>;
}

export const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

export async function serve(init: RegistryInit = {}): Promise<Served> {
  const content = new MemoryContent();
  const lines: Record<string, unknown>[] = [];
  const waiting: ((line: Record<string, unknown>) => void)[] = [];
  const requests: Served['requests'] = [];
  const codes: ErrorCode[] = [];
  const log = pino(
    { level: 'info', base: undefined },
    {
      write: (text) => {
        const line = JSON.parse(text) as Record<string, unknown>;
        lines.push(line);
        for (const resolve of waiting.splice(0)) resolve(line);
      },
    },
  );
  const registry = createRegistry(
    {
      content,
      resolveImage: (path, ns) => {
        if (ns === undefined && !path.startsWith('docker.io/')) throw new AgentError('NAME_UNKNOWN', 'name the origin');
        return ns === undefined ? { origin: 'docker.io', repository: path.slice('docker.io/'.length) } : { origin: ns, repository: path };
      },
      log,
      metrics: { request: (route, status) => requests.push([route, status]), error: (code) => codes.push(code) },
    },
    init,
  );
  cleanups.push(() => registry.close());
  const address = await registry.listen({ host: '127.0.0.1', port: 0 });
  return { registry, content, address, lines, requests, codes, line: () => new Promise((resolve) => waiting.push(resolve)) };
}

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

interface Ask {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly agent?: http.Agent;
  readonly body?: string;
}

/** One request; rejects when the reply is broken off. */
export async function ask(served: Served, path: string, { method = 'GET', headers = {}, agent, body }: Ask = {}): Promise<Reply> {
  const response = await begin(served, path, { method, headers, agent, body });
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
}

export async function begin({ address }: Served, path: string, { method = 'GET', headers = {}, agent, body }: Ask): Promise<http.IncomingMessage> {
  const request = http.request({ ...address, path, method, headers, ...(agent && { agent }), maxHeaderSize: 100_000 });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return response;
}

export function oci(reply: Reply): { code: string; message: string; detail: Record<string, unknown> } {
  return (JSON.parse(reply.body.toString()) as { errors: [{ code: string; message: string; detail: Record<string, unknown> }] }).errors[0];
}

export const BLOB_PATH = `/v2/docker.io/library/nginx/blobs/${digestOf(BLOB)}`;
export const TAG_PATH = '/v2/docker.io/library/nginx/manifests/latest';
export const DIGEST_PATH = `/v2/docker.io/library/nginx/manifests/${digestOf(MANIFEST)}`;

/** Sends bytes on a bare connection; resolves with all that comes back before the other side closes. */
export async function say({ address }: Served, bytes: Buffer): Promise<string> {
  const socket: Socket = connect(address);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => socket.destroy());
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}

export function readParts(reply: Reply): { head: string; body: Buffer }[] {
  const boundary = /^multipart\/byteranges; boundary=([\w-]+)$/.exec(reply.headers['content-type'] ?? '')?.[1];
  expect(boundary).toBeDefined();
  const text = reply.body.toString('latin1');
  const parts = `\r\n${text}`.split(`\r\n--${boundary}`);
  expect(parts.shift()).toBe('');
  expect(parts.pop()).toBe('--\r\n');
  return parts.map((part) => {
    const cut = part.indexOf('\r\n\r\n');
    return { head: part.slice(0, cut), body: Buffer.from(part.slice(cut + 4), 'latin1') };
  });
}
