// A registry in memory with all of the OCI distribution-spec 1.1: pull, push in each of its ways, lists, referrers, delete. It is what the
// conformance suite finds nothing wrong with, so that whatever it finds wrong with an agent in front is the agent's.
//
// Non-goals: disk, rights, limits, speed.

import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestAlgorithm, isDigest, type Digest } from '@flotilla/shared/digest';
import { isRepository, isTag } from '@flotilla/shared/reference';
import type { OciErrorCode } from '@flotilla/shared/oci-error';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

interface Manifest {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

interface StoredRepository {
  readonly blobs: Map<Digest, Buffer>;
  readonly manifests: Map<Digest, Manifest>;
  readonly tags: Map<string, Digest>;
}

/** What a manifest says, as far as this registry looks at it. */
interface ManifestFields {
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config?: { readonly mediaType?: string };
  readonly subject?: { readonly digest?: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

class Refusal extends Error {
  readonly status: number;
  readonly code: OciErrorCode | 'BLOB_UPLOAD_UNKNOWN' | 'BLOB_UPLOAD_INVALID';
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: Refusal['code'], message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly method: string;
  readonly url: URL;
  readonly name: string;
  readonly body: Buffer;
}

/** Serves on a free port of 127.0.0.1 until closed. */
export class ReferenceRegistry {
  /** False: as a registry of version 1.0 of the specification. */
  referrersApi = true;
  readonly #server: Server;
  readonly #repositories = new Map<string, StoredRepository>();
  readonly #uploads = new Map<string, { readonly name: string; bytes: Buffer }>();

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
  }

  static async start(): Promise<ReferenceRegistry> {
    const registry = new ReferenceRegistry();
    await new Promise<void>((resolve) => registry.#server.listen(0, '127.0.0.1', resolve));
    return registry;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const url = new URL(request.url ?? '/', 'http://registry');
    try {
      const [, name = '', resource = '', reference = ''] = /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests|tags|referrers)\/([^/]*)$/.exec(decodeURIComponent(url.pathname)) ?? [];
      const asked: Asked = { request, response, method: request.method ?? '', url, name, body: Buffer.concat(pieces) };
      if (url.pathname === '/v2/' || url.pathname === '/v2') response.writeHead(200, { 'content-length': 0 }).end();
      else if (!isRepository(name)) throw new Refusal(404, 'NAME_INVALID', 'no such path');
      else this.#route(asked, resource, reference);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const body = Buffer.from(JSON.stringify({ errors: [{ code: error.code, message: error.message }] }));
      response.writeHead(error.status, { ...error.headers, 'content-type': 'application/json', 'content-length': body.length });
      response.end(request.method === 'HEAD' ? undefined : body);
    }
  }

  #route(asked: Asked, resource: string, reference: string): void {
    const reads = asked.method === 'GET' || asked.method === 'HEAD';
    switch (resource) {
      case 'blobs/uploads':
        return this.#upload(asked, reference);
      case 'blobs':
        return reads ? this.#sendBlob(asked, digestOf(reference)) : this.#deleteBlob(asked, digestOf(reference));
      case 'manifests':
        if (reads) return this.#sendManifest(asked, reference);
        return asked.method === 'PUT' ? this.#putManifest(asked, reference) : this.#deleteManifest(asked, reference);
      case 'tags':
        return this.#listTags(asked);
      default:
        return this.#listReferrers(asked, digestOf(reference));
    }
  }

  // ---- blobs

