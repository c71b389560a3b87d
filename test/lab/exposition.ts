// Reads Prometheus' text format as far as the agents use it: `name{label="value",…} number`.

export interface Measured {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export function readExposition(text: string): Measured[] {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) return [];
    return [{ name, labels: Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key!, text!])), value: Number(value) }];
  });
}

/** What counters (`…_total`) have gained since `before`; all else as it is. */
export function gained(before: readonly Measured[], after: readonly Measured[]): Measured[] {
  const keyOf = ({ name, labels }: Measured): string => `${name} ${JSON.stringify(labels)}`;
  const earlier = new Map(before.filter(({ name }) => name.endsWith('_total')).map((measured) => [keyOf(measured), measured.value]));
  return after.map((measured) => ({ ...measured, value: measured.value - (earlier.get(keyOf(measured)) ?? 0) }));
}

/** Sums of one counter over many agents, by one label's values; zeros are left out. */
export function sumBy(all: readonly (readonly Measured[])[], name: string, label: string): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const measured of all.flat()) {
    if (measured.name !== name || measured.value === 0) continue;
    const key = measured.labels[label] ?? '';
    sums[key] = (sums[key] ?? 0) + measured.value;
  }
  return sums;
}
