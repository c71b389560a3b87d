// crane and oras, by image name, for machines that have them:
//   go install github.com/google/go-containerregistry/cmd/crane@v0.20.6
//   go install oras.land/oras/cmd/oras@v1.2.3
// What they send is kept in ../sequences/go-clients.ts, which every machine can play.

import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { ClientEndpoint } from '../../support/client-endpoint.ts';
import { run } from '../../support/command.ts';
import { sha256OfFile } from '../../support/image.ts';
import { needs, optionally } from '../../support/programs.ts';

needs('docker-registry', 'tar')('clients that take image names only', () => {
  let endpoint: ClientEndpoint;
  let dir: string;

  beforeAll(async () => {
    endpoint = await ClientEndpoint.start();
  });
  afterAll(() => endpoint?.close());
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'flotilla-clients-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  /** Blobs and manifests of an OCI layout folder, each hashed. */
  async function contentOf(layout: string): Promise<Set<string>> {
    const blobs = join(layout, 'blobs', 'sha256');
    const names = await readdir(blobs);
    for (const name of names) expect(await sha256OfFile(join(blobs, name))).toBe(name);
    return new Set(names.map((name) => `sha256:${name}`));
  }

  const digests = (...of: readonly { readonly digest: string }[]): Set<string> => new Set(of.map(({ digest }) => digest));

  optionally('crane')('crane', () => {
    it.each(['index', 'list', 'artifact'] as const)('pulls %s whole', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const layout = join(dir, 'layout');
      await endpoint.throughAgent(pushed.allBlobs, () => run('crane', ['pull', '--format', 'oci', '--annotate-ref', endpoint.byName(pushed.tag), layout]));
      expect(await contentOf(layout)).toEqual(digests(pushed.top, ...pushed.images, ...pushed.allBlobs));
    });

    it('resolves, lists, and is told what is not there', async () => {
      const { index } = endpoint.kinds;
      expect((await run('crane', ['digest', endpoint.byName(index.tag)])).trim()).toBe(index.top.digest);
      expect((await run('crane', ['ls', endpoint.byName('').slice(0, -1)])).split('\n')).toContain(index.tag);
      await expect(run('crane', ['digest', endpoint.byName('missing')])).rejects.toThrow('MANIFEST_UNKNOWN');
    });
  });

  optionally('oras')('oras', () => {
    it.each(['index', 'list', 'zstd', 'empty', 'artifact'] as const)('copies %s whole', async (kind) => {
      const pushed = endpoint.kinds[kind];
      const layout = join(dir, 'layout');
      await endpoint.throughAgent(pushed.allBlobs, () => run('oras', ['cp', '--from-plain-http', endpoint.byName(pushed.tag), '--to-oci-layout', `${layout}:x`]));
      const expected = digests(pushed.top, ...pushed.images, ...pushed.allBlobs);
      // The subject comes along.
      if (kind === 'artifact') for (const digest of digests(endpoint.kinds.zstd.top, ...endpoint.kinds.zstd.allBlobs)) expected.add(digest);
      expect(await contentOf(layout)).toEqual(expected);
    });

    it('finds what refers to an image', async () => {
      const found = JSON.parse(await run('oras', ['discover', '--plain-http', '--format', 'json', endpoint.byName('zstd')])) as { manifests: { digest: string; artifactType: string }[] };
      expect(found.manifests).toMatchObject([{ digest: endpoint.kinds.artifact.top.digest, artifactType: 'application/vnd.example.report' }]);
    });

    it('lists tags, fetches a sha512 blob', async () => {
      const repository = endpoint.byName('').slice(0, -1);
      expect((await run('oras', ['repo', 'tags', '--plain-http', repository])).split('\n')).toContain('sha512');
      const [, layer] = endpoint.kinds.sha512.blobs;
      await run('oras', ['blob', 'fetch', '--plain-http', '--output', join(dir, 'layer'), `${repository}@${layer!.digest}`]);
      expect(`sha512:${createHash('sha512').update(await readFile(join(dir, 'layer'))).digest('hex')}`).toBe(layer!.digest);
    });
  });
});
