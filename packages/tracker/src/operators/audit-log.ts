// What operators changed, and what the tracker changed by itself: who, when, what. Durable, in order, never edited.
//
// Bound: MAX_ENTRIES, the oldest go. An entry never holds a secret: callers name things, not their contents.

import type { AuditEntry } from '@flotilla/shared/operator-api';
import type { Table } from '../state.ts';

const MAX_ENTRIES = 20_000;
const KEY_DIGITS = 12;

export type AuditDetail = Readonly<Record<string, string | number | boolean>>;
type Stored = Omit<AuditEntry, 'id'>;

export class AuditLog {
  readonly #table: Table<Stored>;
  readonly #now: () => number;
  readonly #max: number;
  readonly #listeners = new Set<(entry: AuditEntry) => void>();
  #last: number;
  #written = 0;
  #first: number;

  private constructor(table: Table<Stored>, now: () => number, max: number, first: number, last: number) {
    this.#table = table;
    this.#now = now;
    this.#max = max;
    this.#first = first;
    this.#last = last;
  }

  /** @param maxEntries @default 20,000 */
  static async open(table: Table<Stored>, now: () => number, maxEntries = MAX_ENTRIES): Promise<AuditLog> {
    const idAt = async (reverse: boolean): Promise<number | undefined> => {
      for await (const [key] of table.entries({ reverse, limit: 1 })) return Number(key);
      return undefined;
    };
    return new AuditLog(table, now, maxEntries, (await idAt(false)) ?? 1, (await idAt(true)) ?? 0);
  }

  /**
   * On return the entry survives a power cut.
   * @param actor name of the operator, or `tracker`
   * @param action such as `rollout.pause`: a noun and what was done to it
   * @param target what it was done to, such as a peer id or the id of a rollout
   */
  async record(actor: string, action: string, target: string, detail: AuditDetail = {}): Promise<void> {
    const id = ++this.#last;
    const entry = { atMs: this.#now(), actor, action, target, detail };
    for (const listener of this.#listeners) listener({ id, ...entry });
    await this.#table.put(keyOf(id), entry, true);
    this.#written++;
    const over = new Map<string, undefined>();
    while (this.#last - this.#first + 1 > this.#max) over.set(keyOf(this.#first++), undefined);
    if (over.size > 0) await this.#table.write(over);
  }

  /** Entries that were written, and can be read, since this log was opened. */
  get written(): number {
    return this.#written;
  }

  /** Newest first. @param before only entries with a lower id */
  async entries(limit: number, before?: number): Promise<AuditEntry[]> {
    const found: AuditEntry[] = [];
    const options = { reverse: true, limit, ...(before !== undefined && { before: keyOf(before) }) };
    for await (const [key, entry] of this.#table.entries(options)) found.push({ id: Number(key), ...entry });
    return found;
  }

  /** Newest first, of this time. Goes back from the newest: what is older than a log of this size is gone. */
  async between(fromMs: number, toMs: number, limit: number): Promise<AuditEntry[]> {
    const found: AuditEntry[] = [];
    for await (const [key, entry] of this.#table.entries({ reverse: true })) {
      if (entry.atMs < fromMs || found.length === limit) break;
      if (entry.atMs <= toMs) found.push({ id: Number(key), ...entry });
    }
    return found;
  }

  /** @returns a function that ends it */
  onEntry(listener: (entry: AuditEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

function keyOf(id: number): string {
  return String(id).padStart(KEY_DIGITS, '0');
}
