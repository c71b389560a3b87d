// The exchange at this host, whatever the transport: which blobs are traded with whom, and what each frame means.
//
//   interest (theirs) ── known here? ──> interest (ours) + bitfield      otherwise remembered, until we join or seed it
//   interest both ways ──> paired: bitfield once, then have, reading, request, chunk, cancel, busy
//   leave ──> unpaired; a side that only uploaded leaves as well
//
// A blob that this host fetches is named to the standing mesh and to whom the tracker introduced for it, not to whoever else is connected: connections
// outlive what they were made for, and a fleet in which all trade with all is slower than one in which each trades with a few (docs/decisions/0024).
// Without a tracker it is named to all.
//
// Invariants: a frame names a channel that its sender has opened, and indexes within the blob: anything else is a fault.
// Bounds: MAX_INTERESTS blobs per peer and side, MAX_NAMED where there is a choice; a blob that nobody trades and this host does not fetch is forgotten.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import { isDigest } from '@flotilla/shared/digest';
import { MAX_BLOB_BYTES, MAX_INTERESTS } from '@flotilla/shared/exchange';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import type { Holding, Holdings, Swarm, SwarmHandle, SwarmMember } from '../content/ports.ts';
import { BlobSwarm, blobId, NEWS_WAITS, type BlobLink, type BlobSwarmContext, type NewsWaits } from './blob-swarm.ts';
import type { SwarmCounters, SwarmLog } from './counters.ts';
import type { TokenBucket } from './limits.ts';
import type { Interest } from './link.ts';
import { PeerFault } from './peer-fault.ts';
import { Budget } from './picker.ts';
import { apart, type Place } from './place.ts';
import { Requests } from './requests.ts';
import type { ReadyFrame } from './session.ts';
import type { Timers } from './timers.ts';
import { Uploader } from './uploader.ts';

/** Blobs named to one peer before finished ones make room. */
const MAX_NAMED = 256;
/**
 * A peer's interest that comes so soon after this side has left the blob may be the answer to ours, which crossed our leave: its own leave follows then.
 * Two who hold a blob would go on answering one another for good. So soon: in a round trip, and this much more. Not longer, as who really wants it waits.
 */
const CROSSING_MS = 30;
const MAX_LEFT = 64;
const TICK_MS = 100;
/** A stream that takes nothing for this long is given up. */
const MAX_BLOCKED_MS = 30_000;

export interface ExchangeComponents {
  readonly holdings: Holdings;
  readonly counters: SwarmCounters;
  readonly log: SwarmLog;
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly timers: Timers;
  readonly downloadLimit: TokenBucket;
  /** Of what comes from peers of other zones, besides. @default no limit */
  readonly zoneDownloadLimit?: TokenBucket | undefined;
  /** Where this host stands. @default nowhere in particular */
  readonly place?: Place | undefined;
  readonly forged: (peerId: string, key: BlobKey, index: number) => void;
  readonly connect: (peers: readonly PeerInfo[]) => void;
  /** Whether the peer is of the standing mesh. */
  readonly isStanding: (peerId: string) => boolean;
}

export class Exchange implements Swarm {
  readonly #with: ExchangeComponents;
  readonly #links = new Map<string, BlobLink>();
  readonly #blobs = new Map<string, BlobSwarm>();
  readonly #budget = new Budget();
  readonly #requests: Requests;
  readonly #uploader: Uploader;
  readonly #context: BlobSwarmContext;
  readonly #stopTicking: () => void;
  #fetching: BlobSwarm[] = [];
  #lastChannel = 0;
  #tradesWithAll = false;

