// How long a blob is: by HEAD; where an origin does not know HEAD or says no length, by its answer to a request for the first byte; where it
// says it nowhere, from whoever knows; else by reading the blob to its end, once.
//
// Invariant: that the blob is there for this authority the origin itself has just said; only its length may come from elsewhere, as a
// digest has one length everywhere.

import { createHash } from 'node:crypto';
import { digestAlgorithm, type Digest } from '@flotilla/shared/digest';
import type { Authority, Granted, OriginBody, Repository } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { contentLength, contentRange, discard, headerOf, isEncoded } from './body.ts';
import { encodedError, mayNotKnowHead, type Calls, type OriginMetrics, type Question } from './calls.ts';
import { ExpiringMap } from './expiring-map.ts';
import type { OriginLink } from './links.ts';
import { SharedCalls } from './shared-calls.ts';

/** The length of a blob that this host or its fleet knows; undefined: nobody does. `authority`: with whose right it is there. */
export type KnownSize = (repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal) => Promise<number | undefined>;

export interface SizesDeps {
  readonly calls: Calls;
  readonly metrics: OriginMetrics;
  readonly known: KnownSize;
  readonly read: (repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal) => Promise<OriginBody>;
  readonly nowMs: () => number;
}

const MAX_MEASURED = 4096;
const MEASURED_MS = 24 * 3_600_000;

export class BlobSizes {
  readonly #with: SizesDeps;
  /** By digest: what was read to its end. */
  readonly #measured: ExpiringMap<number>;
  readonly #reading = new SharedCalls<number>();

  constructor(deps: SizesDeps) {
    this.#with = deps;
    this.#measured = new ExpiringMap(MAX_MEASURED, deps.nowMs);
  }

  /** @throws AgentError, or the signal's reason */
  async sizeOf(link: OriginLink, repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<{ size: number }>> {
    const { calls } = this.#with;
    const question = blobQuestion('HEAD', repository.repository, digest, authority);
    const head = await calls.ask(link, question, signal);
    // 404 too: some registries know no HEAD of blobs and say so this way.
    if (head.status !== 200 && head.status !== 404 && !mayNotKnowHead(head, question)) throw await calls.failureOf(link, head, 'blob', signal);
    discard(head);
    const size = contentLength(head);
    if (head.status === 200 && size !== undefined && !isEncoded(head)) return { size, right: head.right };
    return this.#byGet(link, repository, digest, authority, signal);
  }

  async #byGet(link: OriginLink, repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<{ size: number }>> {
    const { calls } = this.#with;
    const first = await calls.ask(link, withRange(blobQuestion('GET', repository.repository, digest, authority), { start: 0, end: 1 }), signal);
    const { status, right } = first;
    if (isEncoded(first)) {
      discard(first);
      throw encodedError(link, first);
    }
    if (status === 200 || status === 206) {
      const size = status === 200 ? contentLength(first) : contentRange(first)?.size;
      discard(first);
      return { size: size ?? (await this.#elsewhere(repository, digest, authority, signal)), right };
    }
    // An empty blob has no first byte.
    if (status === 416 && headerOf(first, 'content-range')?.trim() === 'bytes */0') {
      discard(first);
      return { size: 0, right };
    }
    throw await calls.failureOf(link, first, 'blob', signal);
  }

  async #elsewhere(repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<number> {
    return this.#measured.get(digest) ?? (await this.#with.known(repository, digest, authority, signal)) ?? this.#byReading(repository, digest, authority, signal);
  }

  /** A whole blob for a number: counted, and never twice for one digest. */
  #byReading(repository: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<number> {
    return this.#reading.run(digest, signal, async (shared) => {
      this.#with.metrics.fallback('origin-size-by-reading');
      const { body } = await this.#with.read(repository, digest, authority, shared);
      const hash = createHash(digestAlgorithm(digest));
      let size = 0;
      for await (const piece of body) {
        hash.update(piece);
        size += piece.length;
      }
      // Without a length only the digest tells the end from a connection that was cut.
      if (`${digestAlgorithm(digest)}:${hash.digest('hex')}` !== digest) {
        throw new AgentError('DIGEST_MISMATCH', `${repository.origin} sent ${size} bytes that are not ${digest}`, { detail: { origin: repository.origin, digest, bytes: size } });
      }
      this.#measured.set(digest, size, MEASURED_MS);
      return size;
    });
  }
}

export function blobQuestion(method: 'GET' | 'HEAD', repository: string, digest: Digest, authority: Authority): Question {
  return { kind: 'blob', method, repository, authority, path: `/v2/${repository}/blobs/${digest}`, headers: { accept: '*/*' }, lane: method === 'HEAD' ? 'talk' : 'blob' };
}

export function withRange(question: Question, { start, end }: { start: number; end: number }): Question {
  return { ...question, headers: { ...question.headers, range: `bytes=${start}-${end - 1}` } };
}
