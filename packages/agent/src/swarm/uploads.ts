// Whom this host uploads to next. Pure: the clock is handed in.
//
// Requests wait in one queue, first come first served, for one of 4 to 16 slots. Slots open while the uplink is not full: with
// every slot at work and others waiting, one more is tried, and kept where the rate of bytes handed to the network rose.
// Few slots are right on a slow link with large chunks (the first receivers must soon be able to serve the rest),
// so there are never more than finish their chunk within MAX_SLOT_SECONDS.
// A receiver that takes nothing for PARK_AFTER_MS gives its slot up, but not its place: it goes on when it reads again.
// What gives way to the host's own pulls has MAX_GIVING_WAY slots together, parked ones not counted, and half of the queue; others pass it by.
// Invariants: at most `maxQueued` wait, at most `maxPerPeer` jobs of one peer; beyond that the answer is busy.
// Non-goals: reading chunks and writing to streams (uploader.ts).

export interface UploadLimits {
  readonly minSlots: number;
  readonly maxSlots: number;
  readonly startSlots: number;
  /** Jobs that may wait. */
  readonly maxQueued: number;
  /** Jobs of one peer, waiting or at work. */
  readonly maxPerPeer: number;
}

/** 8 slots came within 3 % of the bound in the model, 4 within 17 %: the search starts at 8. */
export const UPLOAD_LIMITS: UploadLimits = { minSlots: 4, maxSlots: 16, startSlots: 8, maxQueued: 256, maxPerPeer: 8 };

export interface UploadJob {
  readonly peerId: string;
  readonly bytes: number;
}

/** started: call `next`. queued: its turn comes. Otherwise ask again after `busyMs`. */
export type UploadOffer = 'started' | 'queued' | { readonly busyMs: number };

/** Enough for nobody to starve who finds the chunk here alone. */
const MAX_GIVING_WAY = 2;
const MAX_SLOT_SECONDS = 2;
const PARK_AFTER_MS = 2_000;
/** Parked jobs keep their chunk in memory. */
const MAX_PARKED = 4;
/** One look at the rate. */
const WINDOW_MS = 400;
/** A slot more is kept if it brought at least this. */
const RISE = 1.05;
/** After a slot more brought nothing, the next try waits. */
const HOLD_MS = 5_000;
const MIN_BUSY_MS = 50;
const MAX_BUSY_MS = 2_000;

/** Whether a job gives way now to what clients of this host wait for. */
export type GivesWay<Job> = (job: Job) => boolean;

interface Active {
  movedAtMs: number;
  parked: boolean;
}

export class Uploads<Job extends UploadJob> {
  readonly #limits: UploadLimits;
  readonly #queue: Job[] = [];
  readonly #active = new Map<Job, Active>();
  readonly #perPeer = new Map<string, number>();
  #parked = 0;
  #slots: number;
  #windowStartMs = 0;
  #windowBytes = 0;
  /** All slots were at work for the whole window. */
  #windowFull = false;
  #rate = 0;
  /** The rate before the slot that is on trial. */
  #trialRate: number | undefined;
  #holdUntilMs = 0;

  constructor(limits: UploadLimits = UPLOAD_LIMITS) {
    this.#limits = limits;
    this.#slots = limits.startSlots;
  }

  get slots(): number {
    return this.#slots;
  }

