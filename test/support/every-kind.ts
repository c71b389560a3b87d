// One repository of every kind of content that registries hold, pushed byte for byte: index and manifest list, OCI and Docker manifests, gzip and
// zstd layers, an artifact with a subject, a foreign layer, an empty blob, a sha512 digest.
//
// Layers are real file systems with random content, so that clients unpack them and nothing that a client keeps can stand in for a pull.

import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip, zstdCompress } from 'node:zlib';
import { run } from './command.ts';
import { digestOf, PushTarget, type Descriptor } from './push.ts';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';
/** Several chunks of the exchange. */
const BIG_FILE_BYTES = 700_000;

const PLATFORMS = ['amd64', 'arm64'] as const;

interface Layer {
  /** Of the tar archive. */
  readonly diffId: string;
  readonly tar: Buffer;
  readonly file: LayerFile;
}

/** A file to compare after a pull. */
interface LayerFile {
  /** Relative to the root of the image. */
  readonly path: string;
  readonly sha256: string;
}

/** A tag, and all that a client gets that pulls it for every platform. */
export interface Pushed {
  readonly tag: string;
  /** What the tag is. */
  readonly top: Descriptor;
  /** For linux/amd64; `top` where there is no index. */
  readonly image: Descriptor;
  /** Config and layers of `image` that come from the registry. */
  readonly blobs: readonly Descriptor[];
  /** The same of all platforms. */
  readonly allBlobs: readonly Descriptor[];
  /** Manifests of all platforms. */
  readonly images: readonly Descriptor[];
  /** One of each layer of `image`. */
  readonly files: readonly LayerFile[];
}

export interface EveryKind {
  /** OCI index of two images with gzip layers. */
  readonly index: Pushed;
  /** Docker manifest list of two schema 2 images. */
  readonly list: Pushed;
  /** OCI manifest with a zstd layer and a gzip layer. */
  readonly zstd: Pushed;
  /** Docker schema 2 with a layer that is not in the registry but at a URL of its own. */
  readonly foreign: Pushed & { readonly foreignDigest: string; readonly foreignBytes: Buffer };
  /** An image with a layer of no bytes: clients that unpack refuse it from any registry. */
  readonly empty: Pushed;
  /** An artifact whose subject is `zstd`'s manifest, with an empty config. */
  readonly artifact: Pushed & { readonly subject: string };
  /** A manifest whose layer goes by its sha512 digest. */
  readonly sha512: Pushed;
}

/** @param url of the registry. @param foreignUrl where the foreign layer says it lies */
export async function pushEveryKind(url: string, repository: string, foreignUrl: string): Promise<EveryKind> {
  const target = new PushTarget(url, repository);
  const context = await mkdtemp(join(tmpdir(), 'flotilla-layers-'));
  try {
    const zstd = await pushImage(target, 'zstd', OCI_MANIFEST, 'amd64', [
      [await makeLayer(context, 'zstd'), 'application/vnd.oci.image.layer.v1.tar+zstd', promisify(zstdCompress)],
      [await makeLayer(context, 'gzip'), 'application/vnd.oci.image.layer.v1.tar+gzip', promisify(gzip)],
    ]);
    return {
      index: await pushIndex(target, context, 'index', OCI_INDEX, OCI_MANIFEST, 'application/vnd.oci.image.layer.v1.tar+gzip'),
      list: await pushIndex(target, context, 'list', DOCKER_LIST, DOCKER_MANIFEST, 'application/vnd.docker.image.rootfs.diff.tar.gzip'),
      zstd,
      foreign: await pushForeign(target, context, foreignUrl),
      empty: await pushEmpty(target),
      artifact: await pushArtifact(target, zstd),
      sha512: await pushSha512(target, context),
    };
  } finally {
    await rm(context, { recursive: true });
  }
}

/** A few small files and a big one. */
async function makeLayer(context: string, name: string): Promise<Layer> {
  const folder = await mkdtemp(join(context, 'layer-'));
  await mkdir(join(folder, name));
  const random = randomBytes(BIG_FILE_BYTES);
  await writeFile(join(folder, name, 'random'), random);
  for (let file = 0; file < 20; file++) await writeFile(join(folder, name, `${file}.txt`), `${name} ${file}\n`.repeat(file));
  const archive = `${folder}.tar`;
  await run('tar', ['--create', '--owner=0', '--group=0', '--directory', folder, '--file', archive, name]);
  const tar = await readFile(archive);
  return { tar, diffId: digestOf(tar), file: { path: `${name}/random`, sha256: digestOf(random).slice('sha256:'.length) } };
}

type Compress = (bytes: Buffer) => Promise<Buffer>;

