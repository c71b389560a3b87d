import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import { beforeEach, describe, expect, test } from 'vitest';
import type { DownloadStatus } from './content/download-contract.ts';
import { parsePlatform } from './content/platform.ts';
import type { Descriptor, Repository } from './content/ports.ts';
import { AgentError } from './errors.ts';
import { Pulls, type PulledImages, type PullEvent } from './pull.ts';

const AMD64 = parsePlatform('linux/amd64')!;
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

function blob(text: string, mediaType = LAYER): Descriptor {
  return { digest: digestOf(text), size: text.length, mediaType };
}

function digestOf(text: string): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(text).digest('hex')}`);
}

/** Images in memory; what is fetched is held afterwards, from peers by two thirds. */
class MemoryImages implements PulledImages {
  readonly tags = new Map<string, Descriptor>();
  readonly manifests = new Map<Digest, { descriptor: Descriptor; bytes: Uint8Array }>();
  readonly stored = new Set<Digest>();
  /** Of blobs that are read. */
  readonly texts = new Map<Digest, string>();
  readonly fetched: Digest[] = [];
  readonly asked: Repository[] = [];
  kept: readonly Digest[] = [];
  released = 0;
  /** What fetching a blob does first. */
  before: (digest: Digest, signal: AbortSignal) => Promise<void> = () => Promise.resolve();

  add(json: unknown, mediaType: string, tag?: string): Descriptor {
    const text = JSON.stringify(json);
    const descriptor = blob(text, mediaType);
    this.manifests.set(descriptor.digest, { descriptor, bytes: Buffer.from(text) });
    if (tag !== undefined) this.tags.set(tag, descriptor);
    return descriptor;
  }

  async resolve(repository: Repository, tag: string): Promise<Descriptor> {
    this.asked.push(repository);
    const found = this.tags.get(tag);
    if (found === undefined) throw new AgentError('MANIFEST_UNKNOWN', 'the origin has no such tag');
    return found;
  }

  async manifest(_repository: Repository, digest: Digest): Promise<{ descriptor: Descriptor; bytes: Uint8Array }> {
    return this.manifests.get(digest)!;
  }

  async fetch(_repository: Repository, { digest, size }: Descriptor, signal: AbortSignal): Promise<{ peer: number; origin: number }> {
    await this.before(digest, signal);
    this.fetched.push(digest);
    this.stored.add(digest);
    const peer = Math.floor((2 * size) / 3);
    return { peer, origin: size - peer };
  }

  async held({ digest, size }: Pick<Descriptor, 'digest' | 'size'>): Promise<number> {
    return this.stored.has(digest) ? size : 0;
  }

  async readStored(digest: Digest): Promise<AsyncIterable<Uint8Array> | undefined> {
    const text = this.stored.has(digest) ? this.texts.get(digest) : undefined;
    return text === undefined ? undefined : Readable.from([Buffer.from(text)]);
  }

  keep(digests: readonly Digest[]): () => void {
    this.kept = digests;
    return () => this.released++;
  }
}

let images: MemoryImages;
let running: Partial<DownloadStatus>[];
let pulls: Pulls;
beforeEach(() => {
  images = new MemoryImages();
  running = [];
  pulls = new Pulls({
    images,
    resolveImage: (path, ns) => {
      const [first = '', ...rest] = path.split('/');
      if (rest.length === 0) return { origin: 'the-default', repository: first };
      return ns === undefined ? { origin: first, repository: rest.join('/') } : { origin: `named-${ns}`, repository: path };
    },
    endpoint: '127.0.0.1:5050',
    downloads: () => running as DownloadStatus[],
    now: () => 0,
  });
});

const config = blob('a config', CONFIG);
const [small, large] = [blob('a small layer'), blob('a layer that is larger')];

function addImage(tag?: string): Descriptor {
  return images.add({ config, layers: [small, large, small] }, MANIFEST, tag);
}

async function pull(image: string, platform = AMD64, signal = new AbortController().signal, named = false): Promise<PullEvent[]> {
  const events: PullEvent[] = [];
  for await (const event of pulls.pull({ image, platform, named }, signal)) events.push(event);
  return events;
}

test('tells what the image is, what is missing, and where each blob came from', async () => {
  const { digest } = addImage('1');
  images.stored.add(small.digest);
  expect(await pull('docker.io/library/a:1')).toEqual([
    { type: 'resolved', image: 'docker.io/library/a:1', digest },
    {
      type: 'manifest',
      digest,
      blobs: [
        { digest: config.digest, size: 8, role: 'config', state: 'missing' },
        { digest: small.digest, size: 13, role: 'layer', state: 'stored' },
        { digest: large.digest, size: 22, role: 'layer', state: 'missing' },
      ],
    },
    { type: 'blob', digest: config.digest, bytes: 8, peerBytes: 5, originBytes: 3, ms: 0 },
    { type: 'blob', digest: large.digest, bytes: 22, peerBytes: 14, originBytes: 8, ms: 0 },
    { type: 'done', image: 'docker.io/library/a:1', digest, bytes: 43, storedBytes: 13, peerBytes: 19, originBytes: 11, ms: 0 },
  ]);
  expect(images.kept).toEqual([digest, config.digest, small.digest, large.digest]);
  expect(images.released).toBe(1);
});

test('what is here already is fetched by nobody', async () => {
  const { digest } = addImage();
  for (const each of [config, small, large]) images.stored.add(each.digest);
  const events = await pull(`docker.io/library/a@${digest}`);
  expect(events.at(-1)).toMatchObject({ type: 'done', image: `docker.io/library/a@${digest}`, bytes: 43, storedBytes: 43 });
  expect(images.fetched).toEqual([]);
  expect(images.asked).toEqual([]);
});

test('of an index the manifest of the platform, indexes in between included', async () => {
  const { digest } = addImage();
  const other = images.add({ config, layers: [] }, MANIFEST);
  const inner = images.add({ manifests: [{ ...other, platform: { os: 'linux', architecture: 'arm64' } }, { ...blob('', MANIFEST), digest, platform: { os: 'linux', architecture: 'amd64' } }] }, INDEX);
  const top = images.add({ manifests: [{ ...inner, platform: { os: 'linux', architecture: 'amd64' } }] }, INDEX, 'latest');
  const events = await pull('docker.io/library/a');
  expect(events.slice(0, 2)).toMatchObject([{ type: 'resolved', image: 'docker.io/library/a:latest', digest: top.digest }, { type: 'manifest', digest }]);
  expect(images.kept.slice(0, 3)).toEqual([top.digest, inner.digest, digest]);
});

test.each([
  ['docker.io/library/a:2', 'MANIFEST_UNKNOWN'],
  ['docker.io/Library/a:1', 'NAME_INVALID'],
  ['docker.io/library/a:!', 'TAG_INVALID'],
  ['docker.io/library/a@sha256:12', 'DIGEST_INVALID'],
  ['a/', 'NAME_INVALID'],
  ['', 'NAME_INVALID'],
])('%s fails with %s', async (image, code) => {
  addImage('1');
  expect(await pull(image)).toEqual([{ type: 'failed', code, message: expect.any(String), help: expect.stringMatching(/\.$/) }]);
});

test('a platform that is not there fails with those that are', async () => {
  const arm = images.add({ manifests: [{ ...addImage(), platform: { os: 'linux', architecture: 'arm64' } }] }, INDEX, '1');
  expect(await pull('docker.io/library/a:1')).toEqual([expect.objectContaining({ digest: arm.digest }), expect.objectContaining({ code: 'PLATFORM_UNKNOWN', message: expect.stringContaining('linux/arm64') })]);
});

test('a platform that was named counts where no index offers a choice, and nothing but the config is fetched for it', async () => {
  const text = JSON.stringify({ os: 'linux', architecture: 'arm64' });
  const own = blob(text, CONFIG);
  images.texts.set(own.digest, text);
  images.add({ config: own, layers: [small] }, MANIFEST, '1');
  const signal = new AbortController().signal;
  const refused = await pull('docker.io/library/a:1', AMD64, signal, true);
  expect(refused.at(-1)).toMatchObject({ type: 'failed', code: 'PLATFORM_UNKNOWN', message: expect.stringContaining('linux/arm64') });
  expect(images.fetched).toEqual([own.digest]);

  images.stored.clear();
  const taken = await pull('docker.io/library/a:1', parsePlatform('linux/arm64'), signal, true);
  const peerBytes = Math.floor((2 * own.size) / 3) + Math.floor((2 * small.size) / 3);
  expect(taken.at(-1)).toMatchObject({ type: 'done', bytes: own.size + small.size, storedBytes: 0, peerBytes, originBytes: own.size + small.size - peerBytes });
  // This host's own, where none is named.
  expect((await pull('docker.io/library/a:1')).at(-1)).toMatchObject({ type: 'done' });
});

test('what is no image has no platform', async () => {
  images.add({ config: blob('{}', 'application/vnd.oci.empty.v1+json'), layers: [small] }, MANIFEST, '1');
  expect((await pull('docker.io/library/a:1', AMD64, new AbortController().signal, true)).at(-1)).toMatchObject({ type: 'done' });
});

test('a name of one component is of the default origin', async () => {
  const { digest } = addImage('1');
  expect((await pull('kinds:1'))[0]).toEqual({ type: 'resolved', image: 'the-default/kinds:1', digest });
  expect((await pull(`kinds@${digest}`))[0]).toEqual({ type: 'resolved', image: `the-default/kinds@${digest}`, digest });
});

test('an index that holds only indexes ends somewhere', async () => {
  let entry = addImage();
  for (let i = 0; i < 5; i++) entry = images.add({ manifests: [{ ...entry, platform: { os: 'linux', architecture: 'amd64' } }] }, INDEX, '1');
  expect((await pull('docker.io/library/a:1')).at(-1)).toMatchObject({ type: 'failed', code: 'MANIFEST_MALFORMED' });
});

test('a registry with a port is asked for by its host', async () => {
  addImage('1');
  const [resolved] = await pull('registry.corp:5000/team/a:1');
  expect(resolved).toMatchObject({ image: 'named-registry.corp:5000/team/a:1' });
});

test('an image may be named as a client names it that has no mirror setting', async () => {
  addImage('1');
  const [resolved] = await pull('127.0.0.1:5050/docker.io/library/a:1');
  expect(resolved).toMatchObject({ type: 'resolved', image: 'docker.io/library/a:1' });
});

test('layers that lie elsewhere are left to clients', async () => {
  const foreign = blob('a windows layer', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip');
  images.add({ config, layers: [foreign] }, MANIFEST, '1');
  const events = await pull('docker.io/library/a:1');
  expect(events.at(-1)).toMatchObject({ type: 'done', bytes: 8 });
  expect(images.fetched).toEqual([config.digest]);
});

test('the first blob that fails ends the others', async () => {
  addImage('1');
  images.before = async (digest, signal) => {
    if (digest === large.digest) throw new AgentError('ORIGIN_UNREACHABLE', 'refused');
    await once(signal, 'abort');
    signal.throwIfAborted();
  };
  expect((await pull('docker.io/library/a:1')).at(-1)).toMatchObject({ type: 'failed', code: 'ORIGIN_UNREACHABLE', message: 'refused' });
  expect(images.fetched).toEqual([]);
  expect(images.released).toBe(1);
});

describe('while it runs', () => {
  test('tells how far the downloads are, when that changes', async () => {
    addImage('1');
    const gate = Promise.withResolvers<void>();
    images.before = (digest) => (digest === large.digest ? gate.promise : Promise.resolve());
    const told: PullEvent[] = [];
    for await (const event of pulls.pull({ image: 'docker.io/library/a:1', platform: AMD64, named: false }, new AbortController().signal)) {
      told.push(event);
      if (event.type !== 'progress') continue;
      if (event.blobs[0]!.bytes === 0) running = [{ digest: large.digest, size: 22, chunks: 4, held: 2, bytes: { peer: 10, origin: 1, duplicate: 0 } }];
      else gate.resolve();
    }
    const progress = told.filter(({ type }) => type === 'progress');
    expect(progress).toEqual([
      { type: 'progress', blobs: [{ digest: large.digest, bytes: 0, peerBytes: 0, originBytes: 0 }] },
      { type: 'progress', blobs: [{ digest: large.digest, bytes: 11, peerBytes: 10, originBytes: 1 }] },
    ]);
  });

  test('whoever goes away ends it, and lets go of what was kept', async () => {
    addImage('1');
    const started = Promise.withResolvers<AbortSignal>();
    images.before = async (_digest, signal) => {
      started.resolve(signal);
      await once(signal, 'abort');
      signal.throwIfAborted();
    };
    const abort = new AbortController();
    const events = pull('docker.io/library/a:1', AMD64, abort.signal);
    await started.promise;
    abort.abort();
    expect((await events).map(({ type }) => type)).not.toContain('failed');
    expect(images.released).toBe(1);
  });

  test('one that is no longer listened to ends too', async () => {
    addImage('1');
    const started = Promise.withResolvers<AbortSignal>();
    images.before = async (_digest, signal) => {
      started.resolve(signal);
      await once(signal, 'abort');
    };
    for await (const event of pulls.pull({ image: 'docker.io/library/a:1', platform: AMD64, named: false }, new AbortController().signal)) if (event.type === 'progress') break;
    expect((await started.promise).aborted).toBe(true);
    expect(images.released).toBe(1);
  });

  test('eight at a time, the next is refused until one has ended', async () => {
    addImage('1');
    const gate = Promise.withResolvers<void>();
    images.before = () => gate.promise;
    const all = Array.from({ length: 8 }, () => pull('docker.io/library/a:1'));
    expect(await pull('docker.io/library/a:1')).toMatchObject([{ type: 'failed', code: 'TOO_MANY_PULLS' }]);
    gate.resolve();
    for (const events of await Promise.all(all)) expect(events.at(-1)!.type).toBe('done');
    expect((await pull('docker.io/library/a:1')).at(-1)!.type).toBe('done');
  });
});
