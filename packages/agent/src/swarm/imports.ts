// Which chunks of one blob this host may ask of peers in other zones. Pure: the clock is handed in.
//
// A chunk is brought into a zone once: by the importer that is first for it (shared/import-seats). Everybody else takes it from peers of the
// zone, and asks across only where it does not come:
//
//   held outside, by nobody seen here ── rank 0: at once · rank r: missing for r waits, and for as long not behind with its own ──> open
//   held by somebody seen here ───────── nothing at all has come for r + 1 waits ──> open
//
// An importer is behind while a chunk of its own has been missing for a wait. So a first importer that is dead, slow or unable is stood in for by those that keep
// up, one rank after the other; and after MAX_RANK + 1 waits without a chunk anything may be asked of anybody. That a chunk is missing for long says nothing by
// itself: where all of a blob is held outside, the last chunk is missing from the first moment on, and everybody is behind until its own are here.
// Seats come from the tracker; without one, from the peers of the zone that are in sight.
// Non-goals: which open chunk to ask of whom (picker.ts). Bound: 10 bytes per chunk.

import { importRank, MAX_IMPORT_SEATS, type ImportSeat } from '@flotilla/shared/import-seats';

/** How long who is first is given before the next one steps in. */
export const WAIT_MS = 5_000;
const LONGEST_WAIT_MS = 30_000;
/** ... or so many times what a chunk usually takes from another zone. */
const PATIENCE = 2;
/** Weight of the newest import in what is usual. */
const WEIGHT = 0.1;
/** Ranks behind this one wait no longer. */
export const MAX_RANK = 3;
/** Nothing is asked across before a seat was told, or this has passed: the zone's peers may not have said yet that they are here. */
export const SETTLE_MS = 500;
const LOOK_MS = 500;

export interface ImportsInit {
  readonly selfId: string;
  /** importSalt() of the blob */
  readonly salt: number;
  readonly nowMs: () => number;
  /** Whether the chunk is on this host. */
  readonly has: (index: number) => boolean;
  /** A chunk became confined to peers of our zone, or open to all. */
  readonly changed: (index: number, confined: boolean) => void;
}

export class Imports {
  readonly #init: ImportsInit;
  readonly #startedMs: number;
  readonly #confined: Uint8Array;
  /** Ranks beyond MAX_RANK are MAX_RANK. */
  readonly #rank: Uint8Array;
  /** Peers of our zone that hold the chunk; peers of others. */
  readonly #here: Uint16Array;
  readonly #outside: Uint16Array;
  /** Since when it has been held outside and not here, ms after the start; -1: it is not so. */
  readonly #missingSinceMs: Int32Array;
  #mates: readonly string[] = [];
  #told: ImportSeat | undefined;
  #settled = false;
  #usualMs: number | undefined;
  /** When a chunk that is this host's to bring in had last been missing for a wait, as far as looked at. */
  #behindAtMs = Number.NEGATIVE_INFINITY;
  #movedAtMs: number;
  #lookedAtMs: number;
  /** Chunks that are held here were opened, because nothing came. */
  #loosened = false;

  constructor(chunks: number, init: ImportsInit) {
    this.#init = init;
    this.#startedMs = init.nowMs();
    this.#movedAtMs = this.#startedMs;
    this.#lookedAtMs = this.#startedMs;
    this.#confined = new Uint8Array(chunks).fill(1);
    this.#rank = new Uint8Array(chunks);
    this.#here = new Uint16Array(chunks);
    this.#outside = new Uint16Array(chunks);
    this.#missingSinceMs = new Int32Array(chunks).fill(-1);
  }

  /** Whether the chunk is to be asked of peers of our zone only. */
  confined(index: number): boolean {
    return this.#confined[index] === 1;
  }

  /** Whether to ask it across now is to step in for somebody. */
  stepsIn(index: number): boolean {
    return this.#rank[index]! > 0 || this.#here[index]! > 0;
  }

  /** The tracker's word; undefined: there is none any more. */
  told(seat: ImportSeat | undefined): void {
    this.#told = seat;
    this.#seat();
  }

