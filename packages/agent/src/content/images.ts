// Images as the local endpoint serves them: which digest a tag is, whether this caller may have it, how large a blob is.
// The rules are the design's promises 6 and 7: a tag is resolved only at the origin; a digest is served only in a repository that the
// origin lets this caller into (access/). A HEAD asks the origin while it answers; a GET may use what is known for a minute. While the
// origin is unreachable, what was known before holds as the rule `originDown` says.

import type { Digest } from '@flotilla/shared/digest';
import { formatReference, type Reference } from '@flotilla/shared/reference';
import { isBelieved, type Fact, type Grant, type Rights } from '../access/rights.ts';
import { AgentError, toAgentError, type ErrorCode } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { DownloadInit } from './download-contract.ts';
import type { Downloads, FetchedBytes } from './downloads.ts';
import type { FleetResolver, PublicQuestion } from './fleet-resolver.ts';
import { MAX_MANIFEST_BYTES, parseManifest, type ManifestReference } from './manifest.ts';
import type { Authority, BlobKey, Caller, Content, Coordinator, Descriptor, Granted, Origin, Permit, Referrers, Repository, ServedBlob, ServedManifest, TagPage } from './ports.ts';
import { provePossession } from './possession.ts';
import type { Prefetch } from './prefetch.ts';

/** Digests are not asked about at an origin that has just been found unreachable, where something is known of them. */
const DOWN_MS = 10_000;
/** A HEAD asks even then, as the origin may be back; for so long, as it may hang. */
const SILENT_ASK_MS = 1000;
/** Origins of which that is remembered. */
const MAX_DOWN = 256;
/** The origin was not asked, or has answered. */
const NOT_DOWN: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ORIGIN_CREDENTIALS', 'ORIGIN_LENGTH', 'DIGEST_MISMATCH']);
/** Of what was known before the origin went away nobody knows how old it is. */
const LONG_AGO_MS = 0;
const ANONYMOUS: Authority = { kind: 'anonymous' };
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
  /** Asked first what anybody may read. @default none: the origin is asked by this agent */
  readonly resolver?: FleetResolver | undefined;
  readonly prefetch: Prefetch;
  readonly log: Logger;
  readonly fallback: (kind: string) => void;
  /** Told of each manifest that is handed to somebody, and of the name that it was asked by. */
  readonly onManifest?: (manifest: HandedManifest) => void;
  readonly now: () => number;
}

export interface HandedManifest {
  readonly repository: Repository;
  /** It is shown to nobody without credentials. */
  readonly private: boolean;
  readonly reference: Reference;
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  /** Verified. */
  readonly bytes: Uint8Array;
  readonly references: readonly ManifestReference[];
}

export class Images implements Content {
  readonly #with: ImagesComponents;
  readonly #down = new Map<string, { readonly sinceMs: number; readonly failure: AgentError }>();

  constructor(components: ImagesComponents) {
    this.#with = components;
  }

