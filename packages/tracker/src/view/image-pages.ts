// The list of images, and who holds how much of each. Counting copies goes over the swarms of all its blobs, so it is done for one page only.

import type { ImagePage, ImageRow, ImagesQuery } from '@flotilla/shared/operator-api';
import type { Swarms } from '../swarms.ts';
import type { Image, ImageCatalogue } from './image-catalogue.ts';

const DEFAULT_LIMIT = 200;

export function imagePage({ q, sort = 'used', limit = DEFAULT_LIMIT, offset = 0 }: ImagesQuery, catalogue: ImageCatalogue, swarms: Swarms): ImagePage {
  const wanted = q?.toLowerCase();
  const found = [...catalogue.all()].filter((image) => wanted === undefined || image.digest.startsWith(wanted) || image.names.some((name) => name.toLowerCase().includes(wanted)));
  switch (sort) {
    case 'size':
      found.sort((a, b) => b.size - a.size);
      break;
    case 'name':
      found.sort((a, b) => (a.names[0] ?? '~').localeCompare(b.names[0] ?? '~'));
      break;
    case 'copies': {
      const copies = new Map(found.map((image) => [image, mostCopies(image, swarms)]));
      found.sort((a, b) => copies.get(b)! - copies.get(a)!);
      break;
    }
    case 'used':
  }
  return { total: found.length, images: found.slice(offset, offset + limit).map((image) => rowOf(image, swarms)) };
}

function rowOf(image: Image, swarms: Swarms): ImageRow {
  const { digest, names, platform, blobs, size, firstSeenMs, usedAtMs } = image;
  const { copies, partial } = countCopies(image, swarms);
  return { digest, names: [...names], ...(platform !== undefined && { platform }), layers: blobs.length - 1, size, copies, partial, firstSeenMs, usedAtMs };
}

/** Hosts that hold all of its blobs, and that hold some. */
function countCopies({ blobs }: Image, swarms: Swarms): { copies: number; partial: number } {
  const holders = blobs.map(({ digest, size }) => swarms.find(digest, size)?.book.holdings);
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

/** No more than this: hosts that hold the blob that is held least. */
function mostCopies({ blobs }: Image, swarms: Swarms): number {
  return Math.min(...blobs.map(({ digest, size }) => swarms.find(digest, size)?.book.holdings.seeds.size ?? 0));
}