  /** Peers of our zone that trade the blob. */
  mates(peerIds: readonly string[]): void {
    this.#mates = peerIds;
    if (this.#told === undefined) this.#seat();
  }

  /** A peer holds the chunk. */
  gained(index: number, foreign: boolean): void {
    (foreign ? this.#outside : this.#here)[index]!++;
    this.#settle(index, this.#init.nowMs());
  }

  /** A peer holds the chunk no more, or went. */
  lost(index: number, foreign: boolean): void {
    (foreign ? this.#outside : this.#here)[index]!--;
    this.#settle(index, this.#init.nowMs());
  }

  /** A chunk is here, wherever it came from. @param tookMs of one from another zone: since it was asked for */
  came(index: number, tookMs?: number): void {
    const nowMs = this.#init.nowMs();
    this.#movedAtMs = nowMs;
    if (tookMs !== undefined) this.#usualMs = this.#usualMs === undefined ? tookMs : this.#usualMs + (tookMs - this.#usualMs) * WEIGHT;
    if (this.#loosened) {
      this.#loosened = false;
      this.#settleAll(nowMs);
    } else this.#settle(index, nowMs);
  }

  /** Bytes of a chunk are coming in: over a slow link a large one takes longer than a wait. */
  moved(): void {
    this.#movedAtMs = this.#init.nowMs();
  }

  /** Several times per second. */
  tick(): void {
    const nowMs = this.#init.nowMs();
    if (nowMs - this.#lookedAtMs < LOOK_MS) return;
    this.#lookedAtMs = nowMs;
    if (!this.#settled && nowMs - this.#startedMs >= SETTLE_MS) this.#seat();
    else this.#settleAll(nowMs);
  }

  #seat(): void {
    const nowMs = this.#init.nowMs();
    this.#settled ||= this.#told !== undefined || nowMs - this.#startedMs >= SETTLE_MS;
    const seat = this.#told ?? seatAmong(this.#init.selfId, this.#mates);
    for (let index = 0; index < this.#rank.length; index++) this.#rank[index] = Math.min(MAX_RANK, importRank(this.#init.salt, index, seat));
    this.#settleAll(nowMs);
  }

  #settleAll(nowMs: number): void {
    for (let index = 0; index < this.#confined.length; index++) this.#settle(index, nowMs);
  }

  #settle(index: number, nowMs: number): void {
    const missing = this.#outside[index]! > 0 && this.#here[index] === 0 && !this.#init.has(index);
    if (!missing) this.#missingSinceMs[index] = -1;
    else if (this.#missingSinceMs[index]! < 0) this.#missingSinceMs[index] = nowMs - this.#startedMs;
    if (missing && this.#rank[index] === 0 && this.#missingMs(index, nowMs) >= this.#waitMs) this.#behindAtMs = nowMs;
    const confined = this.#settled && this.#open(index, nowMs) ? 0 : 1;
    if (confined === this.#confined[index]) return;
    this.#confined[index] = confined;
    this.#init.changed(index, confined === 1);
  }

  #open(index: number, nowMs: number): boolean {
    const rank = this.#rank[index]!;
    if (this.#here[index] === 0) {
      if (rank === 0) return true;
      const least = rank * this.#waitMs;
      return this.#missingMs(index, nowMs) >= least && nowMs - this.#behindAtMs >= least;
    }
    const open = nowMs - this.#movedAtMs >= (rank + 1) * this.#waitMs;
    this.#loosened ||= open;
    return open;
  }

  /** How long the chunk has been held outside and not here; 0: it is not so. */
  #missingMs(index: number, nowMs: number): number {
    const sinceMs = this.#missingSinceMs[index]!;
    return sinceMs < 0 ? 0 : nowMs - this.#startedMs - sinceMs;
  }

  get #waitMs(): number {
    return Math.min(LONGEST_WAIT_MS, Math.max(WAIT_MS, PATIENCE * (this.#usualMs ?? 0)));
  }
}

/** Where nobody gives out seats: who sees the same peers comes to the same seats. */
export function seatAmong(selfId: string, mates: readonly string[]): ImportSeat {
  const all = [selfId, ...mates].sort();
  const seat = all.indexOf(selfId);
  const seats = Math.min(all.length, MAX_IMPORT_SEATS);
  return seat < seats ? { seats, seat } : { seats };
}
