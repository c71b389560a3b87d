// What is held back on this host: by its own limits, which start as its settings are and may be changed while it runs, and by operators, as the tracker
// told it: obeyed at once, and over by itself even if the tracker is gone.
//
// Brakes add up; of rates the lowest counts, and the host's own limits stay in force. Pure but for the timer that is handed in.

import type { BrakeOrder } from '@flotilla/shared/agent-report';

/** Bytes per second; undefined: no limit. */
export interface OwnLimits {
  readonly downloadLimit: number | undefined;
  readonly uploadLimit: number | undefined;
  readonly originLimit: number | undefined;
  /** To peers of other zones, and from them. */
  readonly zoneLimit: number | undefined;
}

/** All brakes together, and the host's own limits. */
export interface Held extends OwnLimits {
  readonly stopUploads: boolean;
  readonly originOnly: boolean;
}

export interface BrakesInit {
  /** As the settings have them. */
  readonly own: OwnLimits;
  /** Called with each change. */
  readonly apply: (held: Held) => void;
  /** Monotonic ms. */
  readonly now: () => number;
  /** Calls `act` once after `delayMs`; the returned function takes that back. */
  readonly after: (delayMs: number, act: () => void) => () => void;
}

interface Order extends BrakeOrder {
  readonly untilMs: number;
}

export class Brakes {
  readonly #init: BrakesInit;
  #own: OwnLimits;
  #orders: readonly Order[] = [];
  #held: Held;
  #cancel: () => void = () => undefined;

  constructor(init: BrakesInit) {
    this.#init = init;
    this.#own = init.own;
    this.#held = this.#together();
  }

  get held(): Held {
    return this.#held;
  }

  get ids(): string[] {
    return this.#orders.map(({ id }) => id);
  }

  /** Replaces what was told before. */
  told(orders: readonly BrakeOrder[]): void {
    const nowMs = this.#init.now();
    this.#orders = orders.map((order) => ({ ...order, untilMs: nowMs + order.forMs }));
    this.#settle();
  }

  /** Replaces those of the host's own limits that are given, until it ends. Operators' brakes stay in force. */
  limit(own: Partial<OwnLimits>): void {
    this.#own = { ...this.#own, ...own };
    this.#settle();
  }

  /** The host's own limits are as its settings have them again. */
  unlimit(): void {
    this.limit(this.#init.own);
  }

  close(): void {
    this.#cancel();
  }

  #settle(): void {
    const { now, after, apply } = this.#init;
    const nowMs = now();
    this.#cancel();
    this.#orders = this.#orders.filter(({ untilMs }) => untilMs > nowMs);
    if (this.#orders.length > 0) this.#cancel = after(Math.min(...this.#orders.map(({ untilMs }) => untilMs)) - nowMs, () => this.#settle());
    const held = this.#together();
    const before = this.#held;
    const same = (Object.keys(held) as (keyof Held)[]).every((name) => held[name] === before[name]);
    if (same) return;
    this.#held = held;
    apply(held);
  }

  #together(): Held {
    const own = this.#own;
    return {
      originLimit: own.originLimit,
      stopUploads: this.#orders.some(({ stopUploads }) => stopUploads),
      originOnly: this.#orders.some(({ originOnly }) => originOnly),
      downloadLimit: lowest(own.downloadLimit, ...this.#orders.map((order) => order.downloadLimit)),
      uploadLimit: lowest(own.uploadLimit, ...this.#orders.map((order) => order.uploadLimit)),
      zoneLimit: lowest(own.zoneLimit, ...this.#orders.map((order) => order.zoneLimit)),
    };
  }
}

function lowest(...limits: (number | undefined)[]): number | undefined {
  const set = limits.filter((limit) => limit !== undefined);
  return set.length === 0 ? undefined : Math.min(...set);
}
