// Images as the local endpoint serves them: which digest a tag is, whether it may be served, how large a blob is.
// The rules are the design's promises 6 and 7: a tag is resolved only at the origin; a digest is served only where the
// origin has answered for it in that repository. While the origin is unreachable, what was known before still holds.

import type { Digest } from '@flotilla/shared/digest';
import { formatReference, type Reference } from '@flotilla/shared/reference';
import type { Fact, Rights } from '../access/rights.ts';
import { AgentError, toAgentError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { DownloadInit } from './download-contract.ts';
import type { Downloads } from './downloads.ts';
import { MAX_MANIFEST_BYTES, parseManifest } from './manifest.ts';
import type { Authority, Caller, Content, Coordinator, Descriptor, Origin, Referrers, Repository, ServedBlob, ServedManifest, TagPage } from './ports.ts';
import type { Prefetch } from './prefetch.ts';

/** Digests are not asked about at an origin that has just been found unreachable, where something is known of them. */
const DOWN_MS = 10_000;
/** Origins of which that is remembered. */
const MAX_DOWN = 256;
const AGENT: Authority = { kind: 'agent' };
const ACCEPT_ANY = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  '*/*',
];

export interface ImagesComponents {
  readonly origin: Origin;
  readonly downloads: Downloads;
  readonly rights: Rights;
  readonly coordinator: Coordinator;
  readonly prefetch: Prefetch;
  readonly log: Logger;
  readonly fallback: (kind: string) => void;
  readonly now: () => number;
}

export class Images implements Content {
  readonly #with: ImagesComponents;
  readonly #downSinceMs = new Map<string, number>();

  constructor(components: ImagesComponents) {
    this.#with = components;
  }

