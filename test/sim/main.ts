// The simulation: the swarm's and the tracker's decisions on a model of links. See `--help`.
//
// stdout gets one JSON line and a table, as the lab's; how far it is and how long it took go to stderr. Exit codes: 0, 1 where a host did not get the image, 2 for wrong flags.

import { UsageError } from '../lab/options.ts';
import { formatMiB, formatRate, round } from '../lab/quantities.ts';
import { figureLines, jsonLine, mediansOf } from '../lab/report.ts';
import { planOf } from '../lab/scenarios.ts';
import { figuresOf, type SimFigures } from './figures.ts';
import { readSimOptions, USAGE, type SimOptions } from './options.ts';
import { simulate, type Progress } from './rollout.ts';

const TELL_MS = 5_000;

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  let options: SimOptions;
  try {
    options = readSimOptions(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`sim: ${error.message}\n`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const plan = planOf(options);
  const runs: SimFigures[] = [];
  for (let run = 0; run < options.runs; run++) {
    const seed = options.seed + run;
    const startedMs = performance.now();
    const figures = figuresOf(plan, seed, await simulate(plan, { ...options.model, seed, progress: teller(plan.boundS, startedMs) }));
    process.stderr.write(`sim: seed ${seed}: last / T* ${round(figures.lastOverBound, 3)}, copies ${round(figures.copies, 3)}, in ${round((performance.now() - startedMs) / 1000, 1)} s\n`);
    runs.push(figures);
  }
  const { scenario, hosts, seed, model } = options;
  const median = mediansOf(runs);
  const [rate, size] = [formatRate(options.rateBps), formatMiB(options.sizeBytes)];
  process.stdout.write(`${jsonLine({ simulated: true, scenario, hosts, rate, size, seed, model, median, runs })}\n`);
  if (!options.json) process.stdout.write(`${[`${scenario}, simulated: ${hosts} hosts x ${rate}, ${size}, seed ${seed}`, ...figureLines(runs, median), ...runs.map(notes)].join('\n')}\n`);
  return runs.some(({ failures }) => failures > 0) ? 1 : 0;
}

/** Tells how far a long run is. */
function teller(boundS: number, startedMs: number): (progress: Progress) => void {
  let nextMs = startedMs + TELL_MS;
  return ({ atS, share }) => {
    const nowMs = performance.now();
    if (nowMs < nextMs) return;
    nextMs = nowMs + TELL_MS;
    process.stderr.write(`sim: ${round(atS, 1)} s simulated of at least ${round(boundS, 1)}, ${round(100 * share, 0)} % of the bytes are there, after ${round((nowMs - startedMs) / 1000, 0)} s\n`);
  };
}

function notes({ seed, swarmEvents, banned }: SimFigures): string {
  const events = Object.entries(swarmEvents).map(([name, count]) => `${name} ${count}`);
  return `seed ${seed} swarm: ${events.join(', ')}${banned.length > 0 ? `; banned ${banned.join(', ')}` : ''}`;
}
