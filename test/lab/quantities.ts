// Rates and sizes as people write them on the command line. Rates are bits per second, as links are named; sizes are bytes.

const RATE_UNITS: Readonly<Record<string, number>> = { kbit: 1e3, mbit: 1e6, gbit: 1e9 };
const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

export const MIB = 1024 ** 2;
export const GIB = 1024 ** 3;

/** `20mbit` -> bits per second; undefined for what is no rate. */
export function parseRate(text: string): number | undefined {
  const [, figure, unit] = /^(\d+(?:\.\d+)?)([a-z]+)$/.exec(text.toLowerCase()) ?? [];
  return positive(Number(figure) * (RATE_UNITS[unit ?? ''] ?? Number.NaN));
}

/** `96MiB` -> bytes; undefined for what is no size. */
export function parseSize(text: string): number | undefined {
  const [, figure, unit] = /^(\d+(?:\.\d+)?)([A-Za-z]*)$/.exec(text) ?? [];
  return positive(Math.round(Number(figure) * (SIZE_UNITS[unit ?? ''] ?? Number.NaN)));
}

export function formatRate(bitsPerSecond: number): string {
  const unit = bitsPerSecond >= 1e9 ? 'gbit' : bitsPerSecond >= 1e6 ? 'mbit' : 'kbit';
  return `${round(bitsPerSecond / RATE_UNITS[unit]!, 3)}${unit}`;
}

export function formatMiB(bytes: number): string {
  return `${round(bytes / MIB, 1)}MiB`;
}

/** For figures that are printed: no more digits than they are good for. */
export function round(value: number, digits: number): number {
  const factor = 10 ** digits;
  return Math.round(value * factor) / factor;
}

/** The middle one; of an even number the mean of the two. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

function positive(value: number): number | undefined {
  return Number.isFinite(value) && value > 0 ? value : undefined;
}
