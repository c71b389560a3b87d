// What is known of digests and tags, each in its own repository: size and type, who vouched for it there and when. Kept on disk.
//
// Nothing here says who may read it: a fact counts only for a caller that is let into the repository (decisions.ts).
// Invariant: a digest is known in a repository because the origin has answered for it there, or because a manifest that was read
// there refers to it; what the origin said of its size and type is never replaced by what a manifest says.

import type { Digest } from '@flotilla/shared/digest';
import type { Descriptor, Repository } from '../content/ports.ts';
import type { KeptTable, Row } from './kept-table.ts';

/** What is known of a digest in a repository. */
export interface Fact {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  readonly kind: 'blob' | 'manifest';
}

export interface KnownFact extends Fact {
  /** When the manifest that refers to it was last known to be there; undefined: none was read here. */
  readonly impliedAtMs: number | undefined;
  /** The origin itself has answered for it. */
  readonly confirmed: boolean;
  /** The origin, one that nobody configured, has shown that it has the bytes. */
  readonly proven: boolean;
}

export interface FactRow extends Row {
  readonly size: number;
  readonly mediaType: string;
  readonly impliedAtMs?: number;
  readonly confirmed?: true;
  readonly proven?: true;
}

export type TagRow = Descriptor & Row;

export class Facts {
  readonly #facts: KeptTable<FactRow>;
  readonly #tags: KeptTable<TagRow>;
  readonly #nowMs: () => number;

  constructor(facts: KeptTable<FactRow>, tags: KeptTable<TagRow>, nowMs: () => number) {
    this.#facts = facts;
    this.#tags = tags;
    this.#nowMs = nowMs;
  }

  async get(repository: Repository, kind: Fact['kind'], digest: Digest): Promise<KnownFact | undefined> {
    const row = await this.#facts.get(factKey(repository, kind, digest));
    return row && knownFact(kind, digest, row);
  }

  /** The origin has just answered for this digest. */
  async confirm(repository: Repository, { kind, digest, size, mediaType }: Fact): Promise<KnownFact> {
    const key = factKey(repository, kind, digest);
    const row = { ...(await this.#facts.get(key)), size, mediaType, confirmed: true as const, atMs: this.#nowMs() };
    await this.#facts.put([[key, row]]);
    return knownFact(kind, digest, row);
  }

  /** The origin has shown the bytes of this digest. */
  async prove(repository: Repository, kind: Fact['kind'], digest: Digest): Promise<void> {
    const key = factKey(repository, kind, digest);
    const row = await this.#facts.get(key);
    if (row !== undefined) await this.#facts.put([[key, { ...row, proven: true, atMs: this.#nowMs() }]]);
  }

  /** A manifest refers to these. @param impliedAtMs when the origin last answered for that manifest */
  async imply(repository: Repository, facts: readonly Fact[], impliedAtMs: number): Promise<void> {
    const keys = facts.map(({ kind, digest }) => factKey(repository, kind, digest));
    const known = await this.#facts.getMany(keys);
    const atMs = this.#nowMs();
    const rows = facts.map(({ size, mediaType }, i): [string, FactRow] => {
      const said = known[i]?.confirmed ? known[i] : { ...known[i], size, mediaType };
      return [keys[i]!, { ...said, impliedAtMs: Math.max(impliedAtMs, known[i]?.impliedAtMs ?? impliedAtMs), atMs }];
    });
    await this.#facts.put(rows);
  }

  /** The origin does not have this digest here (any more). */
  async forget(repository: Repository, kind: Fact['kind'], digest: Digest): Promise<void> {
    await this.#facts.delete(factKey(repository, kind, digest));
  }

  /** What the origin said a tag is; kept for the time when the origin is gone. */
  async resolved(repository: Repository, tag: string, { digest, size, mediaType }: Descriptor): Promise<void> {
    await this.#tags.put([[tagKey(repository, tag), { digest, size, mediaType, atMs: this.#nowMs() }]]);
  }

  async lastResolution(repository: Repository, tag: string): Promise<Descriptor | undefined> {
    const row = await this.#tags.get(tagKey(repository, tag));
    return row && { digest: row.digest, size: row.size, mediaType: row.mediaType };
  }

  /** The origin says that there is no such tag. */
  async forgetTag(repository: Repository, tag: string): Promise<void> {
    await this.#tags.delete(tagKey(repository, tag));
  }
}

function knownFact(kind: Fact['kind'], digest: Digest, { size, mediaType, impliedAtMs, confirmed, proven }: FactRow): KnownFact {
  return { digest, kind, size, mediaType, impliedAtMs, confirmed: confirmed === true, proven: proven === true };
}

/** Names cannot hold a zero byte. */
export function repositoryKey({ origin, repository }: Repository): string {
  return `${origin}\0${repository}`;
}

export function factKey(repository: Repository, kind: Fact['kind'], digest: Digest): string {
  return `${repositoryKey(repository)}\0${kind}\0${digest}`;
}

function tagKey(repository: Repository, tag: string): string {
  return `${repositoryKey(repository)}\0${tag}`;
}
