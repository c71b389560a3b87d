// The outcome of all runs: one JSON line for programs, a table for people.

import { compare, comparisonTable, type ComparedRun, type Comparison } from './compare.ts';
import type { Figures } from './measure.ts';
import type { LabOptions } from './options.ts';
import { formatMiB, formatRate, median, round } from './quantities.ts';

type Numeric = { [Key in keyof Figures]: Figures[Key] extends number | undefined ? Key : never }[keyof Figures];

/** Figures with a row in the table; test/sim has some of them. */
export type FigureValues = Partial<Pick<Figures, Numeric>>;

/** Figures of the table, in its order, with what people call them and the digits they are good for. */
const ROWS: readonly (readonly [Numeric, string, number])[] = [
  ['boundS', 'T* (s)', 2],
  ['lastS', 'last host (s)', 2],
  ['medianS', 'median (s)', 2],
  ['firstS', 'first (s)', 2],
  ['lastOverBound', 'last / T*', 3],
  ['directS', 'direct download (s)', 2],
  ['overDirect', 'time / direct download', 3],
  ['lastOverMedian', 'last / median', 3],
  ['othersLastS', 'last of the others (s)', 2],
  ['copies', 'copies out of the origin', 3],
  ['originRequests', 'origin requests', 0],
  ['originBlobReadsPerMiB', 'blob reads per MiB', 2],
  ['originOtherPerHost', 'other requests per host', 2],
  ['originFirstBytesS', 'origin: first bytes (s)', 2],
  ['originSentOnceS', 'origin: one copy sent (s)', 2],
  ['originSentOnceBoundS', '  at best (s)', 2],
  ['originWire', 'origin: wire / image', 3],
  ['zoneCopiesMax', 'copies into a zone, most', 3],
  ['zoneWireMax', 'zone link: wire / image, most', 3],
  ['wirePerPayload', 'wire / payload (interfaces)', 3],
  ['framesPerPayload', 'wire / payload (frames)', 3],
  ['lostShare', 'lost to full queues', 4],
  ['cpuPerGiB', 'CPU-s per GiB', 1],
  ['agentCpuPerGiB', '  agents', 1],
  ['trackerCpuPerGiB', '  tracker', 2],
  ['registryCpuPerGiB', '  registry', 2],
  ['rssMB', 'resident MB, median agent', 0],
  ['rssMaxMB', '  largest', 0],
  ['peakMaxMB', '  highest ever', 0],
  ['idleShare', 'idle share of the machine', 2],
  ['duplicateShare', 'duplicate bytes / payload', 4],
  ['forgedShare', 'wrong bytes thrown away / payload', 4],
  ['brokenAnswers', 'answers broken off', 0],
  ['extraOverLeases', 'extra from origin / its leases', 2],
  ['liarsNamed', 'liars that the tracker names', 0],
  ['honestNamed', 'honest hosts that it names', 0],
  ['failures', 'failures', 0],
  ['wrong', 'wrong bytes', 0],
];

export interface Outcome {
  readonly scenario: string;
  readonly hosts: number;
  readonly rate: string;
  readonly size: string;
  readonly killTracker: boolean;
  /** Of the image that all had pulled before the clock started; absent: none. */
  readonly warm?: string;
  /** TCP's, on all hosts. */
  readonly congestion: string;
  /** Runs that count: the machine was idle enough, and every host got the image. */
  readonly counted: number;
  /** Of the runs that count; of all, where none does. */
  readonly median: Readonly<Record<string, number>>;
  readonly runs: readonly Figures[];
  /** With --compare-bare: medians of all runs, and the ratios. */
  readonly overBare?: readonly Comparison[];
  readonly bareRuns?: readonly NonNullable<ComparedRun['bare']>[];
}

export function outcomeOf(options: LabOptions, congestion: string, all: readonly ComparedRun[]): Outcome {
  const runs = all.map(({ figures }) => figures);
  const counted = runs.filter(({ counts }) => counts);
  const from = counted.length > 0 ? counted : runs;
  return {
    scenario: options.scenario,
    hosts: options.hosts,
    rate: formatRate(options.rateBps),
    size: formatMiB(options.sizeBytes),
    killTracker: options.killTracker,
    ...(options.warmBytes > 0 && { warm: formatMiB(options.warmBytes) }),
    congestion,
    counted: counted.length,
    median: mediansOf(from),
    runs,
    ...(options.compareBare && { overBare: compare(all), bareRuns: all.flatMap(({ bare }) => bare ?? []) }),
  };
}

export function mediansOf(runs: readonly FigureValues[]): Readonly<Record<string, number>> {
  const medians = ROWS.flatMap(([key, , digits]): [string, number][] => {
    const values = runs.map((figures) => figures[key]).filter((value) => value !== undefined);
    return values.length === 0 ? [] : [[key, round(median(values), Math.max(digits, 4))]];
  });
  return Object.fromEntries(medians);
}

/** A line of column names, then one for each figure that any run has. */
export function figureLines(runs: readonly FigureValues[], middle: Readonly<Record<string, number>>): string[] {
  const columns = runs.length > 1 ? ['median', ...runs.map((_, run) => `run ${run + 1}`)] : ['figure'];
  const lines = [row('', columns)];
  for (const [key, name, digits] of ROWS) {
    if (runs.every((figures) => figures[key] === undefined)) continue;
    const shown = (value: number | undefined): string => (value === undefined || Number.isNaN(value) ? '-' : value.toFixed(digits));
    const cells = runs.map((figures) => shown(figures[key]));
    lines.push(row(name, runs.length > 1 ? [shown(middle[key]), ...cells] : cells));
  }
  return lines;
}

export function jsonLine(outcome: object): string {
  return JSON.stringify(outcome);
}

export function table({ scenario, hosts, rate, size, warm, killTracker, congestion, counted, median: middle, runs, overBare = [] }: Outcome): string {
  const lines = [`${scenario}${killTracker ? ', tracker killed' : ''}: ${hosts} hosts x ${rate}, ${size}${warm === undefined ? '' : ` after ${warm}`}, ${congestion}; ${counted} of ${runs.length} runs count`, ...figureLines(runs, middle)];
  for (const [run, figures] of runs.entries()) lines.push(...notes(run + 1, figures));
  lines.push(...comparisonTable(overBare, scenario));
  return `${lines.join('\n')}\n`;
}

function notes(run: number, figures: Figures): string[] {
  const counters = { bytes: figures.bytes, fallbacks: figures.fallbacks, errors: figures.errors, swarm: figures.swarmEvents, 'other origin requests': figures.originOther };
  const lines = Object.entries(counters).flatMap(([name, values]) => {
    const texts = Object.entries(values).map(([key, value]) => `${key || 'all'} ${value}`);
    return texts.length === 0 ? [] : [`run ${run} ${name}: ${texts.join(', ')}`];
  });
  if (figures.zoneCopies !== undefined) lines.push(`run ${run} copies into each zone: ${figures.zoneCopies.map((copies) => copies.toFixed(3)).join(', ')}`);
  if (!figures.counts) lines.push(`run ${run} does not count: ${figures.failures > 0 ? 'a host failed' : 'the machine was less than 20 % idle'}`);
  if (figures.died.length > 0) lines.push(`run ${run}: ended by themselves: ${figures.died.join(', ')}`);
  return [...lines, ...figures.complaints.map((complaint) => `run ${run} client: ${complaint}`)];
}

function row(name: string, cells: readonly string[]): string {
  return name.padEnd(30) + cells.map((cell) => cell.padStart(11)).join('');
}
