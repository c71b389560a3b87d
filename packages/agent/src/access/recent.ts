// What holds for a short while: keys with the moment they were marked and the moment they end. In memory; the oldest marks go first.

export class Recent {
  readonly #marks = new Map<string, { readonly atMs: number; readonly untilMs: number }>();
  readonly #maxMarks: number;
  readonly #nowMs: () => number;

  constructor(maxMarks: number, nowMs: () => number) {
    this.#maxMarks = maxMarks;
    this.#nowMs = nowMs;
  }

  get size(): number {
    return this.#marks.size;
  }

  /** @param untilMs from then on the mark holds no more */
  mark(key: string, untilMs: number): void {
    this.#marks.delete(key);
    this.#marks.set(key, { atMs: this.#nowMs(), untilMs });
    const [oldest] = this.#marks.keys();
    if (this.#marks.size > this.#maxMarks && oldest !== undefined) this.#marks.delete(oldest);
  }

  /** When it was marked, while the mark holds. */
  at(key: string): number | undefined {
    const mark = this.#marks.get(key);
    if (mark === undefined) return undefined;
    if (this.#nowMs() < mark.untilMs) return mark.atMs;
    this.#marks.delete(key);
    return undefined;
  }

  delete(key: string): void {
    this.#marks.delete(key);
  }
}
