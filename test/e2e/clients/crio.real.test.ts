// CRI-O, by the configuration that `flotilla setup crio` writes and by image name, for machines that have it. It is not in Debian, and has to be
// built from its sources (with pinns, which comes with them): go build -tags containers_image_openpgp,exclude_graphdriver_btrfs ./cmd/crio
//   go install sigs.k8s.io/cri-tools/cmd/crictl@v1.34.0
// Recorded 2026 with CRI-O 1.37.0. What other machines run of it is client-pages.real.test.ts: its file, read by a client that reads the same.

import { execPath } from 'node:process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding } from '@flotilla/agent/cli/doctor/finding';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { run } from '../../support/command.ts';
import { Crio } from '../../support/crio.ts';
import { checkout } from '../../support/processes.ts';
import { needs, optionally } from '../../support/programs.ts';

const MAIN = join(checkout, 'packages/agent/src/main.ts');

needs('root', 'docker-registry', 'runc', 'conmon', 'tar', 'unshare')('CRI-O, where it is', () => {
  optionally('crio', 'crictl', 'pinns')('CRI-O', () => {
    let endpoint: ClientEndpoint;
    /** A new one for each pull: it has nothing. */
    let crio: Crio;
    let env: NodeJS.ProcessEnv;

    beforeAll(async () => {
      endpoint = await ClientEndpoint.start();
    });
    afterAll(() => endpoint?.close());
    beforeEach(async () => {
      const { agent, registry } = endpoint;
      env = { ...process.env, FLOTILLA_DATA: agent.dataDir, FLOTILLA_ORIGIN: `docker.io=${registry.url}`, FLOTILLA_LISTEN: agent.host };
      crio = await Crio.start();
    });
    afterEach(() => crio.close());

    /** Read again without a restart, as the page says. */
    async function setUp(): Promise<void> {
      await run(execPath, [MAIN, 'setup', 'crio', '--origin', 'docker.io', '--root', crio.root], { env });
      await crio.reload();
    }

    async function expectPulled(name: string, { top, blobs }: { top: { digest: string }; blobs: readonly { digest: string }[] }): Promise<void> {
      const { status } = JSON.parse(await crio.crictl(['inspecti', '--output', 'json', name])) as { status: { id: string; repoDigests: string[] } };
      expect(status.repoDigests.map((reference) => reference.split('@')[1])).toContain(top.digest);
      expect(`sha256:${status.id.replace(/^sha256:/, '')}`).toBe(blobs[0]!.digest);
    }

    it.each(['index', 'list', 'zstd'] as const)('pulls %s by the mirror that was set up', async (kind) => {
      const pushed = endpoint.kinds[kind];
      await setUp();
      await endpoint.throughAgent(pushed.blobs, () => crio.crictl(['pull', endpoint.byMirror(pushed.tag)]));
      await expectPulled(endpoint.byMirror(pushed.tag), pushed);
    });

    it("pulls by the mirror where root has a registries.conf of its own", async () => {
      const { index } = endpoint.kinds;
      await crio.close();
      crio = await Crio.start({ rootsOwn: '' });
      await setUp();
      await endpoint.throughAgent(index.blobs, () => crio.crictl(['pull', endpoint.byMirror(index.tag)]));
    });

    it('pulls by name', async () => {
      const { index } = endpoint.kinds;
      await mkdir(join(crio.root, 'etc/containers/registries.conf.d'));
      await writeFile(join(crio.root, 'etc/containers/registries.conf.d/40-flotilla-by-name.conf'), `[[registry]]\nlocation = "${endpoint.agent.host}"\ninsecure = true\n`);
      await crio.reload();
      await endpoint.throughAgent(index.blobs, () => crio.crictl(['pull', endpoint.byName(index.tag)]));
      await expectPulled(endpoint.byName(index.tag), index);
    });

    it('doctor finds out by crictl, and leaves nothing there', async () => {
      await setUp();
      const canary = endpoint.byMirror('list');
      const printed = await crio.beside(execPath, [MAIN, 'doctor', '--json', '--client', 'crio', '--canary', canary], { env });
      const { findings } = JSON.parse(printed) as { findings: Finding[] };
      expect(findings.find(({ check }) => check === 'canary crio')).toMatchObject({ verdict: 'ok', message: `${canary} came by the agent` });
      expect(JSON.parse(await crio.crictl(['images', '--output', 'json']))).toMatchObject({ images: [] });
    });
  });
});
