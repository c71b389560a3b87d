// What every host is fetching, read off the swarms once a second. Pure.

import { chunkSize } from '@flotilla/shared/chunk-map';
import type { Swarm } from '../swarm.ts';
import type { Fetching } from './hosts.ts';

interface Sum {
  held: number;
  size: number;
  heldElsewhere: boolean;
  readonly origins: Set<string>;
}

/** By peer id: everybody who reads a blob that it does not have whole. */
export function fetchingOf(swarms: Iterable<Swarm>): Map<string, Fetching> {
  const sums = new Map<string, Sum>();
  for (const { blob, book } of swarms) {
    const { holdings, readers, chunks } = book;
    const bytesOfChunk = chunkSize(blob.size);
    const available = holdings.available();
    for (const [peer, { origin }] of readers) {
      const count = holdings.count(peer);
      if (count === chunks) continue;
      let sum = sums.get(peer);
      if (sum === undefined) sums.set(peer, (sum = { held: 0, size: 0, heldElsewhere: false, origins: new Set() }));
      sum.held += Math.min(blob.size, count * bytesOfChunk);
      sum.size += blob.size;
      sum.heldElsewhere ||= available > count;
      if (origin !== undefined) sum.origins.add(origin);
    }
  }
  return sums;
}
