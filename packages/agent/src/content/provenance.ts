// Where the bytes of a blob came from: from peers, from the origin, or from the disk, where an earlier pull had left them.

import type { ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, type BlobKey } from '@flotilla/shared/chunk-map';

export type ByteSource = 'peer' | 'origin' | 'duplicate';

/** For operators, in a log line. */
export interface ProvenanceSummary {
  /** What most of the bytes came from. */
  readonly from: 'peer' | 'origin' | 'resumed';
  readonly peerBytes: number;
  readonly originBytes: number;
  readonly resumedBytes: number;
  /** Verified bytes that were here already. */
  readonly duplicateBytes: number;
  /** Bytes by peer id, of those that gave the most. */
  readonly peers: Readonly<Record<string, number>>;
}

const MAX_PEERS_NAMED = 5;

/** Counts the verified bytes of one blob. */
export class Provenance {
  readonly #resumedBytes: number;
  readonly #bytes = { peer: 0, origin: 0, duplicate: 0 };
  /** At most one for each chunk of the blob. */
  readonly #byPeer = new Map<string, number>();

  /** @param have the chunks that are here at the start */
  constructor({ size }: BlobKey, have: ReadonlyBitfield) {
    this.#resumedBytes = have.ranges().reduce((sum, [first, count]) => sum + chunkBounds(size, first + count - 1).end - chunkBounds(size, first).start, 0);
  }

  get bytes(): Readonly<Record<ByteSource, number>> {
    return { ...this.#bytes };
  }

  count(source: ByteSource, bytes: number): void {
    this.#bytes[source] += bytes;
  }

  /** Which peer the bytes came from that are counted as `peer`. */
  gave(peerId: string, bytes: number): void {
    this.#byPeer.set(peerId, (this.#byPeer.get(peerId) ?? 0) + bytes);
  }

  /** Who gave how much, most first. */
  sources(limit: number): [peerId: string, bytes: number][] {
    return [...this.#byPeer].sort(([, a], [, b]) => b - a).slice(0, limit);
  }

  summary(): ProvenanceSummary {
    const { peer, origin, duplicate } = this.#bytes;
    const resumed = this.#resumedBytes;
    const most = Math.max(peer, origin, resumed);
    return {
      from: most === origin ? 'origin' : most === peer ? 'peer' : 'resumed',
      peerBytes: peer,
      originBytes: origin,
      resumedBytes: resumed,
      duplicateBytes: duplicate,
      peers: Object.fromEntries(this.sources(MAX_PEERS_NAMED)),
    };
  }
}
