// Images fetched for nobody at the local endpoint: by the agent itself, on its operator's word, with its own rights at the origin.
//
// Everything goes the way of a client's pull: the origin is asked, what it says is remembered, blobs are downloads that late callers join. What is
// fetched for a rollout comes behind whatever clients of this host wait for. Non-goals: which manifests and blobs make an image.

import type { Digest } from '@flotilla/shared/digest';
import { AgentError } from '../errors.ts';
import type { Rights } from '../access/rights.ts';
import type { Downloads, FetchedBytes } from './downloads.ts';
import type { Images } from './images.ts';
import type { Caller, Descriptor, Repository, Store } from './ports.ts';

const OWN: Caller = { authorization: undefined, asksOrigin: false, own: true };
/** What is fetched for a rollout, the tracker has named. */
const NAMED: Caller = { ...OWN, named: true };

export interface OwnImagesComponents {
  readonly images: Pick<Images, 'manifest' | 'fetch'>;
  readonly downloads: Pick<Downloads, 'held' | 'underWay'>;
  readonly store: Pick<Store, 'find' | 'pin' | 'unpin'>;
  readonly rights: { readonly facts: Pick<Rights['facts'], 'resolved'> };
  /** It is fetched for rollouts: behind what clients wait for. */
  readonly low: boolean;
}

export class OwnImages {
  readonly #with: OwnImagesComponents;
  readonly #caller: Caller;

  constructor(components: OwnImagesComponents) {
    this.#with = components;
    this.#caller = components.low ? NAMED : OWN;
  }

  /** The tag, as the origin says now. Never an older answer. */
  async resolve(repository: Repository, tag: string, signal: AbortSignal): Promise<Descriptor> {
    const { descriptor, stale } = await this.#with.images.manifest(repository, { tag }, [], { ...this.#caller, asksOrigin: true }, signal);
    if (stale) throw new AgentError('ORIGIN_UNREACHABLE', `${repository.origin} does not answer, and only it can say what ${tag} is`);
    return descriptor;
  }

  /** A manifest that the origin lets this agent read; verified. */
  async manifest(repository: Repository, digest: Digest, signal: AbortSignal): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }> {
    const served = await this.#with.images.manifest(repository, { digest }, [], this.#caller, signal);
    return { descriptor: served.descriptor, bytes: await served.bytes(signal) };
  }

  /** Has the whole blob here. @throws AgentError DISK_FULL where it cannot be kept */
  async fetch(repository: Repository, { digest, size }: Descriptor, signal: AbortSignal): Promise<FetchedBytes> {
    return this.#with.images.fetch(repository, { digest, size }, this.#caller, this.#with.low, signal);
  }

  /** Bytes of the blob that are here: of the finished one, or of the one on its way. */
  held(blob: Pick<Descriptor, 'digest' | 'size'>): Promise<number> {
    return this.#with.downloads.held({ digest: blob.digest, size: blob.size });
  }

  /** Where the bytes of a blob on its way have come from up to now; undefined: it is not on its way. */
  underWay(blob: Pick<Descriptor, 'digest' | 'size'>): FetchedBytes | undefined {
    return this.#with.downloads.underWay({ digest: blob.digest, size: blob.size });
  }

  /** Keeps these from eviction until the returned function is called. */
  keep(digests: readonly Digest[]): () => void {
    const { store } = this.#with;
    for (const digest of digests) store.pin(digest);
    let kept = true;
    return () => {
      if (kept) for (const digest of digests) store.unpin(digest);
      kept = false;
    };
  }

  /** The bytes of a finished blob, each chunk compared with its digest; undefined: it is not here. Throws STORE_CORRUPT while it is read. */
  async readStored(digest: Digest, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    const stored = await this.#with.store.find(digest);
    if (stored === undefined) return undefined;
    const { chunkDigests } = stored;
    const { store } = this.#with;
    return (async function* chunks(): AsyncGenerator<Uint8Array> {
      store.pin(digest);
      try {
        for (let index = 0; index < chunkDigests.length; index++) {
          signal.throwIfAborted();
          yield await stored.readChunk(index);
        }
      } finally {
        store.unpin(digest);
      }
    })();
  }

  /** What this tag answers while its origin is unreachable. */
  async pin(repository: Repository, tag: string, descriptor: Descriptor): Promise<void> {
    await this.#with.rights.facts.resolved(repository, tag, descriptor);
  }
}
