// For tests: plans as the flags make them, and the model as it is.

import { NEWS_WAITS } from '@flotilla/agent/swarm/blob-swarm';
import { RUN_SIZES } from '@flotilla/tracker/lease';
import { planOf, type Plan } from '../lab/scenarios.ts';
import { readSimOptions } from './options.ts';
import type { Model } from './rollout.ts';

export const MODEL: Model = { seed: 1, latencyMs: 30, news: NEWS_WAITS, runSizes: RUN_SIZES, quietShare: 0, lostShare: 0, originShare: 2 };

/** `--hosts 8 --size 8MiB` */
export function planFor(flags: string): Plan {
  return planOf(readSimOptions(flags.split(' ')));
}
