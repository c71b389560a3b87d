// A table on disk whose rows are forgotten when nobody has used them for long, or when there are too many: the oldest first.
//
// Bound: `maxRows`, exceeded by a tenth at most, because rows are counted only when the table is pruned: at the start, every hour,
// and after that many writes. Writes are not synced: what a crash loses is asked of the origin again.

import type { Level } from 'level';

/** Every row says when it was last good. */
export interface Row {
  readonly atMs: number;
}

export interface TableLimits {
  readonly maxRows: number;
  /** Rows that were not written for so long are forgotten. */
  readonly keepMs: number;
}

const DELETES_AT_ONCE = 1000;

type RowStore<R> = ReturnType<typeof sublevelOf<R>>;

function sublevelOf<R>(db: Level, name: string) {
  return db.sublevel<string, R>(name, { valueEncoding: 'json' });
}

export class KeptTable<R extends Row> {
  readonly #rows: RowStore<R>;
  readonly #limits: TableLimits;
  readonly #nowMs: () => number;
  readonly #failed: (error: unknown) => void;
  #writes = 0;
  #pruning: Promise<void> | undefined;

  /** @param failed what went wrong where nobody waits for it */
  constructor(db: Level, name: string, limits: TableLimits, nowMs: () => number, failed: (error: unknown) => void) {
    this.#rows = sublevelOf<R>(db, name);
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#failed = failed;
  }

  get(key: string): Promise<R | undefined> {
    return this.#rows.get(key);
  }

  getMany(keys: string[]): Promise<(R | undefined)[]> {
    return this.#rows.getMany(keys);
  }

  async put(rows: readonly (readonly [key: string, row: R])[]): Promise<void> {
    if (rows.length === 0) return;
    await this.#rows.batch(rows.map(([key, value]) => ({ type: 'put' as const, key, value })));
    this.#writes += rows.length;
    if (this.#writes > this.#limits.maxRows / 10) this.pruneSoon();
  }

  async delete(key: string): Promise<void> {
    await this.#rows.del(key);
  }

  pruneSoon(): void {
    this.prune().catch(this.#failed);
  }

  /** Resolves when nothing is being pruned. */
  async idle(): Promise<void> {
    await Promise.allSettled([this.#pruning]);
  }

  /** Forgets what is too old or too much. */
  prune(): Promise<void> {
    this.#pruning ??= this.#prune().finally(() => {
      this.#pruning = undefined;
    });
    return this.#pruning;
  }

  async #prune(): Promise<void> {
    this.#writes = 0;
    const times: number[] = [];
    for await (const { atMs } of this.#rows.values()) times.push(atMs);
    const surplus = this.#surplus(times);
    const keptSinceMs = this.#nowMs() - this.#limits.keepMs;
    let gone: string[] = [];
    const remove = async (): Promise<void> => {
      await this.#rows.batch(gone.map((key) => ({ type: 'del' as const, key })));
      gone = [];
    };
    for await (const [key, { atMs }] of this.#rows.iterator()) {
      if (atMs >= keptSinceMs && !surplus(atMs)) continue;
      gone.push(key);
      if (gone.length === DELETES_AT_ONCE) await remove();
    }
    await remove();
  }

  /** Whether a row of that time is one too many; of rows of one and the same time only as many as have to go. */
  #surplus(times: readonly number[]): (atMs: number) => boolean {
    const count = times.length - this.#limits.maxRows;
    if (count <= 0) return () => false;
    const sorted = Float64Array.from(times).sort();
    const lastMs = sorted[count - 1]!;
    let leftOfLast = count - sorted.indexOf(lastMs);
    return (atMs) => atMs < lastMs || (atMs === lastMs && leftOfLast-- > 0);
  }
}
