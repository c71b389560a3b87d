// What a trace says at a glance: how long a chunk takes from the origin to the last host, how long requests take, how long the
// origin was let rest. Of the blob with the most lines; the others are small.

import { round } from './quantities.ts';

export interface TraceEvent {
  readonly atS: number;
  /** The host that notes it. */
  readonly at: string;
  readonly blob: string;
  readonly event: string;
  readonly chunk?: number;
  readonly tookMs?: number;
}

export interface TraceSummary {
  readonly chunks: number;
  /** Seconds from a chunk's arrival at the host that read it to its arrival at the last one. */
  readonly spreadS: Quantiles;
  /** Milliseconds from a request to the chunk. */
  readonly requestMs: Quantiles;
  /** Longest times without a chunk from the origin, between its first and its last. */
  readonly longestGapsS: readonly number[];
  readonly originLastS: number;
  readonly lastS: number;
}

interface Quantiles {
  readonly p10: number;
  readonly p50: number;
  readonly p90: number;
  readonly max: number;
}

/** undefined where nothing came from the origin. */
export function summarize(events: readonly TraceEvent[]): TraceSummary | undefined {
  const counts = Map.groupBy(events, ({ blob }) => blob);
  const [main = []] = [...counts.values()].sort((a, b) => b.length - a.length);
  const left = new Map<number, number>();
  const last = new Map<number, number>();
  const tookMs: number[] = [];
  for (const { event, chunk, atS, tookMs: took } of main) {
    if (chunk === undefined || (event !== 'origin' && event !== 'peer')) continue;
    if (event === 'origin') left.set(chunk, Math.min(atS, left.get(chunk) ?? Infinity));
    last.set(chunk, Math.max(atS, last.get(chunk) ?? 0));
    if (took !== undefined) tookMs.push(took);
  }
  if (left.size === 0) return undefined;
  const times = [...left.values()].sort((a, b) => a - b);
  const gaps = times.slice(1).map((atS, before) => round(atS - times[before]!, 3));
  return {
    chunks: left.size,
    spreadS: quantiles([...left].map(([chunk, atS]) => last.get(chunk)! - atS), 2),
    requestMs: quantiles(tookMs, 0),
    longestGapsS: gaps.sort((a, b) => b - a).slice(0, 3),
    originLastS: round(times.at(-1)!, 2),
    lastS: round(Math.max(...last.values()), 2),
  };
}

function quantiles(values: readonly number[], digits: number): Quantiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN, digits);
  return { p10: at(0.1), p50: at(0.5), p90: at(0.9), max: at(1) };
}
