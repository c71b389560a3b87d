// The last requests of local clients, so that an operator can see whether a client comes by the agent at all: clients bypass a mirror
// without a word. It stands before Content and changes nothing.

import { formatReference } from '@flotilla/shared/reference';
import { toAgentError } from '../errors.ts';
import type { Content, Repository } from './ports.ts';

/** Requests remembered. */
const MAX_REQUESTS = 256;

export interface LoggedRequest {
  /** Unix ms */
  readonly atMs: number;
  readonly kind: 'manifest' | 'blob' | 'tags' | 'referrers';
  readonly origin: string;
  readonly repository: string;
  /** Tag or digest; empty where none was asked for. */
  readonly reference: string;
  /** `pending`, `served`, or the error's code. */
  outcome: string;
}

export class RequestLog implements Content {
  readonly #content: Content;
  readonly #now: () => number;
  readonly #requests: LoggedRequest[] = [];

  constructor(content: Content, now: () => number) {
    this.#content = content;
    this.#now = now;
  }

  /** The oldest first. */
  get requests(): readonly LoggedRequest[] {
    return [...this.#requests];
  }

  manifest: Content['manifest'] = (repository, reference, ...rest) =>
    this.#noted('manifest', repository, formatReference(reference), this.#content.manifest(repository, reference, ...rest));

  blob: Content['blob'] = (repository, digest, ...rest) => this.#noted('blob', repository, digest, this.#content.blob(repository, digest, ...rest));

  tags: Content['tags'] = (repository, ...rest) => this.#noted('tags', repository, '', this.#content.tags(repository, ...rest));

  referrers: Content['referrers'] = (repository, digest, ...rest) => this.#noted('referrers', repository, digest, this.#content.referrers(repository, digest, ...rest));

  async #noted<T>(kind: LoggedRequest['kind'], { origin, repository }: Repository, reference: string, answer: Promise<T>): Promise<T> {
    const entry: LoggedRequest = { atMs: this.#now(), kind, origin, repository, reference, outcome: 'pending' };
    this.#requests.push(entry);
    if (this.#requests.length > MAX_REQUESTS) this.#requests.shift();
    try {
      const result = await answer;
      entry.outcome = 'served';
      return result;
    } catch (error) {
      entry.outcome = toAgentError(error).code;
      throw error;
    }
  }
}
