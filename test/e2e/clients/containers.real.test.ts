// podman, buildah and skopeo: every kind of content, by image name and by a mirror in registries.conf, byte for byte.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { mirrorDropIn } from '../../../scripts/start-plan.mjs';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { ContainersHome } from '../../support/containers.ts';
import type { EveryKind, Pushed } from '../../support/every-kind.ts';
import { sha256OfFile } from '../../support/image.ts';
import { needs } from '../../support/programs.ts';

/** How the client comes to the agent. */
const WAYS = ['by name', 'by mirror'] as const;
type Way = (typeof WAYS)[number];

needs('root', 'docker-registry', 'buildah', 'podman', 'skopeo', 'runc', 'tar')('podman, buildah, skopeo', () => {
  let endpoint: ClientEndpoint;
  let home: ContainersHome;

  beforeAll(async () => {
    endpoint = await ClientEndpoint.start();
  });
  afterAll(() => endpoint?.close());
  // A home of its own for each pull: nothing that a client has kept can stand in for it.
  beforeEach(async () => {
    home = await ContainersHome.create({ plainHttp: [endpoint.agent.host], dropIn: mirrorDropIn('docker.io', endpoint.agent.host) });
  });
  afterEach(() => home.close());

  const nameOf = (way: Way, { tag }: Pushed): string => (way === 'by name' ? endpoint.byName(tag) : endpoint.byMirror(tag));

  describe.each(WAYS)('%s', (way) => {
    // Not `sha512`: skopeo compares every digest with a sha256. oras takes it (go-clients.real.test.ts).
    it.each(['index', 'list', 'zstd', 'foreign', 'empty', 'artifact'] as const)('skopeo copies %s whole, as it is', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const dir = join(home.dir, 'copy');
      await endpoint.throughAgent(pushed.allBlobs, () =>
        home.skopeo(['--registries-conf', join(home.dir, 'registries.conf'), 'copy', '--all', '--preserve-digests', '--quiet', `docker://${nameOf(way, pushed)}`, `dir:${dir}`]),
      );
      expect(await digestsIn(dir)).toEqual(new Set(wholeOf(pushed, endpoint.kinds)));
    });

    it.each(['index', 'list', 'zstd', 'foreign'] as const)('podman pulls %s', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const name = nameOf(way, pushed);
      await endpoint.throughAgent(pushed.blobs, () => home.podman(['pull', '--quiet', name]));
      const [inspected] = JSON.parse(await home.podman(['image', 'inspect', name])) as { Digest: string; RepoDigests: string[] }[];
      expect(inspected?.RepoDigests.map((reference) => reference.split('@')[1])).toContain(pushed.top.digest);
      await expectFiles((await home.podman(['image', 'mount', name])).trim(), pushed);
    });

    it.each(['index', 'list', 'zstd', 'foreign'] as const)('buildah builds from %s', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const container = (await endpoint.throughAgent(pushed.blobs, () => home.buildah(['from', '--quiet', nameOf(way, pushed)]))).trim();
      await expectFiles((await home.buildah(['mount', container])).trim(), pushed);
      await home.buildah(['rm', container]);
    });
  });

  it('skopeo inspects without pulling', async () => {
    const { index } = endpoint.kinds;
    const inspected = JSON.parse(await home.skopeo(['inspect', '--tls-verify=false', `docker://${endpoint.byName(index.tag)}`])) as { Digest: string; Architecture: string };
    expect(inspected).toMatchObject({ Digest: index.top.digest, Architecture: 'amd64' });
  });
});

/** Digests of all files in a folder that `skopeo copy ... dir:` has written. */
async function digestsIn(dir: string): Promise<Set<string>> {
  const names = (await readdir(dir)).filter((name) => name !== 'version');
  return new Set(await Promise.all(names.map(async (name) => `sha256:${await sha256OfFile(join(dir, name))}`)));
}

function wholeOf(pushed: Pushed, { foreign }: EveryKind): string[] {
  const digests = [pushed.top, ...pushed.images, ...pushed.allBlobs].map(({ digest }) => digest);
  // A folder keeps no URLs: skopeo fetches the layer from where it lies.
  return pushed === foreign ? [...digests, foreign.foreignDigest] : digests;
}

async function expectFiles(rootfs: string, { files }: Pushed): Promise<void> {
  for (const { path, sha256 } of files) expect(await sha256OfFile(join(rootfs, path)), path).toBe(sha256);
}
