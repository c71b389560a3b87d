// One run: an origin filled with a new image, a fleet warmed up, the clients let go, all of it counted and ended.

import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { rolloutChart } from './chart.ts';
import { Client, type ClientOutcome } from './clients.ts';
import { gained, sumBy, type Measured } from './exposition.ts';
import { AGENT_URL, Fleet, ORIGIN_NAME } from './fleet.ts';
import { makeImage, type Image } from './image.ts';
import { figuresOf, type Figures } from './measure.ts';
import { useMemoryOnce } from './memory.ts';
import type { Link, Network } from './network.ts';
import { machineTime } from './processes.ts';
import { serveImages, type ServedOrigin } from './registry.ts';
import type { Plan } from './scenarios.ts';
import { Timeline, type Sample } from './timeline.ts';
import { mergeTraces } from './trace.ts';
import { summarize } from './trace-summary.ts';

/** The places of a lab, made once for all its runs. */
export interface Places {
  readonly network: Network;
  readonly origin: Link;
  readonly tracker: Link;
  readonly hosts: readonly Link[];
  /** Of the zones' links, in their order. */
  readonly zonePorts: readonly string[];
}

export interface RolloutInit {
  readonly places: Places;
  readonly plan: Plan;
  readonly image: Image;
  /** Of the image that all pull before the clock starts; 0: none. */
  readonly warmBytes: number;
  /** For everything that the run keeps on disk; removed by the caller. */
  readonly dir: string;
  /** Where charts, time lines and logs go; undefined: nowhere. */
  readonly out: { readonly dir: string; readonly name: string } | undefined;
  readonly trace: boolean;
  readonly profile: boolean;
  readonly nodeFlags: readonly string[];
  readonly resolveByTracker: boolean;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** A client that takes so many times the bound (and this much more) has failed. */
const PATIENCE = 4;
const PATIENCE_S = 60;
/** After the pull that warms up: longer than a download waits for more readers. */
const WARM_REST_MS = 6_000;
/** Of the pull that warms up, which nobody measures. */
const WARM_PATIENCE_MS = 300_000;

/** @throws what the signal was aborted with; everything started has ended by then */
export async function runRollout(init: RolloutInit): Promise<Figures> {
  await using opened = new AsyncDisposableStack();
  const { places, plan, image, dir, signal, say } = init;
  const warmImage = init.warmBytes === 0 ? undefined : await makeImage([init.warmBytes], 'fleet/warm');
  const origin = await serveImages(warmImage === undefined ? [image] : [image, warmImage], places.origin, join(dir, 'origin'), opened, signal);
  const fleet = plan.fleet
    ? await Fleet.start(
        { tracker: places.tracker, hosts: places.hosts, originUrl: origin.url, dir, trace: init.trace, profileDir: init.profile ? init.out?.dir : undefined, nodeFlags: init.nodeFlags, resolveByTracker: init.resolveByTracker, liars: plan.liars, falseVouchers: plan.falseVouchers, zones: plan.zones?.hosts ?? [], signal },
        opened,
        say,
      )
    : undefined;
  const before = fleet === undefined || warmImage === undefined ? undefined : await warmUp(init, fleet, origin, warmImage);
  const base = fleet === undefined ? `${origin.url}/v2/${image.repository}` : `${AGENT_URL}/v2/${ORIGIN_NAME}/${image.repository}`;
  const clients: Client[] = [];
  for (const [host, { namespace, port }] of places.hosts.entries()) {
    clients.push(await Client.prepare({ host, namespace, base, image, tries: plan.tries, dir: join(dir, `${port}-client`) }, opened));
  }
  await useMemoryOnce(places.hosts.length, image.bytes, signal);
  const baseline = { idle: machineTime(), cpu: cpuSeconds(fleet, origin), frames: await places.network.framesDown() };

  const timeline = new Timeline(places.network, opened);
  const outcomes = await carryOut(init, clients, fleet, timeline);
  const samples = timeline.stop();

  const idle = machineTime();
  const cpu = cpuSeconds(fleet, origin);
  const frames = await places.network.framesDown();
  const memory = fleet?.agents.filter(({ process }) => process.exit === undefined).map(({ process }) => process.memory()) ?? [];
  const metricsByHost = ((await fleet?.metrics()) ?? []).map((after, host) => after && gained(before?.[host] ?? [], after));
  const metrics = metricsByHost.filter((measured) => measured !== undefined);
  const ports = places.hosts.map(({ port }) => port);
  const originUse = await origin.use();
  const last = samples.at(-1)?.ports;
  const allPorts = [...new Set([...ports, places.origin.port, places.tracker.port])];
  const figures = figuresOf({
    plan,
    blobs: image.blobs,
    startedMs: timeline.startedMs,
    outcomes,
    origin: originUse,
    wire: {
      interfaces: sum(ports.map((port) => last?.get(port)?.down ?? 0)),
      frames: sum(ports.map((port) => (frames.get(port) ?? 0) - (baseline.frames.get(port) ?? 0))),
      sent: sum(allPorts.map((port) => last?.get(port)?.up ?? 0)),
      received: sum(allPorts.map((port) => last?.get(port)?.down ?? 0)),
    },
    zones: (plan.zones?.hosts ?? []).map((members, zone) => ({
      wire: last?.get(places.zonePorts[zone]!)?.down ?? 0,
      payload:
        sum(members.map((host) => sumBy([metricsByHost[host] ?? []], 'flotilla_zone_bytes_total', 'direction')['in'] ?? 0)) +
        sum(members.map((host) => originUse.payloadByClient.get(places.hosts[host]!.address) ?? 0)),
    })),
    originPort: places.origin.port,
    samples,
    cpuSeconds: { agents: cpu.agents - baseline.cpu.agents, tracker: cpu.tracker - baseline.cpu.tracker, registry: cpu.registry - baseline.cpu.registry },
    memory,
    idleShare: (idle.idle - baseline.idle.idle) / (idle.all - baseline.idle.all),
    metrics,
    died: diedOf(plan, fleet),
    suspects: plan.falseVouchers.length === 0 ? undefined : { named: (await fleet?.named()) ?? [], vouchedFalsely: plan.falseVouchers.map((host) => places.hosts[host]!) },
  });
  await keep(init, figures, outcomes, samples, timeline.startedMs, fleet);
  return figures;
}

/** All hosts pull an image that is not measured. @returns the agents' counters after it, by host @throws where a pull fails */
async function warmUp({ places, dir, signal, say }: RolloutInit, fleet: Fleet, origin: ServedOrigin, image: Image): Promise<(readonly Measured[] | undefined)[]> {
  await using opened = new AsyncDisposableStack();
  const base = `${AGENT_URL}/v2/${ORIGIN_NAME}/${image.repository}`;
  const clients = await Promise.all(places.hosts.map(({ namespace, port }, host) => Client.prepare({ host, namespace, base, image, tries: 1, dir: join(dir, `${port}-warm`) }, opened)));
  using over = new Abort();
  const ending = AbortSignal.any([signal, over.signal]);
  const patience = endLate(clients, WARM_PATIENCE_MS, signal, ending);
  const outcomes = await Promise.all(clients.map((client) => client.pull()));
  over.abort();
  await patience;
  signal.throwIfAborted();
  const failed = outcomes.find(({ outcome }) => outcome !== 'right');
  if (failed !== undefined) throw new Error(`host ${failed.host + 1} could not pull the image that warms up: ${failed.complaint}`);
  say('all have pulled the image that warms up');
  await delay(WARM_REST_MS, undefined, { signal });
  await origin.forget();
  return fleet.metrics();
}

/** Lets the clients go, wave by wave, and kills what the plan kills. */
async function carryOut({ plan, signal, say }: RolloutInit, clients: readonly Client[], fleet: Fleet | undefined, timeline: Timeline): Promise<ClientOutcome[]> {
  using over = new Abort();
  const ending = AbortSignal.any([signal, over.signal]);
  const startedMs = timeline.startedMs;
  const kills = plan.kills.map(async ({ atS, what }) => {
    if (!(await waited(startedMs + atS * 1000 - performance.now(), ending))) return;
    say(`killing ${what === 'tracker' ? 'the tracker' : `agent ${what + 1}`}`);
    await (what === 'tracker' ? fleet?.tracker : fleet?.agents[what]?.process)?.end('SIGKILL');
  });
  const patienceS = (plan.fleet ? PATIENCE : 2 * plan.hostsBps.length) * plan.boundS + PATIENCE_S;
  const patience = endLate(clients, patienceS * 1000, signal, ending);
  const outcomes: ClientOutcome[] = [];
  for (const wave of plan.waves) {
    const waveMs = performance.now();
    const pulls = wave.map(async ({ host, delayS }) => {
      if (delayS > 0) await waited(waveMs + delayS * 1000 - performance.now(), ending);
      outcomes.push(await clients[host]!.pull());
      if (!signal.aborted) say(`${outcomes.length} of ${clients.length} done`);
    });
    await Promise.all(pulls);
    signal.throwIfAborted();
  }
  over.abort();
  await Promise.all([...kills, patience]);
  return outcomes;
}

/** Ends the clients where they take longer than that or the signal aborts. Over then, or once `ending` aborts, as it does with the signal. */
async function endLate(clients: readonly Client[], ms: number, signal: AbortSignal, ending: AbortSignal): Promise<void> {
  const exhausted = await waited(ms, ending);
  if (exhausted || signal.aborted) await Promise.all(clients.map((client) => client.end()));
}

/** @returns false when it was cut short */
async function waited(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  return delay(Math.max(0, ms), true, { signal }).catch(() => false);
}

/** An AbortController that aborts at the end of its block, so that no timer is left waiting. */
class Abort extends AbortController {
  [Symbol.dispose](): void {
    this.abort();
  }
}

function cpuSeconds(fleet: Fleet | undefined, origin: ServedOrigin): { agents: number; tracker: number; registry: number } {
  return {
    agents: sum(fleet?.agents.map(({ process }) => process.cpuSeconds()) ?? []),
    tracker: fleet?.tracker.cpuSeconds() ?? 0,
    registry: origin.process.cpuSeconds(),
  };
}

function diedOf(plan: Plan, fleet: Fleet | undefined): string[] {
  if (fleet === undefined) return [];
  const killed = new Set(plan.kills.map(({ what }) => what));
  const died = fleet.agents.filter(({ host, process }) => process.exit !== undefined && !killed.has(host)).map(({ link }) => link.port);
  return fleet.tracker.exit !== undefined && !killed.has('tracker') ? [...died, 'tracker'] : died;
}

async function keep(
  { out, dir, plan, image, trace, profile, places, say }: RolloutInit,
  figures: Figures,
  outcomes: readonly ClientOutcome[],
  samples: readonly Sample[],
  startedMs: number,
  fleet: Fleet | undefined,
): Promise<void> {
  if (out === undefined) return;
  const logs = join(out.dir, `${out.name}-logs`);
  await mkdir(logs, { recursive: true });
  await cp(dir, logs, { recursive: true, filter: (source) => source === dir || source === join(dir, 'origin') || source.endsWith('.log') });
  const done = outcomes.map(({ host, outcome, endedMs }) => ({ host, outcome, endS: (endedMs - startedMs) / 1000 }));
  const lines = samples.map(({ atS, ports }) => ({ atS, ports: Object.fromEntries(ports) }));
  await writeFile(join(out.dir, `${out.name}.json`), JSON.stringify({ plan, image: { bytes: image.bytes, blobs: image.blobs.map(({ digest, size }) => ({ digest, size })) }, figures, done, samples: lines }));
  await writeFile(join(out.dir, `${out.name}.svg`), rolloutChart({ title: out.name, imageBytes: image.bytes, boundS: plan.boundS, hosts: plan.hostsBps.length, done, samples, originPort: places.origin.port }));
  // Written when Node ends of its own accord.
  if (profile) await fleet?.agents[0]?.process.end('SIGTERM', 20_000);
  if (trace && fleet !== undefined) {
    // The agents write every 300 ms.
    await delay(400);
    const summary = summarize(await mergeTraces(fleet, startedMs, join(out.dir, `${out.name}.trace.jsonl`)));
    if (summary !== undefined) say(`trace: ${JSON.stringify(summary)}`);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
