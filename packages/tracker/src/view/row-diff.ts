// Rows of a table that is told whole once and then by what changed. Rows are kept as JSON text: it is made once, compared, and sent as it is.

export class RowDiff {
  /** By n. */
  #rows = new Map<number, string>();

  /** Takes the table as it is now. @returns the texts of rows that are new or changed, and the numbers of those that are gone */
  update(rows: Iterable<readonly [n: number, text: string]>): { readonly changed: string[]; readonly gone: number[] } {
    const changed: string[] = [];
    const next = new Map<number, string>();
    for (const [n, text] of rows) {
      if (this.#rows.get(n) !== text) changed.push(text);
      next.set(n, text);
    }
    const gone: number[] = [];
    for (const n of this.#rows.keys()) if (!next.has(n)) gone.push(n);
    this.#rows = next;
    return { changed, gone };
  }

  /** Every row as of the last update, as the inside of a JSON array. */
  all(): string {
    return [...this.#rows.values()].join(',');
  }
}
