// When a rollout will have no connected host left to serve: a guess, and said to be one. Pure.
//
// The open wave takes as long as its slowest host, by what that host still lacks and its rate; each wave that has not begun takes about as long as a
// host took so far, because peers make a wave of hundreds hardly slower than a canary.

import { median } from '../median.ts';

export interface WorkingHost {
  readonly lacksBytes: number | undefined;
  /** Bytes per second. */
  readonly rate: number;
}

export interface TimeLeftFacts {
  /** Connected hosts at work. */
  readonly working: readonly WorkingHost[];
  /** How long those took that are done. */
  readonly tookMs: readonly number[];
  /** Waves that have not begun. */
  readonly wavesLeft: number;
}

/** undefined: nothing is known to tell it by. */
export function timeLeftMs({ working, tookMs, wavesLeft }: TimeLeftFacts): number | undefined {
  const typicalMs = median(tookMs);
  let openMs = 0;
  for (const { lacksBytes, rate } of working) {
    const own = lacksBytes === 0 ? 0 : lacksBytes !== undefined && rate > 0 ? (lacksBytes * 1000) / rate : typicalMs;
    if (own === undefined) return undefined;
    openMs = Math.max(openMs, own);
  }
  const perWaveMs = typicalMs ?? (working.length > 0 ? openMs : undefined);
  if (wavesLeft > 0 && perWaveMs === undefined) return undefined;
  return Math.round(openMs + wavesLeft * (perWaveMs ?? 0));
}
