// The pages of docs/clients followed with real clients: the files that they say to write and the commands that they say to run, as they stand
// but for the agent's port, and folders that are a test's own.

import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { run } from '../support/command.ts';
import { Containerd } from '../support/containerd.ts';
import { ContainersHome } from '../support/containers.ts';
import { Dockerd } from '../support/dockerd.ts';
import { pushGreeter, type PushedImage } from '../support/image.ts';
import { readPage, type Page } from '../support/page.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs, optionally } from '../support/programs.ts';
import { PushTarget } from '../support/push.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';

const ENDPOINT = '127.0.0.1:5050';
const REPORT = 'all is well\n';

/** What the page's ORAS commands name: a file, and something that refers to it by the tag scheme, as the registry has no referrers API. */
async function pushArtifact(url: string): Promise<void> {
  const target = new PushTarget(url, 'example/artifact');
  const config = await target.blob('application/vnd.oci.empty.v1+json', Buffer.from('{}'));
  const file = { ...(await target.blob('text/plain', Buffer.from(REPORT))), annotations: { 'org.opencontainers.image.title': 'report.txt' } };
  const oci = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config };
  const subject = await target.manifest({ ...oci, artifactType: 'application/vnd.example.report', layers: [file] }, '1');
  const artifactType = 'application/vnd.example.signature';
  const signature = await target.manifest({ ...oci, artifactType, layers: [config], subject });
  await target.manifest({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [{ ...signature, artifactType }] }, subject.digest.replace(':', '-'));
}

