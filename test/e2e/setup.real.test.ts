// `flotilla setup` and `flotilla doctor` with real clients: what setup writes sends their pulls to the agent, without the agent they go to the
// registry itself, and doctor sees the difference.

import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Finding } from '@flotilla/agent/cli/doctor/finding';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { run } from '../support/command.ts';
import { Containerd } from '../support/containerd.ts';
import { ContainersHome } from '../support/containers.ts';
import { Dockerd } from '../support/dockerd.ts';
import { pushGreeter, type PushedImage } from '../support/image.ts';
import { checkout, FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';

const MAIN = join(checkout, 'packages/agent/src/main.ts');

needs('root', 'docker-registry', 'buildah', 'skopeo', 'nc', 'containerd', 'ctr', 'dockerd', 'docker', 'unshare')('a client that was set up', () => {
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let agent: AgentProgram;
  let image: PushedImage;
  /** The registry under its own name, which has a port: the agent's NAME for it is `lab`. */
  let name: string;
  /** A home and a root of a host of the test's own. */
  let root: string;
  let env: NodeJS.ProcessEnv;
  let count = 0;

  beforeAll(async () => {
    registry = await startRegistry();
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    image = await pushGreeter(builder, registry.host, 'team/hello', '1', 1, 'hello');
    name = `${registry.host}/team/hello:1`;
    fleet = await FleetProcesses.start();
  });
  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
  });
  beforeEach(async () => {
    agent = await fleet.addAgent(`agent-${count++}`, ['--origin', `lab=${registry.url}`]);
    root = await mkdtemp(join(tmpdir(), 'flotilla-setup-'));
    // Root's own registries.conf takes the place of the machine's.
    await mkdir(join(root, '.config/containers'), { recursive: true });
    await writeFile(join(root, '.config/containers/registries.conf'), `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`);
    env = { ...process.env, HOME: root, FLOTILLA_DATA: agent.dataDir, FLOTILLA_ORIGIN: `lab=${registry.url}`, FLOTILLA_LISTEN: agent.host };
  });
  afterEach(async () => {
    await agent.stop();
    await rm(root, { recursive: true });
  });

  function flotilla(...args: string[]): Promise<string> {
    return run(process.execPath, [MAIN, ...args], { env });
  }

  async function findings(...args: string[]): Promise<Map<string, Finding>> {
    const printed = await flotilla('doctor', '--json', '--canary', name, ...args).catch((error: unknown) => (error instanceof Error ? error.message.slice(error.message.indexOf('{')) : ''));
    return new Map((JSON.parse(printed) as { findings: Finding[] }).findings.map((finding) => [finding.check, finding]));
  }

  /** Doctor in a mount namespace of its own, where this folder of /etc is the test's. */
  async function doctorIn(folder: string, client: string, canary: string, clientEnv: NodeJS.ProcessEnv): Promise<Finding[]> {
    // Findings of this machine (disk, open files) make its exit code 1.
    const script = `mount --bind ${join(root, folder)} /${folder} && { ${process.execPath} ${MAIN} doctor --json --client ${client} --canary ${canary} || true; }`;
    const printed = await run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], { env: { ...env, ...clientEnv } });
    return (JSON.parse(printed) as { findings: Finding[] }).findings;
  }

  async function byAgent(): Promise<number> {
    const { peer, origin, store } = await agent.blobBytes();
    return peer + origin + store;
  }

  it('skopeo: by the agent, past it when it is away, and as before when it is undone', async () => {
    const copy = (to: string): Promise<string> => run('skopeo', ['--insecure-policy', 'copy', `docker://${name}`, `dir:${join(root, to)}`], { env });
    await flotilla('setup', 'podman');
    await copy('first');
    expect(await byAgent()).toBeGreaterThanOrEqual(image.layers[0]!.size);

    const found = await findings('--client', 'podman');
    expect(found.get('client podman')).toMatchObject({ verdict: 'ok' });
    expect(found.get('canary podman')).toMatchObject({ verdict: 'ok', message: `${name} came by the agent` });

    await agent.stop();
    await copy('second');
    await agent.start();
    await flotilla('setup', 'podman', '--undo');
    await copy('third');
    expect(await byAgent()).toBe(0);
    expect((await findings('--client', 'podman')).get('client podman')).toMatchObject({ verdict: 'problem' });
  });

  it('ctr: by the agent, and past it when it is away', async () => {
    await flotilla('setup', 'containerd', '--origin', 'lab', '--root', root);
    const pull = (containerd: Containerd): Promise<string> => containerd.ctr(['images', 'pull', '--hosts-dir', join(root, 'etc/containerd/certs.d'), name]);
    const containerd = await Containerd.start();
    try {
      await pull(containerd);
      expect(await byAgent()).toBeGreaterThanOrEqual(image.layers[0]!.size);
      await containerd.ctr(['images', 'rm', '--sync', name]);
      await agent.stop();
      await pull(containerd);
      expect(await containerd.ctr(['images', 'ls'])).toContain(image.manifestDigest);
    } finally {
      await containerd.close();
    }
  });

  it("containerd reads the config.toml that was merged into Debian's", async () => {
    await mkdir(join(root, 'etc/containerd'), { recursive: true });
    await cp('/etc/containerd/config.toml', join(root, 'etc/containerd/config.toml'));
    await flotilla('setup', 'containerd', '--origin', 'lab', '--root', root);
    expect(await run('containerd', ['--config', join(root, 'etc/containerd/config.toml'), 'config', 'dump'])).toContain('config_path = "/etc/containerd/certs.d"');
  });

  it('Docker takes the daemon.json that was merged, pulls by the agent, and doctor sees it', async () => {
    await agent.stop();
    agent = await fleet.addAgent(`agent-${count++}`, ['--origin', `docker.io=${registry.url}`, '--default-origin', 'docker.io']);
    env = { ...env, FLOTILLA_DATA: agent.dataDir, FLOTILLA_ORIGIN: `docker.io=${registry.url}`, FLOTILLA_DEFAULT_ORIGIN: 'docker.io', FLOTILLA_LISTEN: agent.host };
    await mkdir(join(root, 'etc/docker'), { recursive: true });
    await writeFile(join(root, 'etc/docker/daemon.json'), '{\n\t"debug": true\n}\n');
    await flotilla('setup', 'docker', '--origin', 'docker.io', '--root', root);
    const dockerd = await Dockerd.start(await readFile(join(root, 'etc/docker/daemon.json'), 'utf8'));
    try {
      const canary = 'docker.io/team/hello:1';
      const found = await doctorIn('etc/docker', 'docker', canary, dockerd.env);
      expect(found.find(({ check }) => check === 'canary docker')).toMatchObject({ verdict: 'ok', message: `${canary} came by the agent` });
      expect(await dockerd.docker(['image', 'ls', '--quiet'])).toBe('');
      await dockerd.docker(['pull', canary]);
      expect(await dockerd.docker(['image', 'inspect', '--format', '{{.Id}}', 'team/hello:1'])).toBe(`${image.config.digest}\n`);
      // What was there before the canary stays.
      await doctorIn('etc/docker', 'docker', canary, dockerd.env);
      expect(await dockerd.docker(['image', 'ls', '--quiet'])).not.toBe('');
    } finally {
      await dockerd.close();
    }
  });

  it('doctor finds out by containerd too, and leaves nothing there', async () => {
    await flotilla('setup', 'containerd', '--origin', 'lab', '--root', root);
    const containerd = await Containerd.start();
    try {
      const found = await doctorIn('etc/containerd', 'containerd', name, containerd.env);
      expect(found.find(({ check }) => check === 'canary containerd')).toMatchObject({ verdict: 'ok', message: `${name} came by the agent` });
      expect(await containerd.ctr(['namespaces', 'ls', '--quiet'])).not.toContain('flotilla');
    } finally {
      await containerd.close();
    }
  });
});
