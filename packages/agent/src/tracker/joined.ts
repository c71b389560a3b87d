// One Download that has joined: what it reports goes to the tracker while there is one, and to LocalLeases while there is none.
//
// Nothing is kept for a tracker that is away: at its return the Download's own state (have, reading) is told afresh as a `want`,
// and the Download asks anew for what it needs (trackerChanged). Leases of a session that has ended stay with the Download, are
// told as `reading`; `done` and `progress` of theirs go on, and what is given back unread is told as a new `want`.

import { toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkCount, chunkMapSigningBytes } from '@flotilla/shared/chunk-map';
import type { ImportSeat } from '@flotilla/shared/import-seats';
import { packDigests, unpackDigests, type AgentMessage, type TrackerEvent } from '@flotilla/shared/tracker-api';
import type { Lease, LeaseHandle, LeaseMember, ReleaseReason, Source } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import type { Clock } from './clock.ts';
import { LocalLeases } from './local-leases.ts';

/** What one Download needs of the coordinator. */
export interface JoinedComponents {
  readonly self: string;
  readonly clock: Clock;
  /** To the open session, if there is one. */
  send(message: AgentMessage): void;
  sign(bytes: Uint8Array): Uint8Array;
  /** See `byItself`: as it begins. */
  readonly byItself: boolean;
  /** Whether the tracker may hear the image's name. */
  mayName(source: Source): boolean;
  /** It has left. */
  left(joined: Joined): void;
}

type BlobEvent = Extract<TrackerEvent, { type: 'grant' | 'peers' | 'importer' | 'digests' | 'invalid' }>;

export class Joined implements LeaseHandle {
  readonly member: LeaseMember;
  #source: Source;
  #canRead: boolean;
  readonly #with: JoinedComponents;
  readonly #local: LocalLeases;
  /** Leases not yet released, and whether the open session gave them. */
  readonly #leases = new Map<string, { readonly range: IndexRange; ofSession: boolean }>();
  /** As it goes on the wire: the member's key may be part of a larger object. */
  readonly #blob: { digest: string; size: number };
  #tracked = false;
  /** It reads its origin by the rules without a tracker, although there may be one. */
  #byItself: boolean;
  /** What the open session last said; told once, unless it changes. */
  #seat: ImportSeat | undefined;
  /** The `invalid` that was last heard: what is said from then on takes it into account. */
  #round = 0;
  #gone = false;
  #cancelWant: () => void = () => undefined;

  constructor(member: LeaseMember, source: Source, canRead: boolean, components: JoinedComponents) {
    this.member = member;
    this.#blob = { digest: member.key.digest, size: member.key.size };
    this.#source = source;
    this.#canRead = canRead;
    this.#with = components;
    this.#byItself = components.byItself;
    this.#local = new LocalLeases(member, components.self, canRead, components.clock, (lease) => this.#grant(lease, false));
  }

  // ---- what the coordinator says