needs('root', 'docker-registry', 'buildah', 'podman', 'skopeo', 'runc', 'nc', 'containerd', 'ctr', 'dockerd', 'docker', 'curl')('the pages of clients', () => {
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let image: PushedImage;
  /** A new one for each test: it holds nothing of the image. */
  let agent: AgentProgram;
  let count = 0;

  beforeAll(async () => {
    registry = await startRegistry();
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    image = await pushGreeter(builder, registry.host, 'library/nginx', '1.27', 1, 'hello');
    await pushArtifact(registry.url);
    fleet = await FleetProcesses.start();
  });
  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
  });
  beforeEach(async () => {
    agent = await fleet.addAgent(`agent-${count++}`, ['--origin', `docker.io=${registry.url}`, '--origin', `quay.io=${registry.url}`, '--origin', `ghcr.io=${registry.url}`]);
  });
  afterEach(() => agent.stop());

  /** The page's text for a path, about this test's agent. */
  function file(page: Page, path: string): string {
    const found = page.files.find((each) => each.path === path);
    if (found === undefined) throw new Error(`the page has no ${path}`);
    return found.text.replaceAll(ENDPOINT, agent.host);
  }

  /** The page's command that begins so, word for word. */
  function command(page: Page, start: string): string[] {
    const found = page.commands.find((text) => text.replace(/^sudo /, '').startsWith(start));
    if (found === undefined) throw new Error(`the page has no command ${start}`);
    return found.replace(/^sudo /, '').replaceAll(ENDPOINT, agent.host).split(' ').slice(1);
  }

  async function expectByAgent(): Promise<void> {
    const { peer, origin, store } = await agent.blobBytes();
    expect(peer + origin + store).toBeGreaterThanOrEqual(image.layers[0]!.size);
  }

  /** skopeo takes no other word for where its configuration lies. */
  function configured(home: ContainersHome): string[] {
    return ['--registries-conf', join(home.dir, 'registries.conf')];
  }

  async function withHome(dropIn: string, use: (home: ContainersHome) => Promise<void>): Promise<void> {
    const home = await ContainersHome.create({ dropIn });
    try {
      await use(home);
    } finally {
      await home.close();
    }
  }

  it.each([
    ['docker.io/library/nginx:1.27', 'podman.md', 'podman pull docker.io/'],
    ['quay.io/library/nginx:1.27', 'podman.md', ''],
  ])('podman as a mirror: %s', async (name, pageName, start) => {
    const page = readPage(`clients/${pageName}`);
    await withHome(file(page, '/etc/containers/registries.conf.d/50-flotilla.conf'), async (home) => {
      await home.podman(start === '' ? ['pull', name] : command(page, start));
      const [inspected] = JSON.parse(await home.podman(['image', 'inspect', name])) as { Digest: string }[];
      expect(inspected?.Digest).toBe(image.manifestDigest);
    });
    await expectByAgent();
  });

  it('podman by name, with the flag and with the drop-in instead', async () => {
    const page = readPage('clients/podman.md');
    const args = command(page, 'podman pull --tls-verify=false');
    await withHome('', async (home) => void (await home.podman(args)));
    await withHome(file(page, '/etc/containers/registries.conf.d/40-flotilla-by-name.conf'), async (home) => void (await home.podman(args.filter((arg) => !arg.startsWith('--')))));
    await expectByAgent();
  });

  it.each(['skopeo copy docker://docker.io', 'skopeo copy --src-tls-verify=false', 'buildah pull docker.io', 'buildah pull --tls-verify=false'])('%s', async (start) => {
    const page = readPage('clients/skopeo-buildah.md');
    const dropIn = start.includes('tls-verify') ? '' : file(page, '/etc/containers/registries.conf.d/50-flotilla.conf');
    await withHome(dropIn, async (home) => {
      const args = command(page, start);
      await (start.startsWith('skopeo') ? home.skopeo([...configured(home), ...args], { cwd: home.dir }) : home.buildah(args));
    });
    await expectByAgent();
  });

  it("CRI-O's file, read by a client that reads the same", async () => {
    const page = readPage('clients/crio.md');
    const name = command(page, 'crictl pull').at(-1)!;
    await withHome(file(page, '/etc/containers/registries.conf.d/50-flotilla.conf'), async (home) => void (await home.skopeo([...configured(home), 'inspect', '--no-tags', `docker://${name}`])));
  });

  it.each(['docker.io', 'quay.io'])('containerd as a mirror of %s, and by name', async (origin) => {
    const page = readPage('clients/containerd.md');
    const root = await mkdtemp(join(tmpdir(), 'flotilla-page-'));
    const containerd = await Containerd.start();
    try {
      for (const registryName of ['docker.io', 'quay.io']) {
        const path = `/etc/containerd/certs.d/${registryName}/hosts.toml`;
        await mkdir(dirname(join(root, path)), { recursive: true });
        await writeFile(join(root, path), file(page, path));
      }
      const asMirror = command(page, 'ctr images pull --hosts-dir').map((word) => word.replace('/etc/', `${root}/etc/`).replace('docker.io/', `${origin}/`));
      await containerd.ctr(asMirror);
      expect(await containerd.ctr(['images', 'ls'])).toContain(image.manifestDigest);
      await expectByAgent();
      await containerd.ctr(command(page, 'ctr images pull --plain-http').map((word) => word.replace('/docker.io/', `/${origin}/`)));
    } finally {
      await containerd.close();
      await rm(root, { recursive: true });
    }
  });

  it("containerd's config.toml is one that containerd reads", async () => {
    const version = (await run('containerd', ['--version'])).includes(' 1.') ? 'version = 2' : 'version = 3';
    const config = readPage('clients/containerd.md').files.find(({ text }) => text.startsWith(version))!;
    const root = await mkdtemp(join(tmpdir(), 'flotilla-page-'));
    try {
      await writeFile(join(root, 'config.toml'), config.text);
      expect(await run('containerd', ['--config', join(root, 'config.toml'), 'config', 'dump'])).toMatch(/config_path = ['"]\/etc\/containerd\/certs\.d/);
    } finally {
      await rm(root, { recursive: true });
    }
  });

  it('Docker as a mirror and by name', async () => {
    const page = readPage('clients/docker.md');
    await agent.stop();
    // What the page has the settings say of the default origin.
    agent = await fleet.addAgent(`agent-${count++}`, ['--origin', `docker.io=${registry.url}`, '--default-origin', 'docker.io']);
    const dockerd = await Dockerd.start(file(page, '/etc/docker/daemon.json'));
    try {
      await dockerd.docker(command(page, 'docker pull nginx'));
      await expectByAgent();
      await dockerd.docker(['image', 'rm', 'nginx:1.27']);
      await dockerd.docker(command(page, 'docker pull 127.0.0.1'));
      expect(await dockerd.docker(['image', 'inspect', '--format', '{{.Id}}', `${agent.host}/docker.io/library/nginx:1.27`])).toBe(`${image.config.digest}\n`);
    } finally {
      await dockerd.close();
    }
  });

  optionally('crane')('crane', () => {
    it('pull', async () => {
      const dir = await mkdtemp(join(tmpdir(), 'flotilla-page-'));
      try {
        await run('crane', command(readPage('clients/others.md'), 'crane pull'), { cwd: dir });
        await run('tar', ['-xf', 'nginx.tar', 'manifest.json'], { cwd: dir });
        expect(JSON.parse(await readFile(join(dir, 'manifest.json'), 'utf8'))).toMatchObject([{ Config: image.config.digest }]);
      } finally {
        await rm(dir, { recursive: true });
      }
      await expectByAgent();
    });
  });

  optionally('oras')('ORAS', () => {
    it('pull and discover', async () => {
      const page = readPage('clients/others.md');
      const dir = await mkdtemp(join(tmpdir(), 'flotilla-page-'));
      try {
        await run('oras', command(page, 'oras pull'), { cwd: dir });
        expect(await readFile(join(dir, 'report.txt'), 'utf8')).toBe(REPORT);
        expect(await run('oras', command(page, 'oras discover'), { cwd: dir })).toContain('application/vnd.example.signature');
      } finally {
        await rm(dir, { recursive: true });
      }
    });
  });

  it('curl, both ways to name the registry', async () => {
    for (const text of readPage('clients/others.md').commands.filter((each) => each.startsWith('curl'))) {
      const manifest = JSON.parse(await run('sh', ['-c', text.replaceAll(ENDPOINT, agent.host)])) as { config: { digest: string } };
      expect(manifest.config.digest).toBe(image.config.digest);
    }
  });
});
