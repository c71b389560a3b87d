// A clock that tests move by hand. Actions run in order of their time, on the turn of `advance`.

import type { Clock } from './clock.ts';

export class TestClock implements Clock {
  #nowMs: number;
  #waiting: { atMs: number; action: () => void }[] = [];
  /** How many timers were set. */
  set = 0;

  constructor(nowMs = Date.now()) {
    this.#nowMs = nowMs;
  }

  get pending(): number {
    return this.#waiting.length;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, action: () => void): () => void {
    this.set++;
    const entry = { atMs: this.#nowMs + delayMs, action };
    this.#waiting.push(entry);
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== entry);
    };
  }

  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#waiting.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#waiting = this.#waiting.filter((other) => other !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.action();
    }
    this.#nowMs = untilMs;
  }

  /** As after a long turn of a busy loop: what was due meanwhile comes at its end. */
  advanceLate(ms: number): void {
    const dueMs = this.#nowMs + ms;
    const due = this.#waiting.filter(({ atMs }) => atMs <= dueMs).sort((a, b) => a.atMs - b.atMs);
    this.#waiting = this.#waiting.filter(({ atMs }) => atMs > dueMs);
    this.#nowMs = dueMs;
    for (const { action } of due) action();
  }
}
