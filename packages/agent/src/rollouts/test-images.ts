// For tests: images of an origin and a store in memory, as the executor sees them, with fetches that the test lets go on or fail.

import { createHash } from 'node:crypto';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import { parsePlatform } from '../content/platform.ts';
import { AgentError } from '../errors.ts';
import type { Descriptor, FetchedBytes, OwnImages, Repository } from './ports.ts';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';

export interface MadeImage extends Descriptor {
  readonly layers: readonly Descriptor[];
}

export class TestImages implements OwnImages {
  /** At the origin. */
  readonly tags = new Map<string, Descriptor>();
  readonly origin = new Map<string, Buffer>();
  /** On this host. */
  readonly stored = new Map<string, Buffer>();
  readonly kept = new Map<string, number>();
  readonly pins = new Map<string, Descriptor>();
  readonly fetched: string[] = [];
  /** Passed before each fetch ends. */
  beforeFetched: (digest: Digest, signal: AbortSignal) => Promise<void> | void = () => undefined;
  /** Thrown by the next calls to the origin, one each. */
  readonly faults: AgentError[] = [];
  /** Bytes of blobs on their way. */
  readonly partial = new Map<string, number>();

  /** @param name makes its bytes its own */
  addImage(name: string, layerSizes: readonly number[], platform = 'linux/amd64'): MadeImage {
    const layers = layerSizes.map((size, index) => this.#add(Buffer.alloc(size, `${name} ${index} ${platform}`), 'application/vnd.oci.image.layer.v1.tar'));
    const config = this.#add(Buffer.from(JSON.stringify({ name, ...parsePlatform(platform) })), 'application/vnd.oci.image.config.v1+json');
    const manifest = this.#add(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers })), OCI_MANIFEST);
    this.tags.set(name, manifest);
    return { ...manifest, layers: [config, ...layers] };
  }

  addIndex(name: string, platforms: Readonly<Record<string, MadeImage>>): Descriptor {
    const manifests = Object.entries(platforms).map(([text, { digest, size, mediaType }]) => {
      const [os, architecture, variant] = text.split('/');
      return { digest, size, mediaType, platform: { os, architecture, variant } };
    });
    const index = this.#add(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests })), OCI_INDEX);
    this.tags.set(name, index);
    return index;
  }

  /** It is on this host, whole. */
  store(image: MadeImage): void {
    for (const { digest } of [image, ...image.layers]) this.stored.set(digest, Buffer.from(this.origin.get(digest)!));
  }

  async resolve(_repository: Repository, tag: string, signal: AbortSignal): Promise<Descriptor> {
    this.#ask(signal);
    const found = this.tags.get(tag);
    if (found === undefined) throw new AgentError('MANIFEST_UNKNOWN', `no ${tag}`);
    return found;
  }

  async manifest(_repository: Repository, digest: Digest, signal: AbortSignal): Promise<{ descriptor: Descriptor; bytes: Uint8Array }> {
    this.#ask(signal);
    const bytes = this.origin.get(digest);
    if (bytes === undefined) throw new AgentError('MANIFEST_UNKNOWN', `no ${digest}`);
    this.stored.set(digest, bytes);
    const { mediaType } = JSON.parse(bytes.toString()) as { mediaType: string };
    return { descriptor: { digest, size: bytes.length, mediaType }, bytes };
  }

  async fetch(_repository: Repository, { digest, size }: Descriptor, signal: AbortSignal): Promise<FetchedBytes> {
    this.#ask(signal);
    if (this.stored.has(digest)) return { peer: 0, origin: 0 };
    this.fetched.push(digest);
    await this.beforeFetched(digest, signal);
    signal.throwIfAborted();
    this.stored.set(digest, this.origin.get(digest)!);
    return { peer: size, origin: 0 };
  }

  async held({ digest, size }: Pick<Descriptor, 'digest' | 'size'>): Promise<number> {
    return this.stored.has(digest) ? size : (this.partial.get(digest) ?? 0);
  }

  underWay({ digest }: Pick<Descriptor, 'digest'>): FetchedBytes | undefined {
    const bytes = this.partial.get(digest);
    return bytes === undefined || this.stored.has(digest) ? undefined : { peer: 0, origin: bytes };
  }

  keep(digests: readonly Digest[]): () => void {
    for (const digest of digests) this.kept.set(digest, (this.kept.get(digest) ?? 0) + 1);
    return () => {
      for (const digest of digests) this.kept.set(digest, this.kept.get(digest)! - 1);
    };
  }

  async readStored(digest: Digest, _signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    const bytes = this.stored.get(digest);
    return bytes && pieces(bytes);
  }

  async pin(repository: Repository, tag: string, descriptor: Descriptor): Promise<void> {
    this.pins.set(`${repository.origin}/${repository.repository}:${tag}`, descriptor);
  }

  #ask(signal: AbortSignal): void {
    signal.throwIfAborted();
    const fault = this.faults.shift();
    if (fault !== undefined) throw fault;
  }

  #add(bytes: Buffer, mediaType: string): Descriptor {
    const digest = parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
    this.origin.set(digest, bytes);
    return { digest, size: bytes.length, mediaType };
  }
}

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}
