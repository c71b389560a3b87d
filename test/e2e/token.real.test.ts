// The anonymous token flow against a real registry: the agent fetches tokens for its callers, who know nothing of it.

import { afterAll, beforeAll, expect, it } from 'vitest';
import { request } from 'undici';
import { ContainersHome } from '../support/containers.ts';
import { pushGreeter, type PushedImage } from '../support/image.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';
import { TokenServer } from '../support/token-server.ts';

needs('root', 'docker-registry', 'buildah', 'podman', 'skopeo', 'runc', 'nc', 'openssl')('a registry behind a token server', () => {
  let tokens: TokenServer;
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let agent: AgentProgram;
  let image: PushedImage;

  beforeAll(async () => {
    tokens = await TokenServer.start('public/');
    registry = await startRegistry({ token: tokens.auth });
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    const creds = ['--creds', tokens.credentials];
    image = await pushGreeter(builder, registry.host, 'public/hello', '1', 1, 'hello', creds);
    await pushGreeter(builder, registry.host, 'private/hello', '1', 1, 'not for you', creds);
    fleet = await FleetProcesses.start();
    agent = await fleet.addAgent('a', ['--origin', `lab=${registry.url}`]);
  });

  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
    await tokens?.close();
  });

  it('gives podman a public image without credentials', async () => {
    const challenge = await request(`${registry.url}/v2/public/hello/manifests/1`);
    await challenge.body.dump();
    expect(challenge.statusCode, 'the registry itself wants a token').toBe(401);
    const before = tokens.requests.length;

    const home = await ContainersHome.create({ plainHttp: [agent.host] });
    try {
      const name = `${agent.host}/lab/public/hello:1`;
      await home.podman(['pull', '--quiet', name]);
      const [inspected] = JSON.parse(await home.podman(['image', 'inspect', name])) as { Digest: string }[];
      expect(inspected?.Digest).toBe(image.manifestDigest);
    } finally {
      await home.close();
    }
    const asked = tokens.requests.slice(before);
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.filter((entry) => entry.signedIn || entry.scope !== 'repository:public/hello:pull')).toEqual([]);
  });

  it('gives nobody a private one: not found, and no challenge that would collect credentials', async () => {
    const response = await request(`${agent.url}/v2/lab/private/hello/manifests/1`);
    const body = (await response.body.json()) as { errors: { code: string }[] };
    expect(response.statusCode).toBe(404);
    expect(body.errors[0]?.code).toBe('NAME_UNKNOWN');
    expect(response.headers['www-authenticate']).toBeUndefined();
  });
});
