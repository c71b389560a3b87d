import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Rights } from '../access/rights.ts';
import { AgentError } from '../errors.ts';
import { Downloads } from './downloads.ts';
import { downloadInit, Images } from './images.ts';
import type { Caller, Descriptor, Repository } from './ports.ts';
import { Prefetch } from './prefetch.ts';
import { hashPool } from './test-download.ts';
import { CHUNK, collect, grantingCoordinator, makeBlob, sha256, TestClock, TestOrigin, TestStore, TestStored, TestSwarm, type TestBlob, type TestCoordinator } from './test-ports.ts';

const NGINX: Repository = { origin: 'docker.io', repository: 'library/nginx' };
const OTHER: Repository = { origin: 'docker.io', repository: 'library/other' };
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const gone = new AgentError('ORIGIN_UNREACHABLE', 'connection refused');
const { signal } = new AbortController();
const caller: Caller = { authorization: undefined, asksOrigin: false };
const asking: Caller = { ...caller, asksOrigin: true };

const layer = makeBlob(3 * CHUNK + 5, 'layer');
const config = makeBlob(200, 'config');
const manifest = manifestOf([config, layer]);

let dir: string;
let rights: Rights;
let origin: TestOrigin;
let coordinator: TestCoordinator;
let downloads: Downloads;
let prefetch: Prefetch;
let store: TestStore;
let clock: TestClock;
let counted: string[];
let images: Images;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-images-'));
  clock = new TestClock();
  rights = await Rights.open(dir, {
    rules: { mode: 'agent', allow: [], originDown: 'same-repository', challenge: false, tellPrivateNames: false },
    key: new Uint8Array(32),
    listed: () => true,
    nowMs: clock.now,
    every: clock.every,
  });
  origin = new TestOrigin();
  coordinator = grantingCoordinator();
  store = new TestStore();
  counted = [];
  const log = pino({ enabled: false });
  downloads = new Downloads({
    store, origin, swarm: new TestSwarm(), coordinator, hashes: hashPool(), now: clock.now, every: clock.every, log,
    rights: { reading: (...read) => rights.reading(...read), refused: () => {} },
    metrics: { bytes: () => {}, stored: () => {}, fallback: () => {} },
  });
  prefetch = new Prefetch((permit, reference, stop) => downloads.fetch(reference, downloadInit(permit, reference), stop), () => {});
  images = new Images({ origin, downloads, rights, coordinator, prefetch, log, fallback: (kind) => counted.push(kind), now: clock.now });
  for (const blob of [layer, config, manifest]) origin.add(blob);
  origin.tags.set('latest', descriptorOf(manifest));
});
afterEach(async () => {
  prefetch.close();
  await downloads.close();
  await rights.close();
  await rm(dir, { recursive: true, force: true });
});

function manifestOf(blobs: readonly TestBlob[]): TestBlob {
  const [first, ...layers] = blobs.map(({ key }) => ({ mediaType: 'application/octet-stream', ...key }));
  return blobOf(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI, config: first, layers })));
}

function blobOf(bytes: Uint8Array): TestBlob {
  const digest = parseDigest(`sha256:${Buffer.from(sha256(bytes)).toString('hex')}`);
  return { key: { digest, size: bytes.length }, bytes: new Uint8Array(bytes), chunks: 1, chunk: () => bytes, chunkDigest: () => sha256(bytes) };
}

function descriptorOf({ key }: TestBlob): Descriptor {
  return { ...key, mediaType: OCI };
}

async function pullManifest(repository = NGINX, tag = 'latest'): Promise<Uint8Array> {
  return (await images.manifest(repository, { tag }, [OCI], caller, signal)).bytes(signal);
}

async function pullBlob(digest: Digest, repository = NGINX): Promise<Uint8Array> {
  const blob = await images.blob(repository, digest, caller, signal);
  return collect(await blob.open({ start: 0, end: blob.key.size }, signal));
}

