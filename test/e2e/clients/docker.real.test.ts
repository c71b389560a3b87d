// Docker: every kind of image that Debian's version takes (no zstd; foreign layers are for Windows), by its mirror of Docker Hub and by image
// name. A daemon of its own is started for each pull.
//
// Where no daemon can run (it wants to be root with namespaces and cgroups) the tests are skipped, with what the daemon said.

import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { Dockerd } from '../../support/dockerd.ts';
import type { Pushed } from '../../support/every-kind.ts';
import { sha256OfFile } from '../../support/image.ts';
import { needs } from '../../support/programs.ts';

needs('root', 'docker-registry', 'dockerd', 'docker', 'containerd', 'runc', 'tar')('docker', () => {
  let endpoint: ClientEndpoint;
  let dockerd: Dockerd | undefined;

  beforeAll(async () => {
    endpoint = await ClientEndpoint.start();
  });
  afterAll(() => endpoint?.close());
  beforeEach(async (context) => {
    try {
      dockerd = await Dockerd.start(JSON.stringify({ 'registry-mirrors': [endpoint.agent.url] }));
    } catch (error) {
      dockerd = undefined;
      context.skip((error as Error).message);
    }
  });
  afterEach(() => dockerd?.close());

  const WAYS = {
    // Docker sends neither `ns` nor the upstream in the path: this agent's default origin is what the mirror stands for.
    'by mirror': ({ tag }: Pushed): string => `kinds:${tag}`,
    'by name': ({ tag }: Pushed): string => endpoint.byName(tag),
  };

  describe.each(['by mirror', 'by name'] as const)('%s', (way) => {
    it.each(['index', 'list'] as const)('pulls %s and unpacks it', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const name = WAYS[way](pushed);
      await endpoint.throughAgent(pushed.blobs, () => dockerd!.docker(['pull', '--quiet', name]));
      const [inspected] = JSON.parse(await dockerd!.docker(['image', 'inspect', name])) as { RepoDigests: string[] }[];
      expect(inspected?.RepoDigests.map((reference) => reference.split('@')[1])).toEqual([pushed.top.digest]);
      const container = (await dockerd!.docker(['create', name, 'anything'])).trim();
      for (const { path, sha256 } of pushed.files) {
        const copy = join(dockerd!.dir, 'copy');
        await dockerd!.docker(['cp', `${container}:/${path}`, copy]);
        expect(await sha256OfFile(copy), path).toBe(sha256);
      }
    });
  });

  it('is told at once that a foreign layer is not at the registry', async () => {
    await expect(dockerd!.docker(['pull', '--quiet', endpoint.byName('foreign')])).rejects.toThrow('unknown blob');
  });
});
