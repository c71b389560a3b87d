// Links as pipes that flows share: each flow goes through the uplink of its sender and the downlink of its receiver.
//
// Rates are max-min fair (what TCP comes to, about): every pipe has a level, the highest rate that it lets a flow have, and a flow
// goes at the lower of its two levels, times its weight. A pipe's level is the one at which its flows fill it, given what the other ends let them have.
// When flows come or go, the levels of their pipes are worked out at the end of the tick. Where that changes what other pipes have to
// give, those are done a little later, and so on: changes below EPSILON are not passed on, and there are at most MAX_STEPS pipes every
// PASS_ON_MS, so that 1,000 hosts with 25,000 flows cost seconds. Rates of all flows worked out anew at each event would take hours; equal
// shares at both ends, each without regard to the other, would leave a tenth and more of the links idle, which is what is to be measured.
// What the sums go over lies in columns, by the numbers of pipes and flows: as fields of thousands of objects it took several times as long.
// Non-goals: packets, loss, slow start, queues (a fixed latency of control stands for those: wire.ts).

import { TICK_MS, type Clock, type Due } from './clock.ts';

/** A level that changes by less is not passed on. */
const EPSILON = 0.03;
/** How long a change waits before it is passed on, and to how many pipes at a time. */
const PASS_ON_MS = 2;
const MAX_STEPS = 400;
/** Less is nothing: what is left of rounding, in bytes. */
const CRUMB_BYTES = 1e-3;

/** One direction of a link. Made by `Links.pipe`. */
export class Pipe {
  readonly number: number;
  readonly #links: Links;

  constructor(links: Links, number: number) {
    this.#links = links;
    this.number = number;
  }

  /** Bytes per ms. */
  get capacity(): number {
    return this.#links.capacityOf(this);
  }

  /** Whether anything goes through it now. */
  get busy(): boolean {
    return this.#links.busy(this);
  }
}

/** Bytes on their way through two pipes. Made by `Links.flow`. */
export class Flow implements Due {
  readonly number: number;
  readonly up: Pipe;
  readonly down: Pipe;
  readonly #links: Links;
  /** As `Links.flow` has it. */
  readonly #gone: () => number;

  constructor(links: Links, number: number, up: Pipe, down: Pipe, gone: () => number) {
    this.#links = links;
    this.number = number;
    this.up = up;
    this.down = down;
    this.#gone = gone;
  }

  get active(): boolean {
    return this.#links.isActive(this);
  }

  /** Bytes per ms. */
  get rate(): number {
    return this.#links.rateOf(this);
  }

  /** Bytes still to go now. */
  get left(): number {
    return this.#links.leftOf(this);
  }

  start(bytes: number): void {
    this.#links.join(this, bytes);
  }

  /** Ends it where it stands. */
  stop(): void {
    this.#links.leave(this);
  }

  happen(): void {
    if (!this.#links.arrived(this)) return;
    const bytes = this.#gone();
    if (bytes <= 0) this.stop();
    else this.#links.goOn(this, bytes);
  }
}

export class Links {
  readonly clock: Clock;
  readonly #touched: number[] = [];
  readonly #waiting: number[] = [];
  #passing = false;
  readonly #changed: number[] = [];

  // By pipe: as many as hosts have links.
  readonly #capacity: number[] = [];
  readonly #level: number[] = [];
  /** Weights of its flows together. */
  readonly #total: number[] = [];
  /** Its flows, and the pipe at the other end of each. */
  readonly #flowsOf: number[][] = [];
  readonly #othersOf: number[][] = [];
  readonly #isTouched: boolean[] = [];
  readonly #waits: boolean[] = [];

  // By flow: one per direction of a session, and one per run that is read.
  readonly #flows: Flow[] = [];
  readonly #up: number[] = [];
  readonly #down: number[] = [];
  readonly #weight: number[] = [];
  readonly #isActive: boolean[] = [];
  readonly #rate: number[] = [];
  readonly #bytes: number[] = [];
  /** Since when `bytes` go at `rate`. */
  readonly #sinceMs: number[] = [];
  /** The tick in which it is due; 0: none. */
  readonly #dueTick: number[] = [];
  readonly #isChanged: boolean[] = [];

