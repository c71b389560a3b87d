// Simulated time: what is due happens in the order of its time, and of equals in the order in which it was set.
//
// Time goes in ticks of TICK_MS; whatever falls into one tick happens at its end, then the turns (`soon`), then the hook `settle`,
// which the network uses to work out its rates once per tick. So a time is late by a tick at most, and the queue costs O(1).
// Promises of the code under simulation are waited for within their tick: whoever resolves one says so (`promised`).

import type { Timers } from '@flotilla/agent/swarm/timers';

export const TICK_MS = 0.25;
/** What is due within so many ticks (4 s) lies in a ring. */
const RING = 2 ** 14;
/** `then` of a promise that is resolved runs one microtask later; what it does may resolve more, which is said anew. */
const MICROTASKS = 3;

/** Something that is due at a time. */
export interface Due {
  happen(): void;
}

class Task implements Due {
  #act: (() => void) | undefined;

  constructor(act: () => void) {
    this.#act = act;
  }

  happen(): void {
    const act = this.#act;
    this.#act = undefined;
    act?.();
  }

  cancel(): void {
    this.#act = undefined;
  }
}

export class Clock implements Timers {
  readonly #ring: Due[][] = Array.from({ length: RING }, () => []);
  /** By ticks that the ring does not reach yet. */
  readonly #far = new Map<number, Due[]>();
  readonly #settle: (() => void)[] = [];
  #tick = 0;
  #waiting = 0;
  #turn: Task[] = [];
  #promised = false;

  /** ms since the start of the simulation. */
  get nowMs(): number {
    return this.#tick * TICK_MS;
  }

  /** Called at the end of each tick in which anything happened. */
  onSettle(settle: () => void): void {
    this.#settle.push(settle);
  }

  /** A promise was resolved: what waits for it has to run before time goes on. */
  promised(): void {
    this.#promised = true;
  }

  /** @returns the tick in which `due` happens: the one that contains `atMs`, the next one at the earliest */
  at(atMs: number, due: Due): number {
    const tick = Math.max(this.#tick + 1, Math.ceil(atMs / TICK_MS));
    this.#waiting++;
    if (tick < this.#tick + RING) this.#ring[tick % RING]!.push(due);
    else {
      const list = this.#far.get(tick);
      if (list === undefined) this.#far.set(tick, [due]);
      else list.push(due);
    }
    return tick;
  }

  get tick(): number {
    return this.#tick;
  }

  soon(act: () => void): () => void {
    const task = new Task(act);
    this.#turn.push(task);
    return () => task.cancel();
  }

  after(delayMs: number, act: () => void): () => void {
    const task = new Task(act);
    this.at(this.nowMs + delayMs, task);
    return () => task.cancel();
  }

  every(intervalMs: number, act: () => void): () => void {
    let cancel = (): void => undefined;
    const again = (): void => {
      cancel = this.after(intervalMs, again);
      act();
    };
    cancel = this.after(intervalMs, again);
    return () => cancel();
  }

  /** Lets time pass until `done`, or until nothing is due any more, or until `untilMs`. @returns whether it was done */
  async run(done: () => boolean, untilMs: number): Promise<boolean> {
    await this.#endTick();
    while (!done()) {
      if (this.#waiting === 0 || this.nowMs >= untilMs) return false;
      const list = this.#next();
      if (list.length === 0) continue;
      this.#waiting -= list.length;
      for (const due of list) due.happen();
      list.length = 0;
      await this.#endTick();
    }
    return true;
  }

  /** Goes on by a tick. @returns what is due in it */
  #next(): Due[] {
    const last = this.#tick++;
    const reached = last + RING;
    const list = this.#far.get(reached);
    if (list !== undefined) {
      this.#far.delete(reached);
      this.#ring[reached % RING] = list;
    }
    return this.#ring[this.#tick % RING]!;
  }

  async #endTick(): Promise<void> {
    await this.#drain();
    while (this.#turn.length > 0) {
      const turn = this.#turn;
      this.#turn = [];
      for (const task of turn) task.happen();
      await this.#drain();
    }
    for (const settle of this.#settle) settle();
  }

  async #drain(): Promise<void> {
    while (this.#promised) {
      this.#promised = false;
      for (let left = MICROTASKS; left > 0; left--) await Promise.resolve();
    }
  }
}
