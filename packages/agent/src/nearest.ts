// The known word that somebody probably meant: for messages about misspelt settings.

/** The word of `known` with the fewest edits to `word`, if they are few for its length. Case, `-` and `_` do not count. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  const target = plain(word);
  let best: string | undefined;
  let fewest = Math.max(2, Math.floor(target.length / 3)) + 1;
  for (const candidate of known) {
    const edits = editDistance(target, plain(candidate));
    if (edits < fewest && edits < plain(candidate).length) {
      best = candidate;
      fewest = edits;
    }
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let edits = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) edits = Math.min(edits, beforeLast[j - 2]! + 1);
      row.push(edits);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

function plain(word: string): string {
  return word.toLowerCase().replace(/[-_]/g, '');
}
