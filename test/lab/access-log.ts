// What the registry says that it served: one JSON line per finished request (docker-registry, `formatter: json`).

export interface OriginUse {
  readonly requests: number;
  /** GETs of blobs, ranges included. */
  readonly blobReads: number;
  /** All others, by method and kind: `HEAD manifests`. */
  readonly other: Readonly<Record<string, number>>;
  /** Payload bytes of blob GETs, by digest. */
  readonly payload: ReadonlyMap<string, number>;
  /** The same by the address that asked. */
  readonly payloadByClient: ReadonlyMap<string, number>;
}

interface Entry {
  readonly method: string;
  readonly uri: string;
  readonly written: number;
  readonly client: string;
}

/** Reads a log; lines that are no finished request are passed over. */
export function readAccessLog(text: string): OriginUse {
  const payload = new Map<string, number>();
  const payloadByClient = new Map<string, number>();
  const other: Record<string, number> = {};
  let requests = 0;
  let blobReads = 0;
  for (const line of text.split('\n')) {
    const entry = readEntry(line);
    if (entry === undefined) continue;
    requests++;
    const [, kind = 'other', digest = ''] = /^\/v2\/.+\/(blobs|manifests|tags)\/([^?]+)/.exec(entry.uri) ?? [];
    if (kind === 'blobs' && entry.method === 'GET') {
      blobReads++;
      payload.set(digest, (payload.get(digest) ?? 0) + entry.written);
      payloadByClient.set(entry.client, (payloadByClient.get(entry.client) ?? 0) + entry.written);
    } else {
      const name = `${entry.method} ${entry.uri.startsWith('/v2/?') || entry.uri === '/v2/' ? 'ping' : kind}`;
      other[name] = (other[name] ?? 0) + 1;
    }
  }
  return { requests, blobReads, other, payload, payloadByClient };
}

function readEntry(line: string): Entry | undefined {
  if (!line.startsWith('{') || !line.includes('"http.response.status"')) return undefined;
  const fields = JSON.parse(line) as Record<string, unknown>;
  const method = fields['http.request.method'];
  const uri = fields['http.request.uri'];
  const written = fields['http.response.written'];
  if (typeof method !== 'string' || typeof uri !== 'string' || !String(fields['msg']).startsWith('response completed')) return undefined;
  // With its port, which is another one for each connection.
  const client = String(fields['http.request.remoteaddr']).replace(/:\d+$/, '');
  return { method, uri, written: typeof written === 'number' ? written : 0, client };
}
