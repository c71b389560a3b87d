// The lab's flags.

import { parseArgs } from 'node:util';
import { MIB, parseRate, parseSize } from './quantities.ts';
import { planOf, SCENARIOS, type ScenarioName } from './scenarios.ts';

export interface LabOptions {
  readonly scenario: ScenarioName;
  readonly hosts: number;
  readonly rateBps: number;
  readonly originRateBps: number;
  readonly trackerRateBps: number;
  /** Of each zone's link. */
  readonly zoneRateBps: number;
  readonly sizeBytes: number;
  /** The hosts' TCP congestion control. */
  readonly congestion: string;
  readonly runs: number;
  readonly waves: number;
  readonly killTracker: boolean;
  /** Bytes of another image that all hosts pull before the clock starts; 0: none. */
  readonly warmBytes: number;
  /** After each run the bare transfers of the same shape, and the ratios to them. */
  readonly compareBare: boolean;
  /** The tracker asks the origin for all what tags are. */
  readonly resolveByTracker: boolean;
  readonly json: boolean;
  readonly trace: boolean;
  /** The first agent writes a processor profile. */
  readonly profile: boolean;
  /** Charts, time lines, traces and logs go here. */
  readonly outDir: string | undefined;
  /** Given to the agents' Node, for experiments. */
  readonly nodeFlags: readonly string[];
  readonly help: boolean;
}

/** A call that the lab cannot follow; the message says what to change. */
export class UsageError extends Error {}

/** Equal hosts that all begin at once and stay. */
const COMPARABLE: readonly ScenarioName[] = ['crowd', 'many'];
const MAX_HOSTS = 1000;

export const USAGE = `npm run lab -- [flags]      a fleet in network namespaces (Linux, root)

  --scenario NAME     ${Object.entries(SCENARIOS).map(([name, what]) => `${name.padEnd(12)}${what}`).join(`\n${' '.repeat(22)}`)}
  --hosts N           hosts with an agent each (15)
  --rate RATE         every host's link, each way (20mbit)
  --origin-rate RATE  the origin's link (as --rate)
  --tracker-rate RATE the tracker's link (as --rate)
  --zone-rate RATE    each zone's link in the scenario zones, in and out (half of --rate)
  --size SIZE         bytes of the image's layers (96MiB)
  --congestion NAME   TCP congestion control of all hosts (cubic, as Linux has it), such as bbr
  --runs N            runs, each with a new image and new agents (1); figures are medians
  --warm SIZE         all hosts first pull another image of this size, which is not counted (none): a fleet that has been
                      at work, not programs that have just started and still compile
  --waves N           waves of the scenario rolling (5)
  --compare-bare      after each run the same bytes by plain libp2p, over its transport and over ours, and the ratios
                      (scenarios crowd and many)
  --resolve-by-tracker  the tracker asks the origin what tags are, once for all hosts
  --kill-tracker      kills the tracker at T*/2, in any scenario
  --out DIR           writes charts (SVG), time lines and logs there
  --trace             with --out: also who sent which chunk to whom when (JSON lines)
  --profile           with --out: a processor profile of the first agent (.cpuprofile)
  --node-flag=FLAG    a flag for the agents' Node, for experiments (repeatable)
  --json              only the JSON line
`;

/** @throws UsageError */
export function readOptions(args: readonly string[]): LabOptions {
  const { values } = parse(args);
  const rateBps = quantity('--rate', values.rate, parseRate, '20mbit');
  const scenario = readScenario(values.scenario);
  const options: LabOptions = {
    scenario,
    hosts: scenario === 'alone' ? 1 : count('--hosts', values.hosts, MAX_HOSTS),
    rateBps,
    originRateBps: values['origin-rate'] === undefined ? rateBps : quantity('--origin-rate', values['origin-rate'], parseRate, '20mbit'),
    trackerRateBps: values['tracker-rate'] === undefined ? rateBps : quantity('--tracker-rate', values['tracker-rate'], parseRate, '20mbit'),
    zoneRateBps: values['zone-rate'] === undefined ? rateBps / 2 : quantity('--zone-rate', values['zone-rate'], parseRate, '10mbit'),
    sizeBytes: quantity('--size', values.size, parseSize, '96MiB'),
    congestion: values.congestion,
    runs: count('--runs', values.runs, 100),
    waves: count('--waves', values.waves, MAX_HOSTS),
    killTracker: values['kill-tracker'],
    warmBytes: values.warm === undefined ? 0 : quantity('--warm', values.warm, parseSize, '4MiB'),
    compareBare: values['compare-bare'],
    resolveByTracker: values['resolve-by-tracker'],
    json: values.json,
    trace: values.trace,
    profile: values.profile,
    outDir: values.out,
    nodeFlags: values['node-flag'],
    help: values.help,
  };
  for (const flag of ['trace', 'profile'] as const) {
    if (options[flag] && options.outDir === undefined) throw new UsageError(`--${flag} needs --out DIR, where it is written`);
  }
  if (options.compareBare && !COMPARABLE.includes(options.scenario)) throw new UsageError(`--compare-bare: only after ${COMPARABLE.join(' and ')}, which have the shape of a bare transfer`);
  if (options.compareBare && options.warmBytes > 0) throw new UsageError('--compare-bare with --warm: the bare transfers are of programs that have just started');
  if (options.warmBytes > 0 && !planOf(options).fleet) throw new UsageError(`--warm: the scenario ${scenario} has no agents`);
  if (options.scenario === 'many' && options.sizeBytes < MIB) throw new UsageError('--size of the scenario many: at least 1MiB');
  return options;
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        scenario: { type: 'string', default: 'crowd' },
        hosts: { type: 'string', default: '15' },
        rate: { type: 'string', default: '20mbit' },
        'origin-rate': { type: 'string' },
        'tracker-rate': { type: 'string' },
        'zone-rate': { type: 'string' },
        size: { type: 'string', default: '96MiB' },
        congestion: { type: 'string', default: 'cubic' },
        runs: { type: 'string', default: '1' },
        warm: { type: 'string' },
        waves: { type: 'string', default: '5' },
        'resolve-by-tracker': { type: 'boolean', default: false },
        'kill-tracker': { type: 'boolean', default: false },
        'compare-bare': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        trace: { type: 'boolean', default: false },
        profile: { type: 'boolean', default: false },
        out: { type: 'string' },
        'node-flag': { type: 'string', multiple: true, default: [] },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

function readScenario(name: string): ScenarioName {
  if (Object.hasOwn(SCENARIOS, name)) return name as ScenarioName;
  throw new UsageError(`--scenario ${name}: not known; one of ${Object.keys(SCENARIOS).join(', ')}`);
}

function quantity(flag: string, text: string, read: (text: string) => number | undefined, example: string): number {
  const value = read(text);
  if (value === undefined) throw new UsageError(`${flag} ${text}: write it as in ${example}`);
  return value;
}

function count(flag: string, text: string, max: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > max) throw new UsageError(`${flag} ${text}: a number from 1 to ${max}`);
  return value;
}