  get active(): number {
    return this.#active.size;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** Bytes per second in the last full window. */
  get rate(): number {
    return this.#rate;
  }

  /** @param givesWay absent: nothing does */
  offer(job: Job, nowMs: number, givesWay?: GivesWay<Job>): UploadOffer {
    const ofPeer = this.#perPeer.get(job.peerId) ?? 0;
    const waits = this.#queue.length > 0 || !this.#hasSlot() || this.#mustWait(job, givesWay);
    if (ofPeer >= this.#limits.maxPerPeer || (waits && this.#queueIsFull(job, givesWay))) {
      return { busyMs: this.#busyMs() };
    }
    this.#perPeer.set(job.peerId, ofPeer + 1);
    if (waits) {
      this.#queue.push(job);
      return 'queued';
    }
    this.#start(job, nowMs);
    return 'started';
  }

  /** Ends a job: done, cancelled, or its peer went. */
  end(job: Job): void {
    const active = this.#active.get(job);
    if (active !== undefined) {
      if (active.parked) this.#parked--;
      this.#active.delete(job);
    } else {
      const at = this.#queue.indexOf(job);
      if (at < 0) return;
      this.#queue.splice(at, 1);
    }
    const left = this.#perPeer.get(job.peerId)! - 1;
    if (left === 0) this.#perPeer.delete(job.peerId);
    else this.#perPeer.set(job.peerId, left);
  }

  /** The next waiting job that has a slot now; it counts as started. @param givesWay absent: nothing does */
  next(nowMs: number, givesWay?: GivesWay<Job>): Job | undefined {
    if (!this.#hasSlot()) return undefined;
    const crowded = givesWay !== undefined && this.#noMoreGivesWay(givesWay);
    const at = crowded ? this.#queue.findIndex((job) => !givesWay(job)) : 0;
    const [job] = at < 0 ? [] : this.#queue.splice(at, 1);
    if (job !== undefined) this.#start(job, nowMs);
    return job;
  }

  /** Bytes of this job were handed to the network. */
  moved(job: Job, bytes: number, nowMs: number): void {
    this.#windowBytes += bytes;
    const active = this.#active.get(job);
    if (active === undefined) return;
    active.movedAtMs = nowMs;
    if (active.parked) {
      active.parked = false;
      this.#parked--;
    }
  }

  /** Looks at the rate, parks what does not move. Call it a few times per second while anything is active. */
  tick(nowMs: number): void {
    for (const active of this.#active.values()) {
      if (!active.parked && this.#parked < MAX_PARKED && nowMs - active.movedAtMs >= PARK_AFTER_MS) {
        active.parked = true;
        this.#parked++;
      }
    }
    if (this.#queue.length === 0) this.#windowFull = false;
    const elapsedMs = nowMs - this.#windowStartMs;
    if (elapsedMs < WINDOW_MS) return;
    this.#rate = (this.#windowBytes / elapsedMs) * 1000;
    if (this.#windowFull) this.#adapt(nowMs);
    else this.#trialRate = undefined;
    this.#windowStartMs = nowMs;
    this.#windowBytes = 0;
    this.#windowFull = this.#queue.length > 0;
  }

  #adapt(nowMs: number): void {
    const { minSlots, maxSlots } = this.#limits;
    const ceiling = Math.max(minSlots, Math.min(maxSlots, this.#slotsInTime()));
    if (this.#trialRate !== undefined && this.#rate < this.#trialRate * RISE) {
      this.#slots--;
      this.#trialRate = undefined;
      this.#holdUntilMs = nowMs + HOLD_MS;
    } else {
      this.#trialRate = undefined;
      if (nowMs >= this.#holdUntilMs && this.#slots < ceiling) {
        this.#trialRate = this.#rate;
        this.#slots++;
      }
    }
    if (this.#slots > ceiling) {
      this.#slots = ceiling;
      this.#trialRate = undefined;
    }
  }

  /** How many slots can each finish a chunk in time at the present rate. */
  #slotsInTime(): number {
    let bytes = 0;
    for (const job of this.#active.keys()) bytes += job.bytes;
    const mean = this.#active.size === 0 ? 0 : bytes / this.#active.size;
    return mean === 0 ? this.#limits.maxSlots : Math.floor((this.#rate * MAX_SLOT_SECONDS) / mean);
  }

  #mustWait(job: Job, givesWay: GivesWay<Job> | undefined): boolean {
    return givesWay !== undefined && givesWay(job) && this.#noMoreGivesWay(givesWay);
  }

  /** All slots are taken that there are for what gives way. */
  #noMoreGivesWay(givesWay: GivesWay<Job>): boolean {
    let givingWay = 0;
    for (const [active, { parked }] of this.#active) if (!parked && givesWay(active)) givingWay++;
    return givingWay >= MAX_GIVING_WAY;
  }

  /** What gives way may wait for long, and leaves room for what does not. */
  #queueIsFull(job: Job, givesWay: GivesWay<Job> | undefined): boolean {
    const { maxQueued } = this.#limits;
    const waiting = this.#queue.length;
    if (waiting >= maxQueued) return true;
    if (givesWay === undefined || waiting < maxQueued / 2 || !givesWay(job)) return false;
    return this.#queue.filter(givesWay).length >= maxQueued / 2;
  }

  #hasSlot(): boolean {
    return this.#active.size - this.#parked < this.#slots;
  }

  #start(job: Job, nowMs: number): void {
    this.#active.set(job, { movedAtMs: nowMs, parked: false });
  }

  /** About when the queue has moved on by half. */
  #busyMs(): number {
    const waiting = this.#queue.reduce((sum, job) => sum + job.bytes, 0);
    const ms = this.#rate === 0 ? MIN_BUSY_MS : (waiting / 2 / this.#rate) * 1000;
    return Math.round(Math.min(MAX_BUSY_MS, Math.max(MIN_BUSY_MS, ms)));
  }
}