describe('a tag', () => {
  test('is asked of the origin every time', async () => {
    const first = await images.manifest(NGINX, { tag: 'latest' }, [OCI], caller, signal);
    expect(first).toMatchObject({ descriptor: descriptorOf(manifest), stale: false });
    expect(new Uint8Array(await first.bytes(signal))).toEqual(manifest.bytes);
    const next = manifestOf([config]);
    origin.add(next);
    origin.tags.set('latest', descriptorOf(next));
    expect((await images.manifest(NGINX, { tag: 'latest' }, [OCI], caller, signal)).descriptor.digest).toBe(next.key.digest);
    expect(origin.asked('resolve')).toBe(2);
  });

  test('while the origin does not answer, is what it was here last, and says so', async () => {
    await pullManifest();
    for (const error of [gone, new AgentError('ORIGIN_TIMEOUT', 'slow'), new AgentError('ORIGIN_STATUS', '502'), new AgentError('ORIGIN_THROTTLED', '429')]) {
      origin.down = error;
      const served = await images.manifest(NGINX, { tag: 'latest' }, [OCI], caller, signal);
      expect(served).toMatchObject({ descriptor: descriptorOf(manifest), stale: true });
      expect(new Uint8Array(await served.bytes(signal))).toEqual(manifest.bytes);
    }
    expect(counted).toEqual(Array.from({ length: 4 }, () => 'stale-tag'));
  });

  test('that was never resolved here is not guessed', async () => {
    await pullManifest();
    origin.down = gone;
    await expect(pullManifest(NGINX, 'other')).rejects.toBe(gone);
    await expect(pullManifest(OTHER)).rejects.toBe(gone);
    expect(coordinator.located).toBe(0);
  });

  test('that the origin does not have any more is forgotten', async () => {
    await pullManifest();
    origin.tags.clear();
    await expect(pullManifest()).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    origin.down = gone;
    await expect(pullManifest()).rejects.toBe(gone);
  });

  test('an answer that we do not like is no silence', async () => {
    await pullManifest();
    for (const code of ['ORIGIN_TLS', 'ORIGIN_LENGTH', 'ORIGIN_REDIRECT'] as const) {
      origin.down = new AgentError(code, 'no');
      await expect(pullManifest()).rejects.toMatchObject({ code });
    }
    for (const status of [400, 410, 451]) {
      origin.down = new AgentError('ORIGIN_STATUS', `answered ${status}`, { detail: { status } });
      await expect(pullManifest()).rejects.toMatchObject({ code: 'ORIGIN_STATUS' });
    }
    origin.down = new AgentError('ORIGIN_STATUS', 'answered 500', { detail: { status: 500 } });
    expect(new Uint8Array(await pullManifest())).toEqual(manifest.bytes);
  });
});

