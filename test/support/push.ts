// Pushes single blobs and manifests to a registry, byte for byte as given: for content that no build tool makes.

import { createHash } from 'node:crypto';
import { request } from 'undici';

/** What a manifest says of a blob or of another manifest. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly [key: string]: unknown;
}

export function digestOf(bytes: Uint8Array, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** One repository of a registry without authentication. */
export class PushTarget {
  readonly #base: string;

  /** @param url of the registry, such as http://127.0.0.1:5000 */
  constructor(url: string, repository: string) {
    this.#base = `${url}/v2/${repository}`;
  }

  /** In one POST and one PUT. */
  async blob(mediaType: string, bytes: Buffer, algorithm: 'sha256' | 'sha512' = 'sha256'): Promise<Descriptor> {
    const digest = digestOf(bytes, algorithm);
    const place = new URL(await send(`${this.#base}/blobs/uploads/`, 'POST', {}, undefined), this.#base);
    place.searchParams.set('digest', digest);
    await send(place.href, 'PUT', { 'content-type': 'application/octet-stream' }, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  /** @param tag absent: under its digest only */
  async manifest(content: { readonly mediaType: string } & Readonly<Record<string, unknown>>, tag?: string): Promise<Descriptor> {
    const bytes = Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    await send(`${this.#base}/manifests/${tag ?? digest}`, 'PUT', { 'content-type': content.mediaType }, bytes);
    return { mediaType: content.mediaType, digest, size: bytes.length };
  }
}

/** @returns the Location of the answer */
async function send(url: string, method: 'POST' | 'PUT', headers: Record<string, string>, body: Buffer | undefined): Promise<string> {
  const answer = await request(url, { method, headers: { ...headers, ...(body?.length === 0 && { 'content-length': '0' }) }, ...(body !== undefined && { body }) });
  const text = await answer.body.text();
  if (answer.statusCode >= 300) throw new Error(`${method} ${url}: ${answer.statusCode} ${text}`);
  return String(answer.headers['location']);
}
