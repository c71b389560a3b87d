// The main job: podman through one agent and skopeo through another, at the same moment, of an image that neither has. All bytes are
// right, and the origin gives each blob once.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ContainersHome } from '../support/containers.ts';
import { digestsInDir, pushRealImage, sha256OfFile, type PushedImage } from '../support/image.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';

const REPOSITORY = 'team/tools';
const TAG = '1.0';

needs('root', 'docker-registry', 'buildah', 'podman', 'skopeo', 'runc')('one image, two clients, two agents, one moment', () => {
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let a: AgentProgram;
  let b: AgentProgram;
  let image: Awaited<ReturnType<typeof pushRealImage>>;

  beforeAll(async () => {
    registry = await startRegistry();
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    image = await pushRealImage(builder, registry.host, REPOSITORY, TAG);
    fleet = await FleetProcesses.start();
    const flags = ['--origin', `lab=${registry.url}`];
    [a, b] = await Promise.all([fleet.addAgent('a', flags), fleet.addAgent('b', flags)]);
  });

  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
  });

  it('gives both the right bytes, and takes one copy out of the origin', async () => {
    const home = await ContainersHome.create({ plainHttp: [a.host, b.host] });
    try {
      const copy = join(home.dir, 'copy');
      await mkdir(copy);
      await Promise.all([
        home.podman(['pull', '--quiet', `${a.host}/lab/${REPOSITORY}:${TAG}`]),
        home.skopeo(['copy', '--quiet', '--src-tls-verify=false', `docker://${b.host}/lab/${REPOSITORY}:${TAG}`, `dir:${copy}`]),
      ]);

      await expectPodmanHas(home, `${a.host}/lab/${REPOSITORY}:${TAG}`);
      const blobs = blobsOf(image);
      expect(await digestsInDir(copy, image)).toEqual({ manifest: image.manifestDigest, blobs: blobs.map((blob) => blob.digest) });

      const [fromA, fromB] = await Promise.all([a.blobBytes(), b.blobBytes()]);
      await registry.stop();
      const traffic = registry.blobTraffic();
      const copies = blobs.map(({ digest, size }) => ({ digest, size, copies: (traffic.get(digest)?.bytes ?? 0) / size, requests: traffic.get(digest)?.requests ?? 0 }));
      for (const blob of copies) console.log(`${blob.digest.slice(0, 19)} ${blob.size} bytes: ${blob.copies.toFixed(4)} copies out of the origin in ${blob.requests} requests`);
      console.log(`bytes by source: agent a ${JSON.stringify(fromA)}, agent b ${JSON.stringify(fromB)}`);
      for (const blob of copies) {
        expect(blob.copies, `copies of ${blob.digest}`).toBeGreaterThanOrEqual(1);
        expect(blob.copies, `copies of ${blob.digest}`).toBeLessThanOrEqual(1.02);
      }
      expect(fromA.peer + fromB.peer).toBeGreaterThan(0);
    } finally {
      await home.close();
    }
  });

  async function expectPodmanHas(home: ContainersHome, name: string): Promise<void> {
    const [inspected] = JSON.parse(await home.podman(['image', 'inspect', name])) as { Digest: string }[];
    expect(inspected?.Digest).toBe(image.manifestDigest);
    const rootfs = (await home.podman(['image', 'mount', name])).trim();
    for (const file of image.files) expect(await sha256OfFile(join(rootfs, file.path)), file.path).toBe(file.sha256);
  }
});

function blobsOf(image: PushedImage): readonly { readonly digest: string; readonly size: number }[] {
  return [image.config, ...image.layers];
}