describe('a digest', () => {
  test('that a manifest read here refers to is served without a question, for a minute', async () => {
    await pullManifest();
    const asked = origin.events.all.length;
    expect(await pullBlob(config.key.digest)).toEqual(config.bytes);
    expect(origin.asked('stat')).toBe(0);
    expect(origin.events.all.slice(asked).every((event) => event.type !== 'resolve')).toBe(true);
    clock.advance(60_001);
    expect(await pullBlob(config.key.digest)).toEqual(config.bytes);
    expect(origin.asked('stat')).toBe(1);
    // That answer is good for another minute, and for that digest alone.
    expect(await pullBlob(config.key.digest)).toEqual(config.bytes);
    expect(origin.asked('stat')).toBe(1);
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
    expect(origin.asked('stat')).toBe(2);
  });

  test('is asked of the origin by HEAD, always; its 404 ends what was known', async () => {
    await pullManifest();
    await pullBlob(layer.key.digest);
    await images.blob(NGINX, layer.key.digest, asking, signal);
    await images.manifest(NGINX, { digest: manifest.key.digest }, [], asking, signal);
    expect([origin.asked('stat'), origin.asked('resolve')]).toEqual([1, 2]);
    origin.blobs.delete(layer.key.digest);
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
    await expect(images.blob(NGINX, layer.key.digest, asking, signal)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    // The manifest as the origin had it before refers to it still, which says less than the origin did since.
    await (await images.manifest(NGINX, { digest: manifest.key.digest }, [], caller, signal)).bytes(signal);
    await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    clock.advance(1);
    await pullManifest();
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
  });

  test('can be asked for without its manifest having been read', async () => {
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
    const served = await images.manifest(NGINX, { digest: manifest.key.digest }, [], caller, signal);
    expect(new Uint8Array(await served.bytes(signal))).toEqual(manifest.bytes);
    expect(served.stale).toBe(false);
  });

  test('is decided in each repository anew, stored or not', async () => {
    await pullManifest();
    await pullBlob(layer.key.digest);
    origin.blobs.delete(layer.key.digest);
    await expect(pullBlob(layer.key.digest, OTHER)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
  });

  test('that the origin does not have any more is forgotten', async () => {
    await pullManifest();
    await pullBlob(layer.key.digest);
    origin.blobs.delete(layer.key.digest);
    clock.advance(60_001);
    await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    origin.down = gone;
    await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED', cause: gone });
  });

  test('while the origin is down, is served as it was known, and the origin is left alone for a while', async () => {
    await pullManifest();
    await pullBlob(layer.key.digest);
    await pullBlob(config.key.digest);
    clock.advance(60_001);
    origin.down = gone;
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
    expect(await pullBlob(config.key.digest)).toEqual(config.bytes);
    expect(origin.asked('stat')).toBe(1);
    expect(counted).toEqual(['origin-down']);
    clock.advance(10_000);
    expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
    expect(origin.asked('stat')).toBe(2);
  });

  test('is asked about by HEAD as soon as the origin is back, and for a moment only where it hangs', async () => {
    await pullManifest();
    await pullBlob(layer.key.digest);
    origin.down = gone;
    expect((await images.blob(NGINX, layer.key.digest, asking, signal)).key).toEqual(layer.key);
    const stat = origin.stat.bind(origin);
    origin.stat = (_repository, _digest, _authority, open) => new Promise((_, reject) => open.addEventListener('abort', () => reject(open.reason as Error)));
    expect((await images.blob(NGINX, layer.key.digest, asking, signal)).key).toEqual(layer.key);
    origin.stat = stat;
    origin.down = undefined;
    origin.blobs.delete(layer.key.digest);
    await expect(images.blob(NGINX, layer.key.digest, asking, signal)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  });

  test('that only others in the fleet know is served on their word, while the origin is down', async () => {
    origin.down = gone;
    coordinator.found = { size: layer.key.size, kind: 'blob' };
    const blob = await images.blob(NGINX, layer.key.digest, caller, signal);
    expect(blob.key).toEqual(layer.key);
    await expect(images.manifest(NGINX, { digest: layer.key.digest }, [], caller, signal)).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED' });
    coordinator.found = undefined;
    await expect(images.blob(NGINX, config.key.digest, caller, signal)).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED' });
    coordinator.locateError = new AgentError('TRACKER_UNREACHABLE', 'no');
    await expect(images.blob(NGINX, config.key.digest, caller, signal)).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED', cause: gone });
  });

  test('is not asked of the fleet while the origin answers', async () => {
    coordinator.found = { size: 5, kind: 'blob' };
    await expect(pullBlob(makeBlob(5).key.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(coordinator.located).toBe(0);
  });
});

describe('a manifest that an index names', () => {
  const index = blobOf(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [descriptorOf(manifest)] })));
  const pullChild = async (): Promise<Uint8Array> => (await images.manifest(NGINX, { digest: manifest.key.digest }, [], caller, signal)).bytes(signal);

  /** The origin has taken an index without looking for what it names. */
  beforeEach(async () => {
    origin.add(index);
    origin.tags.set('latest', descriptorOf(index));
    await pullManifest();
  });

  test('and that the origin does not have there is not served, nor is what it refers to, wherever the bytes might come from', async () => {
    await expect(pullChild()).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    origin.blobs.delete(layer.key.digest);
    await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    origin.down = gone;
    await expect(pullChild()).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED' });
  });

  test('is asked about once, and then is one of the repository', async () => {
    origin.tags.set('child', descriptorOf(manifest));
    const asked = origin.asked('resolve');
    expect(new Uint8Array(await pullChild())).toEqual(manifest.bytes);
    clock.advance(60_001);
    await pullManifest();
    expect(new Uint8Array(await pullChild())).toEqual(manifest.bytes);
    expect(origin.asked('resolve') - asked).toBe(2);
    expect(await pullBlob(config.key.digest)).toEqual(config.bytes);
    expect(origin.asked('stat')).toBe(0);
  });

  test('while the origin is down, is served where it is here, or where the fleet knows it there', async () => {
    origin.down = gone;
    await expect(pullChild()).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED' });
    coordinator.found = { size: manifest.key.size, kind: 'manifest' };
    expect((await images.manifest(NGINX, { digest: manifest.key.digest }, [], caller, signal)).descriptor.size).toBe(manifest.key.size);
    coordinator.found = undefined;
    store.put(new TestStored(manifest.key, OCI, manifest.bytes, [sha256(manifest.bytes)]));
    expect(new Uint8Array(await pullChild())).toEqual(manifest.bytes);
  });
});

test.each(['ORIGIN_DENIED', 'ORIGIN_UNAUTHORIZED'] as const)('%s: what was known of the repository is not served, then or later', async (code) => {
  await pullManifest();
  await pullBlob(layer.key.digest);
  origin.down = new AgentError(code, 'no');
  await expect(pullManifest()).rejects.toMatchObject({ code: 'ACCESS_DENIED', cause: origin.down });
  await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'BLOB_DENIED', cause: origin.down });
  origin.down = gone;
  await expect(pullManifest()).rejects.toBe(gone);
  await expect(pullBlob(layer.key.digest)).rejects.toMatchObject({ code: 'ACCESS_UNDECIDED' });
});