  async manifest(repository: Repository, reference: Reference, accept: readonly string[], caller: Caller, signal: AbortSignal): Promise<ServedManifest> {
    const { grant, stale } =
      'tag' in reference
        ? await this.#resolve(repository, reference.tag, accept, caller, signal)
        : { grant: await this.#known(repository, 'manifest', reference.digest, caller, signal), stale: false };
    const { digest, size, mediaType } = grant.fact;
    if (size > MAX_MANIFEST_BYTES) {
      throw new AgentError('MANIFEST_TOO_LARGE', `the manifest has ${size} bytes`, { detail: { ...repository, reference: formatReference(reference) } });
    }
    return { descriptor: { digest, size, mediaType }, stale, bytes: (readSignal) => this.#manifestBytes(grant, reference, readSignal) };
  }

  async blob(repository: Repository, digest: Digest, caller: Caller, signal: AbortSignal): Promise<ServedBlob> {
    const grant = await this.#known(repository, 'blob', digest, caller, signal);
    const served = this.#served(grant);
    return {
      key: served.key,
      open: async (asked, readSignal, onBytes) => {
        await this.#opening(grant, served, readSignal);
        // Who reads parts of many layers mounts the image lazily: the rest of it is not wanted.
        const closed = 'start' in asked ? this.#with.prefetch.opened(grant.permit, digest) : () => undefined;
        const done = (): void => {
          readSignal.removeEventListener('abort', done);
          closed();
        };
        // Also where nobody ever iterates.
        readSignal.addEventListener('abort', done, { once: true });
        try {
          return whenDone(await served.open(asked, readSignal, onBytes), done);
        } catch (error) {
          done();
          throw error;
        }
      },
    };
  }

  /** Has a whole blob here for nobody at the endpoint. @param low behind whatever clients wait for @throws AgentError DIGEST_MISMATCH for another size */
  async fetch(repository: Repository, { digest, size }: BlobKey, caller: Caller, low: boolean, signal: AbortSignal): Promise<FetchedBytes> {
    const grant = await this.#known(repository, 'blob', digest, caller, signal);
    if (grant.fact.size !== size) throw new AgentError('DIGEST_MISMATCH', `${digest} has ${grant.fact.size} bytes, not the ${size} that the manifest says`);
    const served = this.#served(grant);
    await this.#opening(grant, served, signal);
    return this.#with.downloads.fetch(served.key, downloadInit(grant.permit, grant.fact), signal, low);
  }

  async tags(repository: Repository, page: { readonly n?: number; readonly last?: string }, caller: Caller, signal: AbortSignal): Promise<TagPage> {
    const { origin, rights } = this.#with;
    const { answer } = await rights.ask(repository, caller, 'manifest', (authority) => origin.listTags(repository, page, authority, signal));
    return { tags: answer.tags, next: answer.next };
  }

  async referrers(repository: Repository, digest: Digest, caller: Caller, signal: AbortSignal): Promise<Referrers> {
    const { origin, rights } = this.#with;
    const { answer } = await rights.ask(repository, caller, 'manifest', (authority) => origin.referrers(repository, digest, authority, signal));
    const { right: _right, ...referrers } = answer;
    return referrers;
  }

  async #resolve(repository: Repository, tag: string, accept: readonly string[], caller: Caller, signal: AbortSignal): Promise<{ grant: Grant; stale: boolean }> {
    const { origin, rights } = this.#with;
    const types = accept.length > 0 ? accept : ACCEPT_ANY;
    try {
      const { answer, permit } = await rights.ask(
        repository,
        caller,
        'manifest',
        async (authority) => (await this.#askFleet(repository, { kind: 'manifest', reference: tag, accept: types }, authority, caller, signal)) ?? origin.resolve(repository, tag, types, authority, signal),
        () => rights.facts.forgetTag(repository, tag),
      );
      const { digest, size, mediaType } = answer;
      const fact = await rights.resolved(permit, tag, { digest, size, mediaType });
      this.#down.delete(repository.origin);
      return { grant: { fact, permit, atMs: this.#with.now() }, stale: false };
    } catch (error) {
      const failure = toAgentError(error);
      if (!isDown(failure)) throw failure;
      this.#wentDown(repository, failure);
      const permit = await rights.whileDown(repository, caller, failure);
      const last = permit && (await rights.facts.lastResolution(repository, tag));
      const fact = last && (await rights.known(repository, 'manifest', last.digest));
      if (permit === undefined || fact === undefined) throw failure;
      this.#with.fallback('stale-tag');
      this.#with.log.warn({ ...repository, tag, digest: fact.digest, code: failure.code }, 'origin does not answer: serving the last resolution');
      return { grant: { fact, permit, atMs: LONG_AGO_MS }, stale: true };
    }
  }

  /** Size and type of a digest that this caller may have from this repository. */
  async #known(repository: Repository, kind: Fact['kind'], digest: Digest, caller: Caller, signal: AbortSignal): Promise<Grant> {
    const { rights } = this.#with;
    const granted = caller.asksOrigin ? undefined : await rights.granted(repository, kind, digest, caller);
    if (granted !== undefined) return granted;
    const silence = this.#silence(repository);
    const before = silence && (await this.#knownBefore(repository, kind, digest, caller, silence));
    if (before !== undefined && !caller.asksOrigin) return before;
    const patience = before === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(SILENT_ASK_MS)]);
    try {
      const { answer, permit } = await rights.ask(
        repository,
        caller,
        kind,
        (authority) => this.#ask(repository, kind, digest, authority, caller, patience),
        () => rights.forget(repository, kind, digest),
      );
      this.#down.delete(repository.origin);
      return { fact: await rights.confirm(permit, answer), permit, atMs: this.#with.now() };
    } catch (error) {
      if (before !== undefined && patience.aborted && !signal.aborted) return before;
      const failure = toAgentError(error);
      if (!isDown(failure)) throw failure;
      this.#wentDown(repository, failure);
      this.#with.fallback('origin-down');
      return (await this.#knownBefore(repository, kind, digest, caller, failure)) ?? (await this.#locate(repository, kind, digest, caller, failure, signal));
    }
  }

  async #ask(repository: Repository, kind: Fact['kind'], digest: Digest, authority: Authority, caller: Caller, signal: AbortSignal): Promise<Granted<Fact>> {
    const told = await this.#askFleet(repository, { kind, reference: digest, ...(kind === 'manifest' && { accept: ACCEPT_ANY }) }, authority, caller, signal);
    if (told !== undefined) return { ...told, kind };
    if (kind === 'blob') {
      const { size, right } = await this.#with.origin.stat(repository, digest, authority, signal);
      return { digest, size, mediaType: 'application/octet-stream', kind, right };
    }
    const { size, mediaType, right } = await this.#with.origin.resolve(repository, digest, ACCEPT_ANY, authority, signal);
    return { digest, size, mediaType, kind, right };
  }

  /** What the tracker says that the origin shows to anybody, where the settings let it be asked; undefined: this agent has to ask itself. */
  async #askFleet(repository: Repository, question: PublicQuestion, authority: Authority, caller: Caller, signal: AbortSignal): Promise<Granted<Descriptor> | undefined> {
    const { resolver, rights } = this.#with;
    if (resolver === undefined || authority.kind !== 'anonymous' || !(await rights.mayName(repository, caller))) return undefined;
    return resolver.ask(repository, question, signal);
  }

  /** What was known here before the origin went away, where the rule for that lets this caller have it. */
  async #knownBefore(repository: Repository, kind: Fact['kind'], digest: Digest, caller: Caller, failure: AgentError): Promise<Grant | undefined> {
    const fact = await this.#with.rights.known(repository, kind, digest);
    // Peers may hold it from a private repository that nobody here knows of; what is here itself is known not to be such.
    if (fact === undefined || !(isBelieved(fact) || (await this.#isHere(fact)))) return undefined;
    const permit = await this.#with.rights.whileDown(repository, caller, failure);
    return permit && { fact, permit, atMs: LONG_AGO_MS };
  }

  async #isHere({ digest, size }: BlobKey): Promise<boolean> {
    return (await this.#with.downloads.held({ digest, size })) === size;
  }

  /** The origin is down and nothing is known here: has anybody in the fleet read it in this repository, and needed no credentials? */
  async #locate(repository: Repository, kind: Fact['kind'], digest: Digest, caller: Caller, failure: AgentError, signal: AbortSignal): Promise<Grant> {
    const { rights, coordinator } = this.#with;
    const found = (await rights.mayAskFleet(repository, caller))
      ? await coordinator.locate(repository, digest, signal).catch((error: unknown) => {
          this.#with.log.warn({ digest, err: error }, 'the tracker could not be asked');
          return undefined;
        })
      : undefined;
    const permit = found?.private === true ? await rights.whileDown(repository, caller, failure) : { repository, authority: ANONYMOUS, private: false };
    if (found?.kind !== kind || permit === undefined) {
      throw new AgentError('ACCESS_UNDECIDED', `${repository.origin} does not answer, and ${digest} is not known in ${repository.repository} to be for this caller`, {
        cause: failure,
        detail: { origin: failure.code, originDown: rights.rules.originDown },
      });
    }
    const fact = { digest, size: found.size, mediaType: found.mediaType ?? 'application/octet-stream', kind };
    return { fact: { ...fact, impliedAtMs: undefined, confirmed: false, proven: false }, permit, atMs: LONG_AGO_MS };
  }

  async #manifestBytes(grant: Grant, reference: Reference, signal: AbortSignal): Promise<Uint8Array> {
    const { fact, permit, atMs } = grant;
    const served = this.#served(grant);
    await this.#opening(grant, served, signal);
    const parts: Uint8Array[] = [];
    for await (const part of await served.open({ start: 0, end: fact.size }, signal)) parts.push(Uint8Array.from(part));
    const bytes = Buffer.concat(parts);
    const { references } = parseManifest(bytes, fact.mediaType);
    await this.#with.rights.imply(permit.repository, references, atMs);
    this.#with.prefetch.remember(permit, fact.digest, references);
    const { digest, size, mediaType } = fact;
    this.#with.onManifest?.({ repository: permit.repository, private: permit.private, reference, digest, size, mediaType, bytes, references });
    return bytes;
  }

  #served({ fact, permit }: Grant): ServedBlob {
    return this.#with.downloads.served({ digest: fact.digest, size: fact.size }, downloadInit(permit, fact));
  }

  /** Before the bytes of a grant are handed out. */
  async #opening({ fact, permit }: Grant, served: ServedBlob, signal: AbortSignal): Promise<void> {
    const { origin, rights } = this.#with;
    if (!rights.needsProof(permit, fact)) return;
    const { source, authority } = downloadInit(permit, fact);
    if (authority === undefined) throw new AgentError('ACCESS_UNDECIDED', `${permit.repository.origin} cannot be asked to show ${fact.digest}`);
    await provePossession(origin, source, authority, served, rights.sampleAt(permit, fact), signal);
    await rights.proven(permit, fact);
  }

