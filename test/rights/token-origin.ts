// An origin with distribution's token flow in one process: repositories that anybody may read, or some users; tokens for one repository that
// end when the test's clock says so. What it answers can be overridden for a repository, and it keeps what it was asked.

import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseDigest, type Digest } from '@flotilla/shared/digest';

export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';

/** An image of one layer. */
export interface Image {
  readonly manifest: Digest;
  readonly layer: Digest;
  /** By digest. */
  readonly bytes: ReadonlyMap<Digest, Buffer>;
}

interface Repository {
  readonly readers: 'anybody' | ReadonlySet<string>;
  readonly manifests: Map<Digest, { readonly bytes: Buffer; readonly type: string }>;
  readonly tags: Map<string, Digest>;
  readonly blobs: Map<Digest, Buffer>;
  /** Instead of what it has: a status for everybody, or no answer at all. */
  answer: number | 'down' | undefined;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  /** Whose token or password it came with. */
  readonly user: string | undefined;
  readonly authorization: string | undefined;
}

export class TokenOrigin implements AsyncDisposable {
  readonly asked: Asked[] = [];
  /** Password by user. */
  readonly users = new Map<string, string>();
  tokenLifetimeS = 300;
  readonly #repositories = new Map<string, Repository>();
  readonly #tokens = new Map<string, { readonly user: string | undefined; readonly repository: string; readonly untilMs: number }>();
  readonly #server: Server;
  readonly #nowMs: () => number;

  private constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#server = createServer((request, response) => this.#handle(request, response));
  }

  static async start(nowMs: () => number): Promise<TokenOrigin> {
    const origin = new TokenOrigin(nowMs);
    origin.#server.listen(0, '127.0.0.1');
    await once(origin.#server, 'listening');
    return origin;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What was asked of one repository, as `METHOD kind user`. */
  questions(repository: string): string[] {
    const path = new RegExp(`^/v2/${repository}/(manifests|blobs|tags)/`);
    return this.asked.flatMap(({ method, path: asked, user }) => {
      const kind = path.exec(asked)?.[1];
      return kind === undefined ? [] : [`${method} ${kind} ${user ?? 'anonymous'}`];
    });
  }

  repository(name: string, readers: Repository['readers']): void {
    this.#repositories.set(name, { readers, manifests: new Map(), tags: new Map(), blobs: new Map(), answer: undefined });
  }

  answer(name: string, answer: Repository['answer']): void {
    this.#repositories.get(name)!.answer = answer;
  }

  /** Pushes an image under a tag. */
  push(name: string, tag: string, image: Image): void {
    this.pushManifest(name, tag, MANIFEST_TYPE, image.bytes.get(image.manifest)!);
    for (const [digest, bytes] of image.bytes) if (digest !== image.manifest) this.#repositories.get(name)!.blobs.set(digest, bytes);
  }

  /** Pushes a manifest alone, whatever it refers to. */
  pushManifest(name: string, tag: string, type: string, bytes: Buffer): Digest {
    const repository = this.#repositories.get(name)!;
    const digest = digestOf(bytes);
    repository.manifests.set(digest, { bytes, type });
    repository.tags.set(tag, digest);
    return digest;
  }

  delete(name: string, digest: Digest): void {
    this.#repositories.get(name)!.blobs.delete(digest);
    this.#repositories.get(name)!.manifests.delete(digest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.closeAllConnections();
    this.#server.close();
    await closed;
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://origin');
    const { authorization } = request.headers;
    const { user, right } = this.#who(authorization);
    this.asked.push({ method: request.method ?? '', path: url.pathname, user, authorization });
    if (url.pathname === '/token') return this.#issue(url, user, right, response);
    const [, name = '', kind = '', reference = ''] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(url.pathname) ?? [];
    const repository = this.#repositories.get(name);
    if (repository?.answer === 'down') {
      request.socket.destroy();
      return;
    }
    const refused = repository?.answer ?? (repository !== undefined && this.#lets(repository, name, authorization) ? undefined : 401);
    if (refused !== undefined) return this.#refuse(response, refused, name);
    const found = kind === 'blobs' ? repository!.blobs.get(reference as Digest) : repository!.manifests.get((repository!.tags.get(reference) ?? reference) as Digest);
    if (found === undefined) return this.#refuse(response, 404, name);
    const { bytes, type } = Buffer.isBuffer(found) ? { bytes: found, type: 'application/octet-stream' } : found;
    send(request, response, bytes, type);
  }

  /** The user behind a header, and whether a password was right where one was given. */
  #who(authorization = ''): { user: string | undefined; right: boolean } {
    const [scheme, value = ''] = authorization.split(' ');
    if (scheme === 'Bearer') return { user: this.#tokens.get(value)?.user, right: true };
    if (scheme !== 'Basic') return { user: undefined, right: true };
    const [user = '', password] = Buffer.from(value, 'base64').toString().split(':');
    return { user, right: this.users.get(user) === password };
  }

  #lets(repository: Repository, name: string, authorization = ''): boolean {
    const token = this.#tokens.get(/^Bearer (.+)$/.exec(authorization)?.[1] ?? '');
    if (token === undefined || token.repository !== name || token.untilMs <= this.#nowMs()) return false;
    return repository.readers === 'anybody' || (token.user !== undefined && repository.readers.has(token.user));
  }

  #issue(url: URL, user: string | undefined, right: boolean, response: ServerResponse): void {
    if (!right) return this.#refuse(response, 401, '');
    const token = randomUUID();
    const repository = /^repository:(.+):pull$/.exec(url.searchParams.get('scope') ?? '')?.[1] ?? '';
    this.#tokens.set(token, { user, repository, untilMs: this.#nowMs() + this.tokenLifetimeS * 1000 });
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ token, expires_in: this.tokenLifetimeS }));
  }

  #refuse(response: ServerResponse, status: number, name: string): void {
    const challenge = `Bearer realm="${this.url}/token",service="test",scope="repository:${name}:pull"`;
    const code = status === 404 ? 'BLOB_UNKNOWN' : 'DENIED';
    response.writeHead(status, { 'content-type': 'application/json', ...(status === 401 && { 'www-authenticate': challenge }) });
    response.end(response.req.method === 'HEAD' ? undefined : JSON.stringify({ errors: [{ code, message: 'no' }] }));
  }
}

/** One image; each seed another one. The layer is larger than one chunk where `layerBytes` is. */
export function image(seed: string, layerBytes = 2000): Image {
  const layer = createHash('shake128', { outputLength: layerBytes }).update(`layer ${seed}`).digest();
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', seed }));
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config: descriptor(config), layers: [descriptor(layer)] }));
  const bytes = new Map([manifest, config, layer].map((each) => [digestOf(each), each]));
  return { manifest: digestOf(manifest), layer: digestOf(layer), bytes };
}

export function descriptor(bytes: Buffer, mediaType = 'application/octet-stream'): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function digestOf(bytes: Uint8Array): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
}

function send(request: IncomingMessage, response: ServerResponse, bytes: Buffer, type: string): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  const [start, end] = range === null ? [0, bytes.length] : [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
  const part = bytes.subarray(start, end);
  response.writeHead(range === null ? 200 : 206, {
    'content-type': type,
    'content-length': String(part.length),
    'docker-content-digest': digestOf(bytes),
    ...(range !== null && { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }),
  });
  response.end(request.method === 'HEAD' ? undefined : part);
}