  constructor(components: ExchangeComponents, news: NewsWaits = NEWS_WAITS) {
    this.#with = components;
    const { counters, log, nowMs, random, timers } = components;
    const isForeign = ({ session: { zone } }: BlobLink): boolean => apart(components.place?.zone, zone);
    const near = [components.downloadLimit];
    const across = components.zoneDownloadLimit === undefined ? near : [...near, components.zoneDownloadLimit];
    this.#requests = new Requests({
      counters,
      nowMs,
      timers,
      isForeign,
      limits: (link) => (isForeign(link) ? across : near),
      fetching: () => this.#fetching,
      links: () => this.#links.values(),
    });
    this.#uploader = new Uploader({ counters, log, nowMs, isForeign, givesWay: () => components.holdings.givesWay?.(), unreadable: (blob) => void this.#lookAgain(blob) });
    this.#context = {
      budget: this.#budget,
      random,
      nowMs,
      soon: (act) => void timers.soon(act),
      news,
      counters,
      log,
      place: components.place,
      wake: (link) => this.#requests.wake(link),
      delivered: (link, chunkBytes, latencyMs) => this.#requests.delivered(link, chunkBytes, latencyMs),
      wakeAll: () => this.#requests.wakeAll(),
      forged: components.forged,
      connect: (blob, peers) => this.#introduced(blob, peers),
      left: (blob) => {
        this.#fetching = this.#fetching.filter((each) => each !== blob);
        for (const link of this.#links.values()) if (!blob.isPaired(link)) this.#unname(link, blob);
        void this.#lookAgain(blob);
      },
    };
    this.#stopTicking = timers.every(TICK_MS, () => this.#tick());
  }

  /** Nothing is sent to peers any more, or again. */
  stopUploads(stopped: boolean): void {
    this.#uploader.stop(stopped);
  }

  get status(): { blobs: number; outstandingBytes: number; uploads: Uploader['status'] } {
    return { blobs: this.#blobs.size, outstandingBytes: this.#budget.usedBytes, uploads: this.#uploader.status };
  }

  // ---- Swarm: what this host does

  join(member: SwarmMember): SwarmHandle {
    const id = blobId(member.key);
    const before = this.#blobs.get(id);
    if (before !== undefined) this.#forget(before);
    const blob = this.#open(member, member);
    this.#fetching.push(blob);
    // Who is interested is answered, whoever it is.
    for (const link of this.#links.values()) if (this.#seeks(blob, link.peerId) || link.interestIn.has(id)) this.#name(link, blob);
    return blob;
  }

  seeded(key: BlobKey): void {
    void this.#with.holdings.find(key).then(
      (holding) => this.#offer(key, holding),
      (error: unknown) => this.#with.log.warn({ digest: key.digest, err: error }, 'a seeded blob was not found'),
    );
  }

  /** The blob is no longer on this host. */
  evicted(key: BlobKey): void {
    const blob = this.#blobs.get(blobId(key));
    if (blob !== undefined && !blob.fetching) this.#forget(blob);
  }

  // ---- what peers do

  opened(link: BlobLink): void {
    this.#links.set(link.peerId, link);
    this.#nameSought(link);
  }

  /** Peers that are standing have become others. */
  meshChanged(): void {
    for (const link of this.#links.values()) this.#nameSought(link);
  }

  /** Without a tracker nobody introduces: what is fetched is named to all who are connected. */
  tradeWithAll(on: boolean): void {
    this.#tradesWithAll = on;
    this.meshChanged();
  }

  /** Whether one of the two fetches a blob that they trade: the connection is of use, if it stands still. */
  isOfUse(link: BlobLink): boolean {
    for (const { id } of link.named.values()) {
      const blob = this.#blobs.get(id);
      if (blob?.fetching === true || blob?.isOwed(link) === true) return true;
    }
    return false;
  }

  closed(link: BlobLink): void {
    if (this.#links.get(link.peerId) === link) this.#links.delete(link.peerId);
    this.#uploader.drop(link);
    for (const blob of link.named.values()) this.#unpair(link, blob);
    link.named.clear();
    link.interests.clear();
    link.interestIn.clear();
  }

  /** @throws PeerFault */
  frame(link: BlobLink, frame: ReadyFrame): void {
    if (frame.type === 'interest') {
      this.#interest(link, frame.channel, frame.digest, frame.size);
      return;
    }
    const interest = link.interests.get(frame.channel);
    if (interest === undefined) throw new PeerFault('PEER_PROTOCOL', `${frame.type} on channel ${frame.channel}, which is not open`);
    const blob = this.#paired(link, interest);
    switch (frame.type) {
      case 'leave':
        this.#leave(link, interest);
        break;
      case 'chunk':
        this.#chunk(link, blob, frame);
        break;
      case 'bitfield':
        blob?.bitfield(link, frame.bits);
        break;
      case 'have':
        blob?.have(link, frame.ranges);
        break;
      case 'reading':
        blob?.read(link, frame.ranges);
        break;
      case 'request':
        blob?.checkIndex(frame.index);
        if (blob !== undefined) this.#uploader.request(link, blob, frame.index);
        break;
      case 'cancel':
        if (blob !== undefined) this.#uploader.cancel(link, blob, frame.index);
        break;
      case 'busy':
        if (blob !== undefined) this.#requests.refused(link, blob, frame.index, frame.retryAfterMs);
        break;
    }
  }

  /** Tells every peer that this host leaves every blob. */
  leaveAll(): void {
    for (const blob of this.#blobs.values()) this.#forget(blob);
  }

  /** Ends all timers. */
  close(): void {
    this.#stopTicking();
    this.#requests.close();
    this.#fetching = [];
  }

  // ---- inside

  #nameSought(link: BlobLink): void {
    for (const blob of this.#fetching) if (this.#seeks(blob, link.peerId)) this.#name(link, blob);
  }

  #seeks(blob: BlobSwarm, peerId: string): boolean {
    return this.#tradesWithAll || this.#with.isStanding(peerId) || blob.introduced.has(peerId);
  }

  #introduced(blob: BlobSwarm, peers: readonly PeerInfo[]): void {
    if (!blob.fetching) return;
    for (const { peerId } of peers) {
      blob.introduced.add(peerId);
      const link = this.#links.get(peerId);
      if (link !== undefined) this.#name(link, blob);
    }
    this.#with.connect(peers);
  }

  #interest(link: BlobLink, channel: number, digest: string, size: number): void {
    if (!isDigest(digest) || !Number.isSafeInteger(size) || size > MAX_BLOB_BYTES) throw new PeerFault('PEER_PROTOCOL', 'interest in what is no blob');
    if (link.interests.has(channel)) throw new PeerFault('PEER_PROTOCOL', `channel ${channel} is opened twice`);
    const key: BlobKey = { digest, size };
    const interest: Interest = { channel, key, id: blobId(key) };
    if (link.interestIn.has(interest.id)) throw new PeerFault('PEER_PROTOCOL', 'two channels for one blob');
    if (link.interests.size >= MAX_INTERESTS) throw new PeerFault('PEER_PROTOCOL', `interest in more than ${MAX_INTERESTS} blobs`);
    link.interests.set(channel, interest);
    link.interestIn.set(interest.id, interest);
    const sinceLeftMs = this.#with.nowMs() - (link.leftAtMs.get(interest.id) ?? Number.NEGATIVE_INFINITY);
    const crossingMs = CROSSING_MS + (link.roundTripMs ?? CROSSING_MS);
    if (sinceLeftMs >= crossingMs || this.#blobs.get(interest.id)?.fetching === true) this.#answer(link, interest);
    else {
      this.#with.timers.after(crossingMs, () => {
        if (this.#links.get(link.peerId) === link && link.interestIn.get(interest.id) === interest) this.#answer(link, interest);
      });
    }
  }

  #answer(link: BlobLink, { key, id }: Interest): void {
    const blob = this.#blobs.get(id);
    if (blob !== undefined) {
      this.#name(link, blob);
      return;
    }
    this.#with.holdings.find(key).then(
      (holding) => this.#offer(key, holding),
      (error: unknown) => this.#with.log.warn({ digest: key.digest, err: error }, 'a blob that a peer asks for could not be looked up'),
    );
  }

  /** Names a blob that is here to the peers that are interested. */
  #offer(key: BlobKey, holding: Holding | undefined): void {
    if (holding === undefined) return;
    const id = blobId(key);
    const interested = [...this.#links.values()].filter((link) => link.interestIn.has(id));
    const known = this.#blobs.get(id);
    if (known !== undefined && !known.fetching) known.holding = holding;
    if (known === undefined && interested.length === 0) return;
    const blob = known ?? this.#open(holding, undefined);
    for (const link of interested) this.#name(link, blob);
  }

  #open(holding: Holding, member: SwarmMember | undefined): BlobSwarm {
    const blob = new BlobSwarm(++this.#lastChannel, holding, member, this.#context);
    this.#blobs.set(blob.id, blob);
    return blob;
  }

  /** Names the blob to the peer, once; where the peer has named it too, they trade from now on. */
  #name(link: BlobLink, blob: BlobSwarm): void {
    if (!link.named.has(blob.id)) {
      if (blob.key.size > MAX_BLOB_BYTES || !this.#makeRoom(link)) return;
      link.named.set(blob.id, blob);
      link.outbox.send({ type: 'interest', channel: blob.channel, digest: blob.key.digest, size: blob.key.size });
    }
    if (link.interestIn.has(blob.id)) blob.pair(link);
  }

  /** Two agents that hold a blob keep it named, idle: the oldest of those makes room. */
  #makeRoom(link: BlobLink): boolean {
    if (link.named.size < MAX_NAMED) return true;
    for (const blob of link.named.values()) {
      if (blob.fetching) continue;
      this.#unname(link, blob);
      this.#unpair(link, blob);
      return true;
    }
    return link.named.size < MAX_INTERESTS;
  }

  /** Our side of the blob that the peer means; undefined where we have left it, or not yet named it. */
  #paired(link: BlobLink, interest: Interest): BlobSwarm | undefined {
    const blob = link.named.get(interest.id);
    return blob?.isPaired(link) === true ? blob : undefined;
  }

  #chunk(link: BlobLink, blob: BlobSwarm | undefined, piece: Extract<ReadyFrame, { type: 'chunk' }>): void {
    const nowMs = this.#with.nowMs();
    const arrival = link.intake.take(piece, blob?.channel, nowMs);
    link.account.received(piece.payload.length, nowMs);
    if (apart(this.#with.place?.zone, link.session.zone)) this.#with.counters.add('zone_in_bytes', piece.payload.length);
    blob?.moved(link.peerId, 'down', piece.payload.length, nowMs);
    if (arrival === undefined || blob === undefined) return;
    blob.arrived(link, arrival, nowMs);
    this.#requests.wake(link);
  }

  #leave(link: BlobLink, interest: Interest): void {
    link.interests.delete(interest.channel);
    link.interestIn.delete(interest.id);
    const blob = link.named.get(interest.id);
    if (blob === undefined) return;
    if (!blob.fetching) this.#unname(link, blob);
    this.#uploader.drop(link, blob);
    this.#unpair(link, blob);
  }

  /** Tells the peer that this host leaves the blob, where it was named to it. */
  #unname(link: BlobLink, blob: BlobSwarm): void {
    if (link.named.get(blob.id) !== blob) return;
    this.#uploader.drop(link, blob);
    link.named.delete(blob.id);
    if (!link.interestIn.has(blob.id)) this.#left(link, blob.id);
    link.outbox.send({ type: 'leave', channel: blob.channel });
  }

  #left(link: BlobLink, id: string): void {
    link.leftAtMs.delete(id);
    link.leftAtMs.set(id, this.#with.nowMs());
    const [oldest] = link.leftAtMs.keys();
    if (link.leftAtMs.size > MAX_LEFT && oldest !== undefined) link.leftAtMs.delete(oldest);
  }

  #unpair(link: BlobLink, blob: BlobSwarm): void {
    blob.unpair(link);
    if (!blob.fetching && blob.sourceCount === 0 && this.#blobs.get(blob.id) === blob) this.#blobs.delete(blob.id);
  }

  /** The Download left, or a read failed: the finished blob, if there is one, is uploaded on; otherwise we leave. */
  async #lookAgain(blob: BlobSwarm): Promise<void> {
    let holding: Holding | undefined;
    try {
      holding = await this.#with.holdings.find(blob.key);
    } catch (error) {
      this.#with.log.warn({ digest: blob.key.digest, err: error }, 'a blob could not be looked up');
    }
    if (this.#blobs.get(blob.id) !== blob || blob.fetching) return;
    if (holding?.have.full === true && blob.sourceCount > 0) blob.holding = holding;
    else this.#forget(blob);
  }

  /** Leaves the blob: every peer that it was named to is told. */
  #forget(blob: BlobSwarm): void {
    this.#blobs.delete(blob.id);
    this.#fetching = this.#fetching.filter((each) => each !== blob);
    blob.close();
    for (const link of this.#links.values()) this.#unname(link, blob);
  }

  #tick(): void {
    const nowMs = this.#with.nowMs();
    this.#requests.tick();
    this.#uploader.tick();
    for (const link of this.#links.values()) {
      if (link.outbox.blockedMs(nowMs) > MAX_BLOCKED_MS) link.session.close(new PeerFault('PEER_SLOW', `takes nothing for ${MAX_BLOCKED_MS} ms`));
    }
  }
}

