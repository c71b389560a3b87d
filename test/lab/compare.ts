// A scenario held against bare transfers of the same bytes over the same links: medians of each, and the ratios. Pure.

import type { Figures } from './measure.ts';
import { median, round } from './quantities.ts';

/** One run, and what came after it on the same network with the same image. */
export interface ComparedRun {
  readonly figures: Figures;
  readonly bare?: { readonly stock: Figures; readonly own: Figures };
}

const COMPARED = [
  ['framesPerPayload', 'wire / payload (frames)'],
  ['wirePerPayload', 'wire / payload (interfaces)'],
  ['cpuPerGiB', 'CPU-s per GiB'],
  ['lastOverBound', 'last / T*'],
  ['lostShare', 'lost to full queues'],
  ['rssMB', 'resident MB, median'],
  ['idleShare', 'idle share of the machine'],
] as const;
type Compared = (typeof COMPARED)[number][0];
/** What is said as a ratio; the others only tell how a run was. */
const RATIOS: readonly Compared[] = ['framesPerPayload', 'wirePerPayload', 'cpuPerGiB', 'lastOverBound'];

export interface Comparison {
  readonly figure: Compared;
  readonly flotilla: number;
  /** Over libp2p as it comes, and over the agents' transport with the flags of their process. */
  readonly stock: number;
  readonly own: number;
  /** Flotilla's over each. Absent where a ratio says nothing. */
  readonly overStock?: number;
  readonly overOwn?: number;
}

/** Medians over the runs that were compared. */
export function compare(runs: readonly ComparedRun[]): Comparison[] {
  const compared = runs.flatMap(({ figures, bare }) => (bare === undefined ? [] : [{ flotilla: figures, ...bare }]));
  if (compared.length === 0) return [];
  return COMPARED.map(([figure]) => {
    const middle = (of: 'flotilla' | 'stock' | 'own'): number => round(median(compared.map((run) => run[of][figure] ?? Number.NaN)), 4);
    const [flotilla, stock, own] = [middle('flotilla'), middle('stock'), middle('own')];
    return { figure, flotilla, stock, own, ...(RATIOS.includes(figure) && { overStock: round(flotilla / stock, 4), overOwn: round(flotilla / own, 4) }) };
  });
}

/** Lines for people. */
export function comparisonTable(comparisons: readonly Comparison[], scenario: string): string[] {
  if (comparisons.length === 0) return [];
  const titles = new Map<Compared, string>(COMPARED);
  const row = (name: string, cells: readonly string[]): string => name.padEnd(30) + cells.map((cell) => cell.padStart(13)).join('');
  const shown = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(3));
  return [
    row('over bare libp2p', [scenario, 'bare', 'bare-own', 'over bare', 'over bare-own']),
    ...comparisons.map(({ figure, flotilla, stock, own, overStock, overOwn }) => row(titles.get(figure)!, [flotilla, stock, own, overStock, overOwn].map(shown))),
  ];
}
