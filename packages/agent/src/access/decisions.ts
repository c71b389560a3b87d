// Who was let into which repository: what the origin decided, per (origin, repository, whose right).
//
// Only consent is remembered: a refusal is asked for anew each time, and takes back what was remembered. A consent holds for a minute,
// and no longer than the token that it was given with; then the origin is asked again. That it was given at all is kept on disk for the
// time when the origin is down, unless the right was a token of the caller's, which ends by itself.

import type { Authority, Repository, Right } from '../content/ports.ts';
import { isToken, subjectOf } from './callers.ts';
import { repositoryKey } from './facts.ts';
import type { KeptTable, Row } from './kept-table.ts';
import { Recent } from './recent.ts';

/** How long an answer of the origin stands for asking again. */
export const FRESH_MS = 60_000;
const MAX_RECENT = 10_000;
/** A consent that is repeated is written again only after so long. */
const WRITE_AGAIN_MS = 3600_000;

export class Decisions {
  readonly #kept: KeptTable<Row>;
  readonly #nowMs: () => number;
  /** Consents that need no asking. */
  readonly #fresh: Recent;
  /** Consents of callers' tokens, while the tokens live. */
  readonly #tokens: Recent;
  readonly #written: Recent;

  constructor(kept: KeptTable<Row>, nowMs: () => number) {
    this.#kept = kept;
    this.#nowMs = nowMs;
    this.#fresh = new Recent(MAX_RECENT, nowMs);
    this.#tokens = new Recent(MAX_RECENT, nowMs);
    this.#written = new Recent(MAX_RECENT, nowMs);
  }

  /** The origin has just answered under this authority. */
  async allow(repository: Repository, authority: Authority, { lifetimeMs = Number.POSITIVE_INFINITY }: Partial<Right>): Promise<void> {
    const key = decisionKey(repository, authority);
    const nowMs = this.#nowMs();
    this.#fresh.mark(key, nowMs + Math.min(FRESH_MS, lifetimeMs));
    if (isToken(authority)) {
      this.#tokens.mark(key, nowMs + Math.min(FRESH_MS, lifetimeMs));
      return;
    }
    if (this.#written.at(key) !== undefined) return;
    await this.#kept.put([[key, { atMs: nowMs }]]);
    this.#written.mark(key, nowMs + WRITE_AGAIN_MS);
  }

  /** The origin has just refused this authority: nothing that it allowed before holds. */
  async refuse(repository: Repository, authority: Authority): Promise<void> {
    const key = decisionKey(repository, authority);
    for (const marks of [this.#fresh, this.#tokens, this.#written]) marks.delete(key);
    await this.#kept.delete(key);
  }

  /** Allowed so recently that the origin need not be asked. */
  fresh(repository: Repository, authority: Authority): boolean {
    return this.#fresh.at(decisionKey(repository, authority)) !== undefined;
  }

  /** Allowed when the origin was last asked, and it has not refused since. */
  async before(repository: Repository, authority: Authority): Promise<boolean> {
    const key = decisionKey(repository, authority);
    return isToken(authority) ? this.#tokens.at(key) !== undefined : (await this.#kept.get(key)) !== undefined;
  }
}

function decisionKey(repository: Repository, authority: Authority): string {
  return `${repositoryKey(repository)}\0${subjectOf(authority)}`;
}
