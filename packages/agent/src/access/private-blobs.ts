// Digests that this host read with somebody's credentials, and in which repositories.
//
// What lies in the store is the same bytes for everybody. A manifest of some other repository may well name the digest of a private blob,
// which proves nothing: registries take such manifests (sparse indexes), and anybody can run a registry. So such a digest is served
// elsewhere only once the origin itself has answered for it there. Digests that came from public repositories are not in here.

import type { Digest } from '@flotilla/shared/digest';
import type { Repository } from '../content/ports.ts';
import { repositoryKey } from './facts.ts';
import type { KeptTable, Row } from './kept-table.ts';

/** Of more repositories than this the earliest is forgotten, which costs a question there. */
const MAX_PLACES = 16;

export interface PrivateRow extends Row {
  readonly places: readonly string[];
}

export class PrivateBlobs {
  readonly #table: KeptTable<PrivateRow>;
  readonly #nowMs: () => number;

  constructor(table: KeptTable<PrivateRow>, nowMs: () => number) {
    this.#table = table;
    this.#nowMs = nowMs;
  }

  /** It is read in this repository with somebody's right. */
  async read(repository: Repository, digest: Digest): Promise<void> {
    const place = repositoryKey(repository);
    const { places = [] } = (await this.#table.get(digest)) ?? {};
    const others = places.filter((other) => other !== place).slice(-(MAX_PLACES - 1));
    await this.#table.put([[digest, { places: [...others, place], atMs: this.#nowMs() }]]);
  }

  /** Whether it came here with somebody's right, and never in this repository. */
  async elsewhereOnly(repository: Repository, digest: Digest): Promise<boolean> {
    const row = await this.#table.get(digest);
    return row !== undefined && !row.places.includes(repositoryKey(repository));
  }
}
