// Counts what is under way, so that an end can refuse what comes later and wait for what came before.

import { AgentError } from '../errors.ts';

export class Activity {
  readonly #name: string;
  #running = 0;
  #ended = false;
  #onIdle: (() => void)[] = [];

  /** @param name of what ends, for the error of those who come late */
  constructor(name: string) {
    this.#name = name;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** @throws INTERNAL after the end */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#ended) throw new AgentError('INTERNAL', `${this.#name} is closed`);
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
      if (this.#running === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
    }
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  /** No more from now on; resolves when all that came before is done. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.idle();
  }
}
