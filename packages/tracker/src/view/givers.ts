// Who got bytes from a peer, over the pulls that are kept. The first question about a peer reads all of them; whoever goes on asking costs what
// came since.
//
// Invariant: what is remembered of a peer is what it gave in pulls of the list up to `upTo`. Bound: MAX_PEERS peers, the longest unasked go, each
// with a gift per pull at most. Non-goals: which pulls are kept (pull-history.ts).

import type { PullRecord } from './pull-history.ts';

const MAX_PEERS = 4;

/** What one pull got from the peer that was asked about. Hosts go by their numbers. */
export interface Gift {
  readonly key: string;
  readonly to: number;
  readonly host: string;
  readonly image: string;
  readonly bytes: number;
  readonly atMs: number;
}

export interface PullRecords {
  /** All that are on the disk, and may be some that are not listed any more. */
  all(): AsyncIterable<readonly [key: string, record: PullRecord]>;
  /** On the disk, or on its way there. */
  get(key: string): Promise<PullRecord | undefined>;
}

interface Remembered {
  gifts: Gift[];
  /** The newest pull that was read; undefined: none yet. */
  upTo: string | undefined;
  /** Questions about one peer come one after the other. */
  work: Promise<void>;
}

export class Givers {
  readonly #records: PullRecords;
  /** The longest unasked first. */
  readonly #peers = new Map<number, Remembered>();

  constructor(records: PullRecords) {
    this.#records = records;
  }

  /** @param listed the pulls that count, oldest first */
  async gifts(peer: number, listed: readonly { readonly key: string }[]): Promise<readonly Gift[]> {
    const known = this.#peers.get(peer) ?? { gifts: [], upTo: undefined, work: Promise.resolve() };
    this.#peers.delete(peer);
    this.#peers.set(peer, known);
    for (const oldest of this.#peers.keys()) {
      if (this.#peers.size <= MAX_PEERS) break;
      this.#peers.delete(oldest);
    }
    // One that failed leaves `upTo` where it was: the next reads again.
    known.work = known.work.catch(() => undefined).then(() => this.#catchUp(peer, known, listed));
    await known.work;
    return known.gifts;
  }

  async #catchUp(peer: number, known: Remembered, listed: readonly { readonly key: string }[]): Promise<void> {
    const at = known.upTo === undefined ? -1 : listed.findLastIndex(({ key }) => key === known.upTo);
    const fresh = listed.slice(at + 1);
    const gifts: Gift[] = [];
    const take = (key: string, record: PullRecord | undefined): void => {
      const gift = record && giftOf(peer, key, record);
      if (gift !== undefined) gifts.push(gift);
    };
    const missing = new Set(fresh.map(({ key }) => key));
    // Many at once are read faster in their order.
    if (known.upTo === undefined) for await (const [key, record] of this.#records.all()) if (missing.delete(key)) take(key, record);
    for (const key of missing) take(key, await this.#records.get(key));
    const oldest = listed[0]?.key ?? '';
    known.gifts = [...known.gifts.filter(({ key }) => key >= oldest), ...gifts];
    // Not the newest of the list, which has grown meanwhile.
    known.upTo = fresh.at(-1)?.key ?? known.upTo;
  }
}

/** undefined: it gave nothing. */
export function giftOf(peer: number, key: string, { peer: to, host, image, endedAtMs, from }: PullRecord): Gift | undefined {
  const bytes = from.find(([giver]) => giver === peer)?.[1];
  return bytes === undefined ? undefined : { key, to, host, image, bytes, atMs: endedAtMs };
}
