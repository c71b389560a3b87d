// The pull part of the specification through a whole agent, against a registry that is written to meanwhile.

import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import { Agent, request } from 'undici';
import { TestCa } from '@flotilla/agent/origin/test-certificates';
import { ReferenceRegistry } from '../conformance/reference-registry.ts';
import { TestFleet, type TestAgent } from '../support/fleet.ts';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const REPO = '/v2/lab/team/app';

let origin: ReferenceRegistry;
let fleet: TestFleet;

beforeEach(async () => {
  origin = await ReferenceRegistry.start();
  fleet = await TestFleet.start({ lab: origin.url });
});
afterEach(async () => {
  await fleet.stop();
  await origin.close();
});

type Algorithm = 'sha256' | 'sha512';

function digestOf(bytes: Buffer, algorithm: Algorithm = 'sha256'): Digest {
  return parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
}

/** Writes go to the origin. */
async function write(method: 'PUT' | 'POST' | 'DELETE', path: string, body?: Buffer, type = 'application/octet-stream'): Promise<void> {
  const { statusCode, body: answer } = await request(`${origin.url}/v2/team/app${path}`, { method, ...(body && { body }), headers: { 'content-type': type } });
  const text = await answer.text();
  if (statusCode >= 300) throw new Error(`${method} ${path}: ${statusCode} ${text}`);
}

async function pushBlob(bytes: Buffer, algorithm: Algorithm = 'sha256'): Promise<Digest> {
  const digest = digestOf(bytes, algorithm);
  await write('POST', `/blobs/uploads/?digest=${digest}`, bytes);
  return digest;
}

interface Pushed {
  readonly digest: Digest;
  readonly bytes: Buffer;
}

async function pushManifest(content: object, { tag, algorithm = 'sha256', type = OCI_MANIFEST }: { tag?: string; algorithm?: Algorithm; type?: string } = {}): Promise<Pushed> {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, ...content }));
  const digest = digestOf(bytes, algorithm);
  await write('PUT', `/manifests/${tag ?? digest}`, bytes, type);
  return { digest, bytes };
}

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

async function ask(agent: TestAgent, path: string, method: 'GET' | 'HEAD' = 'GET', headers: Record<string, string> = {}): Promise<Reply> {
  const { statusCode, headers: answered, body } = await request(`${agent.url}${REPO}${path}`, { method, headers });
  return { status: statusCode, headers: answered, body: Buffer.from(await body.arrayBuffer()) };
}

function descriptor(bytes: Buffer, algorithm: Algorithm = 'sha256'): object {
  return { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digestOf(bytes, algorithm), size: bytes.length };
}

const CONFIG = Buffer.from('{}');
const LAYER = Buffer.alloc(300_000, 'layer');

describe('digests', () => {
  test.each<Algorithm>(['sha256', 'sha512'])('%s all the way, in a fleet', async (algorithm) => {
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    for (const bytes of [CONFIG, LAYER, Buffer.alloc(0)]) await pushBlob(bytes, algorithm);
    const { digest, bytes } = await pushManifest({ config: descriptor(CONFIG, algorithm), layers: [descriptor(LAYER, algorithm), descriptor(Buffer.alloc(0), algorithm)] }, { algorithm });
    for (const agent of [a, b, a]) {
      const manifest = await ask(agent, `/manifests/${digest}`);
      expect(manifest).toMatchObject({ status: 200, body: bytes });
      expect(manifest.headers).toMatchObject({ 'content-type': OCI_MANIFEST, 'docker-content-digest': digest });
      for (const blob of [CONFIG, LAYER, Buffer.alloc(0)]) {
        const [got, head] = [await ask(agent, `/blobs/${digestOf(blob, algorithm)}`), await ask(agent, `/blobs/${digestOf(blob, algorithm)}`, 'HEAD')];
        expect(got.status).toBe(200);
        expect(got.body.equals(blob)).toBe(true);
        expect(head).toMatchObject({ status: 200, body: Buffer.alloc(0) });
        for (const reply of [got, head]) expect(reply.headers).toMatchObject({ 'content-length': String(blob.length), 'docker-content-digest': digestOf(blob, algorithm) });
      }
    }
    expect((await b.bytes()).peer).toBeGreaterThanOrEqual(LAYER.length);
  });

  test('one that a manifest gives in another algorithm is another blob', async () => {
    const agent = await fleet.agent('a');
    await pushBlob(LAYER, 'sha512');
    expect((await ask(agent, `/blobs/${digestOf(LAYER, 'sha512')}`)).status).toBe(200);
    expect((await ask(agent, `/blobs/${digestOf(LAYER, 'sha256')}`)).status).toBe(404);
  });
});

