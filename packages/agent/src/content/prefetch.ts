// Fetches the rest of an image ahead of a client that reads a few layers at a time.
//
// Only clients that have more layers to read than they open at once gain by it; and a client that has most layers
// already asks for few. So the rest is fetched once as many blobs of the image were asked for as clients open at once.

import type { Digest } from '@flotilla/shared/digest';
import { isForeignLayer, type ManifestReference } from './manifest.ts';
import type { Permit } from './ports.ts';

/** What containers/image and containerd open at once, by default. */
const CLIENT_PARALLEL = 6;
const PARALLEL_FETCHES = 6;
/** Images remembered. */
const MAX_IMAGES = 256;
/** A client between two layers is not a client that has gone. */
const ABANDONED_MS = 5000;

export type Fetch = (permit: Permit, reference: ManifestReference, signal: AbortSignal) => Promise<unknown>;

interface Image {
  /** Of the caller that opened a blob last: whoever was let in first may be let in no more. */
  permit: Permit;
  readonly blobs: readonly ManifestReference[];
  readonly asked: Set<Digest>;
  readers: number;
  abort: AbortController | undefined;
  abandon: NodeJS.Timeout | undefined;
}

export class Prefetch {
  readonly #enabled: boolean;
  readonly #fetch: Fetch;
  readonly #onError: (error: unknown, reference: ManifestReference) => void;
  /** By repository and manifest, as a caller of one repository must not have another one's read with its right. */
  readonly #images = new Map<string, Image>();
  readonly #byBlob = new Map<string, Image>();

  constructor(fetch: Fetch, onError: (error: unknown, reference: ManifestReference) => void, { enabled = true } = {}) {
    this.#enabled = enabled;
    this.#fetch = fetch;
    this.#onError = onError;
  }

  /** A manifest was handed to a client: its blobs belong together. */
  remember(permit: Permit, manifest: Digest, references: readonly ManifestReference[]): void {
    const key = keyOf(permit, manifest);
    const blobs = references.filter((reference) => reference.kind === 'blob' && !isForeignLayer(reference));
    if (!this.#enabled || blobs.length <= CLIENT_PARALLEL || this.#images.has(key)) return;
    const image: Image = { permit, blobs, asked: new Set(), readers: 0, abort: undefined, abandon: undefined };
    this.#images.set(key, image);
    for (const blob of blobs) this.#byBlob.set(keyOf(permit, blob.digest), image);
    if (this.#images.size > MAX_IMAGES) this.#drop(this.#images.keys().next().value!);
  }

  /** A client opens a blob. Call the returned function once it is done with it. */
  opened(permit: Permit, digest: Digest): () => void {
    const image = this.#byBlob.get(keyOf(permit, digest));
    if (image === undefined) return () => {};
    image.permit = permit;
    image.readers++;
    image.asked.add(digest);
    clearTimeout(image.abandon);
    if (image.abort === undefined && image.asked.size >= CLIENT_PARALLEL) this.#start(image);
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      image.readers--;
      if (image.readers > 0) return;
      image.abandon = setTimeout(() => this.#stop(image), ABANDONED_MS);
      image.abandon.unref();
    };
  }

  close(): void {
    for (const image of this.#images.values()) {
      clearTimeout(image.abandon);
      this.#stop(image);
    }
  }

  #start(image: Image): void {
    const abort = new AbortController();
    image.abort = abort;
    const queue = image.blobs.filter((blob) => !image.asked.has(blob.digest));
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined && !abort.signal.aborted; next = queue.shift()) {
        try {
          await this.#fetch(image.permit, next, abort.signal);
        } catch (error) {
          // The client will ask for it and be told; a prefetch that was stopped is no error.
          if (!abort.signal.aborted) this.#onError(error, next);
        }
      }
    };
    for (let i = 0; i < PARALLEL_FETCHES; i++) void worker();
  }

  #stop(image: Image): void {
    image.abort?.abort(new Error('the client has gone'));
    image.abort = undefined;
    image.asked.clear();
  }

  #drop(key: string): void {
    const image = this.#images.get(key);
    if (image === undefined) return;
    this.#images.delete(key);
    clearTimeout(image.abandon);
    this.#stop(image);
    for (const blob of image.blobs) {
      const id = keyOf(image.permit, blob.digest);
      if (this.#byBlob.get(id) === image) this.#byBlob.delete(id);
    }
  }
}

function keyOf({ repository: { origin, repository } }: Permit, digest: Digest): string {
  return `${origin}/${repository}@${digest}`;
}
