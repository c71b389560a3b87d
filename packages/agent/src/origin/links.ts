// One link per origin that is in use: its entry, its connections and its standing. Origins that nobody configured are bounded:
// the least recently used link is released, its open bodies are finished.

import { Connections, type ConnectionSettings } from './connections.ts';
import type { OriginEntry, OriginTable } from './origins.ts';
import { OriginStanding } from './standing.ts';

export interface OriginLink {
  readonly entry: OriginEntry;
  readonly connections: Connections;
  readonly standing: OriginStanding;
}

const MAX_UNLISTED = 128;

export class OriginLinks {
  readonly #table: OriginTable;
  readonly #settings: ConnectionSettings;
  readonly #nowMs: () => number;
  readonly #links = new Map<string, OriginLink>();

  /** @throws AgentError CONFIG_INVALID for TLS files that cannot be used */
  constructor(table: OriginTable, settings: ConnectionSettings, nowMs: () => number) {
    this.#table = table;
    this.#settings = settings;
    this.#nowMs = nowMs;
    for (const name of table.names()) this.#open(name);
  }

  /** @throws AgentError NAME_UNKNOWN */
  get(name: string): OriginLink {
    const link = this.#links.get(name);
    if (link === undefined) return this.#open(name);
    if (!this.#table.has(name)) {
      this.#links.delete(name);
      this.#links.set(name, link);
    }
    return link;
  }

  /** The named origins as configured, then the others, the most recently used one last. */
  all(): OriginLink[] {
    return [...this.#links.values()];
  }

  async close(): Promise<void> {
    const links = this.all();
    this.#links.clear();
    await Promise.all(links.map(({ connections }) => connections.close()));
  }

  #open(name: string): OriginLink {
    const entry = this.#table.entry(name);
    const link = { entry, connections: new Connections(entry, this.#settings, this.#nowMs), standing: new OriginStanding(entry, this.#nowMs) };
    this.#links.set(name, link);
    const unlisted = [...this.#links.keys()].filter((each) => !this.#table.has(each));
    const [oldest] = unlisted;
    if (unlisted.length > MAX_UNLISTED && oldest !== undefined) {
      const gone = this.#links.get(oldest);
      this.#links.delete(oldest);
      // Nobody waits for it: it ends with the last body that is still read.
      void gone?.connections.release();
    }
    return link;
  }
}