  constructor(clock: Clock) {
    this.clock = clock;
    clock.onSettle(() => this.#settle());
  }

  pipe(bytesPerS: number): Pipe {
    this.#level.push(bytesPerS / 1000);
    this.#total.push(0);
    this.#flowsOf.push([]);
    this.#othersOf.push([]);
    this.#isTouched.push(false);
    this.#waits.push(false);
    return new Pipe(this, this.#capacity.push(bytesPerS / 1000) - 1);
  }

  /**
   * @param gone called when so many bytes have gone as were to; returns how many go next, 0 where it has ended
   * @param weight what it takes of a full pipe, beside a flow of 1
   */
  flow(up: Pipe, down: Pipe, gone: () => number, weight = 1): Flow {
    this.#bytes.push(0);
    this.#sinceMs.push(0);
    this.#dueTick.push(0);
    this.#isChanged.push(false);
    this.#up.push(up.number);
    this.#down.push(down.number);
    this.#weight.push(weight);
    this.#isActive.push(false);
    const flow = new Flow(this, this.#rate.push(0) - 1, up, down, gone);
    this.#flows.push(flow);
    return flow;
  }

  // ---- as pipes and flows use it

  capacityOf({ number }: Pipe): number {
    return this.#capacity[number]!;
  }

  busy({ number }: Pipe): boolean {
    return this.#flowsOf[number]!.length > 0;
  }

  isActive({ number }: Flow): boolean {
    return this.#isActive[number]!;
  }

  rateOf({ number }: Flow): number {
    return this.#rate[number]!;
  }

  leftOf({ number }: Flow): number {
    return this.#left(number);
  }

  join({ number }: Flow, bytes: number): void {
    if (this.#isActive[number]) throw new Error('this flow is under way');
    const up = this.#up[number]!;
    const down = this.#down[number]!;
    this.#isActive[number] = true;
    this.#bytes[number] = bytes;
    this.#rate[number] = 0;
    this.#sinceMs[number] = this.clock.nowMs;
    this.#add(number, up, down);
    this.#add(number, down, up);
    this.#note(number);
  }

  leave({ number }: Flow): void {
    if (!this.#isActive[number]) return;
    this.#isActive[number] = false;
    this.#remove(number, this.#up[number]!);
    this.#remove(number, this.#down[number]!);
    this.#rate[number] = 0;
  }

  /** The flow is due. @returns whether all its bytes have gone; else it has got another date */
  arrived({ number }: Flow): boolean {
    // An older date: it has got another one since.
    if (!this.#isActive[number] || this.#dueTick[number] !== this.clock.tick) return false;
    this.#dueTick[number] = 0;
    const left = this.#left(number);
    this.#sinceMs[number] = this.clock.nowMs;
    this.#bytes[number] = left;
    if (left <= CRUMB_BYTES) return true;
    this.#date(number);
    return false;
  }

  /** More bytes follow those that have gone. */
  goOn({ number }: Flow, bytes: number): void {
    if (!this.#isActive[number]) return;
    this.#bytes[number] = bytes;
    this.#date(number);
  }

  // ---- inside

  #left(flow: number): number {
    return Math.max(0, this.#bytes[flow]! - this.#rate[flow]! * (this.clock.nowMs - this.#sinceMs[flow]!));
  }

  #add(flow: number, pipe: number, other: number): void {
    this.#flowsOf[pipe]!.push(flow);
    this.#othersOf[pipe]!.push(other);
    this.#total[pipe]! += this.#weight[flow]!;
    this.#look(pipe);
  }

  #remove(flow: number, pipe: number): void {
    const flows = this.#flowsOf[pipe]!;
    const others = this.#othersOf[pipe]!;
    const last = flows.pop()!;
    const lastOther = others.pop()!;
    if (last !== flow) {
      const at = flows.indexOf(flow);
      flows[at] = last;
      others[at] = lastOther;
    }
    this.#total[pipe]! -= this.#weight[flow]!;
    this.#look(pipe);
  }

  /** Sets when the flow is due, where that is sooner than it was or it was not. */
  #date(flow: number): void {
    const rate = this.#rate[flow]!;
    if (rate <= 0) return;
    const atMs = this.#sinceMs[flow]! + this.#bytes[flow]! / rate;
    const { clock } = this;
    const dueTick = this.#dueTick[flow]!;
    // Later than before: the old date comes first, and finds that it is not time yet.
    if (dueTick > clock.tick && atMs >= dueTick * TICK_MS) return;
    this.#dueTick[flow] = clock.at(atMs, this.#flows[flow]!);
  }

  #look(pipe: number): void {
    if (this.#isTouched[pipe]) return;
    this.#isTouched[pipe] = true;
    this.#touched.push(pipe);
  }

  #passOn(pipe: number): void {
    if (this.#waits[pipe]) return;
    this.#waits[pipe] = true;
    this.#waiting.push(pipe);
    this.#passOnSoon();
  }

  #passOnSoon(): void {
    if (this.#passing || this.#waiting.length === 0) return;
    this.#passing = true;
    this.clock.after(PASS_ON_MS, () => {
      this.#passing = false;
      for (const pipe of this.#waiting.splice(0, MAX_STEPS)) {
        this.#waits[pipe] = false;
        this.#look(pipe);
      }
      this.#passOnSoon();
    });
  }

  #note(flow: number): void {
    if (this.#isChanged[flow]) return;
    this.#isChanged[flow] = true;
    this.#changed.push(flow);
  }

  #settle(): void {
    if (this.#touched.length === 0) return;
    for (const pipe of this.#touched) {
      this.#isTouched[pipe] = false;
      this.#settleLevel(pipe);
    }
    this.#touched.length = 0;
    for (const flow of this.#changed) {
      this.#isChanged[flow] = false;
      this.#setRate(flow);
    }
    this.#changed.length = 0;
  }

  #setRate(flow: number): void {
    if (!this.#isActive[flow]) return;
    const rate = this.#weight[flow]! * Math.min(this.#level[this.#up[flow]!]!, this.#level[this.#down[flow]!]!);
    if (rate === this.#rate[flow]) return;
    this.#bytes[flow] = this.#left(flow);
    this.#sinceMs[flow] = this.clock.nowMs;
    this.#rate[flow] = rate;
    this.#date(flow);
  }

  /** Works out the level of a pipe, and notes what that changes. */
  #settleLevel(pipe: number): void {
    const levels = this.#level;
    const before = levels[pipe]!;
    this.#fill(pipe);
    const level = levels[pipe]!;
    const low = Math.min(before, level);
    const passedOn = Math.abs(level - before) > EPSILON * before;
    const flows = this.#flowsOf[pipe]!;
    const others = this.#othersOf[pipe]!;
    for (let at = 0; at < flows.length; at++) {
      const other = others[at]!;
      if (low >= levels[other]!) continue;
      this.#note(flows[at]!);
      if (passedOn) this.#passOn(other);
    }
  }

  /** Sets the level at which the flows fill the pipe; its capacity where they cannot. */
  #fill(pipe: number): void {
    const levels = this.#level;
    const weights = this.#weight;
    const flows = this.#flowsOf[pipe]!;
    const others = this.#othersOf[pipe]!;
    const capacity = this.#capacity[pipe]!;
    // From below: whoever cannot use the present level leaves something to the others.
    let level = capacity / Math.max(1, this.#total[pipe]!);
    for (;;) {
      let left = capacity;
      let sharing = 0;
      for (let at = 0; at < flows.length; at++) {
        const cap = levels[others[at]!]!;
        const weight = weights[flows[at]!]!;
        if (cap < level) left -= weight * cap;
        else sharing += weight;
      }
      if (sharing === 0) {
        levels[pipe] = capacity;
        return;
      }
      const next = left / sharing;
      if (next <= level * (1 + 1e-6)) {
        levels[pipe] = next;
        return;
      }
      level = next;
    }
  }
}
