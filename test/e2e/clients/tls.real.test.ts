// An endpoint with a certificate of one's own, and clients that check it: by image name, and as a mirror.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestCa } from '@flotilla/agent/origin/test-certificates';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Containerd } from '../../support/containerd.ts';
import { ContainersHome } from '../../support/containers.ts';
import { pushEveryKind, type EveryKind } from '../../support/every-kind.ts';
import { FleetProcesses, type AgentProgram } from '../../support/processes.ts';
import { needs } from '../../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../../support/registry.ts';

needs('root', 'docker-registry', 'skopeo', 'podman', 'runc', 'containerd', 'ctr', 'tar')('an endpoint with a certificate', () => {
  let registry: RunningRegistry;
  let kinds: EveryKind;
  let fleet: FleetProcesses;
  let agent: AgentProgram;
  /** The CA alone, as clients want it, and what they must not find there. */
  let certs: string;
  let dir: string;
  let count = 0;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'flotilla-tls-'));
    certs = join(dir, 'certs');
    await mkdir(certs);
    const ca = await TestCa.create();
    const { cert, key } = await ca.issue('an endpoint');
    await writeFile(join(certs, 'ca.crt'), ca.cert);
    await writeFile(join(dir, 'endpoint.pem'), cert);
    await writeFile(join(dir, 'endpoint.key'), key);
    registry = await startRegistry();
    kinds = await pushEveryKind(registry.url, 'library/kinds', 'http://127.0.0.1:1/layer');
    fleet = await FleetProcesses.start();
  });
  afterAll(async () => {
    await fleet?.close();
    await registry?.close();
    await rm(dir, { recursive: true });
  });
  beforeEach(async () => {
    const tls = ['--tls-cert', join(dir, 'endpoint.pem'), '--tls-key', join(dir, 'endpoint.key')];
    agent = await fleet.addAgent(`agent-${count++}`, ['--origin', `docker.io=${registry.url}`, ...tls]);
  });
  afterEach(() => agent.stop());

  async function expectByAgent(): Promise<void> {
    const { origin } = await agent.blobBytes();
    expect(origin).toBeGreaterThanOrEqual(kinds.index.blobs.reduce((sum, { size }) => sum + size, 0));
  }

  it('skopeo takes it by the CA, and refuses it without', async () => {
    const home = await ContainersHome.create();
    try {
      const copy = (...flags: string[]): Promise<string> => home.skopeo(['copy', ...flags, `docker://${agent.host}/docker.io/library/kinds:index`, `dir:${join(home.dir, 'copy')}`]);
      await expect(copy()).rejects.toThrow(/certificate/);
      await copy('--src-cert-dir', certs);
    } finally {
      await home.close();
    }
    await expectByAgent();
  });

  it('podman takes it as a mirror', async () => {
    const home = await ContainersHome.create({ dropIn: `[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "${agent.host}/docker.io"\n` });
    try {
      await home.podman(['pull', '--cert-dir', certs, 'docker.io/library/kinds:index']);
    } finally {
      await home.close();
    }
    await expectByAgent();
  });

  it('containerd takes it as a mirror', async () => {
    const containerd = await Containerd.start();
    try {
      const hosts = join(containerd.dir, 'certs.d', 'docker.io');
      await mkdir(hosts, { recursive: true });
      await writeFile(join(hosts, 'hosts.toml'), `server = "https://registry-1.docker.io"\n\n[host."https://${agent.host}"]\n  capabilities = ["pull", "resolve"]\n  ca = "${join(certs, 'ca.crt')}"\n`);
      await containerd.ctr(['images', 'pull', '--hosts-dir', join(containerd.dir, 'certs.d'), '--platform', 'linux/amd64', 'docker.io/library/kinds:index']);
      expect(await containerd.ctr(['images', 'ls'])).toContain(kinds.index.top.digest);
    } finally {
      await containerd.close();
    }
    await expectByAgent();
  });
});
