// The interfaces' counters over time, for charts and for seeing where a link idled.

import type { Network, Traffic } from './network.ts';

const INTERVAL_MS = 100;
/** An hour and a half; a run ends long before. */
const MAX_SAMPLES = 54_000;

export interface Sample {
  /** Seconds since the clock started. */
  readonly atS: number;
  /** Bytes since then, by port. */
  readonly ports: ReadonlyMap<string, Traffic>;
}

export class Timeline {
  readonly #network: Network;
  readonly #startedMs = performance.now();
  readonly #base: ReadonlyMap<string, Traffic>;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  /** Starts the clock. `opened` stops it. */
  constructor(network: Network, opened: AsyncDisposableStack) {
    this.#network = network;
    this.#base = network.traffic();
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS);
    opened.defer(() => clearInterval(this.#timer));
  }

  /** performance.now() at time zero. */
  get startedMs(): number {
    return this.#startedMs;
  }

  stop(): readonly Sample[] {
    clearInterval(this.#timer);
    this.#look();
    return this.#samples;
  }

  #look(): void {
    if (this.#samples.length >= MAX_SAMPLES) return;
    const ports = new Map<string, Traffic>();
    for (const [port, { down, up }] of this.#network.traffic()) {
      const base = this.#base.get(port) ?? { down: 0, up: 0 };
      ports.set(port, { down: down - base.down, up: up - base.up });
    }
    this.#samples.push({ atS: (performance.now() - this.#startedMs) / 1000, ports });
  }
}
