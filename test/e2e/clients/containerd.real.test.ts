// containerd with ctr: every kind of content, by a mirror in certs.d and by image name, byte for byte in its own content store.

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { Containerd } from '../../support/containerd.ts';
import type { Pushed } from '../../support/every-kind.ts';
import { sha256OfFile } from '../../support/image.ts';
import { needs } from '../../support/programs.ts';

const CONTENT = 'root/io.containerd.content.v1.content/blobs/sha256';

needs('root', 'docker-registry', 'containerd', 'ctr', 'runc', 'tar')('containerd', () => {
  let endpoint: ClientEndpoint;
  /** A new one for each pull: it has nothing. */
  let containerd: Containerd;
  let hosts: string;

  beforeAll(async () => {
    endpoint = await ClientEndpoint.start();
  });
  afterAll(() => endpoint?.close());
  beforeEach(async () => {
    containerd = await Containerd.start();
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

  const digests = (...of: readonly { readonly digest: string }[]): Set<string> => new Set(of.map(({ digest }) => digest));

  describe.each(['by mirror', 'by name'] as const)('%s', (way) => {
    it.each(['index', 'list', 'zstd'] as const)('ctr pulls and unpacks %s', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const ref = WAYS[way](pushed).at(-1)!;
      await endpoint.throughAgent(pushed.blobs, () => containerd.ctr(['images', 'pull', '--platform', 'linux/amd64', ...WAYS[way](pushed)]));
      expect(await content()).toEqual(digests(pushed.top, pushed.image, ...pushed.blobs));
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
});
