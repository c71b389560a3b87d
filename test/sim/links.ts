// Links as pipes that flows share: each flow goes through the uplink of its sender and the downlink of its receiver.
//
// Rates are max-min fair (what TCP comes to, about): every pipe has a level, the highest rate that it lets a flow have, and a flow
// goes at the lower of its two levels, times its weight. A pipe's level is the one at which its flows fill it, given what the other ends let them have.
// When flows come or go, the levels of their pipes are worked out at the end of the tick. Where that changes what other pipes have to
// give, those are done a little later, and so on: changes below EPSILON are not passed on, and there are at most MAX_STEPS pipes every
// PASS_ON_MS, so that 1,000 hosts with 25,000 flows cost seconds. Rates of all flows worked out anew at each event would take hours; equal
// shares at both ends, each without regard to the other, would leave a tenth and more of the links idle, which is what is to be measured.
// Non-goals: packets, loss, slow start, queues (a fixed latency of control stands for those: wire.ts).

import { TICK_MS, type Clock, type Due } from './clock.ts';

/** A level that changes by less is not passed on. */
const EPSILON = 0.03;
/** How long a change waits before it is passed on, and to how many pipes at a time. */
const PASS_ON_MS = 2;
const MAX_STEPS = 400;
/** Less is nothing: what is left of rounding, in bytes. */
const CRUMB_BYTES = 1e-3;

/** One direction of a link. */
export class Pipe {
  /** Bytes per ms. */
  readonly capacity: number;
  readonly flows: Flow[] = [];
  level: number;
  touched = false;
  waits = false;

  constructor(bytesPerS: number) {
    this.capacity = bytesPerS / 1000;
    this.level = this.capacity;
  }
}

/** Bytes on their way through two pipes. */
export class Flow implements Due {
  readonly up: Pipe;
  readonly down: Pipe;
  /** What it takes of a full pipe, beside a flow of 1. */
  readonly weight: number;
  readonly #links: Links;
  /** When so many bytes have gone. @returns how many go next; 0: it has ended */
  readonly #gone: () => number;
  bytes = 0;
  rate = 0;
  /** Since when `bytes` go at `rate`. */
  sinceMs = 0;
  /** The tick in which it is due; 0: none. */
  dueTick = 0;
  changed = false;
  #ended = true;

  constructor(links: Links, up: Pipe, down: Pipe, gone: () => number, weight = 1) {
    this.#links = links;
    this.up = up;
    this.down = down;
    this.#gone = gone;
    this.weight = weight;
  }

  get active(): boolean {
    return !this.#ended;
  }

  /** Bytes still to go now. */
  left(nowMs: number): number {
    return Math.max(0, this.bytes - this.rate * (nowMs - this.sinceMs));
  }

  start(bytes: number): void {
    this.bytes = bytes;
    if (!this.#ended) throw new Error('this flow is under way');
    this.#ended = false;
    this.#links.join(this);
  }

  /** Ends it where it stands. */
  stop(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#links.leave(this);
  }

  happen(): void {
    const { clock } = this.#links;
    // An older date: it has got another one since.
    if (this.#ended || this.dueTick !== clock.tick) return;
    this.dueTick = 0;
    const nowMs = clock.nowMs;
    const left = this.left(nowMs);
    this.sinceMs = nowMs;
    this.bytes = left;
    if (left > CRUMB_BYTES) {
      this.#links.date(this);
      return;
    }
    this.bytes = this.#gone();
    if (this.bytes <= 0) this.stop();
    else if (this.active) this.#links.date(this);
  }
}

export class Links {
  readonly clock: Clock;
  readonly #touched: Pipe[] = [];
  readonly #waiting: Pipe[] = [];
  #passing = false;
  readonly #changed: Flow[] = [];

  constructor(clock: Clock) {
    this.clock = clock;
    clock.onSettle(() => this.#settle());
  }

  join(flow: Flow): void {
    flow.rate = 0;
    flow.sinceMs = this.clock.nowMs;
    flow.up.flows.push(flow);
    flow.down.flows.push(flow);
    this.#look(flow.up);
    this.#look(flow.down);
    this.#note(flow);
  }

  leave(flow: Flow): void {
    for (const pipe of [flow.up, flow.down]) {
      const last = pipe.flows.pop()!;
      if (last !== flow) pipe.flows[pipe.flows.indexOf(flow)] = last;
      this.#look(pipe);
    }
    flow.rate = 0;
  }

  /** Sets when the flow is due, where that is sooner than it was or it was not. */
  date(flow: Flow): void {
    if (flow.rate <= 0) return;
    const atMs = flow.sinceMs + flow.bytes / flow.rate;
    const { clock } = this;
    // Later than before: the old date comes first, and finds that it is not time yet.
    if (flow.dueTick > clock.tick && atMs >= flow.dueTick * TICK_MS) return;
    flow.dueTick = clock.at(atMs, flow);
  }

  #look(pipe: Pipe): void {
    if (pipe.touched) return;
    pipe.touched = true;
    this.#touched.push(pipe);
  }

  #passOn(pipe: Pipe): void {
    if (pipe.waits) return;
    pipe.waits = true;
    this.#waiting.push(pipe);
    this.#passOnSoon();
  }

  #passOnSoon(): void {
    if (this.#passing || this.#waiting.length === 0) return;
    this.#passing = true;
    this.clock.after(PASS_ON_MS, () => {
      this.#passing = false;
      for (const pipe of this.#waiting.splice(0, MAX_STEPS)) {
        pipe.waits = false;
        this.#look(pipe);
      }
      this.#passOnSoon();
    });
  }

  #note(flow: Flow): void {
    if (flow.changed) return;
    flow.changed = true;
    this.#changed.push(flow);
  }

  #settle(): void {
    if (this.#touched.length === 0) return;
    for (const pipe of this.#touched) {
      pipe.touched = false;
      this.#level(pipe);
    }
    this.#touched.length = 0;
    const nowMs = this.clock.nowMs;
    for (const flow of this.#changed) {
      flow.changed = false;
      if (!flow.active) continue;
      const rate = flow.weight * Math.min(flow.up.level, flow.down.level);
      if (rate === flow.rate) continue;
      flow.bytes = flow.left(nowMs);
      flow.sinceMs = nowMs;
      flow.rate = rate;
      this.date(flow);
    }
    this.#changed.length = 0;
  }

  #level(pipe: Pipe): void {
    const { flows, level: before } = pipe;
    const level = this.#fill(pipe);
    pipe.level = level;
    const low = Math.min(before, level);
    const passedOn = Math.abs(level - before) > EPSILON * before;
    for (const flow of flows) {
      const other = flow.up === pipe ? flow.down : flow.up;
      if (low >= other.level) continue;
      this.#note(flow);
      if (passedOn) this.#passOn(other);
    }
  }

  /** The level at which the flows fill the pipe; its capacity where they cannot. */
  #fill(pipe: Pipe): number {
    const { flows, capacity } = pipe;
    // From below: whoever cannot use the present level leaves something to the others.
    let total = 0;
    for (const { weight } of flows) total += weight;
    for (let level = capacity / Math.max(1, total); ; ) {
      let left = capacity;
      let sharing = 0;
      for (const flow of flows) {
        const cap = flow.up === pipe ? flow.down.level : flow.up.level;
        if (cap < level) left -= flow.weight * cap;
        else sharing += flow.weight;
      }
      if (sharing === 0) return capacity;
      const next = left / sharing;
      if (next <= level * (1 + 1e-6)) return next;
      level = next;
    }
  }
}
