// Leases for one Download while no tracker gives any: asks Rendezvous on the clock and hands its runs to the member as leases.
//
// Looks twice a second while it runs, because what peers hold and read changes without a word here. After a failure it pauses.
// Long runs of an agent that was alone are cut back when a peer appears, so that the peer has something to read too.

import type { IndexRange } from '@flotilla/shared/bitfield';
import { chunkSize } from '@flotilla/shared/chunk-map';
import type { Lease, LeaseMember, LeaseRoster, ReleaseReason } from '../content/ports.ts';
import type { Clock } from './clock.ts';
import { Rendezvous, runChunks, type RunGrant } from './rendezvous.ts';

export const LOOK_INTERVAL_MS = 500;
const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 8_000;
const DENIED_PAUSE_MS = 30_000;
const THROTTLED_PAUSE_MS = 5_000;
/** Where this agent's rate at the origin is not known. */
const DEFAULT_DEADLINE_MS = 30_000;
const MIN_DEADLINE_MS = 2_000;

const NOBODY: LeaseRoster = { peers: [], heldByPeer: () => false, readByPeer: () => false };

let granted = 0;

export class LocalLeases {
  readonly #member: LeaseMember;
  readonly #clock: Clock;
  #canRead: boolean;
  readonly #onGrant: (lease: Lease) => void;
  readonly #rendezvous: Rendezvous;
  /** Leases given here and not released, by id, with their mode. */
  readonly #leases = new Map<string, Lease['mode']>();
  #wanted = 0;
  #originRate = 0;
  #within: readonly IndexRange[] | undefined;
  #running = false;
  #alone = true;
  #holdUntilMs = 0;
  #deniedUntilMs = 0;
  #failures = 0;
  #cancelLook: () => void = () => undefined;

  /** @param onGrant hands a lease to the member */
  constructor(member: LeaseMember, self: string, canRead: boolean, clock: Clock, onGrant: (lease: Lease) => void) {
    this.#onGrant = onGrant;
    this.#member = member;
    this.#clock = clock;
    this.#canRead = canRead;
    this.#rendezvous = new Rendezvous(member.key, self);
  }

  /** @param holdUntilMs no lease before this time: a tracker may be about to answer */
  start(holdUntilMs: number): void {
    this.#running = true;
    this.#holdUntilMs = holdUntilMs;
    this.#lookSoon();
  }

  /** No further leases; those given stay with the member, which reads them to the end. */
  stop(): void {
    this.#running = false;
    this.#cancelLook();
  }

  /** Replaces the last one. */
  need(runs: number, originRate: number, within: readonly IndexRange[] | undefined): void {
    this.#wanted = runs;
    this.#originRate = originRate;
    this.#within = within;
    if (runs > 0) this.#lookSoon();
  }

  /** A right to read that is new makes an end of the wait after a refusal. */
  mayRead(canRead: boolean): void {
    this.#canRead = canRead;
    this.#deniedUntilMs = 0;
    this.#lookSoon();
  }

  hedge(index: number): void {
    this.#rendezvous.hedge(index, this.#clock.nowMs());
    this.#lookSoon();
  }

  /** Chunks were read: the origin is well. */
  progressed(): void {
    this.#failures = 0;
  }

  released(leaseId: string, reason: ReleaseReason, retryAfterMs: number | undefined): void {
    this.#leases.delete(leaseId);
    if (reason === 'no-ranges') this.#rendezvous.stream();
    const pausedUntilMs = this.#clock.nowMs() + (retryAfterMs ?? this.#pauseMs(reason));
    if (reason === 'denied') this.#deniedUntilMs = pausedUntilMs;
    else this.#holdUntilMs = Math.max(this.#holdUntilMs, pausedUntilMs);
    this.#lookSoon();
  }

  #heldMs(): number {
    return Math.max(this.#holdUntilMs, this.#deniedUntilMs) - this.#clock.nowMs();
  }

  #pauseMs(reason: ReleaseReason): number {
    switch (reason) {
      case 'denied':
        return DENIED_PAUSE_MS;
      case 'throttled':
        return THROTTLED_PAUSE_MS;
      case 'failed':
        return Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures++, 8));
      case 'unneeded':
      case 'no-ranges':
        return 0;
    }
  }

  /** Never from within a call of the member's: it would be granted a lease in the middle of asking. */
  #lookSoon(): void {
    if (this.#running) this.#lookAfter(0);
  }

  #lookAfter(delayMs: number): void {
    this.#cancelLook();
    this.#cancelLook = this.#clock.after(delayMs, () => this.#look());
  }

  #look(): void {
    const heldMs = this.#heldMs();
    this.#lookAfter(heldMs > 0 ? Math.min(LOOK_INTERVAL_MS, heldMs) : LOOK_INTERVAL_MS);
    if (!this.#canRead) return;
    const roster = this.#member.roster?.() ?? NOBODY;
    this.#cutLongRuns(roster);
    const nowMs = this.#clock.nowMs();
    const view = { nowMs, have: this.#member.have, reading: this.#member.reading(), roster, within: this.#within };
    for (const grant of this.#rendezvous.decide(view, heldMs > 0 ? 0 : this.#wanted)) this.#grant(grant);
  }

  #grant({ first, count, mode }: RunGrant): void {
    if (mode !== 'hedge') this.#wanted--;
    const leaseId = `local-${++granted}`;
    this.#leases.set(leaseId, mode);
    this.#onGrant({ leaseId, first, count, mode, deadlineMs: this.#deadlineMs(count) });
  }

  #deadlineMs(chunks: number): number {
    if (this.#originRate === 0) return DEFAULT_DEADLINE_MS;
    const expectedMs = (chunks * chunkSize(this.#member.key.size) * 1000) / this.#originRate;
    return Math.max(MIN_DEADLINE_MS, Math.round(4 * expectedMs));
  }

  #cutLongRuns(roster: LeaseRoster): void {
    const alone = roster.peers.length === 0;
    if (this.#alone && !alone) {
      const keep = runChunks(this.#member.key.size);
      for (const [leaseId, mode] of this.#leases) if (mode === 'run') this.#member.revoke(leaseId, keep);
    }
    this.#alone = alone;
  }
}
