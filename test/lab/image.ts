// The image that is rolled out: random bytes that no run has seen before, a config, a manifest.
//
// Contents come from a key stream, so that a layer of any size is made again from its seed and never held whole.

import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';

const PIECE_BYTES = 1024 * 1024;
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

export interface ImageBlob {
  /** `sha256:<hex>` */
  readonly digest: string;
  readonly size: number;
  readonly content: () => Readable;
}

export interface Image {
  readonly repository: string;
  readonly tag: string;
  readonly manifest: string;
  readonly manifestType: string;
  /** Config first, then the layers. */
  readonly blobs: readonly ImageBlob[];
  /** All blobs together. */
  readonly bytes: number;
}

/** An image with layers of these sizes. */
export async function makeImage(layerBytes: readonly number[], repository = 'fleet/image'): Promise<Image> {
  const layers: ImageBlob[] = [];
  for (const size of layerBytes) {
    const seed = randomBytes(16);
    const content = (): Readable => Readable.from(keyStream(seed, size));
    layers.push({ digest: await digestOf(content()), size, content });
  }
  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) } }),
  );
  const configContent = (): Readable => Readable.from([config]);
  const configBlob: ImageBlob = { digest: await digestOf(configContent()), size: config.length, content: configContent };
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: configBlob.digest, size: configBlob.size },
    layers: layers.map(({ digest, size }) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size })),
  });
  const blobs = [configBlob, ...layers];
  return { repository, tag: 'v1', manifest, manifestType: MANIFEST_TYPE, blobs, bytes: blobs.reduce((sum, { size }) => sum + size, 0) };
}

/**
 * Sizes of a real image's kind: log-normal, from `minBytes` to `maxBytes`, together close to `totalBytes`. The same numbers for
 * the same arguments, so that runs are alike.
 */
export function logNormalSizes(layers: number, totalBytes: number, { minBytes = 200, maxBytes = 100e6, sigma = 2.5 } = {}): number[] {
  const random = generator(layers);
  const normal = Array.from({ length: layers }, () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
  const sizesAt = (scale: number): number[] => normal.map((z) => Math.round(Math.min(maxBytes, Math.max(minBytes, scale * Math.exp(sigma * z)))));
  let low = 0;
  let high = totalBytes;
  for (let step = 0; step < 60; step++) {
    const scale = (low + high) / 2;
    if (sizesAt(scale).reduce((sum, size) => sum + size, 0) > totalBytes) high = scale;
    else low = scale;
  }
  return sizesAt(low);
}

function* keyStream(seed: Buffer, size: number): Generator<Buffer> {
  const cipher = createCipheriv('aes-128-ctr', seed, Buffer.alloc(16));
  const zeros = Buffer.alloc(PIECE_BYTES);
  for (let left = size; left > 0; left -= PIECE_BYTES) yield cipher.update(left < PIECE_BYTES ? zeros.subarray(0, left) : zeros);
}

async function digestOf(content: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of content as AsyncIterable<Buffer>) hash.update(piece);
  return `sha256:${hash.digest('hex')}`;
}

/** Small and repeatable (mulberry32); nothing here is secret. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
