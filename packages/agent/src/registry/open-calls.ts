// Which requests are open, so that stopping can wait for them.
//
// A pull is many requests: between two of them nothing may be open for a moment. `quiet` therefore waits for a pause as well, counted
// from the last request that was served; refused ones do not prolong it.

import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

export class OpenCalls {
  readonly #nowMs: () => number;
  readonly #ended = new EventEmitter();
  readonly #bySocket = new WeakMap<object, number>();
  #open = 0;
  #lastServedMs = Number.NEGATIVE_INFINITY;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  get count(): number {
    return this.#open;
  }

  start(socket: object): void {
    this.#open++;
    this.#bySocket.set(socket, (this.#bySocket.get(socket) ?? 0) + 1);
  }

  end(socket: object, served: boolean): void {
    this.#open--;
    this.#bySocket.set(socket, (this.#bySocket.get(socket) ?? 1) - 1);
    if (served) this.#lastServedMs = this.#nowMs();
    this.#ended.emit('ended');
  }

  /** Whether a reply is being written to this connection. */
  busy(socket: object): boolean {
    return (this.#bySocket.get(socket) ?? 0) > 0;
  }

  /** Resolves once nothing is open and nothing was served for `pauseMs`, or when the signal aborts. */
  async quiet(pauseMs: number, signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) {
        const restMs = this.#lastServedMs + pauseMs - this.#nowMs();
        if (this.#open > 0) await once(this.#ended, 'ended', { signal });
        else if (restMs > 0) await delay(restMs, undefined, { signal });
        else return;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
