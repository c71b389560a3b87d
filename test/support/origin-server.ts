// A registry in memory, for tests that need to make an origin slow, absent, or wrong at a given moment.
// Real registries are tested in *.real.test.ts; this one speaks just the pull part, and counts what it gives.

import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import { pEvent } from 'p-event';
import { freePorts } from './ports.ts';

const PIECE_BYTES = 64 * 1024;
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** What the origin does otherwise than a good one; changeable at any time. */
export interface OriginFaults {
  /** `user:password` without which nothing is shown. */
  basic?: string;
  /** Answers a Range request with the whole. */
  noRanges?: boolean;
  /** Every answer has this status and no body. */
  status?: number;
  retryAfterSeconds?: number;
  /** Such requests are answered 429. */
  limits?: (asked: OriginRequest) => boolean;
  /** Bodies end after so many bytes less than announced. */
  shortBytes?: number;
  /** Bodies wait after every 64 KiB for this promise. */
  gate?: () => Promise<void>;
  /** Bytes per second of each body. */
  rate?: number;
  /** Flips a byte of this blob. */
  corrupt?: Digest;
}

export interface OriginRequest {
  readonly method: string;
  readonly url: string;
  digest: string | undefined;
  readonly range: string | undefined;
  readonly requestId: string | undefined;
  readonly traceparent: string | undefined;
  /** By which of its names the origin was asked. */
  readonly host: string | undefined;
  /** Of the connection that it came by: counted from 0. */
  readonly connection: number;
  /** When it came: Unix ms. */
  readonly atMs: number;
  /** Once it was answered. */
  status: number | undefined;
  /** Payload bytes handed to the socket. */
  bytes: number;
}

export interface TestImage {
  readonly repository: string;
  readonly tag: string;
  readonly manifest: { readonly digest: Digest; readonly bytes: Buffer };
  readonly layers: readonly { readonly digest: Digest; readonly bytes: Buffer }[];
}

export class OriginServer {
  readonly faults: OriginFaults = {};
  readonly requests: OriginRequest[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #numbers = new WeakMap<Socket, number>();
  #connections = 0;
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, Buffer>();
  readonly #tags = new Map<string, Digest>();
  #port = 0;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      this.#numbers.set(socket, this.#connections++);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(): Promise<OriginServer> {
    const origin = new OriginServer();
    await origin.listen();
    return origin;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens (again, on the same port) after `goAway`. */
  async listen(): Promise<void> {
    if (this.#port === 0) this.#port = (await freePorts(1))[0]!;
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
  }

  /** Nobody answers at the port any more. */
  async goAway(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  addBlob(bytes: Buffer): Digest {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, bytes);
    return digest;
  }

  /** An image of random layers of these sizes under `repository:tag`. */
  addImage(repository: string, tag: string, layerSizes: readonly number[]): TestImage {
    const layers = layerSizes.map((size) => {
      const bytes = randomBytes(size);
      return { digest: this.addBlob(bytes), bytes };
    });
    const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', tag }));
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: this.addBlob(config), size: config.length },
        layers: layers.map((layer) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: layer.digest, size: layer.bytes.length })),
      }),
    );
    const digest = digestOf(bytes);
    this.#manifests.set(digest, bytes);
    this.#tags.set(`${repository}:${tag}`, digest);
    return { repository, tag, manifest: { digest, bytes }, layers };
  }

  /** Payload bytes given of this blob so far. */
  bytesOf(digest: Digest): number {
    return this.requests.filter((request) => request.digest === digest).reduce((sum, request) => sum + request.bytes, 0);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', this.url);
    const entry: OriginRequest = { method: request.method ?? '', url: pathname, digest: undefined, range: request.headers.range, requestId: request.headers['x-request-id']?.toString(), traceparent: request.headers['traceparent']?.toString(), host: request.headers.host, connection: this.#numbers.get(request.socket) ?? -1, atMs: Date.now(), status: undefined, bytes: 0 };
    this.requests.push(entry);
    response.on('close', () => (entry.status = response.statusCode));
    if (this.faults.limits?.(entry) === true) {
      if (this.faults.retryAfterSeconds !== undefined) response.setHeader('retry-after', this.faults.retryAfterSeconds);
      response.writeHead(429).end();
      return;
    }
    if (this.faults.status !== undefined) {
      if (this.faults.retryAfterSeconds !== undefined) response.setHeader('retry-after', this.faults.retryAfterSeconds);
      response.writeHead(this.faults.status).end();
      return;
    }
    if (this.faults.basic !== undefined && request.headers.authorization !== `Basic ${Buffer.from(this.faults.basic).toString('base64')}`) {
      response.writeHead(401, { 'content-type': 'application/json', 'www-authenticate': 'Basic realm="lab"' }).end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'sign in' }] }));
      return;
    }
    const match = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(pathname);
    const [, repository, kind, reference] = match ?? [];
    const digest = reference?.includes(':') === true ? reference : this.#tags.get(`${repository}:${reference}`);
    const bytes = digest === undefined ? undefined : (kind === 'blobs' ? this.#blobs : this.#manifests).get(digest);
    if (digest === undefined || bytes === undefined) {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ errors: [{ code: kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', message: 'not here' }] }));
      return;
    }
    entry.digest = digest;
    await this.#send(entry, request, response, kind === 'blobs' ? 'application/octet-stream' : OCI_MANIFEST, bytes);
  }

  async #send(entry: OriginRequest, request: IncomingMessage, response: ServerResponse, type: string, whole: Buffer): Promise<void> {
    const range = this.faults.noRanges === true ? null : /^bytes=(\d+)-(\d*)$/.exec(entry.range ?? '');
    const start = range === null ? 0 : Number(range[1]);
    const end = range === null || range[2] === '' ? whole.length : Math.min(whole.length, Number(range[2]) + 1);
    response.writeHead(range === null ? 200 : 206, {
      'content-type': type,
      'content-length': end - start,
      'docker-content-digest': entry.digest!,
      ...(range !== null && { 'content-range': `bytes ${start}-${end - 1}/${whole.length}` }),
    });
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    const last = end - (this.faults.shortBytes ?? 0);
    for (let at = start; at < last && !response.destroyed; at += PIECE_BYTES) {
      const piece = Buffer.from(whole.subarray(at, Math.min(last, at + PIECE_BYTES)));
      if (this.faults.corrupt === entry.digest && at === start) piece[0]! ^= 1;
      await this.faults.gate?.();
      if (this.faults.rate !== undefined) await new Promise((resolve) => setTimeout(resolve, (piece.length * 1000) / this.faults.rate!));
      entry.bytes += piece.length;
      if (!response.write(piece)) await pEvent(response, ['drain', 'close']);
    }
    if (last < end) response.destroy();
    else response.end();
  }
}

function digestOf(bytes: Buffer): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
}