  #sendBlob(asked: Asked, digest: Digest): void {
    const bytes = this.#repositories.get(asked.name)?.blobs.get(digest);
    if (bytes === undefined) throw new Refusal(404, 'BLOB_UNKNOWN', 'no such blob');
    const headers = { 'content-type': 'application/octet-stream', 'docker-content-digest': digest, 'accept-ranges': 'bytes' };
    const range = asked.method === 'HEAD' ? null : /^bytes=(\d*)-(\d*)$/.exec(asked.request.headers.range ?? '');
    if (range === null || bytes.length === 0) {
      send(asked, 200, headers, bytes);
      return;
    }
    const [, first = '', last = ''] = range;
    const start = first === '' ? Math.max(0, bytes.length - Number(last)) : Number(first);
    const end = first === '' || last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1);
    if (start >= end) throw new Refusal(416, 'SIZE_INVALID', 'outside', { 'content-range': `bytes */${bytes.length}` });
    send(asked, 206, { ...headers, 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }, bytes.subarray(start, end));
  }

  #deleteBlob(asked: Asked, digest: Digest): void {
    if (asked.method !== 'DELETE') throw new Refusal(405, 'UNSUPPORTED', asked.method);
    if (this.#repositories.get(asked.name)?.blobs.delete(digest) !== true) throw new Refusal(404, 'BLOB_UNKNOWN', 'no such blob');
    send(asked, 202);
  }

  #upload(asked: Asked, id: string): void {
    const digest = asked.url.searchParams.get('digest');
    if (asked.method === 'POST') {
      const mounted = asked.url.searchParams.get('mount');
      if (mounted !== null && this.#mount(asked, digestOf(mounted))) return;
      if (digest !== null) {
        this.#keep(asked, asked.body, digest);
        return;
      }
      const upload = randomUUID();
      this.#uploads.set(upload, { name: asked.name, bytes: Buffer.alloc(0) });
      send(asked, 202, { location: `/v2/${asked.name}/blobs/uploads/${upload}`, range: '0-0' });
      return;
    }
    const upload = this.#uploads.get(id);
    if (upload?.name !== asked.name) throw new Refusal(404, 'BLOB_UPLOAD_UNKNOWN', 'no such upload');
    const state = (): Record<string, string> => ({ location: `/v2/${asked.name}/blobs/uploads/${id}`, range: `0-${Math.max(0, upload.bytes.length - 1)}` });
    switch (asked.method) {
      case 'GET':
        send(asked, 204, state());
        return;
      case 'DELETE':
        this.#uploads.delete(id);
        send(asked, 204);
        return;
      case 'PATCH':
      case 'PUT': {
        const start = /^(\d+)-\d+$/.exec(asked.request.headers['content-range'] ?? '')?.[1];
        if (start !== undefined && Number(start) !== upload.bytes.length) throw new Refusal(416, 'BLOB_UPLOAD_INVALID', 'out of order', state());
        upload.bytes = Buffer.concat([upload.bytes, asked.body]);
        if (asked.method === 'PATCH') {
          send(asked, 202, state());
          return;
        }
        this.#uploads.delete(id);
        this.#keep(asked, upload.bytes, digest ?? '');
        return;
      }
      default:
        throw new Refusal(405, 'UNSUPPORTED', asked.method);
    }
  }

  #mount(asked: Asked, digest: Digest): boolean {
    const from = asked.url.searchParams.get('from');
    const sources = from === null ? [...this.#repositories.values()] : [this.#repositories.get(from)];
    const bytes = sources.map((source) => source?.blobs.get(digest)).find((found) => found !== undefined);
    if (bytes === undefined) return false;
    this.#keep(asked, bytes, digest);
    return true;
  }

  #keep(asked: Asked, bytes: Buffer, expected: string): void {
    const digest = digestOf(expected);
    if (hashed(bytes, digest) !== digest) throw new Refusal(400, 'DIGEST_INVALID', 'the bytes have another digest');
    this.#repository(asked.name).blobs.set(digest, bytes);
    send(asked, 201, { location: `/v2/${asked.name}/blobs/${digest}`, 'docker-content-digest': digest });
  }

  // ---- manifests

  #find(name: string, reference: string): { digest: Digest; manifest: Manifest } {
    const repository = this.#repositories.get(name);
    const digest = reference.includes(':') ? digestOf(reference) : repository?.tags.get(reference);
    const manifest = digest === undefined ? undefined : repository?.manifests.get(digest);
    if (digest === undefined || manifest === undefined) throw new Refusal(404, 'MANIFEST_UNKNOWN', 'no such manifest');
    return { digest, manifest };
  }

  #sendManifest(asked: Asked, reference: string): void {
    const { digest, manifest } = this.#find(asked.name, reference);
    send(asked, 200, { 'content-type': manifest.mediaType, 'docker-content-digest': digest }, manifest.bytes);
  }

  #putManifest(asked: Asked, reference: string): void {
    const { name, body, request } = asked;
    if (body.length > MAX_MANIFEST_BYTES) throw new Refusal(413, 'SIZE_INVALID', 'too large');
    const fields = parse(body);
    const byDigest = reference.includes(':');
    const digest = byDigest ? digestOf(reference) : hashed(body, undefined);
    if (byDigest && hashed(body, digest) !== digest) throw new Refusal(400, 'DIGEST_INVALID', 'the bytes have another digest');
    if (!byDigest && !isTag(reference)) throw new Refusal(400, 'MANIFEST_INVALID', 'no tag');
    const repository = this.#repository(name);
    repository.manifests.set(digest, { bytes: body, mediaType: request.headers['content-type'] ?? fields.mediaType ?? 'application/json' });
    const tags = byDigest ? asked.url.searchParams.getAll('tag') : [reference];
    for (const tag of tags) repository.tags.set(tag, digest);
    const subject = fields.subject?.digest;
    send(asked, 201, {
      location: `/v2/${name}/manifests/${digest}`,
      'docker-content-digest': digest,
      ...(subject !== undefined && { 'oci-subject': subject }),
      ...(byDigest && tags.length > 0 && { 'oci-tag': tags }),
    });
  }

  #deleteManifest(asked: Asked, reference: string): void {
    if (asked.method !== 'DELETE') throw new Refusal(405, 'UNSUPPORTED', asked.method);
    const { digest } = this.#find(asked.name, reference);
    const { tags, manifests } = this.#repository(asked.name);
    if (!reference.includes(':')) tags.delete(reference);
    else {
      manifests.delete(digest);
      for (const [tag, tagged] of tags) if (tagged === digest) tags.delete(tag);
    }
    send(asked, 202);
  }

  // ---- lists

  #listTags(asked: Asked): void {
    const repository = this.#repositories.get(asked.name);
    if (repository === undefined) throw new Refusal(404, 'NAME_UNKNOWN', 'no such repository');
    const last = asked.url.searchParams.get('last');
    const n = Number(asked.url.searchParams.get('n') ?? Number.POSITIVE_INFINITY);
    const all = [...repository.tags.keys()].sort().filter((tag) => last === null || tag > last);
    const tags = all.slice(0, n);
    const next: Record<string, string> = tags.length < all.length && tags.length > 0 ? { link: `</v2/${asked.name}/tags/list?n=${n}&last=${tags.at(-1)}>; rel="next"` } : {};
    sendJson(asked, 'application/json', { name: asked.name, tags }, next);
  }

  #listReferrers(asked: Asked, subject: Digest): void {
    if (!this.referrersApi) throw new Refusal(404, 'UNSUPPORTED', 'no such path');
    const type = asked.url.searchParams.get('artifactType');
    const manifests = [...(this.#repositories.get(asked.name)?.manifests ?? [])].flatMap(([digest, { bytes, mediaType }]) => {
      const fields = parse(bytes);
      const artifactType = fields.artifactType ?? fields.config?.mediaType;
      if (fields.subject?.digest !== subject || (type !== null && type !== artifactType)) return [];
      return [{ mediaType, digest, size: bytes.length, ...(artifactType !== undefined && { artifactType }), ...(fields.annotations && { annotations: fields.annotations }) }];
    });
    sendJson(asked, OCI_INDEX, { schemaVersion: 2, mediaType: OCI_INDEX, manifests }, type === null ? {} : { 'oci-filters-applied': 'artifactType' });
  }

  #repository(name: string): StoredRepository {
    let repository = this.#repositories.get(name);
    if (repository === undefined) {
      repository = { blobs: new Map(), manifests: new Map(), tags: new Map() };
      this.#repositories.set(name, repository);
    }
    return repository;
  }
}

function send({ method, response }: Asked, status: number, headers: Readonly<Record<string, string | readonly string[]>> = {}, body: Buffer = Buffer.alloc(0)): void {
  response.writeHead(status, { ...(headers as OutgoingHttpHeaders), ...(status !== 204 && { 'content-length': body.length }) });
  response.end(method === 'HEAD' ? undefined : body);
}

function sendJson(asked: Asked, type: string, content: unknown, headers: Readonly<Record<string, string>>): void {
  send(asked, 200, { ...headers, 'content-type': type }, Buffer.from(JSON.stringify(content)));
}

function digestOf(text: string): Digest {
  if (!isDigest(text)) throw new Refusal(400, 'DIGEST_INVALID', 'no digest');
  return text;
}

/** @param like whose algorithm to use */
function hashed(bytes: Buffer, like: Digest | undefined): Digest {
  const algorithm = like === undefined ? 'sha256' : digestAlgorithm(like);
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

function parse(bytes: Buffer): ManifestFields {
  try {
    return JSON.parse(bytes.toString('utf8')) as ManifestFields;
  } catch (error) {
    throw new Refusal(400, 'MANIFEST_INVALID', `no JSON: ${String(error)}`);
  }
}