  async manifest(repository: Repository, reference: Reference, accept: readonly string[], _caller: Caller, signal: AbortSignal): Promise<ServedManifest> {
    const { descriptor, stale } =
      'tag' in reference
        ? await this.#resolve(repository, reference.tag, accept, signal)
        : { descriptor: await this.#known(repository, reference.digest, 'manifest', signal), stale: false };
    if (descriptor.size > MAX_MANIFEST_BYTES) {
      throw new AgentError('MANIFEST_TOO_LARGE', `the manifest has ${descriptor.size} bytes`, { detail: { ...repository, reference: formatReference(reference) } });
    }
    return { descriptor, stale, bytes: (readSignal) => this.#manifestBytes(repository, descriptor, readSignal) };
  }

  async blob(repository: Repository, digest: Digest, _caller: Caller, signal: AbortSignal): Promise<ServedBlob> {
    const fact = await this.#known(repository, digest, 'blob', signal);
    const served = this.#with.downloads.served({ digest, size: fact.size }, downloadInit(repository, fact));
    return {
      key: served.key,
      open: async (range, readSignal) => {
        const closed = this.#with.prefetch.opened(digest);
        const done = (): void => {
          readSignal.removeEventListener('abort', done);
          closed();
        };
        // Also where nobody ever iterates.
        readSignal.addEventListener('abort', done, { once: true });
        try {
          return whenDone(await served.open(range, readSignal), done);
        } catch (error) {
          done();
          throw error;
        }
      },
    };
  }

  async tags(repository: Repository, page: { readonly n?: number; readonly last?: string }, _caller: Caller, signal: AbortSignal): Promise<TagPage> {
    const { tags, next } = await this.#with.origin.listTags(repository, page, AGENT, signal);
    return { tags, next };
  }

  async referrers(repository: Repository, digest: Digest, _caller: Caller, signal: AbortSignal): Promise<Referrers> {
    const { right: _right, ...referrers } = await this.#with.origin.referrers(repository, digest, AGENT, signal);
    return referrers;
  }

  async #resolve(repository: Repository, tag: string, accept: readonly string[], signal: AbortSignal): Promise<{ descriptor: Descriptor; stale: boolean }> {
    const { origin, rights } = this.#with;
    try {
      const { right: _right, ...descriptor } = await origin.resolve(repository, tag, accept.length > 0 ? accept : ACCEPT_ANY, AGENT, signal);
      this.#downSinceMs.delete(repository.origin);
      await this.#note(rights.resolved(repository, tag, descriptor));
      return { descriptor, stale: false };
    } catch (error) {
      const failure = toAgentError(error);
      if (failure.code === 'MANIFEST_UNKNOWN') await this.#note(rights.forgetTag(repository, tag));
      if (isDenied(failure)) await this.#note(rights.forgetRepository(repository));
      if (!isDown(failure)) throw failure;
      this.#wentDown(repository);
      const last = await rights.lastResolution(repository, tag);
      if (last === undefined) throw failure;
      this.#with.fallback('stale-tag');
      this.#with.log.warn({ ...repository, tag, digest: last.digest, code: failure.code }, 'origin does not answer: serving the last resolution');
      return { descriptor: last, stale: true };
    }
  }

  /** Size and type of a digest that may be served from this repository. */
  async #known(repository: Repository, digest: Digest, kind: Fact['kind'], signal: AbortSignal): Promise<Fact> {
    const { rights } = this.#with;
    const known = await rights.lookup(repository, digest);
    const same = known !== undefined && known.fact.kind === kind ? known : undefined;
    if (same !== undefined && (same.fresh || this.#isDown(repository))) return same.fact;
    try {
      const fact = await this.#ask(repository, digest, kind, signal);
      this.#downSinceMs.delete(repository.origin);
      await this.#note(rights.confirm(repository, fact));
      return fact;
    } catch (error) {
      const failure = toAgentError(error);
      if (failure.code === 'BLOB_UNKNOWN' || failure.code === 'MANIFEST_UNKNOWN') await this.#note(rights.forget(repository, digest));
      if (isDenied(failure)) await this.#note(rights.forgetRepository(repository));
      if (!isDown(failure)) throw failure;
      this.#wentDown(repository);
      this.#with.fallback('origin-down');
      return same?.fact ?? (await this.#locate(repository, digest, kind, failure, signal));
    }
  }

  async #ask(repository: Repository, digest: Digest, kind: Fact['kind'], signal: AbortSignal): Promise<Fact> {
    if (kind === 'blob') {
      const { size } = await this.#with.origin.stat(repository, digest, AGENT, signal);
      return { digest, size, mediaType: 'application/octet-stream', kind };
    }
    const { size, mediaType } = await this.#with.origin.resolve(repository, digest, ACCEPT_ANY, AGENT, signal);
    return { digest, size, mediaType, kind };
  }

  /** The origin is down and nothing is known here: has anybody in the fleet read it in this repository? */
  async #locate(repository: Repository, digest: Digest, kind: Fact['kind'], failure: AgentError, signal: AbortSignal): Promise<Fact> {
    const found = await this.#with.coordinator.locate(repository, digest, signal).catch((error: unknown) => {
      this.#with.log.warn({ digest, err: error }, 'the tracker could not be asked');
      return undefined;
    });
    if (found === undefined || found.kind !== kind) {
      throw new AgentError('ACCESS_UNDECIDED', `${repository.origin} does not answer, and ${digest} is not known in ${repository.repository}`, { cause: failure, detail: { origin: failure.code } });
    }
    return { digest, size: found.size, mediaType: found.mediaType ?? 'application/octet-stream', kind };
  }

  async #manifestBytes(repository: Repository, descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array> {
    const { digest, size, mediaType } = descriptor;
    const served = this.#with.downloads.served({ digest, size }, downloadInit(repository, { mediaType, kind: 'manifest' }));
    const parts: Uint8Array[] = [];
    for await (const part of await served.open({ start: 0, end: size }, signal)) parts.push(part);
    const bytes = Buffer.concat(parts);
    const { references } = parseManifest(bytes, mediaType);
    await this.#note(this.#with.rights.imply(repository, references));
    this.#with.prefetch.remember(repository, digest, references);
    return bytes;
  }

  /** A disk that takes no notes is no reason to fail the pull: the origin is asked again the next time. */
  async #note(noted: Promise<void>): Promise<void> {
    await noted.catch((error: unknown) => this.#with.log.warn({ err: error }, 'what the origin said could not be kept'));
  }

  #wentDown({ origin }: Repository): void {
    this.#downSinceMs.delete(origin);
    this.#downSinceMs.set(origin, this.#with.now());
    if (this.#downSinceMs.size > MAX_DOWN) this.#downSinceMs.delete(this.#downSinceMs.keys().next().value!);
  }

  #isDown({ origin }: Repository): boolean {
    const since = this.#downSinceMs.get(origin);
    return since !== undefined && this.#with.now() - since < DOWN_MS;
  }
}

/** How a blob or manifest of this repository is downloaded. */
export function downloadInit({ origin, repository }: Repository, { kind, mediaType }: Pick<Fact, 'kind' | 'mediaType'>): DownloadInit {
  return { source: { origin, repository, kind, mediaType }, canRead: true, mediaType };
}

/** Whether the origin gave no answer, rather than one that we do not like. */
function isDown(error: AgentError): boolean {
  const status = error.detail?.['status'];
  // A 4xx is an answer, whatever it means; of 429, which is none, the code says so.
  if (error.code === 'ORIGIN_STATUS' && typeof status === 'number' && status < 500) return false;
  return error.row.fault === 'origin' && error.row.retryable && error.code !== 'ORIGIN_LENGTH' && error.code !== 'DIGEST_MISMATCH';
}

/** The origin no longer shows this repository to this host: what was known in it may not be served, now or while it is down. */
function isDenied(error: AgentError): boolean {
  return error.code === 'ORIGIN_DENIED' || error.code === 'ORIGIN_UNAUTHORIZED';
}

async function* whenDone(source: AsyncIterable<Uint8Array>, done: () => void): AsyncGenerator<Uint8Array> {
  try {
    yield* source;
  } finally {
    done();
  }
}
