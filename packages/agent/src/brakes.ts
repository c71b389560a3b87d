// What operators hold back on this host, as the tracker told it: obeyed at once, and over by itself even if the tracker is gone.
//
// Brakes add up; of rates the lowest counts, and the host's own limits stay in force. Pure but for the timer that is handed in.

import type { BrakeOrder } from '@flotilla/shared/agent-report';

/** All brakes together, and the host's own limits. */
export interface Held {
  readonly stopUploads: boolean;
  readonly originOnly: boolean;
  /** Bytes per second; undefined: no limit. */
  readonly downloadLimit: number | undefined;
  readonly uploadLimit: number | undefined;
}

export interface BrakesInit {
  readonly own: Pick<Held, 'downloadLimit' | 'uploadLimit'>;
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
  #orders: readonly Order[] = [];
  #held: Held;
  #cancel: () => void = () => undefined;

  constructor(init: BrakesInit) {
    this.#init = init;
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
    const same = held.stopUploads === before.stopUploads && held.originOnly === before.originOnly && held.downloadLimit === before.downloadLimit && held.uploadLimit === before.uploadLimit;
    if (same) return;
    this.#held = held;
    apply(held);
  }

  #together(): Held {
    const { own } = this.#init;
    return {
      stopUploads: this.#orders.some(({ stopUploads }) => stopUploads),
      originOnly: this.#orders.some(({ originOnly }) => originOnly),
      downloadLimit: lowest(own.downloadLimit, ...this.#orders.map((order) => order.downloadLimit)),
      uploadLimit: lowest(own.uploadLimit, ...this.#orders.map((order) => order.uploadLimit)),
    };
  }
}

function lowest(...limits: (number | undefined)[]): number | undefined {
  const set = limits.filter((limit) => limit !== undefined);
  return set.length === 0 ? undefined : Math.min(...set);
}
