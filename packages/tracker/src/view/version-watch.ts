// Which host ran which release last, and how many changed from which to which, told once a minute. Durable.

import type { Table } from '../state.ts';

const TELL_MS = 60_000;

export interface VersionChange {
  readonly from: string;
  readonly to: string;
  readonly hosts: number;
}

export class VersionWatch {
  readonly #table: Table<string>;
  readonly #versions: Map<string, string>;
  readonly #fresh = new Map<string, string>();
  readonly #changes = new Map<string, VersionChange>();
  #toldAtMs = 0;

  private constructor(table: Table<string>, versions: Map<string, string>) {
    this.#table = table;
    this.#versions = versions;
  }

  static async open(table: Table<string>): Promise<VersionWatch> {
    const versions = new Map<string, string>();
    for await (const [peerId, version] of table.entries()) versions.set(peerId, version);
    return new VersionWatch(table, versions);
  }

  of(peerId: string): string | undefined {
    return this.#versions.get(peerId);
  }

  /** A host has opened a session. */
  seen(peerId: string, version: string): void {
    const from = this.#versions.get(peerId);
    if (from === version) return;
    this.#versions.set(peerId, version);
    this.#fresh.set(peerId, version);
    if (from === undefined) return;
    const key = `${from} ${version}`;
    this.#changes.set(key, { from, to: version, hosts: (this.#changes.get(key)?.hosts ?? 0) + 1 });
  }

  /** What changed since a minute ago; nothing before a minute is over. */
  due(nowMs: number): { readonly changes: readonly VersionChange[]; readonly write: Promise<void> | undefined } {
    if (this.#fresh.size === 0 || nowMs - this.#toldAtMs < TELL_MS) return { changes: [], write: undefined };
    this.#toldAtMs = nowMs;
    return this.flush();
  }

  flush(): { readonly changes: readonly VersionChange[]; readonly write: Promise<void> | undefined } {
    const changes = [...this.#changes.values()];
    const fresh = new Map(this.#fresh);
    this.#changes.clear();
    this.#fresh.clear();
    return { changes, write: fresh.size === 0 ? undefined : this.#table.write(fresh) };
  }
}