  #wentDown({ origin }: Repository, failure: AgentError): void {
    // The token server may have failed for one caller only.
    if (failure.code === 'ORIGIN_AUTH_FAILED') return;
    this.#down.delete(origin);
    this.#down.set(origin, { sinceMs: this.#with.now(), failure });
    if (this.#down.size > MAX_DOWN) this.#down.delete(this.#down.keys().next().value!);
  }

  /** Why the origin was found down a moment ago. */
  #silence({ origin }: Repository): AgentError | undefined {
    const down = this.#down.get(origin);
    return down !== undefined && this.#with.now() - down.sinceMs < DOWN_MS ? down.failure : undefined;
  }
}

/** How a blob or manifest is downloaded for a caller that was let in. */
export function downloadInit({ repository, authority, private: secret }: Permit, { kind, mediaType }: Pick<Fact, 'kind' | 'mediaType'>): DownloadInit {
  return { source: { ...repository, kind, mediaType, ...(secret && { private: true }) }, authority, mediaType };
}

/** Whether the origin gave no answer, rather than one that we do not like. */
function isDown(error: AgentError): boolean {
  const status = error.detail?.['status'];
  // A 4xx is an answer, whatever it means; of 429, which is none, the code says so.
  if (error.code === 'ORIGIN_STATUS' && typeof status === 'number' && status < 500) return false;
  return error.row.fault === 'origin' && error.row.retryable && !NOT_DOWN.has(error.code);
}

async function* whenDone(source: AsyncIterable<Uint8Array>, done: () => void): AsyncGenerator<Uint8Array> {
  try {
    yield* source;
  } finally {
    done();
  }
}
