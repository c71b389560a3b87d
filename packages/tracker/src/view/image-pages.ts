// The list of images, and who holds how much of each. Counting copies goes over the swarms of all its blobs, so it is done for one page only, and
// again only for images of which somebody has got or lost a chunk: the list may be asked for each second.
//
// Bound: MAX_COUNTED images whose counts are remembered.

import type { ImagePage, ImageRow, ImagesQuery } from '@flotilla/shared/operator-api';
import type { Holdings } from '../holdings.ts';
import type { Swarms } from '../swarms.ts';
import type { Image, ImageCatalogue } from './image-catalogue.ts';

const DEFAULT_LIMIT = 200;
const MAX_COUNTED = 2_000;

type Holders = readonly (Holdings | undefined)[];

interface Counted {
  readonly holders: Holders;
  /** Of each of them, when it was counted. */
  readonly changes: readonly (number | undefined)[];
  readonly copies: number;
  readonly partial: number;
}

export class ImagePages {
  readonly #catalogue: ImageCatalogue;
  readonly #swarms: Pick<Swarms, 'find'>;
  /** By digest, the longest uncounted first. */
  readonly #counted = new Map<string, Counted>();

  constructor(catalogue: ImageCatalogue, swarms: Pick<Swarms, 'find'>) {
    this.#catalogue = catalogue;
    this.#swarms = swarms;
  }

  page({ q, sort = 'used', limit = DEFAULT_LIMIT, offset = 0 }: ImagesQuery): ImagePage {
    const wanted = q?.toLowerCase();
    const found = [...this.#catalogue.all()].filter((image) => wanted === undefined || image.digest.startsWith(wanted) || image.names.some((name) => name.toLowerCase().includes(wanted)));
    switch (sort) {
      case 'size':
        found.sort((a, b) => b.size - a.size);
        break;
      case 'name':
        found.sort((a, b) => (a.names[0] ?? '~').localeCompare(b.names[0] ?? '~'));
        break;
      case 'copies': {
        const copies = new Map(found.map((image) => [image, this.#mostCopies(image)]));
        found.sort((a, b) => copies.get(b)! - copies.get(a)!);
        break;
      }
      case 'used':
    }
    return { total: found.length, images: found.slice(offset, offset + limit).map((image) => this.#row(image)) };
  }

  #row(image: Image): ImageRow {
    const { digest, names, platform, blobs, size, firstSeenMs, usedAtMs } = image;
    const { copies, partial } = this.#count(image);
    return { digest, names: [...names], ...(platform !== undefined && { platform }), layers: blobs.length - 1, size, copies, partial, firstSeenMs, usedAtMs };
  }

  #count({ digest, blobs }: Image): Counted {
    const holders = blobs.map((blob) => this.#swarms.find(blob.digest, blob.size)?.book.holdings);
    const known = this.#counted.get(digest);
    const same = known?.holders.length === holders.length && holders.every((each, at) => each === known.holders[at] && each?.changes === known.changes[at]);
    if (same) return known;
    const counted = { holders, changes: holders.map((each) => each?.changes), ...countCopies(holders) };
    this.#counted.delete(digest);
    this.#counted.set(digest, counted);
    for (const oldest of this.#counted.keys()) {
      if (this.#counted.size <= MAX_COUNTED) break;
      this.#counted.delete(oldest);
    }
    return counted;
  }

  /** No more than this: hosts that hold the blob that is held least. */
  #mostCopies({ blobs }: Image): number {
    return Math.min(...blobs.map(({ digest, size }) => this.#swarms.find(digest, size)?.book.holdings.seeds.size ?? 0));
  }
}

/** Hosts that hold all of its blobs, and that hold some. */
function countCopies(holders: Holders): { copies: number; partial: number } {
  const [rarest, ...others] = [...holders].sort((a, b) => (a?.seeds.size ?? 0) - (b?.seeds.size ?? 0));
  let copies = 0;
  for (const peer of rarest?.seeds ?? []) if (others.every((holdings) => holdings?.isSeed(peer) === true)) copies++;
  const any = new Set<string>();
  for (const holdings of holders) {
    for (const peer of holdings?.seeds ?? []) any.add(peer);
    for (const peer of holdings?.partials() ?? []) any.add(peer);
  }
  return { copies, partial: any.size - copies };
}
