// Images of real content, built by buildah from this machine's own files and pushed to a registry.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { run } from './command.ts';
import type { ContainersHome } from './containers.ts';
import { programPath } from './programs.ts';

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

/** An image as the registry has it. */
export interface PushedImage {
  readonly repository: string;
  readonly tag: string;
  readonly manifestDigest: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface ImageFile {
  /** in the image, absolute */
  readonly path: string;
  readonly sha256: string;
}

/** Big programs of this machine: together well over 50 MB, even compressed. */
const BIG_PROGRAMS = ['podman', 'buildah', 'skopeo', 'docker-registry'];

/**
 * Builds and pushes an image of three layers: this machine's container tools and Node (over 50 MB as pushed), its time zones (many small files),
 * and one line of text (under 1 KB).
 * @returns the image, and files of it to compare after a pull
 */
export async function pushRealImage(home: ContainersHome, registry: string, repository: string, tag: string): Promise<PushedImage & { readonly files: readonly ImageFile[] }> {
  const context = await mkdtemp(join(home.dir, 'context-'));
  await Promise.all(['programs', 'zones', 'note'].map((folder) => mkdir(join(context, folder))));
  const programs = [process.execPath, ...BIG_PROGRAMS.map((name) => programPath(name)!)];
  for (const program of programs) await cp(program, join(context, 'programs', basename(program)), { dereference: true });
  await cp('/usr/share/zoneinfo', join(context, 'zones'), { recursive: true });
  // Not the same in two runs: nothing that a client keeps between runs can stand in for a pull.
  await writeFile(join(context, 'note', 'note.txt'), `built at ${new Date().toISOString()} by process ${process.pid}\n`);
  const containerfile = 'FROM scratch\nCOPY programs /opt/\nCOPY zones /usr/share/zoneinfo/\nCOPY note /etc/\n';

  const files = [...programs.map((program) => ({ path: `/opt/${basename(program)}`, source: join('programs', basename(program)) })), { path: '/etc/note.txt', source: 'note/note.txt' }];
  const hashed = await Promise.all(files.map(async ({ path, source }) => ({ path, sha256: await sha256OfFile(join(context, source)) })));
  const image = await buildAndPush(home, registry, repository, tag, context, containerfile);
  const sizes = image.layers.map((layer) => layer.size);
  if (!sizes.some((size) => size > 50e6) || !sizes.some((size) => size < 1024)) {
    throw new Error(`the test image must have a layer over 50 MB and one under 1 KB, not ${sizes.join(', ')}`);
  }
  return { ...image, files: hashed };
}

/** An image whose entrypoint answers every caller of 127.0.0.1:`port` with one line of text. */
export async function pushGreeter(home: ContainersHome, registry: string, repository: string, tag: string, port: number, greeting: string, pushFlags: readonly string[] = []): Promise<PushedImage> {
  const context = await mkdtemp(join(home.dir, 'context-'));
  const rootfs = join(context, 'rootfs');
  await mkdir(join(rootfs, 'bin'), { recursive: true });
  const netcat = programPath('nc')!;
  const shell = programPath('sh')!;
  const libraries = (await Promise.all([netcat, shell].map((program) => run('ldd', [program])))).join('').match(/\/\S+/g) ?? [];
  for (const library of new Set(libraries)) {
    await mkdir(join(rootfs, dirname(library)), { recursive: true });
    await cp(library, join(rootfs, library), { dereference: true });
  }
  await cp(netcat, join(rootfs, 'bin/nc'), { dereference: true });
  await cp(shell, join(rootfs, 'bin/sh'), { dereference: true });
  await writeFile(join(rootfs, 'greeting'), `${greeting}\n`);
  await writeFile(join(rootfs, 'bin/serve'), `#!/bin/sh\nwhile nc -l -N 127.0.0.1 ${port} < /greeting; do :; done\n`, { mode: 0o755 });
  return buildAndPush(home, registry, repository, tag, context, 'FROM scratch\nCOPY rootfs /\nENTRYPOINT ["/bin/serve"]\n', pushFlags);
}

async function buildAndPush(home: ContainersHome, registry: string, repository: string, tag: string, context: string, containerfile: string, pushFlags: readonly string[] = []): Promise<PushedImage> {
  const file = join(context, 'Containerfile');
  await writeFile(file, containerfile);
  const local = `localhost/${repository}:${tag}`;
  await home.buildah(['bud', '--layers', '--quiet', '--file', file, '--tag', local, context]);
  const name = `docker://${registry}/${repository}:${tag}`;
  await home.buildah(['push', '--quiet', '--tls-verify=false', ...pushFlags, local, name]);
  await home.buildah(['rmi', '--all', '--force']);
  await rm(context, { recursive: true });

  const raw = await home.skopeo(['inspect', '--raw', '--tls-verify=false', ...pushFlags, name]);
  const manifest = JSON.parse(raw) as { config: Descriptor; layers: Descriptor[] };
  const manifestDigest = `sha256:${createHash('sha256').update(raw).digest('hex')}`;
  return { repository, tag, manifestDigest, config: manifest.config, layers: manifest.layers };
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** Digests of the image that `skopeo copy ... dir:DIR` wrote: of its manifest file, and of every blob file by name. */
export async function digestsInDir(dir: string, image: PushedImage): Promise<{ readonly manifest: string; readonly blobs: readonly string[] }> {
  const manifest = createHash('sha256').update(await readFile(join(dir, 'manifest.json'))).digest('hex');
  const blobs = await Promise.all([image.config, ...image.layers].map(async ({ digest }) => `sha256:${await sha256OfFile(join(dir, digest.slice('sha256:'.length)))}`));
  return { manifest: `sha256:${manifest}`, blobs };
}
