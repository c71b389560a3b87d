// Docker by its mirror of Docker Hub, by image name, and with the containerd image store by hosts.toml. A daemon of its own is started for
// each pull. Debian's takes no zstd, and foreign layers are for Windows. A release with the containerd image store is used where it is on
// PATH as dockerd28: from the module github.com/docker/docker v28.5.2+incompatible, with its vendor.mod as go.mod,
//   go build -mod=mod -tags 'exclude_graphdriver_btrfs exclude_disk_quota no_systemd' -o dockerd28 ./cmd/dockerd
//
// Where no daemon can run (it wants to be root with namespaces and cgroups) the tests are skipped, with what the daemon said.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { Dockerd, DOCKERD_28 } from '../../support/dockerd.ts';
import type { Pushed } from '../../support/every-kind.ts';
import { sha256OfFile } from '../../support/image.ts';
import { needs, optionally } from '../../support/programs.ts';

needs('root', 'docker-registry', 'docker', 'containerd', 'runc', 'tar', 'unshare')('pulls', () => {
  let endpoint: ClientEndpoint;
  let dockerd: Dockerd | undefined;
  /** What a daemon finds at /etc/docker. */
  let etc: string;

  beforeAll(async () => {
    endpoint = await ClientEndpoint.start();
    etc = await mkdtemp(join(tmpdir(), 'flotilla-docker-etc-'));
    const hosts = join(etc, 'certs.d', endpoint.registry.host);
    await mkdir(hosts, { recursive: true });
    await writeFile(join(hosts, 'hosts.toml'), `server = "${endpoint.registry.url}"\n\n[host."${endpoint.agent.url}"]\n  capabilities = ["pull", "resolve"]\n`);
  });
  afterAll(async () => {
    await endpoint?.close();
    if (etc !== undefined) await rm(etc, { recursive: true });
  });

  function startsBefore(start: () => Promise<Dockerd>): void {
    beforeEach(async (context) => {
      try {
        dockerd = await start();
      } catch (error) {
        dockerd = undefined;
        context.skip((error as Error).message);
      }
    });
    afterEach(() => dockerd?.close());
  }

  const settings = (): Record<string, unknown> => ({ 'registry-mirrors': [endpoint.agent.url] });

  const WAYS = {
    // The classic store sends neither `ns` nor the upstream in the path: this agent's default origin is what the mirror stands for.
    'by mirror': ({ tag }: Pushed): string => `kinds:${tag}`,
    'by name': ({ tag }: Pushed): string => endpoint.byName(tag),
    // The registry by its own address, which is the `ns` then.
    'by hosts.toml': ({ tag }: Pushed): string => `${endpoint.registry.host}/library/kinds:${tag}`,
  };

  async function pullsWhole(pushed: Pushed, name: string): Promise<void> {
    await endpoint.throughAgent(pushed.blobs, () => dockerd!.docker(['pull', '--quiet', name]));
    const [inspected] = JSON.parse(await dockerd!.docker(['image', 'inspect', name])) as { RepoDigests: string[] }[];
    expect(inspected?.RepoDigests.map((reference) => reference.split('@')[1])).toEqual([pushed.top.digest]);
    const container = (await dockerd!.docker(['create', name, 'anything'])).trim();
    for (const { path, sha256 } of pushed.files) {
      const copy = join(dockerd!.dir, 'copy');
      await dockerd!.docker(['cp', `${container}:/${path}`, copy]);
      expect(await sha256OfFile(copy), path).toBe(sha256);
    }
  }

  needs('dockerd')('docker', () => {
    startsBefore(() => Dockerd.start(JSON.stringify(settings())));

    describe.each(['by mirror', 'by name'] as const)('%s', (way) => {
      it.each(['index', 'list'] as const)('pulls %s and unpacks it', (kind) => pullsWhole(endpoint.kinds[kind], WAYS[way](endpoint.kinds[kind])));
    });

    it('is told at once that a foreign layer is not at the registry', async () => {
      await expect(dockerd!.docker(['pull', '--quiet', endpoint.byName('foreign')])).rejects.toThrow('unknown blob');
    });
  });

  optionally(DOCKERD_28)('docker with the containerd image store', () => {
    startsBefore(() => Dockerd.startWithContainerdStore(settings(), etc));

    describe.each(['by mirror', 'by name', 'by hosts.toml'] as const)('%s', (way) => {
      it.each(['index', 'list', 'zstd'] as const)('pulls %s and unpacks it', (kind) => pullsWhole(endpoint.kinds[kind], WAYS[way](endpoint.kinds[kind])));
    });
  });
});
