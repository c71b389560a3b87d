// Pulls a blob as a bare HTTP client, hashing while it arrives, never holding it whole.

import { createHash } from 'node:crypto';
import { request } from 'undici';

export interface FetchedBlob {
  readonly status: number;
  readonly bytes: number;
  /** `sha256:<hex>` of what arrived */
  readonly digest: string;
}

/** @throws Error when the connection breaks before the end */
export async function fetchBlob(url: string, repository: string, digest: string, signal?: AbortSignal): Promise<FetchedBlob> {
  const response = await request(`${url}/v2/${repository}/blobs/${digest}`, { signal });
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of response.body as AsyncIterable<Buffer>) {
    bytes += piece.length;
    hash.update(piece);
  }
  return { status: response.statusCode, bytes, digest: `sha256:${hash.digest('hex')}` };
}
