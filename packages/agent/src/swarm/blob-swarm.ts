// One blob's exchange at this host: who else trades it, what they hold, what was asked of whom.
//
// Two agents trade a blob once each has named it to the other (interest both ways): then each sends its bitfield, and from
// then on only what is new (have, reading). With a member (a Download) chunks are asked for; without one this host only uploads.
// Verdicts of the member on a chunk are acted on here: forged bans, conflict is not asked of that peer again.
// Non-goals: how many requests a peer gets and when it stalls (requests.ts), serving requests (uploader.ts).

import { Bitfield, toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import type { ImportSeat } from '@flotilla/shared/import-seats';
import { MAX_RANGES_PER_FRAME, type ExchangeFrame } from '@flotilla/shared/exchange';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import type { ChunkVerdict, Holding, SourceStatus, SwarmHandle, SwarmMember } from '../content/ports.ts';
import { BlobPeer } from './blob-peer.ts';
import type { SwarmCounters, SwarmLog } from './counters.ts';
import type { Arrival, Fetch } from './intake.ts';
import type { Link } from './link.ts';
import { PeerFault } from './peer-fault.ts';
import type { Place } from './place.ts';
import { Picker, type Budget } from './picker.ts';
import { ZoneGate } from './zone-gate.ts';

/** The way to a peer, whatever carries it. */
export type BlobLink = Link<BlobSwarm>;

/** An endgame duplicate waits at least this long for the first request. */
const MIN_PATIENCE_MS = 100;
/** ... and this many times what the peer usually takes. */
const PATIENCE = 1.5;

export interface NewsWaits {
  /** How long an announcement waits for company. */
  readonly freshMs: number;
  /** ... of chunks that `widelyHeld` of our peers hold already: whoever lacks them knows where to ask. Most messages of a crowd were such news. */
  readonly widelyHeldMs: number;
  readonly widelyHeld: number;
}

export const NEWS_WAITS: NewsWaits = { freshMs: 100, widelyHeldMs: 400, widelyHeld: 4 };
/** What is read at the origin matters to peers once the tracker is gone: it goes along with other news, or by itself after so long. */
const READING_MS = 1_000;

export interface BlobSwarmContext {
  readonly budget: Budget;
  readonly random: () => number;
  readonly nowMs: () => number;
  soon(act: () => void): void;
  readonly news: NewsWaits;
  /** Absent: this host stands nowhere in particular, and peers are all alike. */
  readonly place?: Place | undefined;
  readonly counters: SwarmCounters;
  readonly log: SwarmLog;
  /** There may be something to ask of this peer now. */
  wake(link: BlobLink): void;
  /** A whole chunk came from the peer, so long after it was asked for. */
  delivered(link: BlobLink, bytes: number, latencyMs: number): void;
  /** Memory for requests became free. */
  wakeAll(): void;
  /** The peer sent bytes that contradict the digest that it sent with them. */
  forged(peerId: string, key: BlobKey, index: number): void;
  connect(blob: BlobSwarm, peers: readonly PeerInfo[]): void;
  /** The member has left. */
  left(blob: BlobSwarm): void;
}

export class BlobSwarm implements SwarmHandle {
  readonly key: BlobKey;
  readonly id: string;
  /** Our own number of the blob, the same to every peer. */
  readonly channel: number;
  readonly chunks: number;
  /** Peers outside of the standing mesh that the tracker introduced for it. */
  readonly introduced = new Set<string>();
  /** What uploads are read from. */
  holding: Holding;
  readonly #context: BlobSwarmContext;
  readonly #peers = new Map<string, BlobPeer<BlobLink>>();
  readonly #readers: Uint16Array;
  #member: SwarmMember | undefined;
  #picker: Picker | undefined;
  /** Where this host stands in a zone, and fetches. */
  #zone: ZoneGate | undefined;
  #reading: readonly IndexRange[] = [];
  /** Peers of which not every copy is believed, and which are; at most those that were met while it was fetched. */
  readonly #distrusted = new Map<string, (index: number) => boolean>();
  #changed = false;

  constructor(channel: number, holding: Holding, member: SwarmMember | undefined, context: BlobSwarmContext) {
    this.key = holding.key;
    this.id = blobId(holding.key);
    this.channel = channel;
    this.chunks = chunkCount(holding.key.size);
    this.holding = holding;
    this.#context = context;
    this.#readers = new Uint16Array(member === undefined ? 0 : this.chunks);
    this.#member = member;
    if (member !== undefined) {
      this.#zone = this.#gate(member);
      this.#picker = new Picker(this.chunks, {
        budget: context.budget,
        random: context.random,
        wants: (index) => member.wants(index),
        bytesOf: (index) => this.bytesOf(index),
        imports: this.#zone,
      });
    }
  }

  /** Whether this host fetches the blob, not only uploads it. */
  get fetching(): boolean {
    return this.#member !== undefined;
  }

  bytesOf(index: number): number {
    const { start, end } = chunkBounds(this.key.size, index);
    return end - start;
  }

  /** @throws PeerFault where the blob has no such chunk */
  checkIndex(index: number): void {
    if (index >= this.chunks) throw new PeerFault('PEER_PROTOCOL', `chunk ${index} of ${this.chunks}`);
  }

  isPaired(link: BlobLink): boolean {
    return this.#peers.get(link.peerId)?.link === link;
  }

  /** Whether the peer lacks chunks, which it may ask for yet. */
  isOwed(link: BlobLink): boolean {
    const peer = this.#peers.get(link.peerId);
    return peer?.link === link && !peer.have.full;
  }

  /** Both sides have named the blob: tells the peer what is here. */
  pair(link: BlobLink): void {
    if (this.isPaired(link)) return;
    const peer = new BlobPeer(link, this.chunks, this.#reading.length === 0, (each) => this.#news(each));
    this.#peers.set(link.peerId, peer);
    this.#heard(peer);
    this.#zone?.peers(this.#peers.keys());
    for (const frame of this.#news(peer)) link.outbox.send(frame);
    this.#sourcesChanged();
  }

  /** The peer left the blob, or its session ended: its requests go elsewhere. */
  unpair(link: BlobLink): void {
    const peer = this.#peers.get(link.peerId);
    if (peer?.link !== link) return;
    this.#countReaders(peer.reading, -1);
    this.#peers.delete(link.peerId);
    for (const fetch of link.intake.fetches()) {
      if (fetch.owner === this) link.intake.drop(this.channel, fetch.index);
    }
    this.#picker?.removePeer(link.peerId);
    this.#zone?.peers(this.#peers.keys());
    this.#wakeUseful();
    this.#sourcesChanged();
  }

  // ---- what the peer says

  bitfield(link: BlobLink, bits: Uint8Array): void {
    const peer = this.#peers.get(link.peerId);
    if (peer === undefined) return;
    peer.have = Bitfield.fromBytes(this.chunks, bits);
    this.#heard(peer);
    this.#context.wake(link);
    this.#sourcesChanged();
  }

  have(link: BlobLink, ranges: readonly IndexRange[]): void {
    this.#checkRanges(ranges);
    const peer = this.#peers.get(link.peerId);
    if (peer === undefined) return;
    for (const range of ranges) peer.have.setRange(range);
    if (this.#distrusted.size > 0 && this.#distrusted.has(link.peerId)) this.#heard(peer);
    else if (this.#picker === undefined || this.#picker.addHave(link.peerId, ranges) === 0) return;
    if (this.#picker === undefined) return;
    if (this.#picker.useful(link.peerId)) this.#context.wake(link);
    this.#sourcesChanged();
  }

  read(link: BlobLink, ranges: readonly IndexRange[]): void {
    this.#checkRanges(ranges);
    const peer = this.#peers.get(link.peerId);
    if (peer === undefined) return;
    this.#countReaders(peer.reading, -1);
    peer.reading = ranges;
    this.#countReaders(ranges, 1);
    this.#sourcesChanged();
  }

  // ---- what is asked of peers

  /** Chooses a chunk to ask of this peer, and counts it as asked. */
  pick(link: BlobLink, nowMs: number): Fetch<BlobSwarm> | undefined {
    const { peerId } = link;
    if (this.#picker === undefined || this.#member === undefined) return undefined;
    if (!this.#picker.useful(peerId) && !this.#picker.endgame) return undefined;
    const asked = this.#picker.asked;
    const index = this.#picker.pick(peerId, {
      nowMs,
      urgent: this.#member.urgent(),
      patienceMs: Math.max(MIN_PATIENCE_MS, PATIENCE * link.account.expectedMs(this.bytesOf(0))),
    });
    if (index === undefined) return undefined;
    if (this.#picker.asked === asked) this.#context.counters.add('duplicate_requests', 1);
    if (this.#zone?.stepsIn(peerId, index) === true) this.#context.counters.add('stand_in_requests', 1);
    return { owner: this, channel: this.channel, index, bytes: this.bytesOf(index), sinceMs: nowMs };
  }

  /** Peers that trade this blob. */
  get sourceCount(): number {
    return this.#peers.size;
  }

  /** A request will not be answered. */
  failed(link: BlobLink, index: number): void {
    this.#picker?.failed(link.peerId, index);
    this.#wakeUseful();
  }

  /** A whole chunk: the member checks it, its verdict is acted on. */
  arrived(link: BlobLink, { fetch, digest, bytes }: Arrival<BlobSwarm>, nowMs: number): void {
    const member = this.#member;
    const picker = this.#picker;
    if (member === undefined || picker === undefined) return;
    // The member frees the bytes when it likes.
    const { length } = bytes;
    link.account.delivered(length, nowMs - fetch.sinceMs);
    this.#context.delivered(link, length, nowMs - fetch.sinceMs);
    this.#zone?.arrived(link.peerId, fetch.index, nowMs - fetch.sinceMs);
    for (const peerId of picker.arrived(link.peerId, fetch.index)) this.#cancel(peerId, fetch.index);
    const act = (verdict: ChunkVerdict): void => this.#judged(link, fetch.index, length, verdict, picker);
    member.accept(fetch.index, digest, bytes, link.peerId).then(act, (error: unknown) => {
      this.#context.log.warn({ digest: this.key.digest, chunk: fetch.index, peer: link.peerId, err: error }, 'chunk was not taken');
      act('duplicate');
    });
  }

  /** Bytes of this blob went to or came from the peer. */
  moved(peerId: string, direction: 'up' | 'down', bytes: number, nowMs: number): void {
    const peer = this.#peers.get(peerId);
    if (peer === undefined) return;
    peer[direction].add(bytes, nowMs);
    if (direction === 'down') this.#zone?.moved();
    if (direction === 'up') peer.bytesUp += bytes;
    else peer.bytesDown += bytes;
  }

  /** Requests that are late may be asked of a second peer now, and a reader may starve. */
  tick(): void {
    if (this.#picker === undefined || this.#member === undefined) return;
    this.#zone?.tick();
    this.#wakeOpened();
    if (this.#picker.endgame || this.#member.urgent() !== undefined) for (const peer of this.#peers.values()) this.#context.wake(peer.link);
  }

  /** The peer asked for what is not here: it gets a fresh bitfield. */
  correct(link: BlobLink): void {
    const peer = this.#peers.get(link.peerId);
    if (peer === undefined) return;
    peer.retell();
    this.#tellLater(peer);
  }

  // ---- SwarmHandle: what the Download says

  announce(indexes: readonly number[]): void {
    this.#zone?.have(indexes);
    for (const index of indexes) {
      for (const peerId of this.#picker?.obtained(index) ?? []) this.#cancel(peerId, index);
    }
    const { freshMs, widelyHeldMs, widelyHeld } = this.#context.news;
    const isWidelyHeld = indexes.every((index) => (this.#picker?.availability(index) ?? 0) >= widelyHeld);
    for (const peer of this.#peers.values()) if (peer.gained(indexes)) this.#tellLater(peer, isWidelyHeld ? widelyHeldMs : freshMs);
  }

  reading(ranges: readonly IndexRange[], soon = false): void {
    const indexes = ranges.flatMap(([first, count]) => Array.from({ length: count }, (_, at) => first + at));
    this.#reading = toRanges(indexes).slice(0, MAX_RANGES_PER_FRAME);
    for (const peer of this.#peers.values()) {
      peer.retellReading();
      this.#tellLater(peer, soon ? this.#context.news.freshMs : READING_MS);
    }
  }

  poke(ranges?: readonly IndexRange[]): void {
    this.#picker?.refresh(ranges);
    this.#wakeUseful();
  }

  retract(): void {
    for (const peer of this.#peers.values()) {
      peer.retell();
      this.#tellLater(peer);
    }
    this.poke();
  }

  distrust(peerId: string, believed: (index: number) => boolean): void {
    this.#distrusted.set(peerId, believed);
    const peer = this.#peers.get(peerId);
    if (peer === undefined) return;
    for (const fetch of peer.link.intake.fetches()) {
      if (fetch.owner !== this || believed(fetch.index)) continue;
      this.#cancel(peerId, fetch.index);
      this.#picker?.failed(peerId, fetch.index);
    }
    this.#heard(peer);
    this.#wakeUseful();
    this.#sourcesChanged();
  }

  connect(peers: readonly PeerInfo[]): void {
    this.#context.connect(this, peers);
  }

  importer(seat: ImportSeat | undefined): void {
    this.#zone?.told(seat);
    this.#wakeOpened();
  }

  heldByPeer(index: number): boolean {
    return (this.#picker?.availability(index) ?? 0) > 0;
  }

  readByPeer(index: number): boolean {
    return (this.#readers[index] ?? 0) > 0;
  }

  peers(): string[] {
    return [...this.#peers.keys()];
  }

  sources(): SourceStatus[] {
    const nowMs = this.#context.nowMs();
    return [...this.#peers].map(([peerId, peer]) => ({
      peerId,
      held: peer.have.count,
      useful: (this.#picker?.useful(peerId) ?? false) || peer.link.intake.fetches().some(({ owner }) => owner === this),
      downRate: peer.down.rate(nowMs),
      upRate: peer.up.rate(nowMs),
      bytesDown: peer.bytesDown,
      bytesUp: peer.bytesUp,
    }));
  }

  leave(): void {
    if (this.#member === undefined) return;
    this.#stopFetching();
    this.#context.left(this);
  }

  /** Ends: what was asked is cancelled. Telling the peers is the caller's. */
  close(): void {
    this.#stopFetching();
    this.#peers.clear();
  }

  // ---- inside

  /** What the peer holds, as far as it is believed. */
  #heard({ link: { peerId }, have }: BlobPeer<BlobLink>): void {
    const believed = this.#distrusted.get(peerId);
    if (believed === undefined) {
      this.#picker?.setHave(peerId, have);
      return;
    }
    const held = new Bitfield(this.chunks);
    for (let index = 0; index < this.chunks; index++) if (have.has(index) && believed(index)) held.set(index);
    this.#picker?.setHave(peerId, held);
  }

  #stopFetching(): void {
    this.#member = undefined;
    for (const { link } of this.#peers.values()) {
      for (const fetch of link.intake.fetches()) if (fetch.owner === this) this.#cancel(link.peerId, fetch.index);
    }
    this.#picker?.close();
    this.#picker = undefined;
    this.#zone = undefined;
    this.#context.wakeAll();
  }

  #judged(link: BlobLink, index: number, bytes: number, verdict: ChunkVerdict, picker: Picker): void {
    const { counters } = this.#context;
    switch (verdict) {
      case 'kept':
        counters.add('kept_bytes', bytes);
        break;
      case 'duplicate':
        counters.add('duplicate_bytes', bytes);
        break;
      case 'conflict':
        counters.add('conflict_chunks', 1);
        link.account.conflicts++;
        picker.forbid(link.peerId, index);
        break;
      case 'forged':
        counters.add('forged_chunks', 1);
        link.account.forged++;
        picker.forbid(link.peerId, index);
        this.#context.forged(link.peerId, this.key, index);
        break;
    }
    picker.settled(index);
    // A chunk that was kept leaves nothing to ask for but what its memory kept others from.
    if (verdict !== 'kept' || this.#context.budget.takeWanting()) this.#context.wakeAll();
  }

  #cancel(peerId: string, index: number): void {
    const link = this.#peers.get(peerId)?.link;
    if (link?.intake.drop(this.channel, index) === undefined) return;
    link.outbox.send({ type: 'cancel', channel: this.channel, index });
    this.#context.wake(link);
  }

  #tellLater(peer: BlobPeer<BlobLink>, withinMs = this.#context.news.freshMs): void {
    const byMs = this.#context.nowMs() + withinMs;
    if (peer.toldByMs <= byMs) return;
    peer.toldByMs = byMs;
    peer.link.outbox.later(this.channel, withinMs, peer.tell);
  }

  #news(peer: BlobPeer<BlobLink>): ExchangeFrame[] {
    if (this.#peers.get(peer.link.peerId) !== peer) return [];
    return peer.news(this.channel, this.holding.have, this.#reading);
  }

  #gate({ have }: SwarmMember): ZoneGate | undefined {
    const { place, nowMs } = this.#context;
    if (place === undefined) return undefined;
    return new ZoneGate({
      place,
      key: this.key,
      chunks: this.chunks,
      nowMs,
      zoneOf: (peerId) => this.#peers.get(peerId)?.link.session.zone,
      has: (index) => have.has(index),
      confine: (index, confined) => this.#picker?.confine(index, confined),
    });
  }

  #wakeOpened(): void {
    if (this.#zone?.takeOpened() === true) this.#wakeUseful();
  }

  #wakeUseful(): void {
    if (this.#picker === undefined) return;
    for (const [peerId, peer] of this.#peers) {
      if (this.#picker.useful(peerId)) this.#context.wake(peer.link);
    }
  }

  #countReaders(ranges: readonly IndexRange[], step: 1 | -1): void {
    for (const [first, count] of ranges) {
      for (let index = first; index < first + count; index++) if (index < this.#readers.length) this.#readers[index]! += step;
    }
  }

  /** @throws PeerFault */
  #checkRanges(ranges: readonly IndexRange[]): void {
    let end = 0;
    for (const [first, count] of ranges) {
      if (count === 0 || first < end || first + count > this.chunks) throw new PeerFault('PEER_PROTOCOL', `range ${first}+${count} of ${this.chunks} chunks`);
      end = first + count;
    }
  }

  /** Told once per turn, however much changed. */
  #sourcesChanged(): void {
    if (this.#changed || this.#member === undefined) return;
    this.#changed = true;
    this.#context.soon(() => {
      this.#changed = false;
      this.#member?.sourcesChanged();
    });
  }
}

/** Digest and size: two blobs of one digest and different sizes are not the same swarm. */
export function blobId(key: BlobKey): string {
  return `${key.digest}/${key.size}`;
}
