// Digests that this host read with somebody's credentials, and in which repositories.
//
// What lies in the store is the same bytes for everybody. A manifest of some other repository may well name the digest of a private blob,
// which proves nothing: registries take such manifests (sparse indexes), and anybody can run a registry. So such a digest is served
// elsewhere only once the origin itself has answered for it there. Digests that came from public repositories are not in here.

import type { Digest } from '@flotilla/shared/digest';
import type { Repository } from '../content/ports.ts';
import { repositoryKey } from './facts.ts';
import type { KeptTable, Row } from './kept-table.ts';
import { Recent } from './recent.ts';

/** Of more repositories than this the earliest is forgotten, which costs a question there. */
const MAX_PLACES = 16;
/** What is read again and again is written again only after so long. */
const WRITE_AGAIN_MS = 3600_000;
const MAX_WRITTEN = 10_000;

export interface PrivateRow extends Row {
  readonly places: readonly string[];
}

export class PrivateBlobs {
  readonly #table: KeptTable<PrivateRow>;
  readonly #nowMs: () => number;
  readonly #written: Recent;

  constructor(table: KeptTable<PrivateRow>, nowMs: () => number) {
    this.#table = table;
    this.#nowMs = nowMs;
    this.#written = new Recent(MAX_WRITTEN, nowMs);
  }

  /** It is read in this repository with somebody's right. */
  async read(repository: Repository, digest: Digest): Promise<void> {
    const place = repositoryKey(repository);
    const key = `${place}\0${digest}`;
    if (this.#written.at(key) !== undefined) return;
    const { places = [] } = (await this.#table.get(digest)) ?? {};
    const others = places.filter((other) => other !== place).slice(-(MAX_PLACES - 1));
    await this.#table.put([[digest, { places: [...others, place], atMs: this.#nowMs() }]]);
    this.#written.mark(key, this.#nowMs() + WRITE_AGAIN_MS);
  }

  /** Whether it came here with somebody's right, and never in this repository. */
  async elsewhereOnly(repository: Repository, digest: Digest): Promise<boolean> {
    const row = await this.#table.get(digest);
    return row !== undefined && !row.places.includes(repositoryKey(repository));
  }
}