test('a manifest over 4 MiB is refused before it is read', async () => {
  origin.tags.set('big', { digest: layer.key.digest, size: 4 * 1024 * 1024 + 1, mediaType: OCI });
  await expect(images.manifest(NGINX, { tag: 'big' }, [], caller, signal)).rejects.toMatchObject({ code: 'MANIFEST_TOO_LARGE' });
  expect(origin.asked('read')).toBe(0);
});

test('a manifest that is none is refused, and refers to nothing', async () => {
  const text = blobOf(Buffer.from('not JSON'));
  origin.add(text);
  origin.tags.set('bad', descriptorOf(text));
  await expect(pullManifest(NGINX, 'bad')).rejects.toMatchObject({ code: 'MANIFEST_MALFORMED' });
});

test('a disk that takes no notes fails no pull', async () => {
  const full = (): Promise<never> => Promise.reject(new Error('no space left on device'));
  Object.assign(rights.facts, { resolved: full, confirm: full, imply: full });
  expect(new Uint8Array(await pullManifest())).toEqual(manifest.bytes);
  expect(await pullBlob(layer.key.digest)).toEqual(layer.bytes);
});

test('a client that reads an image of many layers has the rest fetched ahead', async () => {
  const layers = Array.from({ length: 9 }, (_, i) => makeBlob(100 + i, `many-${i}`));
  const many = manifestOf([config, ...layers]);
  for (const blob of [...layers, many]) origin.add(blob);
  origin.tags.set('many', descriptorOf(many));
  await pullManifest(NGINX, 'many');
  const client = new AbortController();
  for (const { key } of layers.slice(0, 6)) {
    const blob = await images.blob(NGINX, key.digest, caller, client.signal);
    await blob.open({ start: 0, end: key.size }, client.signal);
  }
  await origin.events.when((event) => event.type === 'read' && event.digest === layers[8]!.key.digest);
  client.abort();
});
