// The registry client against a registry that is not ours: Debian's docker-registry with a token server, public and private repositories.

import { createHash, randomBytes } from 'node:crypto';
import { request } from 'undici';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createOrigin, type OriginClient } from '@flotilla/agent/origin/client';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';
import { TokenServer } from '../support/token-server.ts';

const OCI = 'application/vnd.oci.image.manifest.v1+json';
const PUBLIC = { origin: 'lab', repository: 'public/app' };
const PRIVATE = { origin: 'lab', repository: 'private/app' };
const blob = randomBytes(3_000_000);
const config = Buffer.from('{}');
const manifest = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf(config), size: config.length },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digestOf(blob), size: blob.length }],
  }),
);
const AGENT = { kind: 'agent' } as const;
const signal = new AbortController().signal;

needs('docker-registry', 'openssl')('a registry that issues tokens', () => {
  let tokens: TokenServer;
  let registry: RunningRegistry;
  const opened: OriginClient[] = [];

  beforeAll(async () => {
    tokens = await TokenServer.start('public/');
    registry = await startRegistry({ token: tokens.auth });
    for (const repository of [PUBLIC.repository, PRIVATE.repository]) await pushImage(registry.url, repository, tokens);
  });

  afterAll(async () => {
    await Promise.all(opened.map((client) => client.close()));
    await registry?.close();
    await tokens?.close();
  });

  function client(credentials?: string): OriginClient {
    const [username = '', password = ''] = credentials?.split(':') ?? [];
    const made = createOrigin(
      { origins: [{ name: 'lab', urls: [registry.url] }] },
      {
        metrics: { originBytes: () => undefined, originRequest: () => undefined, originFault: () => undefined, fallback: () => undefined },
        ...(credentials !== undefined && { credentials: { find: async () => ({ secret: { kind: 'basic', username, password }, from: 'the test', failure: undefined }), refused: () => undefined } }),
      },
    );
    opened.push(made);
    return made;
  }

  it('gives a public image to anybody: tag, digest, size, ranges, whole', async () => {
    const before = tokens.requests.length;
    const anonymous = client();
    const descriptor = { digest: digestOf(manifest), size: manifest.length, mediaType: OCI };
    expect(await anonymous.resolve(PUBLIC, '1.0', [], AGENT, signal)).toMatchObject(descriptor);
    expect(await anonymous.resolve(PUBLIC, descriptor.digest, [OCI], AGENT, signal)).toMatchObject(descriptor);
    expect(await bytesOf(await anonymous.read({ ...PUBLIC, kind: 'manifest', mediaType: OCI }, descriptor.digest, undefined, AGENT, signal))).toEqual(manifest);
    expect(await anonymous.stat(PUBLIC, digestOf(blob), AGENT, signal)).toMatchObject({ size: blob.length });
    const source = { ...PUBLIC, kind: 'blob' as const };
    const ranges = [{ start: 0, end: 1 }, { start: 65_536, end: 1_000_000 }, { start: 2_999_999, end: 3_000_000 }];
    for (const range of ranges) {
      const part = await anonymous.read(source, digestOf(blob), range, AGENT, signal);
      expect(part).toMatchObject({ start: range.start, size: blob.length, ranged: true });
      expect(await bytesOf(part)).toEqual(blob.subarray(range.start, range.end));
    }
    expect(await bytesOf(await anonymous.read(source, digestOf(blob), undefined, AGENT, signal))).toEqual(blob);
    // One token for all of it.
    expect(tokens.requests.slice(before)).toEqual([{ scope: 'repository:public/app:pull', signedIn: false }]);
  });

  it('says what is not there', async () => {
    await expect(client().resolve(PUBLIC, 'missing', [], AGENT, signal)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await expect(client().stat(PUBLIC, digestOf(Buffer.from('missing')), AGENT, signal)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    await expect(client().read({ ...PUBLIC, kind: 'blob' }, digestOf(Buffer.from('missing')), undefined, AGENT, signal)).rejects.toMatchObject({
      code: 'BLOB_UNKNOWN',
      detail: { status: 404, originCode: 'BLOB_UNKNOWN' },
    });
  });

  it('gives a private image to those who may, with the token of their own repository', async () => {
    await expect(client().resolve(PRIVATE, '1.0', [], AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    await expect(client('builder:wrong').resolve(PRIVATE, '1.0', [], AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_CREDENTIALS_REFUSED' });
    const signedIn = client(tokens.credentials);
    expect((await signedIn.resolve(PRIVATE, '1.0', [], AGENT, signal)).digest).toBe(digestOf(manifest));
    expect(await bytesOf(await signedIn.read({ ...PRIVATE, kind: 'blob' }, digestOf(blob), { start: 10, end: 20 }, AGENT, signal))).toEqual(blob.subarray(10, 20));
  });
});

async function pushImage(url: string, repository: string, tokens: TokenServer): Promise<void> {
  const scope = new URLSearchParams({ service: tokens.auth.service, scope: `repository:${repository}:pull,push` });
  const answer = await request(`${tokens.auth.realm}?${scope.toString()}`, { headers: { authorization: `Basic ${Buffer.from(tokens.credentials).toString('base64')}` } });
  const authorization = `Bearer ${((await answer.body.json()) as { token: string }).token}`;
  for (const content of [blob, config]) {
    const started = await send(`${url}/v2/${repository}/blobs/uploads/`, 'POST', { authorization }, undefined);
    const place = new URL(started, url);
    place.searchParams.set('digest', digestOf(content));
    await send(place.href, 'PUT', { authorization, 'content-type': 'application/octet-stream' }, content);
  }
  await send(`${url}/v2/${repository}/manifests/1.0`, 'PUT', { authorization, 'content-type': OCI }, manifest);
}

/** @returns the Location of the answer */
async function send(url: string, method: 'POST' | 'PUT', headers: Record<string, string>, body: Buffer | undefined): Promise<string> {
  const answer = await request(url, { method, headers, ...(body !== undefined && { body }) });
  const text = await answer.body.text();
  if (answer.statusCode >= 300) throw new Error(`${method} ${url}: ${answer.statusCode} ${text}`);
  return String(answer.headers['location']);
}

async function bytesOf({ body }: { body: AsyncIterable<Uint8Array> }): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
}

function digestOf(bytes: Uint8Array): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
}
