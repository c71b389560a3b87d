// The lab: a fleet in network namespaces on this machine, timed against what its links allow. See `--help`.
//
// Progress goes to stderr; stdout gets one JSON line and a table. Whatever was made is gone when it ends: processes first,
// then namespaces, then files; after a signal too. Exit codes: 0, 1 for a failed run, 2 for wrong flags, 3 refused.

import { mkdir, rm } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { runBare } from './bare.ts';
import type { ComparedRun } from './compare.ts';
import { makeImage } from './image.ts';
import { makeFolder, sweep } from './leftovers.ts';
import { Network, type Link } from './network.ts';
import { readOptions, USAGE, UsageError, type LabOptions } from './options.ts';
import type { Figures } from './measure.ts';
import { congestionControl, RefusedError, refuseWhereImpossible } from './preflight.ts';
import { formatMiB, formatRate, round } from './quantities.ts';
import { jsonLine, outcomeOf, table } from './report.ts';
import { runRollout, type Places } from './rollout.ts';
import { planOf, type Plan } from './scenarios.ts';

const EXIT = { ok: 0, failed: 1, usage: 2, refused: 3 } as const;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Why everything stops: one of the signals. */
class Stopped extends Error {
  readonly signal: (typeof SIGNALS)[number];
  constructor(signal: (typeof SIGNALS)[number]) {
    super(`stopped by ${signal}`);
    this.signal = signal;
  }
}

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  const stop = new AbortController();
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      say(stop.signal.aborted ? 'still cleaning up' : `${signal}: cleaning up`);
      stop.abort(new Stopped(signal));
    });
  }
  // A fault nobody awaited must not skip the cleaning up.
  process.on('uncaughtException', (error) => stop.abort(error));
  try {
    const options = readOptions(args);
    if (options.help) {
      process.stdout.write(USAGE);
      return EXIT.ok;
    }
    await refuseWhereImpossible();
    await sweep();
    const congestion = await congestionControl(options.congestion);
    const outcome = outcomeOf(options, congestion, await runAll(options, stop.signal));
    process.stdout.write(`${jsonLine(outcome)}\n${options.json ? '' : table(outcome)}`);
    return outcome.runs.some(({ failures }) => failures > 0) ? EXIT.failed : EXIT.ok;
  } catch (caught) {
    const error: unknown = stop.signal.aborted ? stop.signal.reason : caught;
    if (error instanceof Stopped) return 128 + constants.signals[error.signal];
    process.stderr.write(`lab: ${error instanceof UsageError || error instanceof RefusedError ? error.message : (error as Error).stack}\n`);
    return error instanceof UsageError ? EXIT.usage : error instanceof RefusedError ? EXIT.refused : EXIT.failed;
  }
}

async function runAll(options: LabOptions, signal: AbortSignal): Promise<ComparedRun[]> {
  await using opened = new AsyncDisposableStack();
  const dir = await makeFolder();
  opened.defer(() => rm(dir, { recursive: true, force: true }));
  if (options.outDir !== undefined) await mkdir(options.outDir, { recursive: true });
  const plan = planOf(options);
  const places = await build(options, plan, opened, signal);
  const name = `${options.scenario}-${options.hosts}x${formatRate(options.rateBps)}-${formatMiB(options.sizeBytes)}`;
  const all: ComparedRun[] = [];
  for (let run = 1; run <= options.runs; run++) {
    const image = await makeImage(plan.layerBytes);
    const announce = (line: string): void => say(`run ${run}/${options.runs}: ${line}`);
    const once = async (carried: Plan): Promise<Figures> => {
      const runDir = join(dir, `r${run}`);
      await mkdir(runDir);
      const out = options.outDir === undefined ? undefined : { dir: options.outDir, name: `${name}${carried.fleet === plan.fleet ? '' : '-direct'}-run${run}` };
      const { trace, profile, nodeFlags, resolveByTracker, warmBytes } = options;
      const figures =
        carried.bare === undefined
          ? await runRollout({ places, plan: carried, image, warmBytes, dir: runDir, out, trace, profile, nodeFlags, resolveByTracker, signal, say: announce })
          : await runBare({ places, plan: carried, image, dir: runDir, own: carried.bare === 'own', signal, say: announce });
      await rm(runDir, { recursive: true, force: true });
      announce(`last / T* ${round(figures.lastOverBound, 3)}, copies ${round(figures.copies, 3)}, idle ${round(figures.idleShare, 2)}, failures ${figures.failures}`);
      return figures;
    };
    const figures = await once(plan);
    if (options.scenario === 'alone') {
      const { lastS: directS } = await once({ ...plan, fleet: false });
      all.push({ figures: { ...figures, directS, overDirect: figures.lastS / directS } });
    } else if (options.compareBare) {
      all.push({ figures, bare: { stock: await once({ ...plan, bare: 'stock' }), own: await once({ ...plan, bare: 'own' }) } });
    } else all.push({ figures });
  }
  return all;
}

async function build({ trackerRateBps, originRateBps, congestion }: LabOptions, { fleet, hostsBps, zones }: Plan, opened: AsyncDisposableStack, signal: AbortSignal): Promise<Places> {
  const network = await Network.create(congestion, opened, signal);
  const origin = await network.attach('origin', originRateBps);
  const tracker = fleet ? await network.attach('tracker', trackerRateBps) : origin;
  const zonePorts: string[] = [];
  for (const [zone] of zones?.hosts.entries() ?? []) zonePorts.push(await network.addZone(zone + 1, zones!.linkBps));
  const hosts: Link[] = [];
  for (const [host, rateBps] of hostsBps.entries()) {
    const zone = zones?.hosts.findIndex((members) => members.includes(host));
    hosts.push(await network.attach(`h${host + 1}`, rateBps, zone === undefined ? 0 : zone + 1));
  }
  await network.introduce([...new Set([origin, tracker, ...hosts])]);
  say(`the network of ${hosts.length} hosts is up`);
  return { network, origin, tracker, hosts, zonePorts };
}

function say(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}
