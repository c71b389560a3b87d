// Pulls an image into this host's store, for an operator at the control socket: `flotilla pull`.
//
//   name ──> tag asked of the origin ──> index? the platform's manifest ──> its blobs, six at once, those that are here left alone
//
// With the agent's own rights: who may open the control socket is the operator of this host. What it adds to fetching is to tell how far it
// is. Non-goals: several platforms at once; keeping the image from eviction once it is here.

import type { Digest } from '@flotilla/shared/digest';
import { formatReference, InvalidReferenceError, parseImageName, type Reference } from '@flotilla/shared/reference';
import type { DownloadStatus } from './content/download-contract.ts';
import { isForeignLayer, parseManifest, type ManifestReference } from './content/manifest.ts';
import { checkPlatform, choose, indexEntries, platformConfig, type Platform } from './content/platform.ts';
import type { Descriptor, Repository } from './content/ports.ts';
import { AgentError, toAgentError } from './errors.ts';

/** As clients do by default. */
const PARALLEL_BLOBS = 6;
/** An index may name indexes; no deeper than this. */
const MAX_DEPTH = 3;
const MAX_PULLS = 8;
const PROGRESS_MS = 200;

export interface PullRequest {
  readonly image: string;
  readonly platform: Platform;
  /** Somebody wants this platform and no other: then it counts too where no index offers a choice, as it does for a rollout. */
  readonly named: boolean;
}

export interface PulledBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly role: 'config' | 'layer';
  /** elsewhere: not in the registry but at URLs of its own, which only its client may follow. */
  readonly state: 'stored' | 'missing' | 'elsewhere';
}

/** How far one blob is. */
export interface BlobProgress {
  readonly digest: Digest;
  /** Verified and here. */
  readonly bytes: number;
  /** What came since the pull began, by where it came from. */
  readonly peerBytes: number;
  readonly originBytes: number;
}

/** What is told of a pull, in this order; `failed` ends it anywhere. */
export type PullEvent =
  | { readonly type: 'resolved'; readonly image: string; readonly digest: Digest }
  | { readonly type: 'manifest'; readonly digest: Digest; readonly blobs: readonly PulledBlob[] }
  | { readonly type: 'progress'; readonly blobs: readonly BlobProgress[] }
  | ({ readonly type: 'blob'; readonly ms: number } & BlobProgress)
  | PullDone
  | { readonly type: 'failed'; readonly code: string; readonly message: string; readonly help: string };

export interface PullDone {
  readonly type: 'done';
  readonly image: string;
  readonly digest: Digest;
  /** Of the whole image on this platform; of these, what was here before. */
  readonly bytes: number;
  readonly storedBytes: number;
  readonly peerBytes: number;
  readonly originBytes: number;
  readonly ms: number;
}

/** Images fetched with the agent's own rights. Every method throws AgentError. */
export interface PulledImages {
  /** The tag, as the origin says now. */
  resolve(repository: Repository, tag: string, signal: AbortSignal): Promise<Descriptor>;
  /** A verified manifest. */
  manifest(repository: Repository, digest: Digest, signal: AbortSignal): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }>;
  /** Has the whole blob here; tells where its bytes came from. */
  fetch(repository: Repository, blob: Descriptor, signal: AbortSignal): Promise<{ readonly peer: number; readonly origin: number }>;
  /** The bytes of a finished blob; undefined: it is not here. */
  readStored(digest: Digest, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Bytes of the blob that are here. */
  held(blob: Pick<Descriptor, 'digest' | 'size'>): Promise<number>;
  /** Keeps these from eviction until the returned function is called. */
  keep(digests: readonly Digest[]): () => void;
}

export interface PullsComponents {
  readonly images: PulledImages;
  /** @throws AgentError NAME_UNKNOWN, NAME_INVALID, ORIGIN_FORBIDDEN */
  readonly resolveImage: (path: string, ns: string | undefined) => Repository;
  /** `host:port` of the local endpoint: what clients put before names. */
  readonly endpoint: string;
  readonly downloads: () => readonly DownloadStatus[];
  readonly now: () => number;
}

export class Pulls {
  readonly #with: PullsComponents;
  #running = 0;

  constructor(components: PullsComponents) {
    this.#with = components;
  }

