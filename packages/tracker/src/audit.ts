// Finding out who is right about the chunks of one blob, by letting somebody read them at the origin again.
//
// A dispute is one chunk with more than one digest: one member that is neither side reads it, else the one who reported it.
// A hunt answers a `mismatch` (all chunks match, the whole does not): one random chunk of each voucher is read by another
// member; while all agree, twice as many, until a liar is found or everything is read again, and then the origin is to blame.
// Pure. Invariant: a chunk that an audit has settled is not audited again. Bounds: MAX_DISPUTES, MAX_IN_FLIGHT.

import type { IndexRange } from '@flotilla/shared/bitfield';
import { equal, type Vouches } from './vouches.ts';

const MAX_DISPUTES = 4096;
/** Audits being read at once: they should not keep a fleet from its pull. */
const MAX_IN_FLIGHT = 8;
/** A chunk that nobody can read within this time is fetched anew instead. */
const GIVE_UP_MS = 10_000;

/** Somebody says that a chunk has this digest. */
export interface Claim {
  readonly digest: Uint8Array;
  readonly by: string | undefined;
  /** It said so itself, with a `done`; otherwise somebody else says that it did. */
  readonly vouched: boolean;
  /** It read the chunk for itself and keeps it, whatever becomes of others' copies; what an audit reads is not kept. */
  readonly keeps?: boolean;
}

export interface AuditOutput {
  /** Members that are trusted and can read at the origin now. */
  auditors(): string[];
  /** @returns the lease, or undefined if `peer` cannot read now */
  audit(peer: string, index: number): string | undefined;
  proven(peer: string, byThird: boolean): void;
  accused(accuser: string, peer: string): void;
  /** These chunks are wrong or doubted: everybody forgets them. @param keepers but these, who read the right bytes themselves */
  invalidate(ranges: readonly IndexRange[], keepers: readonly string[]): void;
  /** Every chunk was read again and is what it was said to be: the origin does not have the blob that it claims to have. */
  originBlamed(): void;
}

interface Dispute {
  readonly index: number;
  readonly kind: 'conflict' | 'sample';
  readonly claims: Claim[];
  readonly reporter: string | undefined;
  readonly openedAtMs: number;
  readonly tried: Set<string>;
  auditor: string | undefined;
}

export class Audit {
  readonly #vouches: Vouches;
  readonly #random: () => number;
  readonly #out: AuditOutput;
  readonly #disputes = new Map<number, Dispute>();
  readonly #byLease = new Map<string, Dispute>();
  #hunt: { round: number; readonly pending: Set<number>; found: boolean } | undefined;

  constructor(vouches: Vouches, random: () => number, out: AuditOutput) {
    this.#vouches = vouches;
    this.#random = random;
    this.#out = out;
  }

  get active(): boolean {
    return this.#disputes.size > 0;
  }

