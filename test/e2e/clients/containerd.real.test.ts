// containerd with ctr: every kind of content, by a mirror in certs.d and by image name, byte for byte in its own content store. Debian's, and
// version 2 where it is on PATH as containerd2 and ctr2 (.ci/run builds them), which can fetch a layer in several requests at once.

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { Containerd, CONTAINERD_2 } from '../../support/containerd.ts';
import type { Pushed } from '../../support/every-kind.ts';
import { sha256OfFile } from '../../support/image.ts';
import type { Descriptor } from '../../support/push.ts';
import { needs, optionally } from '../../support/programs.ts';

const CONTENT = 'root/io.containerd.content.v1.content/blobs/sha256';
const PARALLEL = { maxConcurrentDownloads: 4, concurrentLayerFetchBuffer: 131_072 };

needs('root', 'docker-registry', 'tar')('by certs.d and by name', () => {
  needs('containerd', 'ctr', 'runc')('containerd', () => pulls({ start: () => Containerd.start(), takes: ({ image, blobs }) => [image, ...blobs] }));
  optionally(CONTAINERD_2.daemon, CONTAINERD_2.ctr)('containerd 2', () => {
    // Layers of one platform, but what describes the others too.
    const takes = ({ images, allBlobs, blobs }: Pushed): Descriptor[] => [...images, ...allBlobs.filter(({ mediaType }) => !/layer|rootfs/.test(mediaType)), ...blobs];
    pulls({ start: () => Containerd.startVersion2(), takes });
    describe('with parallel fetch', () => pulls({ start: () => Containerd.startVersion2(PARALLEL), takes, partBytes: PARALLEL.concurrentLayerFetchBuffer }));
  });
});

interface Version {
  /** A new one for each pull: it has nothing. */
  readonly start: () => Promise<Containerd>;
  /** What it has afterwards of an image for one platform, besides what the tag is. */
  readonly takes: (pushed: Pushed) => readonly Descriptor[];
  /** Each blob is fetched in parts of so many bytes. */
  readonly partBytes?: number;
}

function pulls({ start, takes, partBytes }: Version): void {
  let endpoint: ClientEndpoint;
  let containerd: Containerd;
  let hosts: string;

  beforeAll(async () => {
    endpoint = await ClientEndpoint.start();
  });
  afterAll(() => endpoint?.close());
  beforeEach(async () => {
    containerd = await start();
    hosts = join(containerd.dir, 'certs.d');
    await mkdir(join(hosts, 'docker.io'), { recursive: true });
    const mirror = `server = "https://registry-1.docker.io"\n\n[host."${endpoint.agent.url}"]\n  capabilities = ["pull", "resolve"]\n`;
    await writeFile(join(hosts, 'docker.io', 'hosts.toml'), mirror);
  });
  afterEach(() => containerd.close());

  const WAYS = {
    'by mirror': ({ tag }: Pushed): string[] => ['--hosts-dir', hosts, endpoint.byMirror(tag)],
    'by name': ({ tag }: Pushed): string[] => ['--plain-http', endpoint.byName(tag)],
  };

  /** Everything in its content store, hashed. */
  async function content(): Promise<Set<string>> {
    const dir = join(containerd.dir, CONTENT);
    const hashed = await Promise.all((await readdir(dir)).map(async (name) => [name, await sha256OfFile(join(dir, name))] as const));
    for (const [name, hash] of hashed) expect(hash).toBe(name);
    return new Set(hashed.map(([name]) => `sha256:${name}`));
  }

  /** How many parts of a blob the agent was asked for since its log was so long. */
  function partsOf(digest: string, logged: number): number {
    const lines = endpoint.agent.log.slice(logged).split('\n');
    return lines.filter((line) => line.includes(digest) && line.includes('"kind":"blob"') && line.includes('"status":206')).length;
  }

  const digests = (...of: readonly { readonly digest: string }[]): Set<string> => new Set(of.map(({ digest }) => digest));

  describe.each(['by mirror', 'by name'] as const)('%s', (way) => {
    it.each(['index', 'list', 'zstd'] as const)('ctr pulls and unpacks %s', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const ref = WAYS[way](pushed).at(-1)!;
      const logged = endpoint.agent.log.length;
      await endpoint.throughAgent(pushed.blobs, () => containerd.ctr(['images', 'pull', '--platform', 'linux/amd64', ...WAYS[way](pushed)]));
      expect(await content()).toEqual(digests(pushed.top, ...takes(pushed)));
      if (partBytes !== undefined) for (const { digest, size } of pushed.blobs) expect(partsOf(digest, logged), `parts of ${digest}`).toBe(Math.ceil(size / partBytes));
      const rootfs = join(containerd.dir, 'rootfs');
      await mkdir(rootfs);
      await containerd.ctr(['images', 'mount', ref, rootfs]);
      try {
        for (const { path, sha256 } of pushed.files) expect(await sha256OfFile(join(rootfs, path)), path).toBe(sha256);
      } finally {
        await containerd.ctr(['images', 'unmount', rootfs]);
      }
    });

    it.each(['index', 'list'] as const)('ctr pulls %s for all platforms', async (kind) => {
      const pushed = endpoint.kinds[kind];
      await endpoint.throughAgent(pushed.allBlobs, () => containerd.ctr(['images', 'pull', '--all-platforms', ...WAYS[way](pushed)]));
      expect(await content()).toEqual(digests(pushed.top, ...pushed.images, ...pushed.allBlobs));
    });

    // Not `empty` and `sha512`: ctr itself refuses content of zero bytes, and compares every digest with a sha256.
    it.each(['foreign', 'artifact'] as const)('ctr fetches the content of %s', async (kind) => {
      const pushed = endpoint.kinds[kind];
      await endpoint.throughAgent(pushed.blobs, () => containerd.ctr(['content', 'fetch', ...WAYS[way](pushed)]));
      const foreign = kind === 'foreign' ? [{ digest: endpoint.kinds.foreign.foreignDigest }] : [];
      expect(await content()).toEqual(digests(pushed.top, ...pushed.blobs, ...foreign));
    });
  });
}
