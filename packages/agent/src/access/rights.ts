// Who may read what, as far as the origin has said so: decided per (origin, repository), never per digest alone.
//
// A digest is served from a repository only where the origin has answered for it there, or where a manifest of that
// repository refers to it; and only while the origin's last good answer for the repository is fresh, or the origin is
// down (then as it was: `same-repository`). Facts survive a restart; they are dropped where the origin says 404.
// Today every caller is anonymous: all that was ever read is public at its origin.

import { Level } from 'level';
import type { Digest } from '@flotilla/shared/digest';
import type { Descriptor, Repository } from '../content/ports.ts';

/** How long one good answer of the origin for a repository covers what is known in it. */
const FRESH_MS = 60_000;
/** Facts that nobody has confirmed for this long are forgotten at start. */
const KEEP_MS = 30 * 24 * 3600_000;
/** Repositories whose freshness is remembered. */
const MAX_REPOSITORIES = 10_000;

/** What is known of a digest in a repository. */
export interface Fact {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  readonly kind: 'blob' | 'manifest';
}

type StoredFact = Omit<Fact, 'digest'> & { readonly atMs: number };

export class Rights {
  readonly #db: Level<string, StoredFact>;
  readonly #tags;
  readonly #now: () => number;
  readonly #confirmed = new Map<string, number>();

  private constructor(db: Level<string, StoredFact>, now: () => number) {
    this.#db = db;
    this.#tags = db.sublevel<string, Descriptor & { atMs: number }>('tags', { valueEncoding: 'json' });
    this.#now = now;
  }

  /** Opens the facts kept in `dir`; forgets the old ones. */
  static async open(dir: string, now: () => number = Date.now): Promise<Rights> {
    const db = new Level<string, StoredFact>(dir, { valueEncoding: 'json' });
    await db.open();
    const rights = new Rights(db, now);
    await rights.#prune();
    return rights;
  }

  /** The origin has just answered for this digest in this repository. */
  async confirm(repository: Repository, fact: Fact): Promise<void> {
    this.#touch(repository);
    await this.#db.put(key(repository, fact.digest), this.#stored(fact));
  }

  /** A manifest of this repository refers to these. */
  async imply(repository: Repository, facts: readonly Fact[]): Promise<void> {
    if (facts.length === 0) return;
    await this.#db.batch(facts.map((fact) => ({ type: 'put' as const, key: key(repository, fact.digest), value: this.#stored(fact) })));
  }

  /** What is known, and whether it may be used without asking the origin. */
  async lookup(repository: Repository, digest: Digest): Promise<{ fact: Fact; fresh: boolean } | undefined> {
    const stored = await this.#db.get(key(repository, digest));
    if (stored === undefined) return undefined;
    const { size, mediaType, kind } = stored;
    const confirmedMs = this.#confirmed.get(name(repository)) ?? Number.NEGATIVE_INFINITY;
    return { fact: { digest, size, mediaType, kind }, fresh: this.#now() - confirmedMs <= FRESH_MS };
  }

  /** The origin does not have this digest in this repository (any more). */
  async forget(repository: Repository, digest: Digest): Promise<void> {
    await this.#db.del(key(repository, digest));
  }

  /** The origin refuses this repository: nothing that was known in it holds, tags included. */
  async forgetRepository(repository: Repository): Promise<void> {
    this.#confirmed.delete(name(repository));
    const within = { gt: `${name(repository)}\0`, lt: `${name(repository)}\x01` };
    await Promise.all([this.#db.clear(within), this.#tags.clear(within)]);
  }

  /** What the origin said a tag is; kept for the time when the origin is gone. */
  async resolved(repository: Repository, tag: string, descriptor: Descriptor): Promise<void> {
    await this.confirm(repository, { ...descriptor, kind: 'manifest' });
    await this.#tags.put(`${name(repository)}\0${tag}`, { ...descriptor, atMs: this.#now() });
  }

  async lastResolution(repository: Repository, tag: string): Promise<Descriptor | undefined> {
    const last = await this.#tags.get(`${name(repository)}\0${tag}`);
    return last === undefined ? undefined : { digest: last.digest, size: last.size, mediaType: last.mediaType };
  }

  /** The origin says that there is no such tag. */
  async forgetTag(repository: Repository, tag: string): Promise<void> {
    await this.#tags.del(`${name(repository)}\0${tag}`);
  }

  async close(): Promise<void> {
    await this.#db.close();
  }

  #stored({ size, mediaType, kind }: Fact): StoredFact {
    return { size, mediaType, kind, atMs: this.#now() };
  }

  #touch(repository: Repository): void {
    this.#confirmed.delete(name(repository));
    this.#confirmed.set(name(repository), this.#now());
    if (this.#confirmed.size > MAX_REPOSITORIES) this.#confirmed.delete(this.#confirmed.keys().next().value!);
  }

  async #prune(): Promise<void> {
    const before = this.#now() - KEEP_MS;
    // Facts and tags share the field, and sublevels lie in the same range of keys.
    for await (const [id, value] of this.#db.iterator()) {
      if (value.atMs < before) await this.#db.del(id);
    }
  }
}

function name({ origin, repository }: Repository): string {
  return `${origin}\0${repository}`;
}

function key(repository: Repository, digest: Digest): string {
  return `${name(repository)}\0${digest}`;
}