  /** Never throws: `failed` is the last event then. Ends without a last event when the signal aborts. */
  async *pull(request: PullRequest, signal: AbortSignal): AsyncGenerator<PullEvent, void, void> {
    // Also when nobody asks for the next event any more.
    const left = new AbortController();
    this.#running++;
    try {
      if (this.#running > MAX_PULLS) throw new AgentError('TOO_MANY_PULLS', `${MAX_PULLS} pulls are running`);
      yield* this.#pull(request, AbortSignal.any([signal, left.signal]));
    } catch (error) {
      if (signal.aborted) return;
      const { code, message, row } = toAgentError(error);
      yield { type: 'failed', code, message, help: row.help };
    } finally {
      this.#running--;
      left.abort();
    }
  }

  async *#pull({ image, platform, named }: PullRequest, signal: AbortSignal): AsyncGenerator<PullEvent, void, void> {
    const { images, now } = this.#with;
    const startedMs = now();
    const { repository, reference } = this.#parse(image);
    const digest = 'tag' in reference ? (await images.resolve(repository, reference.tag, signal)).digest : reference.digest;
    const name = `${repository.origin}/${repository.repository}${'tag' in reference ? ':' : '@'}${formatReference(reference)}`;
    yield { type: 'resolved', image: name, digest };
    const { manifests, bytes, mediaType } = await this.#manifestOf(repository, digest, platform, signal);
    const references = blobsOf(bytes, mediaType);
    const config = configDigest(bytes);
    const blobs = await Promise.all(references.map((blob) => this.#look(blob, config)));
    yield { type: 'manifest', digest: manifests.at(-1)!, blobs };

    // The first layers must not make room for the last ones.
    const release = images.keep([...manifests, ...references.map((blob) => blob.digest)]);
    try {
      const missing = references.filter((_, index) => blobs[index]!.state === 'missing');
      const progress = new Progress(missing, this.#with.downloads, now);
      const told = async function* (work: Promise<void>): AsyncGenerator<PullEvent, void, void> {
        yield* progress.until(work);
        await work;
      };
      // An index has chosen already.
      const decides = named && manifests.length === 1 ? platformConfig(references) : undefined;
      if (decides !== undefined) {
        yield* told(this.#fetchAll(repository, missing.filter(({ digest: each }) => each === decides.digest), progress, signal));
        checkPlatform(digest, await this.#readStored(decides.digest, signal), platform);
      }
      yield* told(this.#fetchAll(repository, missing.filter(({ digest: each }) => each !== decides?.digest), progress, signal));
      const sum = (state: PulledBlob['state']): number => blobs.filter((blob) => blob.state === state).reduce((total, { size }) => total + size, 0);
      yield { type: 'done', image: name, digest, bytes: sum('stored') + sum('missing'), storedBytes: sum('stored'), ...progress.totals(), ms: now() - startedMs };
    } finally {
      release();
    }
  }

  #parse(image: string): { repository: Repository; reference: Reference } {
    try {
      const { origin, repository, reference } = parseImageName(image, this.#with.endpoint);
      return { repository: this.#resolve(origin, repository), reference };
    } catch (error) {
      if (!(error instanceof InvalidReferenceError)) throw error;
      throw new AgentError(error.code === 'MANIFEST_INVALID' ? 'TAG_INVALID' : error.code, error.message, { cause: error });
    }
  }

  /** By the rules of names, the default origin included. */
  #resolve(origin: string, repository: string): Repository {
    const { resolveImage, endpoint } = this.#with;
    // As clients without a mirror setting name it; or without any origin.
    if (origin === endpoint) return resolveImage(repository, undefined);
    // A port is no part of a path.
    return origin.includes(':') ? resolveImage(repository, origin) : resolveImage(`${origin}/${repository}`, undefined);
  }

  /** The manifest of the image on this platform, and the indexes on the way to it. */
  async #manifestOf(repository: Repository, digest: Digest, platform: Platform, signal: AbortSignal): Promise<{ manifests: Digest[]; bytes: Uint8Array; mediaType: string }> {
    const manifests: Digest[] = [];
    for (let current = digest; manifests.length <= MAX_DEPTH; ) {
      const { descriptor, bytes } = await this.#with.images.manifest(repository, current, signal);
      manifests.push(current);
      const entries = indexEntries(bytes);
      if (entries === undefined) return { manifests, bytes, mediaType: descriptor.mediaType };
      current = choose(entries, platform).digest;
    }
    throw new AgentError('MANIFEST_MALFORMED', `${digest} is an index of indexes, more than ${MAX_DEPTH} deep`);
  }

  async #look(blob: ManifestReference, config: string | undefined): Promise<PulledBlob> {
    const { digest, size } = blob;
    const state = isForeignLayer(blob) ? 'elsewhere' : (await this.#with.images.held(blob)) >= size ? 'stored' : 'missing';
    return { digest, size, role: digest === config ? 'config' : 'layer', state };
  }

  async #readStored(digest: Digest, signal: AbortSignal): Promise<Uint8Array> {
    const pieces = await this.#with.images.readStored(digest, signal);
    if (pieces === undefined) throw new AgentError('IMAGE_INCOMPLETE', `${digest} was fetched and is not here any more`);
    return Buffer.concat(await Array.fromAsync(pieces, (piece) => Uint8Array.from(piece)));
  }

  /** Rejects with the first failure, when all others have stopped. */
  async #fetchAll(repository: Repository, missing: readonly Descriptor[], progress: Progress, outer: AbortSignal): Promise<void> {
    const failed = new AbortController();
    const signal = AbortSignal.any([outer, failed.signal]);
    const queue = [...missing];
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined && !signal.aborted; next = queue.shift()) {
        progress.started(next.digest);
        progress.finished(next.digest, await this.#with.images.fetch(repository, next, signal));
      }
    };
    const workers = Array.from({ length: PARALLEL_BLOBS }, () => worker().catch((error: unknown) => failed.abort(error)));
    await Promise.all(workers);
    if (failed.signal.aborted) throw failed.signal.reason;
    outer.throwIfAborted();
  }
}

/** Each once: an image may hold the same layer twice. */
function blobsOf(manifest: Uint8Array, mediaType: string): ManifestReference[] {
  const { references } = parseManifest(manifest, mediaType);
  return [...new Map(references.filter(({ kind }) => kind === 'blob').map((reference) => [reference.digest, reference])).values()];
}

/** @param manifest JSON that was parsed before */
function configDigest(manifest: Uint8Array): string | undefined {
  const { config } = JSON.parse(Buffer.from(manifest).toString('utf8')) as { config?: { digest?: string } | null };
  return config?.digest;
}

/** What is known of the blobs of one pull, from the downloads behind them; and the events of it. */
class Progress {
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #downloads: () => readonly DownloadStatus[];
  readonly #now: () => number;
  /** Those under way. */
  readonly #running = new Map<string, { readonly startedMs: number; bytes: number; peerBytes: number; originBytes: number }>();
  readonly #totals = { peerBytes: 0, originBytes: 0 };
  /** Finished and not yet told; at most one for each blob. */
  readonly #ended: PullEvent[] = [];
  #wake: () => void = () => undefined;
  #told = '';

  constructor(missing: readonly Descriptor[], downloads: () => readonly DownloadStatus[], now: () => number) {
    this.#sizes = new Map(missing.map(({ digest, size }) => [digest, size]));
    this.#downloads = downloads;
    this.#now = now;
  }

  started(digest: Digest): void {
    this.#running.set(digest, { startedMs: this.#now(), bytes: 0, peerBytes: 0, originBytes: 0 });
  }

  finished(digest: Digest, { peer, origin }: { readonly peer: number; readonly origin: number }): void {
    const { startedMs } = this.#running.get(digest)!;
    this.#running.delete(digest);
    this.#totals.peerBytes += peer;
    this.#totals.originBytes += origin;
    this.#ended.push({ type: 'blob', digest, bytes: this.#sizes.get(digest)!, peerBytes: peer, originBytes: origin, ms: this.#now() - startedMs });
    this.#wake();
  }

  totals(): { peerBytes: number; originBytes: number } {
    return { ...this.#totals };
  }

  /** Tells what changes until the work has ended, one way or the other. */
  async *until(work: Promise<void>): AsyncGenerator<PullEvent, void, void> {
    const ended = work.then(
      () => true,
      () => true,
    );
    for (let done = false; !done; ) {
      let timer: NodeJS.Timeout | undefined;
      const woken = new Promise<boolean>((resolve) => {
        this.#wake = () => resolve(false);
        timer = setTimeout(resolve, PROGRESS_MS, false);
      });
      done = await Promise.race([ended, woken]);
      clearTimeout(timer);
      yield* this.#news();
    }
  }

  *#news(): Generator<PullEvent> {
    yield* this.#ended.splice(0);
    for (const { digest, held, chunks, size, bytes } of this.#downloads()) {
      const blob = this.#running.get(digest);
      if (blob === undefined) continue;
      blob.bytes = held === chunks ? size : Math.floor((held / chunks) * size);
      blob.peerBytes = bytes.peer;
      blob.originBytes = bytes.origin;
    }
    const blobs = [...this.#running].map(([digest, { bytes, peerBytes, originBytes }]): BlobProgress => ({ digest: digest as Digest, bytes, peerBytes, originBytes }));
    const told = JSON.stringify(blobs);
    if (blobs.length === 0 || told === this.#told) return;
    this.#told = told;
    yield { type: 'progress', blobs };
  }
}
