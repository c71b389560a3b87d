// The simulation's flags: those of the lab that mean the same here, and the model's own.

import { parseArgs } from 'node:util';
import { NEWS_WAITS, type NewsWaits } from '@flotilla/agent/swarm/blob-swarm';
import { RUN_SIZES, type RunSizes } from '@flotilla/tracker/lease';
import { readOptions, UsageError, type LabOptions } from '../lab/options.ts';
import { parseSize } from '../lab/quantities.ts';
import { SCENARIOS, type PlanOptions, type ScenarioName } from '../lab/scenarios.ts';
import type { Model } from './rollout.ts';

export interface SimOptions extends PlanOptions, Pick<LabOptions, 'runs' | 'json' | 'help'> {
  readonly seed: number;
  readonly model: Omit<Model, 'seed'>;
}

const SIMULATED: readonly ScenarioName[] = ['crowd', 'stagger', 'many', 'mixed', 'churn', 'liars', 'rolling'];
/** Flags that are read as the lab reads them. */
const SHARED = ['scenario', 'hosts', 'rate', 'origin-rate', 'size', 'waves', 'runs'] as const;
/** One-way latency of control in ms: limits.md. */
const LATENCY_MS = 30;
/** At hosts of 2.4 Mbit/s in the lab: 28 % of the link beside seven peers, at first; less later. */
const ORIGIN_SHARE = 2;
const MAX_WAIT_MS = 60_000;

export const USAGE = `npm run sim -- [flags]      a fleet on a model of links, with the decisions of the agent and the tracker

  --scenario NAME     ${SIMULATED.map((name) => `${name.padEnd(12)}${SCENARIOS[name]}`).join(`\n${' '.repeat(22)}`)}
  --hosts N           hosts with an agent each (15), at most 1000
  --rate RATE         every host's link, each way (20mbit)
  --origin-rate RATE  the origin's link (as --rate)
  --size SIZE         bytes of the image's layers (96MiB)
  --runs N            runs, each with the next seed (1); figures are medians
  --waves N           waves of the scenario rolling (5)
  --seed N            of the first run (1): the same flags and seed give the same figures
  --latency MS        of control and of requests, one way (${LATENCY_MS})
  --run SIZE          what a lease covers at least, but for the first of a reader and the last of a blob (${RUN_SIZES.minBytes / 1024}KiB)
  --shrink N          a lease covers no more than what is left over N times the readers, ${(RUN_SIZES.shrink?.minBytes ?? RUN_SIZES.minBytes) / 1024}KiB at least (${RUN_SIZES.shrink?.shares})
  --news MS[,MS]      how long news waits for company, and news of what many peers hold (${NEWS_WAITS.freshMs},${NEWS_WAITS.widelyHeldMs})
  --quiet SHARE       of the ordered pairs of hosts, so many never tell what is new (0)
  --lost SHARE        of what is sent, so much is lost on the way to the receiver's link, as the lab's table tells (0)
  --origin-share N    what a connection to the origin takes of a full link, beside one between hosts (${ORIGIN_SHARE})
  --json              only the JSON line
`;

/** @throws UsageError */
export function readSimOptions(args: readonly string[]): SimOptions {
  const values = parse(args);
  const shared = SHARED.flatMap((flag) => (values[flag] === undefined ? [] : [`--${flag}`, values[flag]]));
  const lab = readOptions(shared);
  if (!SIMULATED.includes(lab.scenario)) throw new UsageError(`--scenario ${lab.scenario}: not simulated; one of ${SIMULATED.join(', ')}`);
  return {
    ...lab,
    json: values.json,
    help: values.help,
    seed: number('--seed', values.seed, 0, 2 ** 31),
    model: {
      latencyMs: number('--latency', values.latency, 0, MAX_WAIT_MS),
      runSizes: readRunSizes(values.run, values.shrink),
      news: readNews(values.news),
      quietShare: number('--quiet', values.quiet, 0, 1),
      lostShare: number('--lost', values.lost, 0, 0.9),
      originShare: number('--origin-share', values['origin-share'], 0.1, 10),
    },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        scenario: { type: 'string' },
        hosts: { type: 'string' },
        rate: { type: 'string' },
        'origin-rate': { type: 'string' },
        size: { type: 'string' },
        waves: { type: 'string' },
        runs: { type: 'string' },
        seed: { type: 'string', default: '1' },
        latency: { type: 'string', default: String(LATENCY_MS) },
        run: { type: 'string' },
        shrink: { type: 'string' },
        news: { type: 'string' },
        quiet: { type: 'string', default: '0' },
        lost: { type: 'string', default: '0' },
        'origin-share': { type: 'string', default: String(ORIGIN_SHARE) },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

function readRunSizes(run: string | undefined, shrink: string | undefined): RunSizes {
  const minBytes = run === undefined ? RUN_SIZES.minBytes : parseSize(run);
  if (minBytes === undefined) throw new UsageError(`--run ${run}: write it as in 1MiB`);
  return {
    ...RUN_SIZES,
    minBytes,
    // Chunks are of 64 KiB at least.
    maxChunks: Math.max(RUN_SIZES.maxChunks, Math.ceil(minBytes / (64 * 1024))),
    ...(shrink !== undefined && { shrink: { minBytes: RUN_SIZES.shrink?.minBytes ?? minBytes, shares: number('--shrink', shrink, 0.1, 100) } }),
  };
}

function readNews(text: string | undefined): NewsWaits {
  if (text === undefined) return NEWS_WAITS;
  const [fresh = '', widely = fresh] = text.split(',');
  return { ...NEWS_WAITS, freshMs: number('--news', fresh, 0, MAX_WAIT_MS), widelyHeldMs: number('--news', widely, 0, MAX_WAIT_MS) };
}

function number(flag: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (text === '' || !(value >= min && value <= max)) throw new UsageError(`${flag} ${text}: a number from ${min} to ${max}`);
  return value;
}
