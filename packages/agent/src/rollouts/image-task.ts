// One task on one image: find the manifest of the platform, then have all of its blobs here (pull), or read all of them from disk (verify).
//
// Invariant: it ends well only when every blob of the manifest has been found finished on this host, manifests included. Non-goals: when to begin
// and what to tell (executor.ts), where bytes come from (content/).

import { createHash } from 'node:crypto';
import { digestAlgorithm, digestHex, type Digest } from '@flotilla/shared/digest';
import { isForeignLayer, parseManifest, type ManifestReference } from '../content/manifest.ts';
import { checkPlatform, choose, indexEntries, platformConfig, type Platform } from '../content/platform.ts';
import { AgentError } from '../errors.ts';
import type { Descriptor, FetchedBytes, OwnImages, Repository } from './ports.ts';

/** As clients do by default. */
const PARALLEL_BLOBS = 6;
/** An index may hold an index, though nobody makes such images. */
const MAX_INDEX_DEPTH = 3;

export interface ImageTaskInit {
  readonly repository: Repository;
  readonly digest: Digest;
  readonly platform: Platform;
  /** Somebody wants this platform and no other: then it counts too where no index offers a choice. */
  readonly named: boolean;
}

/** What is known once the manifest has been read. */
export interface Layout {
  readonly manifest: Digest;
  /** Of the pinned digest: what a tag answers. */
  readonly pinned: Descriptor;
  /** The config and the layers, each once. */
  readonly blobs: readonly Descriptor[];
  /** Manifests on the way to them. */
  readonly manifests: readonly Digest[];
}

export class ImageTask {
  readonly #images: OwnImages;
  readonly #init: ImageTaskInit;

  constructor(images: OwnImages, init: ImageTaskInit) {
    this.#images = images;
    this.#init = init;
  }

  /** Manifests, from wherever they can be had. @throws AgentError */
  layout(signal: AbortSignal): Promise<Layout> {
    const readConfig = async (config: Descriptor): Promise<Uint8Array> => {
      await this.#images.fetch(this.#init.repository, config, signal);
      return this.#readStored(config.digest, signal);
    };
    return this.#layout(async (digest) => {
      const { descriptor, bytes } = await this.#images.manifest(this.#init.repository, digest, signal);
      return { mediaType: descriptor.mediaType, bytes };
    }, readConfig);
  }

  /** Manifests, from disk alone. @throws IMAGE_INCOMPLETE, STORE_CORRUPT */
  layoutStored(signal: AbortSignal): Promise<Layout> {
    return this.#layout(
      async (digest) => ({ mediaType: undefined, bytes: await this.#readStored(digest, signal) }),
      (config) => this.#readStored(config.digest, signal),
    );
  }

  /** Has all blobs here. @param onDone told of each that is finished @throws AgentError */
  async pull({ blobs, manifests }: Layout, onDone: (digest: Digest, fetched: FetchedBytes) => void, signal: AbortSignal): Promise<FetchedBytes> {
    const { repository } = this.#init;
    // The first layers must not make room for the last ones.
    const release = this.#images.keep([...manifests, ...blobs.map(({ digest }) => digest)]);
    const total = { peer: 0, origin: 0 };
    const failed = new AbortController();
    const stop = AbortSignal.any([signal, failed.signal]);
    const queue = blobs.slice();
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const { peer, origin } = await this.#images.fetch(repository, next, stop);
        total.peer += peer;
        total.origin += origin;
        onDone(next.digest, { peer, origin });
      }
    };
    try {
      const workers = Array.from({ length: PARALLEL_BLOBS }, worker);
      // The first failure ends the rest, and all of them are waited for.
      for (const each of workers) each.catch((error: unknown) => failed.abort(error));
      const ends = await Promise.allSettled(workers);
      const fault = ends.find((end) => end.status === 'rejected');
      signal.throwIfAborted();
      if (fault !== undefined) throw failed.signal.reason;
      for (const { digest, size } of blobs) {
        if ((await this.#images.held({ digest, size })) < size) throw new AgentError('IMAGE_INCOMPLETE', `${digest} was fetched and is not here any more`);
      }
      return total;
    } finally {
      release();
    }
  }

  /** Reads all blobs and hashes them. @param onBytes told how far each is @throws IMAGE_INCOMPLETE, STORE_CORRUPT */
  async verify({ blobs }: Layout, onBytes: (digest: Digest, bytes: number) => void, signal: AbortSignal): Promise<void> {
    const missing: Digest[] = [];
    for (const { digest, size } of blobs) {
      const pieces = await this.#images.readStored(digest, signal);
      if (pieces === undefined) missing.push(digest);
      else await readWhole(digest, size, pieces, (bytes) => onBytes(digest, bytes), signal);
    }
    if (missing.length > 0) throw new AgentError('IMAGE_INCOMPLETE', `${missing.length} of ${blobs.length} blobs are not here`, { detail: { missing: missing.slice(0, 10) } });
  }

  async #readStored(digest: Digest, signal: AbortSignal): Promise<Uint8Array> {
    const pieces = await this.#images.readStored(digest, signal);
    if (pieces === undefined) throw new AgentError('IMAGE_INCOMPLETE', `${digest} is not here`);
    const parts: Uint8Array[] = [];
    for await (const piece of pieces) parts.push(Uint8Array.from(piece));
    return Buffer.concat(parts);
  }

  async #layout(read: (digest: Digest) => Promise<{ mediaType: string | undefined; bytes: Uint8Array }>, readConfig: (config: Descriptor) => Promise<Uint8Array>): Promise<Layout> {
    const { digest, platform } = this.#init;
    const manifests: Digest[] = [];
    let pinned: Descriptor | undefined;
    let current = digest;
    for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth++) {
      const { mediaType: declared, bytes } = await read(current);
      manifests.push(current);
      const { mediaType, references } = parseManifest(bytes, declared);
      pinned ??= { digest, size: bytes.length, mediaType };
      const entries = indexEntries(bytes);
      if (entries === undefined) {
        const config = platformConfig(references);
        // An index has chosen already.
        if (this.#init.named && depth === 0 && config !== undefined) checkPlatform(current, await readConfig(config), this.#init.platform);
        return { manifest: current, pinned, blobs: blobsOf(references), manifests };
      }
      current = choose(entries, platform).digest;
    }
    throw new AgentError('MANIFEST_MALFORMED', `${digest} is an index of indexes of indexes`);
  }
}

function blobsOf(references: readonly ManifestReference[]): Descriptor[] {
  const blobs = new Map<Digest, Descriptor>();
  for (const { kind, ...descriptor } of references) if (kind === 'blob' && !isForeignLayer(descriptor)) blobs.set(descriptor.digest, descriptor);
  return [...blobs.values()];
}

async function readWhole(digest: Digest, size: number, pieces: AsyncIterable<Uint8Array>, onBytes: (bytes: number) => void, signal: AbortSignal): Promise<void> {
  const hash = createHash(digestAlgorithm(digest));
  let bytes = 0;
  for await (const piece of pieces) {
    signal.throwIfAborted();
    hash.update(piece);
    bytes += piece.length;
    onBytes(bytes);
  }
  if (bytes !== size || hash.digest('hex') !== digestHex(digest)) throw new AgentError('STORE_CORRUPT', `${digest} on disk is something else`);
}