  /** A session is open. */
  opened(): void {
    if (this.#byItself) this.#local.start(0);
    else this.#local.stop();
    this.#tracked = true;
    this.#want();
  }

  /** No session: leases come from the rules without a tracker. @param holdUntilMs not before this time */
  alone(holdUntilMs: number): void {
    this.#tracked = false;
    this.#seat = undefined;
    for (const lease of this.#leases.values()) lease.ofSession = false;
    this.#cancelWant();
    this.#local.start(holdUntilMs);
  }

  /** Reads without asking the tracker, and lets it know what was read all the same; or by its leases again. */
  byItself(on: boolean): void {
    if (on === this.#byItself || this.#gone) return;
    this.#byItself = on;
    if (on) this.#local.start(0);
    else if (this.#tracked) {
      this.#local.stop();
      // What it has not read yet others may have.
      for (const [leaseId, { ofSession }] of this.#leases) if (!ofSession) this.member.revoke(leaseId, 0);
    }
    this.#want();
    this.member.trackerChanged(this.#tracked && !on);
    if (!on && this.#seat !== undefined) this.member.importer(this.#seat);
  }

  /** The agent stops: no further lease, no further word. */
  stop(): void {
    this.#gone = true;
    this.#cancelWant();
    this.#local.stop();
  }

  /** @throws TRACKER_PROTOCOL for chunks that the blob does not have */
  event(event: BlobEvent): void {
    switch (event.type) {
      case 'grant':
        this.#inside([event.first, event.count], event.type);
        this.#grant({ leaseId: event.leaseId, first: event.first, count: event.count, deadlineMs: event.deadlineMs, mode: event.mode }, true);
        return;
      case 'peers':
        this.member.peers(event.peers);
        return;
      case 'importer':
        this.#seat = { seats: event.seats, ...(event.seat !== undefined && { seat: event.seat }) };
        if (!this.#byItself) this.member.importer(this.#seat);
        return;
      case 'digests': {
        const digests = unpack(event.digests);
        this.#inside([event.first, digests.length], event.type);
        this.member.vouched(event.first, digests, event.by);
        return;
      }
      case 'invalid':
        for (const range of event.ranges) this.#inside(range, event.type);
        this.#round = event.round ?? this.#round;
        this.member.invalid(event.ranges);
    }
  }

  /** @returns whether the lease is one of this Download's */
  revoke({ leaseId, keep, spare = false }: Extract<TrackerEvent, { type: 'revoke' }>): boolean {
    if (this.#leases.get(leaseId)?.ofSession !== true) return false;
    this.member.revoke(leaseId, keep, spare);
    return true;
  }

  // ---- what the Download reports (LeaseHandle)

  source(source: Source, canRead: boolean): void {
    this.#source = source;
    this.#canRead = canRead;
    this.#local.mayRead(canRead);
    // A tracker takes a repeated `want` for what is true now; what is held and read is in it.
    this.#want();
  }

  have(indexes: readonly number[]): void {
    this.#send({ type: 'have', blob: this.#blob, ranges: copy(toRanges(indexes)), round: this.#round });
  }

  lost(ranges: readonly IndexRange[]): void {
    this.#send({ type: 'lost', blob: this.#blob, ranges: copy(ranges) });
  }

  need(runs: number, originRate: number, within?: readonly IndexRange[]): void {
    if (this.#gone) return;
    // Also kept for the rules without a tracker, which begin where the tracker goes without a word.
    this.#local.need(runs, originRate, within);
    if (this.#byItself) return;
    this.#send({ type: 'need', blob: this.#blob, runs: Math.min(16, runs), originRate, ...(within && { within: hull(within), ...(within.length > 1 && { stretches: copy(within) }) }) });
  }

  hedge(index: number): void {
    if (this.#tracked && !this.#byItself) this.#send({ type: 'hedge', blob: this.#blob, index });
    else if (!this.#gone) this.#local.hedge(index);
  }

  progress(leaseId: string, bytes: number): void {
    this.#send({ type: 'progress', leaseId, bytes });
  }

  done(leaseId: string, first: number, digests: readonly Uint8Array[]): void {
    this.#local.progressed();
    this.#send({ type: 'done', leaseId, blob: this.#blob, first, digests: packDigests(digests) });
  }

  release(leaseId: string, reason: ReleaseReason, retryAfterMs?: number): void {
    if (this.#gone) return;
    this.#local.released(leaseId, reason, retryAfterMs);
    const lease = this.#leases.get(leaseId);
    this.#leases.delete(leaseId);
    // A session that never gave this lease knows it as `reading` only: it hears what is read now, if that is not all here.
    if (lease?.ofSession === false) this.#wantUnlessRead(lease.range);
    else this.#send({ type: 'release', leaseId, reason, ...(retryAfterMs !== undefined && { retryAfterMs: Math.round(retryAfterMs) }) });
  }

  seed(chunkDigests: readonly Uint8Array[]): void {
    const signature = this.#with.sign(chunkMapSigningBytes(this.member.key, chunkDigests));
    this.#send({ type: 'seed', blob: this.#blob, signature: Buffer.from(signature).toString('base64url') });
  }

  leave(kept: boolean): void {
    if (this.#gone) return;
    this.#send({ type: 'leave', blob: this.#blob, kept });
    this.stop();
    this.#with.left(this);
  }

  conflict(index: number, peerId: string, heard: Uint8Array, expected: Uint8Array): void {
    this.#send({ type: 'conflict', blob: this.#blob, index, peer: peerId, heard: packDigests([heard]), expected: packDigests([expected]) });
  }

  mismatch(): void {
    this.#send({ type: 'mismatch', blob: this.#blob, round: this.#round });
  }

  #send(message: AgentMessage): void {
    if (this.#tracked && !this.#gone) this.#with.send(message);
  }

  #want(): void {
    this.#send({
      type: 'want',
      blob: this.#blob,
      // Who reads by itself wants no leases.
      canRead: this.#canRead && !this.#byItself,
      have: copy(this.member.have.ranges()),
      reading: copy(this.member.reading()),
      round: this.#round,
      ...(this.#with.mayName(this.#source) && { source: this.#source }),
    });
  }

  #grant(lease: Lease, ofSession: boolean): void {
    this.#leases.set(lease.leaseId, { range: [lease.first, lease.count], ofSession });
    this.member.grant(lease);
  }

  /** After the Download has dealt with what it is doing, and once for several. */
  #wantUnlessRead([first, count]: IndexRange): void {
    let unread = false;
    for (let index = first; index < first + count; index++) unread ||= !this.member.have.has(index);
    if (!unread || !this.#tracked) return;
    this.#cancelWant();
    this.#cancelWant = this.#with.clock.after(0, () => this.#want());
  }

  #inside([first, count]: IndexRange, type: string): void {
    if (first + count > chunkCount(this.member.key.size)) {
      throw new AgentError('TRACKER_PROTOCOL', `the tracker sent a "${type}" for chunk ${first + count - 1} of ${this.member.key.digest}, which has fewer`);
    }
  }
}

function unpack(digests: string): Uint8Array[] {
  try {
    return unpackDigests(digests);
  } catch (error) {
    throw new AgentError('TRACKER_PROTOCOL', 'the tracker sent a broken list of digests', { cause: error });
  }
}

/** From the first of them to the last: all that a tracker of an older release looks at. @param ranges ascending */
function hull(ranges: readonly IndexRange[]): [number, number] {
  const [first, last] = [ranges[0] ?? [0, 0], ranges.at(-1) ?? [0, 0]];
  return [first[0], last[0] + last[1] - first[0]];
}

function copy(ranges: readonly IndexRange[]): [number, number][] {
  return ranges.map(([first, count]) => [first, count]);
}
