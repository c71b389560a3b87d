// No renaming: podman asks for docker.io/..., a drop-in of registries.conf sends it to the agent, and the agent to the origin of that name.

import { afterAll, beforeAll, expect, it } from 'vitest';
import { ContainersHome } from '../support/containers.ts';
import { pushGreeter, type PushedImage } from '../support/image.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';
import { mirrorDropIn } from '../../scripts/start-plan.mjs';

needs('root', 'docker-registry', 'buildah', 'podman', 'runc', 'nc')('a mirror by registries.conf', () => {
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let agent: AgentProgram;
  let image: PushedImage;

  beforeAll(async () => {
    registry = await startRegistry();
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    image = await pushGreeter(builder, registry.host, 'library/hello', '1', 1, 'hello');
    fleet = await FleetProcesses.start();
    agent = await fleet.addAgent('a', ['--origin', `docker.io=${registry.url}`]);
  });

  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
  });

  it.each(['docker.io/library/hello:1', 'docker.io/hello:1'])('pulls %s through the agent under its own name', async (name) => {
    const home = await ContainersHome.create({ dropIn: mirrorDropIn('docker.io', agent.host) });
    try {
      await home.podman(['pull', '--quiet', name]);
      const [inspected] = JSON.parse(await home.podman(['image', 'inspect', 'docker.io/library/hello:1'])) as { Digest: string }[];
      expect(inspected?.Digest).toBe(image.manifestDigest);
      const { peer, origin, store } = await agent.blobBytes();
      expect(peer + origin + store).toBeGreaterThan(0);
    } finally {
      await home.close();
    }
  });
});