async function pushImage(
  target: PushTarget,
  tag: string | undefined,
  mediaType: string,
  architecture: string,
  layers: readonly (readonly [Layer, string, Compress])[],
): Promise<Pushed> {
  const pushed = await Promise.all(layers.map(async ([{ tar }, type, compress]) => target.blob(type, await compress(tar))));
  const config = await pushConfig(target, mediaType, architecture, layers.map(([{ diffId }]) => diffId));
  const top = await target.manifest({ schemaVersion: 2, mediaType, config, layers: pushed }, tag);
  return single(tag ?? top.digest, top, [config, ...pushed], layers.map(([{ file }]) => file));
}

/** What is pulled is one manifest. */
function single(tag: string, top: Descriptor, blobs: readonly Descriptor[], files: readonly LayerFile[]): Pushed {
  return { tag, top, image: top, images: [top], blobs, allBlobs: blobs, files };
}

function pushConfig(target: PushTarget, manifestType: string, architecture: string, diffIds: readonly string[]): Promise<Descriptor> {
  const type = manifestType === DOCKER_MANIFEST ? 'application/vnd.docker.container.image.v1+json' : 'application/vnd.oci.image.config.v1+json';
  const config = { created: new Date().toISOString(), architecture, os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: diffIds }, history: diffIds.map(() => ({ created_by: 'a test' })) };
  return target.blob(type, Buffer.from(JSON.stringify(config)));
}

async function pushIndex(target: PushTarget, context: string, tag: string, indexType: string, manifestType: string, layerType: string): Promise<Pushed> {
  const images: Pushed[] = [];
  for (const architecture of PLATFORMS) {
    images.push(await pushImage(target, undefined, manifestType, architecture, [[await makeLayer(context, architecture), layerType, promisify(gzip)]]));
  }
  const manifests = images.map(({ top }, i) => ({ ...top, platform: { architecture: PLATFORMS[i], os: 'linux' } }));
  const top = await target.manifest({ schemaVersion: 2, mediaType: indexType, manifests }, tag);
  const first = images[0]!;
  return { tag, top, image: first.top, images: images.map((image) => image.top), blobs: first.blobs, allBlobs: images.flatMap(({ blobs }) => blobs), files: first.files };
}

async function pushForeign(target: PushTarget, context: string, foreignUrl: string): Promise<EveryKind['foreign']> {
  const [own, elsewhere] = [await makeLayer(context, 'own'), await makeLayer(context, 'elsewhere')];
  const layer = await target.blob('application/vnd.docker.image.rootfs.diff.tar.gzip', await promisify(gzip)(own.tar));
  const foreignBytes = await promisify(gzip)(elsewhere.tar);
  const foreign = { mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', digest: digestOf(foreignBytes), size: foreignBytes.length, urls: [foreignUrl] };
  const config = await pushConfig(target, DOCKER_MANIFEST, 'amd64', [elsewhere.diffId, own.diffId]);
  const top = await target.manifest({ schemaVersion: 2, mediaType: DOCKER_MANIFEST, config, layers: [foreign, layer] }, 'foreign');
  return { ...single('foreign', top, [config, layer], [own.file, elsewhere.file]), foreignDigest: foreign.digest, foreignBytes };
}

async function pushEmpty(target: PushTarget): Promise<Pushed> {
  const layer = await target.blob('application/vnd.oci.image.layer.v1.tar', Buffer.alloc(0));
  const config = await pushConfig(target, OCI_MANIFEST, 'amd64', [layer.digest]);
  const top = await target.manifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] }, 'empty');
  return single('empty', top, [config, layer], []);
}

async function pushArtifact(target: PushTarget, of: Pushed): Promise<EveryKind['artifact']> {
  const config = await target.blob(EMPTY_TYPE, Buffer.from('{}'));
  const files = [await target.blob('application/vnd.example.report+json', randomBytes(200_000))];
  const { mediaType, digest, size } = of.top;
  const content = { schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: 'application/vnd.example.report', config, layers: files, subject: { mediaType, digest, size } };
  const top = await target.manifest(content, 'artifact');
  // Where the registry has no referrers API: the tag that stands for it.
  const listed = { ...top, artifactType: content.artifactType };
  await target.manifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [listed] }, digest.replace(':', '-'));
  return { ...single('artifact', top, [config, ...files], []), subject: digest };
}

async function pushSha512(target: PushTarget, context: string): Promise<Pushed> {
  const { tar, diffId, file } = await makeLayer(context, 'sha512');
  const layer = await target.blob('application/vnd.oci.image.layer.v1.tar+gzip', await promisify(gzip)(tar), 'sha512');
  const config = await pushConfig(target, OCI_MANIFEST, 'amd64', [diffId]);
  const top = await target.manifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] }, 'sha512');
  return single('sha512', top, [config, layer], [file]);
}
