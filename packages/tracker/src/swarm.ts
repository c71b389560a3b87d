// The swarm of one blob: who trades it, who reads it at the origin, what its chunks are, who is to blame.
//
// Puts together what each knows alone: LeaseBook (holders, leases), Vouches (digests), Audit (disputes), Introductions (sources), ImportSeats (who brings it into
// each zone).
// Pure: time and randomness come in, events go out. Only Swarms calls it. Non-goals: who is a member of the fleet.

import { toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkMapSigningBytes, type BlobKey } from '@flotilla/shared/chunk-map';
import { packDigests, unpackDigests, type AgentMessage, type TrackerEvent } from '@flotilla/shared/tracker-api';
import { Audit, type Claim } from './audit.ts';
import { ImportSeats } from './import-seats.ts';
import { Introductions, type IntroductionView } from './introductions.ts';
import { Invalidations } from './invalidations.ts';
import { rangeBytes, type BookOutput, type ReaderStatus, type RunSizes } from './lease.ts';
import { LeaseBook } from './leases.ts';
import { equal, Vouches, type VouchRun } from './vouches.ts';

/** How long nobody reads a blob that its origin was shown not to have. */
const BAD_ORIGIN_MS = 60_000;
/** Digests in one event: 1.4 MiB of text. */
const MAX_DIGESTS_PER_EVENT = 32_768;

type Message<T extends AgentMessage['type']> = Extract<AgentMessage, { type: T }>;

/** What a swarm needs of the fleet. */
export interface SwarmOutput extends Omit<BookOutput, 'auditEnded'> {
  trusted(peer: string): boolean;
  /** Whether others can get from it what it holds: it is trusted, and may upload. */
  counts(peer: string): boolean;
  proven(peer: string, blob: string, byThird: boolean): void;
  accused(accuser: string, peer: string): void;
  /** Whether `signature` over `bytes` is of the member's key. */
  signedBy(peer: string, bytes: Uint8Array, signature: Uint8Array): boolean;
  originBlamed(blob: BlobKey): void;
  done(bytes: number): void;
}

export interface SwarmInit {
  readonly key: string;
  /** In its lease ids. */
  readonly number: number;
  readonly blob: BlobKey;
  readonly epoch: number;
  readonly random: () => number;
  readonly view: IntroductionView;
  /** @default RUN_SIZES */
  readonly runSizes?: RunSizes | undefined;
}

export interface SwarmStatus {
  readonly digest: string;
  readonly size: number;
  readonly chunks: number;
  readonly seeds: number;
  readonly members: readonly ReaderStatus[];
  readonly leases: number;
  readonly digestsKnown: number;
}

export class Swarm {
  readonly key: string;
  readonly number: number;
  readonly blob: BlobKey;
  readonly book: LeaseBook;
  readonly introductions: Introductions;
  /** Bytes that were read at origins under leases, and that may have been read twice because a pull stood still. For operators. */
  readonly counted = { originBytes: 0, hedgedBytes: 0 };
  readonly #imports = new ImportSeats();
  readonly #view: IntroductionView;
  readonly #vouches: Vouches;
  readonly #invalidations: Invalidations;
  readonly #audit: Audit;
  readonly #out: SwarmOutput;
  #map: { readonly version: number; readonly bytes: Uint8Array } | undefined;
  #nowMs = 0;
  #paceChanges = 0;
  #badUntilMs = 0;

  constructor({ key, number, blob, epoch, random, view, runSizes }: SwarmInit, out: SwarmOutput) {
    this.key = key;
    this.number = number;
    this.blob = blob;
    this.#out = out;
    this.#view = view;
    this.book = new LeaseBook(blob, epoch, {
      send: (peer, event) => out.send(peer, event),
      auditEnded: (leaseId) => this.#audit.ended(leaseId),
      throttle: (origin, peer, retryAfterMs, at) => out.throttle(origin, peer, retryAfterMs, at),
      throttledUntilMs: (origin, peer) => out.throttledUntilMs(origin, peer),
      newLeaseId: () => out.newLeaseId(),
      granted: (mode, bytes) => {
        if (mode === 'hedge') this.counted.hedgedBytes += bytes;
        out.granted(mode, bytes);
      },
      returned: (bytes) => out.returned(bytes),
      open: (at) => out.open(at),
      mostBytes: () => out.mostBytes(),
    }, runSizes);
    this.#vouches = new Vouches(this.book.chunks);
    this.#invalidations = new Invalidations(this.book.chunks);
    this.#audit = new Audit(this.#vouches, random, {
      auditors: () => this.book.auditors(this.#nowMs),
      audit: (peer, index) => this.book.audit(peer, index, this.#nowMs),
      proven: (peer, byThird) => this.#proven(peer, byThird),
      accused: (accuser, peer) => {
        this.#doubtHearsay(peer);
        out.accused(accuser, peer);
      },
      invalidate: (ranges, keepers) => this.#invalidate(ranges, keepers),
      originBlamed: () => this.#originBlamed(),
    });
    this.introductions = new Introductions(view, random);
  }

