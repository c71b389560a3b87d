// What the tracker is told once each: blobs that are finished, manifests that were asked for, and the last errors for who looks closer.
//
// Bounds: as agent-report has them; of what waits too long for a tracker the oldest goes. A manifest is told again after RETELL_MS: that it is still
// in use is news.

import { MAX_ERRORS, MAX_FINISHED, MAX_MANIFESTS, MAX_MANIFEST_BLOBS, MAX_REQUEST_IDS, type FinishedBlob, type HostReport, type SeenManifest } from '@flotilla/shared/agent-report';
import type { ManifestReference } from '../content/manifest.ts';
import type { Repository } from '../content/ports.ts';

const RETELL_MS = 60_000;
const MAX_TOLD = 4_096;
const MAX_WAITING_MANIFESTS = 64;
/** Of finished blobs or manifests in one report, as JSON: a post has 1 MiB. */
const MAX_REPORT_BYTES = 256 * 1024;
/** Blobs of which it is remembered which manifest names them. */
const MAX_NAMED = 20_000;
/** Blobs that are asked for; those that are here already are never finished. */
const MAX_ASKED = 1_024;
const MAX_NAME = 255;
const MAX_MESSAGE = 255;

/** A manifest whose bytes were handed to somebody. */
export interface ManifestSeen {
  readonly repository: Repository;
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly tag?: string;
  readonly references: readonly ManifestReference[];
  /** By digest of a child, `os/architecture`. */
  readonly platforms: ReadonlyMap<string, string>;
  /** Whether the tracker may hear its name. */
  readonly named: boolean;
}

export class ToldOnce {
  readonly #now: () => number;
  readonly #finished: FinishedBlob[] = [];
  readonly #manifests: SeenManifest[] = [];
  readonly #toldMs = new Map<string, number>();
  readonly #manifestOf = new Map<string, string>();
  readonly #errors: HostReport['errors'] = [];
  /** Requests that wait for a blob, the first few of each. */
  readonly #asked = new Map<string, string[]>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Something waits to be told. */
  get waiting(): boolean {
    return this.#finished.length + this.#manifests.length > 0;
  }

  get errors(): HostReport['errors'] {
    return this.#errors;
  }

  /** A client asks for a blob. */
  asked(blob: string, requestId: string): void {
    const ids = this.#asked.get(blob) ?? [];
    if (ids.length < MAX_REQUEST_IDS) ids.push(requestId);
    this.#asked.delete(blob);
    this.#asked.set(blob, ids);
    if (this.#asked.size > MAX_ASKED) this.#asked.delete(this.#asked.keys().next().value!);
  }

  blob(blob: Omit<FinishedBlob, 'manifest' | 'requestIds'>): void {
    const manifest = this.#manifestOf.get(blob.digest);
    const requestIds = this.#asked.get(blob.digest);
    this.#asked.delete(blob.digest);
    this.#finished.push({ ...blob, ...(manifest !== undefined && { manifest }), ...(requestIds !== undefined && { requestIds }) });
    if (this.#finished.length > MAX_FINISHED) this.#finished.shift();
  }

  manifest({ repository, digest, size, mediaType, tag, references, platforms, named }: ManifestSeen): void {
    const nowMs = this.#now();
    if (references.some(({ kind }) => kind === 'blob')) for (const each of [{ digest }, ...references]) this.#name(each.digest, digest);
    const key = `${digest} ${named ? `${repository.origin}/${repository.repository}` : ''} ${tag ?? ''}`;
    if (nowMs - (this.#toldMs.get(key) ?? Number.NEGATIVE_INFINITY) < RETELL_MS) return;
    this.#toldMs.delete(key);
    this.#toldMs.set(key, nowMs);
    if (this.#toldMs.size > MAX_TOLD) this.#toldMs.delete(this.#toldMs.keys().next().value!);
    const fits = named && repository.origin.length <= MAX_NAME && repository.repository.length <= MAX_NAME;
    this.#manifests.push({
      digest,
      size,
      mediaType: mediaType.slice(0, MAX_NAME),
      ...(fits && { origin: repository.origin, repository: repository.repository, ...(tag !== undefined && { tag: tag.slice(0, MAX_NAME) }) }),
      blobs: references.slice(0, MAX_MANIFEST_BLOBS).map((each) => {
        const platform = platforms.get(each.digest);
        return { digest: each.digest, size: each.size, kind: each.kind, ...(platform !== undefined && { platform: platform.slice(0, 64) }) };
      }),
    });
    if (this.#manifests.length > MAX_WAITING_MANIFESTS) this.#manifests.shift();
  }

  error(code: string, message: string): void {
    this.#errors.unshift({ atMs: this.#now(), code: code.slice(0, 64), message: message.slice(0, MAX_MESSAGE) });
    if (this.#errors.length > MAX_ERRORS) this.#errors.pop();
  }

  /** What is to be told next, no more than a post has room for. It counts as told. */
  take(): { finished: FinishedBlob[]; manifests: SeenManifest[] } {
    return { finished: takeSome(this.#finished, MAX_FINISHED), manifests: takeSome(this.#manifests, MAX_MANIFESTS) };
  }

  #name(blob: string, manifest: string): void {
    this.#manifestOf.delete(blob);
    this.#manifestOf.set(blob, manifest);
    if (this.#manifestOf.size > MAX_NAMED) this.#manifestOf.delete(this.#manifestOf.keys().next().value!);
  }
}

/** From the front of `waiting`; the first in any case. */
function takeSome<T>(waiting: T[], most: number): T[] {
  let count = 0;
  let bytes = 0;
  for (const each of waiting) {
    bytes += Buffer.byteLength(JSON.stringify(each));
    if (count >= most || (count > 0 && bytes > MAX_REPORT_BYTES)) break;
    count++;
  }
  return waiting.splice(0, count);
}