  /** Chunk `index` has more than one digest. */
  conflict(index: number, claims: readonly Claim[], reporter: string | undefined, nowMs: number): void {
    if (this.#vouches.confirmed(index)) return;
    const open = this.#disputes.get(index);
    if (open !== undefined) {
      for (const claim of claims) if (open.claims.length < 8 && !open.claims.some((known) => known.by === claim.by && equal(known.digest, claim.digest))) open.claims.push(claim);
      return;
    }
    this.#open({ index, kind: 'conflict', claims: [...claims], reporter, openedAtMs: nowMs, tried: new Set(), auditor: undefined });
  }

  /** Somebody has all chunks as vouched for, and yet not the blob. */
  mismatch(nowMs: number): void {
    if (this.#hunt !== undefined) return;
    this.#hunt = { round: 0, pending: new Set(), found: false };
    this.#nextRound(nowMs);
  }

  /** An auditor has read the chunk. @returns whether `leaseId` is an audit of this blob */
  answered(leaseId: string, digest: Uint8Array, nowMs: number): boolean {
    const dispute = this.#byLease.get(leaseId);
    if (dispute === undefined) return false;
    this.#byLease.delete(leaseId);
    const auditor = dispute.auditor!;
    dispute.auditor = undefined;
    if (dispute.kind === 'sample') this.#sampled(dispute, digest, auditor, nowMs);
    else this.#conclude(dispute, digest, auditor);
    this.#advance(nowMs);
    return true;
  }

  /** The auditor is gone, failed or was too slow: somebody else reads, at the next tick. */
  ended(leaseId: string): void {
    const dispute = this.#byLease.get(leaseId);
    if (dispute === undefined) return;
    this.#byLease.delete(leaseId);
    dispute.auditor = undefined;
  }

  tick(nowMs: number): void {
    const anybody = this.#disputes.size > 0 && this.#out.auditors().length > 0;
    for (const dispute of this.#disputes.values()) {
      if (this.#byLease.size >= MAX_IN_FLIGHT) return;
      if (dispute.auditor !== undefined || (anybody && this.#assign(dispute))) continue;
      if (nowMs - dispute.openedAtMs >= GIVE_UP_MS) this.#giveUp(dispute);
      else dispute.tried.clear();
    }
    this.#advance(nowMs);
  }

  #open(dispute: Dispute): void {
    if (this.#disputes.size >= MAX_DISPUTES) return;
    this.#disputes.set(dispute.index, dispute);
    if (this.#byLease.size < MAX_IN_FLIGHT) this.#assign(dispute);
  }

  /** Neither side first, in random order; then the reporter; then whoever else can read. */
  #assign(dispute: Dispute): boolean {
    const rank = (peer: string): number => (peer === dispute.reporter ? 1 : dispute.claims.some((claim) => claim.by === peer) ? 2 : 0);
    const candidates = this.#out
      .auditors()
      .filter((peer) => !dispute.tried.has(peer))
      .map((peer) => ({ peer, key: rank(peer) + this.#random() * 0.5 }))
      .sort((a, b) => a.key - b.key);
    for (const { peer } of candidates) {
      dispute.tried.add(peer);
      const leaseId = this.#out.audit(peer, dispute.index);
      if (leaseId === undefined) continue;
      dispute.auditor = peer;
      this.#byLease.set(leaseId, dispute);
      return true;
    }
    return false;
  }

  /** A sample that differs is a conflict between its voucher and its auditor; a third decides where there is one. */
  #sampled(dispute: Dispute, digest: Uint8Array, auditor: string, nowMs: number): void {
    const claim = dispute.claims[0]!;
    this.#disputes.delete(dispute.index);
    if (dispute.claims.length > 1) {
      this.#conclude(dispute, digest, auditor);
      return;
    }
    if (equal(claim.digest, digest)) {
      this.#vouches.settle(dispute.index, digest, auditor);
      this.#hunt?.pending.delete(dispute.index);
      return;
    }
    const claims = [...dispute.claims, { digest, by: auditor, vouched: true }];
    const conflict: Dispute = { ...dispute, kind: 'conflict', claims, reporter: auditor, openedAtMs: nowMs, tried: new Set([auditor]), auditor: undefined };
    const third = this.#out.auditors().some((peer) => claims.every(({ by }) => by !== peer));
    if (third) this.#open(conflict);
    else this.#conclude(conflict, digest, auditor);
  }

  #conclude({ index, claims, reporter }: Dispute, right: Uint8Array, auditor: string): void {
    this.#disputes.delete(index);
    this.#hunt?.pending.delete(index);
    const wrong = claims.filter((claim) => !equal(claim.digest, right));
    const byThird = auditor !== reporter && claims.every((claim) => claim.by !== auditor);
    const nobodyRight = wrong.length === claims.length && claims.some((claim) => !equal(claim.digest, claims[0]!.digest));
    const known = this.#vouches.get(index);
    const honest = claims.filter(({ by, vouched, digest }) => by !== undefined && vouched && equal(digest, right));
    const keepers = honest.filter(({ keeps }) => keeps === true).map(({ by }) => by!);
    if (known === undefined || !equal(known.digest, right)) this.#out.invalidate([[index, 1]], keepers);
    // Three readings, three digests: the origin changes under our hands, and that is nobody's lie.
    if (nobodyRight) return;
    this.#vouches.settle(index, right, keepers[0] ?? honest[0]?.by ?? auditor);
    for (const { by, vouched } of wrong) {
      if (by === undefined) continue;
      if (vouched) {
        if (this.#hunt !== undefined) this.#hunt.found = true;
        this.#out.proven(by, byThird);
      } else if (reporter !== undefined) this.#out.accused(reporter, by);
    }
  }

  /** Nobody can say what it is: it is forgotten, and read again like a chunk that nobody has read. */
  #giveUp(dispute: Dispute): void {
    this.#disputes.delete(dispute.index);
    this.#hunt?.pending.delete(dispute.index);
    if (dispute.kind === 'sample' && this.#hunt !== undefined) this.#hunt.found = true;
    this.#out.invalidate([[dispute.index, 1]], []);
  }

  #advance(nowMs: number): void {
    const hunt = this.#hunt;
    if (hunt === undefined || hunt.pending.size > 0) return;
    if (hunt.found) this.#hunt = undefined;
    else this.#nextRound(nowMs);
  }

  #nextRound(nowMs: number): void {
    const hunt = this.#hunt!;
    const perVoucher = 2 ** hunt.round++;
    let crowded = false;
    for (const voucher of this.#vouches.vouchers()) {
      const unread = this.#vouches.of(voucher).filter((index) => !this.#vouches.confirmed(index));
      for (const index of this.#pick(unread, perVoucher)) {
        hunt.pending.add(index);
        const { digest, by } = this.#vouches.get(index)!;
        if (!this.#disputes.has(index)) this.#open({ index, kind: 'sample', claims: [{ digest, by, vouched: true }], reporter: undefined, openedAtMs: nowMs, tried: new Set(), auditor: undefined });
        if (this.#disputes.has(index)) continue;
        hunt.pending.delete(index);
        crowded = true;
      }
    }
    if (hunt.pending.size > 0) return;
    this.#hunt = undefined;
    if (crowded) return;
    // Chunks that nobody vouches for cannot be audited; the swarm has them fetched again.
    if (this.#vouches.count === this.#vouches.chunks) this.#out.originBlamed();
  }

  #pick(indexes: number[], count: number): number[] {
    const pool = [...indexes];
    const picked: number[] = [];
    while (picked.length < count && pool.length > 0) {
      const at = Math.floor(this.#random() * pool.length);
      picked.push(pool[at]!);
      pool[at] = pool.at(-1)!;
      pool.pop();
    }
    return picked;
  }
}