  /** Whether time alone may change something here. */
  get active(): boolean {
    return this.book.active || this.#vouches.hasFresh || this.#audit.active || this.introductions.waiting;
  }

  /** Nobody holds it, nobody wants it. */
  get empty(): boolean {
    return this.book.readers.size === 0 && this.book.holdings.empty;
  }

  /** Nobody fetches it now; what is known of it is kept while there is room. */
  get idle(): boolean {
    return this.book.readers.size === 0;
  }

  get digestBytes(): number {
    return this.#vouches.bytes;
  }

  forgetDigests(): void {
    this.#vouches.forgetAll();
  }

  // ---- what members say

  want(peer: string, message: Message<'want'>, nowMs: number): void {
    this.#nowMs = nowMs;
    // Before it joins: it is told everything once, not the newest twice.
    this.#pushFresh();
    const { good, stale } = this.#invalidations.split(message.have, message.round);
    this.book.join(peer, { trusted: this.#out.trusted(peer), canRead: message.canRead, origin: message.source?.origin, have: good, reading: message.reading }, nowMs);
    if (this.#invalidations.since(message.round)) this.#out.send(peer, this.#invalid(stale));
    this.#vet(peer);
    this.#seat(peer);
    this.#settleMember(peer);
    this.#tellDigests(peer);
  }

  /** @param within only these chunks are of use to it; undefined: all */
  need(peer: string, runs: number, originRate: number, within: readonly IndexRange[] | undefined): void {
    this.book.need(peer, runs, originRate, within);
    this.#seat(peer);
  }

  /** Holds the whole blob, as its inventory says. */
  holds(peer: string): void {
    this.#vet(peer);
    this.book.seed(peer);
    this.introductions.satisfied(peer);
    this.introductions.poolGrew();
  }

  /** @param round the `invalid` that `peer` last heard of */
  have(peer: string, ranges: readonly IndexRange[], round: number | undefined, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#vet(peer);
    for (const range of this.#invalidations.split(ranges, round).good) this.book.have(peer, range, nowMs);
    this.#settleMember(peer);
  }

  lost(peer: string, ranges: readonly IndexRange[]): void {
    for (const range of ranges) this.book.lost(peer, range);
    this.#settleMember(peer);
  }

  done(peer: string, { leaseId, first, digests: packed }: Message<'done'>, nowMs: number): void {
    this.#nowMs = nowMs;
    const digests = unpackDigests(packed);
    const lease = this.book.lease(leaseId);
    if (lease?.mode === 'audit') {
      if (lease.reader.peer !== peer || digests[0] === undefined || first !== lease.first) return;
      this.book.endAudit(lease);
      this.#audit.answered(leaseId, digests[0], nowMs);
      return;
    }
    this.#vet(peer);
    this.book.done(peer, [first, digests.length], nowMs);
    this.#settleMember(peer);
    const bytes = rangeBytes(this.blob, first, digests.length);
    this.counted.originBytes += bytes;
    this.#out.done(bytes);
    if (!this.#out.trusted(peer)) return;
    digests.forEach((digest, offset) => {
      const index = first + offset;
      if (this.#vouches.put(index, digest, peer) !== 'other') return;
      const known = this.#vouches.get(index)!;
      const claims: Claim[] = [
        { digest: known.digest, by: known.by, vouched: true },
        { digest, by: peer, vouched: true, keeps: true },
      ];
      this.#audit.conflict(index, claims, peer, nowMs);
    });
  }

  /** @returns whether the signature covers the digests that are known; undefined where they are not all known */
  seed(peer: string, signature: Uint8Array): boolean | undefined {
    this.holds(peer);
    const map = this.#mapBytes();
    if (map === undefined || !this.#out.trusted(peer)) return undefined;
    const signed = this.#out.signedBy(peer, map, signature);
    if (signed) this.#vouches.signed(peer);
    return signed;
  }

  /** `reporter` heard of a digest that is not the one it was told, or read. What `peer` said is hearsay unless it vouched for it here. */
  conflict(reporter: string, message: Message<'conflict'>, nowMs: number): void {
    this.#nowMs = nowMs;
    const { index, peer } = message;
    const known = this.#vouches.get(index);
    if (!this.#out.trusted(peer)) {
      // A known liar goes on: that costs no reading at the origin.
      if (known !== undefined && message.heard !== packDigests([known.digest])) this.#out.accused(reporter, peer);
      return;
    }
    const claims: Claim[] = [];
    if (known !== undefined) claims.push({ ...known, vouched: true });
    for (const [text, by] of [[message.expected, undefined], [message.heard, peer]] as const) {
      const digest = Buffer.from(text, 'base64url');
      if (digest.length !== 32 || (known !== undefined && equal(known.digest, digest)) || this.#vouches.withdrawn(index, digest)) continue;
      claims.push({ digest, by, vouched: false });
    }
    if (claims.length > 1) this.#audit.conflict(index, claims, reporter, nowMs);
  }

  /**
   * `reporter` has every chunk as it was vouched for, and not the blob. Where seeds have signed the same chunks, its own are wrong.
   * @param round the `invalid` that it last heard of: one that it has still to hear of may be its answer, and it asks again where it is not
   */
  mismatch(reporter: string, round: number | undefined, nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#invalidations.since(round)) return;
    if (this.book.holdings.seeded && this.#vouches.mismatch()) {
      this.book.lost(reporter, [0, this.book.chunks]);
      this.#out.send(reporter, this.#invalid([[0, this.book.chunks]]));
      // In doubt it takes from others only what it is told the digest of.
      this.#tellDigests(reporter);
      return;
    }
    this.#refetchUnvouched(reporter);
    if (nowMs >= this.#badUntilMs) this.#audit.mismatch(nowMs);
  }

  /** A member got bytes from `peer` that contradict the digest sent with them: what only `peer` claims to hold is as good as missing. */
  accused(peer: string): void {
    this.book.doubt(peer);
  }

  leave(peer: string, kept: boolean): void {
    this.book.leave(peer, kept);
    this.#imports.remove(peer);
    if (kept) this.introductions.satisfied(peer);
    else this.introductions.remove(peer);
  }

  /** `peer` lost the right to vouch: it gets no leases, and what it alone claims to hold is read again. */
  distrust(peer: string): void {
    this.book.distrust(peer);
    this.#seat(peer);
  }

  /** `peer` may not upload for a while: what it alone holds is as good as missing. */
  mute(peer: string): void {
    this.book.doubt(peer);
    this.#seat(peer);
  }

  /** `peer` may upload again. */
  unmute(peer: string): void {
    this.#seat(peer);
    if (this.#out.counts(peer)) this.book.holdings.trust(peer);
  }

  // ---- time

  /** Tells whoever has another seat than before among those that bring the blob into its zone. */
  tellSeats(): void {
    if (!this.#imports.due) return;
    for (const { peer, seat } of this.#imports.takeChanged()) this.#out.send(peer, { type: 'importer', blob: this.blob, ...seat });
  }

  /** Gives out what can be given. */
  grant(nowMs: number): void {
    this.#nowMs = nowMs;
    if (nowMs >= this.#badUntilMs) this.book.grant(nowMs);
  }

  /**
   * @param leasing false: only what is live goes on, nothing new is granted
   * @param tellFresh tells what is newly vouched for; to those who wait for it, it is told in any case
   */
  tick(nowMs: number, leasing: boolean, tellFresh: boolean): void {
    this.#nowMs = nowMs;
    this.book.tick(nowMs);
    if (leasing) {
      this.grant(nowMs);
      if (this.#audit.active) this.#audit.tick(nowMs);
    }
    if (this.#paceChanges !== this.book.paceChanges) {
      this.#paceChanges = this.book.paceChanges;
      this.introductions.paceChanged();
    }
    if (tellFresh || this.#anyReadsRanges) this.#pushFresh();
  }

  status(): SwarmStatus {
    const { holdings } = this.book;
    return {
      digest: this.blob.digest,
      size: this.blob.size,
      chunks: this.book.chunks,
      seeds: holdings.seeds.size,
      members: this.book.status(),
      leases: this.book.liveLeases,
      digestsKnown: this.#vouches.count,
    };
  }

  // ---- inside

  /** Who reads a part goes on chunk by chunk, as it hears that somebody else vouches for it: nothing checks its bytes later. */
  get #anyReadsRanges(): boolean {
    if (!this.#vouches.hasFresh) return false;
    for (const { within } of this.book.readers.values()) if (within !== undefined) return true;
    return false;
  }

  /** Who fetches only a part of the blob, or cannot pass on what it brings in, is no importer. */
  #seat(peer: string): void {
    const reader = this.book.readers.get(peer);
    if (reader !== undefined) this.#imports.put(peer, this.#view.zone(peer), reader.within === undefined && this.#out.counts(peer));
  }

  /** What a seed has to sign; made once for all of them, as it goes over every digest. */
  #mapBytes(): Uint8Array | undefined {
    if (this.#map?.version === this.#vouches.version) return this.#map.bytes;
    const digests = this.#vouches.whole();
    this.#map = digests && { version: this.#vouches.version, bytes: chunkMapSigningBytes(this.blob, digests) };
    return this.#map?.bytes;
  }

  #vet(peer: string): void {
    if (!this.#out.counts(peer)) this.book.holdings.distrust(peer);
  }

  #settleMember(peer: string): void {
    if (!this.book.readers.has(peer)) return;
    if (this.book.holdings.complete(peer)) this.introductions.satisfied(peer);
    else this.introductions.join(peer, this.#nowMs);
  }

  /** `peer` vouched for something wrong: whatever else it said of this blob is doubted. */
  #proven(peer: string, byThird: boolean): void {
    const doubted = this.#vouches.of(peer).filter((index) => !this.#vouches.confirmed(index));
    this.#out.proven(peer, this.key, byThird);
    if (doubted.length > 0) this.#invalidate(toRanges(doubted), []);
  }

  #invalidate(ranges: readonly IndexRange[], keepers: readonly string[]): void {
    for (const range of ranges) {
      this.book.invalidate(range, keepers);
      this.#vouches.forget(range);
    }
    this.#invalidations.add(ranges);
    this.#tell(this.#invalid(ranges), () => true);
    for (const peer of this.book.readers.keys()) this.#settleMember(peer);
  }

  #invalid(ranges: readonly IndexRange[]): TrackerEvent {
    return { type: 'invalid', blob: this.blob, ranges: ranges.map(([first, count]) => [first, count]), round: this.#invalidations.round };
  }

  /**
   * Chunks that nobody vouches for came from members that only claim to hold them, as seeds do after the tracker has started anew. No
   * audit can tell which of these lies, so none of their claims counts, and those chunks are read at the origin again.
   */
  #refetchUnvouched(reporter: string): void {
    const unvouched = this.#unvouched();
    if (unvouched.length === 0) return;
    const { holdings } = this.book;
    for (const peer of [...holdings.seeds, ...holdings.partials()]) {
      if (peer !== reporter && unvouched.some(([first, count]) => holdings.hasAny(peer, [first, count]))) this.book.doubt(peer);
    }
    for (const range of unvouched) this.book.lost(reporter, range);
    this.#out.send(reporter, this.#invalid(unvouched));
    this.#settleMember(reporter);
  }

  /** `peer` passes on what an audit found wrong: it holds only what somebody has read, and where it has read nothing itself, nothing that counts. */
  #doubtHearsay(peer: string): void {
    if (this.#vouches.of(peer).length === 0) this.book.doubt(peer);
    else for (const range of this.#unvouched()) this.book.lost(peer, range);
  }

  #unvouched(): IndexRange[] {
    return toRanges(Array.from({ length: this.book.chunks }, (_, index) => index).filter((index) => this.#vouches.get(index) === undefined));
  }

  #originBlamed(): void {
    this.#badUntilMs = this.#nowMs + BAD_ORIGIN_MS;
    this.#vouches.forgetAll();
    this.#out.originBlamed(this.blob);
  }

  /** All that is vouched for. */
  #tellDigests(peer: string): void {
    for (const run of this.#vouches.runs()) if (this.#lacks(peer, run)) for (const event of this.#digestEvents(run)) this.#out.send(peer, event);
  }

  #pushFresh(): void {
    for (const run of this.#vouches.takeFresh()) for (const event of this.#digestEvents(run)) this.#tell(event, (peer) => this.#lacks(peer, run));
  }

  /** Whether `peer` has to be told of these digests: its own it knows while it has the chunks, but what it read in an audit it did not keep. */
  #lacks(peer: string, { first, digests, by }: VouchRun): boolean {
    return peer !== by || !this.book.holdings.hasAll(peer, [first, digests.length]);
  }

  /** To every member that has not finished, and that it concerns. */
  #tell(event: TrackerEvent, concerns: (peer: string) => boolean): void {
    for (const peer of this.book.readers.keys()) if (!this.book.holdings.isSeed(peer) && concerns(peer)) this.#out.send(peer, event);
  }

  #digestEvents({ first, digests, by }: VouchRun): TrackerEvent[] {
    const events: TrackerEvent[] = [];
    for (let at = 0; at < digests.length; at += MAX_DIGESTS_PER_EVENT) {
      events.push({ type: 'digests', blob: this.blob, first: first + at, digests: packDigests(digests.slice(at, at + MAX_DIGESTS_PER_EVENT)), by });
    }
    return events;
  }
}