test('a layer that lies elsewhere is not here, as at the origin', async () => {
  const agent = await fleet.agent('a');
  const foreign = { mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', digest: digestOf(LAYER), size: LAYER.length, urls: ['https://layers.example/x'] };
  await pushBlob(CONFIG);
  const { digest, bytes } = await pushManifest({ config: descriptor(CONFIG), layers: [foreign] });
  expect((await ask(agent, `/manifests/${digest}`)).body.equals(bytes)).toBe(true);
  for (const method of ['HEAD', 'GET'] as const) expect((await ask(agent, `/blobs/${foreign.digest}`, method)).status).toBe(404);
});

test('over TLS, with a certificate and its key from files', async () => {
  const ca = await TestCa.create();
  const issued = await ca.issue('127.0.0.1');
  const files = { tlsCert: join(fleet.dir, 'cert.pem'), tlsKey: join(fleet.dir, 'key.pem') };
  await Promise.all([writeFile(files.tlsCert, issued.cert), writeFile(files.tlsKey, issued.key)]);
  const agent = await fleet.agent('a', files, { alone: true });
  const digest = await pushBlob(LAYER);
  const path = `${REPO}/blobs/${digest}`;
  const trusting = new Agent({ connect: { ca: ca.cert } });
  try {
    const { statusCode, body } = await request(`${agent.url.replace('http:', 'https:')}${path}`, { dispatcher: trusting });
    expect(statusCode).toBe(200);
    expect(Buffer.from(await body.arrayBuffer()).equals(LAYER)).toBe(true);
    const plain = await request(`${agent.url}${path}`);
    expect([plain.statusCode, await plain.body.json()]).toMatchObject([400, { errors: [{ detail: { code: 'PLAIN_ON_TLS_PORT' } }] }]);
  } finally {
    await trusting.close();
  }
  await expect(fleet.agent('b', { tlsCert: files.tlsCert }, { alone: true })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});

describe('what changes at the origin', () => {
  test('what was deleted is gone at the next HEAD, and at a GET behind it; pushed again it is there', async () => {
    const agent = await fleet.agent('a');
    await pushBlob(CONFIG);
    await pushBlob(LAYER);
    const { digest, bytes } = await pushManifest({ config: descriptor(CONFIG), layers: [descriptor(LAYER)] }, { tag: '1.0' });
    const paths = ['/manifests/1.0', `/manifests/${digest}`, `/blobs/${digestOf(LAYER)}`];
    for (let round = 0; round < 2; round++) {
      for (const path of paths) expect((await ask(agent, path)).status, path).toBe(200);
      await write('DELETE', `/blobs/${digestOf(LAYER)}`);
      await write('DELETE', `/manifests/${digest}`);
      for (const method of ['HEAD', 'GET'] as const) {
        for (const path of paths) expect((await ask(agent, path, method)).status, `${method} ${path}`).toBe(404);
      }
      await pushBlob(LAYER);
      await write('PUT', '/manifests/1.0', bytes, OCI_MANIFEST);
    }
  });

  test('a tag that moved is another manifest at once', async () => {
    const agent = await fleet.agent('a');
    const first = await pushManifest({ layers: [], annotations: { v: '1' } }, { tag: 'latest' });
    expect((await ask(agent, '/manifests/latest')).body.equals(first.bytes)).toBe(true);
    const second = await pushManifest({ layers: [], annotations: { v: '2' } }, { tag: 'latest' });
    for (const method of ['HEAD', 'GET'] as const) expect((await ask(agent, '/manifests/latest', method)).headers['docker-content-digest']).toBe(second.digest);
    expect((await ask(agent, '/manifests/latest')).body.equals(second.bytes)).toBe(true);
  });
});

describe('lists', () => {
  test('tags, page by page', async () => {
    const agent = await fleet.agent('a');
    for (const tag of ['c', 'a', 'e', 'b', 'd']) await pushManifest({ layers: [] }, { tag });
    const seen: string[] = [];
    let path: string | undefined = '/tags/list?n=2';
    while (path !== undefined) {
      const { status, headers, body } = await ask(agent, path);
      expect(status).toBe(200);
      const page = JSON.parse(body.toString()) as { name: string; tags: string[] };
      expect(page.name).toBe('lab/team/app');
      expect(page.tags.length).toBeLessThanOrEqual(2);
      seen.push(...page.tags);
      const next: string | undefined = /^<(.*)>; rel="next"$/.exec(String(headers.link))?.[1];
      if (next !== undefined) expect(next.startsWith(`${REPO}/tags/list?`)).toBe(true);
      path = next?.slice(REPO.length);
    }
    expect(seen).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(JSON.parse((await ask(agent, '/tags/list?n=0')).body.toString())).toMatchObject({ tags: [] });
    expect(JSON.parse((await ask(agent, '/tags/list?last=c')).body.toString())).toMatchObject({ tags: ['d', 'e'] });
    await write('DELETE', '/manifests/c');
    expect(JSON.parse((await ask(agent, '/tags/list')).body.toString())).toMatchObject({ tags: ['a', 'b', 'd', 'e'] });
  });

  test.each([['with the API', true], ['by the tag scheme', false]])('referrers of an origin %s', async (_, api) => {
    origin.referrersApi = api;
    const agent = await fleet.agent('a');
    const subject = await pushManifest({ layers: [] }, { tag: 'latest' });
    const empty = await ask(agent, `/referrers/${subject.digest}`);
    expect([empty.status, empty.headers['content-type']]).toEqual([200, OCI_INDEX]);
    expect(JSON.parse(empty.body.toString())).toEqual({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] });

    const artifacts = [];
    for (const artifactType of ['application/spdx+json', 'application/vnd.example.signature']) {
      const { digest, bytes } = await pushManifest({ artifactType, layers: [], subject: { mediaType: OCI_MANIFEST, digest: subject.digest, size: subject.bytes.length } });
      artifacts.push({ mediaType: OCI_MANIFEST, digest, size: bytes.length, artifactType });
    }
    // What a client does where the registry does not say OCI-Subject.
    if (!api) await pushManifest({ manifests: artifacts }, { tag: subject.digest.replace(':', '-'), type: OCI_INDEX });
    expect(JSON.parse((await ask(agent, `/referrers/${subject.digest}`)).body.toString())).toMatchObject({ manifests: artifacts });
    const filtered = await ask(agent, `/referrers/${subject.digest}?artifactType=application/spdx%2Bjson`);
    expect(filtered.headers['oci-filters-applied']).toBe('artifactType');
    expect(JSON.parse(filtered.body.toString())).toMatchObject({ manifests: artifacts.slice(0, 1) });
    expect((await ask(agent, '/referrers/sha256:bad')).status).toBe(400);
  });
});
