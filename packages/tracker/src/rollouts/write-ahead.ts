// Writes before anybody is told: what has changed is on disk, then those who have to know are told what it was when it was written.
//
// Invariant: nobody is told of a state that a power cut could take back. Changes that come while one write is under way go out with the next. A write
// that fails is tried again with all that has changed since; until then nobody is told anything. Non-goals: what the changes mean.

export interface WriteAheadOutput<V> {
  /** The record as it is now; undefined: it is to be deleted. */
  read(key: string): V | undefined;
  /** On return the records survive a power cut. */
  write(changes: ReadonlyMap<string, V | undefined>): Promise<void>;
  /** What these have to be told, by the records as they are now. The returned function tells it. */
  prepare(whom: ReadonlySet<string>): () => void;
}

export class WriteAhead<V> {
  readonly #out: WriteAheadOutput<V>;
  #changed = new Set<string>();
  #whom = new Set<string>();
  #flushing: Promise<void> | undefined;

  constructor(out: WriteAheadOutput<V>) {
    this.#out = out;
  }

  changed(key: string): void {
    this.#changed.add(key);
  }

  tell(whom: string): void {
    this.#whom.add(whom);
  }

  /** Resolves when all that has changed up to now is written and told. Rejects where it cannot be written. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #flush(): Promise<void> {
    while (this.#changed.size > 0 || this.#whom.size > 0) {
      const [changed, whom] = [this.#changed, this.#whom];
      this.#changed = new Set();
      this.#whom = new Set();
      const tell = this.#out.prepare(whom);
      try {
        // A copy: the records go on changing while they are written.
        if (changed.size > 0) await this.#out.write(new Map([...changed].map((key) => [key, structuredClone(this.#out.read(key))])));
      } catch (error) {
        for (const key of changed) this.#changed.add(key);
        for (const each of whom) this.#whom.add(each);
        throw error;
      }
      tell();
    }
  }
}
