// What the tracker keeps over restarts, in level under DIR/state: epoch, members, blame, who was connected, where blobs can be read.
//
// Swarms are not here: they are soft. One process per folder (level's lock). Every write is awaited by whoever must not lose it;
// the rest is gathered and written together. Layout: prefixes `meta`, `members`, `seen`, `blame`, `located`,
// `operator-tokens`, `operator-sessions`, `audit-log`, `hosts`, `rollouts`, `images`, `brakes`,
// `throughput`, `pulls`, `peer-numbers`, `versions`, `settings`; values as JSON.

import { mkdir } from 'node:fs/promises';
import { Level } from 'level';
import { TrackerError } from './errors.ts';

const LAYOUT = 1;

/** One kind of records. */
export class Table<V> {
  readonly #state: Level<string, unknown>;
  readonly #prefix: string;

  constructor(state: Level<string, unknown>, name: string) {
    this.#state = state;
    this.#prefix = `${name}!`;
  }

  get(key: string): Promise<V | undefined> {
    return this.#state.get(this.#prefix + key) as Promise<V | undefined>;
  }

  /** In the order of their keys. @param before only keys below this one */
  async *entries({ before, reverse = false, limit = -1 }: { readonly before?: string; readonly reverse?: boolean; readonly limit?: number } = {}): AsyncGenerator<[key: string, value: V]> {
    const lt = this.#prefix + (before ?? '\uffff');
    for await (const [key, value] of this.#state.iterator({ gte: this.#prefix, lt, reverse, limit })) {
      yield [key.slice(this.#prefix.length), value as V];
    }
  }

  /** @param durable on return the record survives a power cut */
  put(key: string, value: V, durable = false): Promise<void> {
    return this.#state.put(this.#prefix + key, value, { sync: durable });
  }

  /** @param durable on return it stays deleted over a power cut */
  del(key: string, durable = false): Promise<void> {
    return this.#state.del(this.#prefix + key, { sync: durable });
  }

  /** All of it or nothing. undefined deletes. @param durable on return it survives a power cut */
  write(changes: ReadonlyMap<string, V | undefined>, durable = false): Promise<void> {
    return this.#state.batch(
      [...changes].map(([key, value]) => (value === undefined ? { type: 'del' as const, key: this.#prefix + key } : { type: 'put' as const, key: this.#prefix + key, value })),
      { sync: durable },
    );
  }
}

export class State {
  readonly #level: Level<string, unknown>;

  private constructor(level: Level<string, unknown>) {
    this.#level = level;
  }

  /** @throws STATE_LOCKED, STATE_FAILED */
  static async open(dir: string): Promise<State> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const level = new Level<string, unknown>(dir, { valueEncoding: 'json' });
    try {
      await level.open();
    } catch (error) {
      const locked = (error as { cause?: { code?: string } }).cause?.code === 'LEVEL_LOCKED';
      throw new TrackerError(locked ? 'STATE_LOCKED' : 'STATE_FAILED', `${dir} cannot be opened`, { cause: error });
    }
    const state = new State(level);
    await state.#checkLayout(dir);
    return state;
  }

  table<V>(name: string): Table<V> {
    return new Table(this.#level, name);
  }

  /** A number that was never used before, higher than all before. Durable on return. */
  async raiseEpoch(): Promise<number> {
    const meta = this.table<number>('meta');
    const epoch = ((await meta.get('epoch')) ?? 0) + 1;
    await meta.put('epoch', epoch, true);
    return epoch;
  }

  async close(): Promise<void> {
    await this.#level.close();
  }

  async #checkLayout(dir: string): Promise<void> {
    const meta = this.table<number>('meta');
    const layout = await meta.get('layout');
    if (layout === undefined) await meta.put('layout', LAYOUT, true);
    else if (layout > LAYOUT) {
      await this.close();
      throw new TrackerError('STATE_FAILED', `${dir} was written by a newer version (layout ${layout})`);
    }
  }
}
