// One run: a fleet that has found itself, hosts that pull as the plan says, until all have the image or nothing moves any more.

import { createHash } from 'node:crypto';
import type { NewsWaits } from '@flotilla/agent/swarm/blob-swarm';
import type { SwarmCounter } from '@flotilla/agent/swarm/counters';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { RunSizes } from '@flotilla/tracker/lease';
import { seededRandom } from '@flotilla/tracker/test-swarms';
import { PAYLOAD_SHARE } from '../lab/bound.ts';
import type { Plan } from '../lab/scenarios.ts';
import { Clock } from './clock.ts';
import { SimHost, type World } from './host.ts';
import { Links } from './links.ts';
import { SimTracker } from './tracker.ts';
import type { FrameObserver } from './wire.ts';

/** Before the first pull: the mesh is dialled. */
const WARM_UP_MS = 2_000;
/** Before the first layer: the tag's HEAD at the origin, and the manifest by a lease of its own. */
const PRELUDE_ROUND_TRIPS = 3;
/** Layers that a client fetches at a time. */
const PARALLEL = 6;
/** A run that takes so many times the bound has failed. */
const PATIENCE = 20;

export interface Model {
  readonly seed: number;
  readonly latencyMs: number;
  readonly news: NewsWaits;
  readonly runSizes: RunSizes;
  /** Of the ordered pairs of hosts, so many are never told what is new. */
  readonly quietShare: number;
  /** Of what is sent, so much is lost before the receiver's link and sent again: less room on the sender's. */
  readonly lostShare: number;
  /** What a connection to the origin takes of a full link, beside one between hosts: it sends without pause, those send chunk by chunk. */
  readonly originShare: number;
  readonly observe?: FrameObserver;
  /** Called in each tick in which anything happens. */
  readonly progress?: (progress: Progress) => void;
}

export interface Progress {
  /** Seconds since the first pull. */
  readonly atS: number;
  /** Of what all hosts are to get, so much they have. */
  readonly share: number;
}

export interface SimOutcome {
  /** Seconds since the start, by host; undefined: it never had it all. */
  readonly endS: readonly (number | undefined)[];
  readonly origin: { readonly requests: number; readonly bytes: number };
  readonly counts: Readonly<Partial<Record<SwarmCounter | 'hedges', number>>>;
  readonly banned: readonly string[];
  /** When the origin had sent one copy. */
  readonly sentOnceS: number | undefined;
}

export async function simulate(plan: Plan, model: Model): Promise<SimOutcome> {
  const clock = new Clock();
  const links = new Links(clock);
  const { seed, latencyMs, news, runSizes, quietShare, lostShare, originShare, observe, progress } = model;
  const imageBytes = plan.layerBytes.reduce((sum, bytes) => sum + bytes, 0);
  const counts: Partial<Record<SwarmCounter | 'hedges', number>> = {};
  let sentOnceMs: number | undefined;
  const origin = {
    requests: 0,
    sent: 0,
    get bytes(): number {
      return this.sent;
    },
    set bytes(bytes: number) {
      this.sent = bytes;
      if (bytes >= imageBytes) sentOnceMs ??= clock.nowMs;
    },
  };
  const hosts = new Map<string, SimHost>();
  const world: World = {
    wire: { clock, links, latencyMs, quiet: (from, to) => quietShare > 0 && hashShare(`${seed} ${from} ${to}`) < quietShare, observe },
    links,
    tracker: new SimTracker({ clock, latencyMs, random: seededRandom(seed), runSizes }),
    originUp: links.pipe(payloadRate(plan.originBps) * (1 - lostShare)),
    originShare,
    host: (peerId) => hosts.get(peerId),
    origin,
    count: (counter, amount) => (counts[counter] = (counts[counter] ?? 0) + amount),
  };
  const fleet = plan.hostsBps.map((bps, number) => {
    const peerId = `host-${String(number + 1).padStart(5, '0')}`;
    const host = new SimHost({ peerId, up: links.pipe(payloadRate(bps) * (1 - lostShare)), down: links.pipe(payloadRate(bps)), lies: plan.liars.includes(number), random: seededRandom(seed * 100_003 + number + 1), news }, world);
    hosts.set(peerId, host);
    return host;
  });
  await clock.run(() => clock.nowMs >= WARM_UP_MS, WARM_UP_MS);

  const startedMs = clock.nowMs;
  const blobs = plan.layerBytes.map((size, layer): BlobKey => ({ digest: `sha256:${createHash('sha256').update(`${seed} ${layer}`).digest('hex')}` as Digest, size }));
  const endS: (number | undefined)[] = fleet.map(() => undefined);
  const killed = new Set<number>();
  let left = fleet.length;
  const over = (host: number): void => {
    left--;
    if (!killed.has(host)) endS[host] = (clock.nowMs - startedMs) / 1000;
  };
  for (const { atS, what } of plan.kills) {
    if (what === 'tracker') throw new Error('the simulation has no rules without a tracker');
    clock.after(atS * 1000, () => {
      if (endS[what] !== undefined) return;
      killed.add(what);
      fleet[what]!.kill();
      over(what);
    });
  }
  const pull = (host: number, done: () => void): void => {
    clock.after(2 * PRELUDE_ROUND_TRIPS * latencyMs, () =>
      pullAll(fleet[host]!, blobs, () => {
        over(host);
        done();
      }),
    );
  };
  startWaves(plan.waves, clock, pull);
  const wantedBytes = imageBytes * fleet.length;
  const isOver = (): boolean => {
    progress?.({ atS: (clock.nowMs - startedMs) / 1000, share: ((counts.kept_bytes ?? 0) + origin.sent) / wantedBytes });
    return left === 0;
  };
  await clock.run(isOver, startedMs + PATIENCE * plan.boundS * 1000);
  return { endS, origin: { requests: origin.requests, bytes: origin.sent }, counts, banned: world.tracker.banned, sentOnceS: sentOnceMs && (sentOnceMs - startedMs) / 1000 };
}

/** Each wave when the one before has ended. */
function startWaves([wave, ...rest]: Plan['waves'], clock: Clock, pull: (host: number, done: () => void) => void): void {
  if (wave === undefined) return;
  let left = wave.length;
  const ended = (): void => {
    if (--left === 0) startWaves(rest, clock, pull);
  };
  for (const { host, delayS } of wave) clock.after(delayS * 1000, () => pull(host, ended));
}

/** As clients do: some layers at a time. */
function pullAll(host: SimHost, blobs: readonly BlobKey[], done: () => void): void {
  let next = 0;
  let left = blobs.length;
  const pullNext = (): void => {
    const blob = blobs[next++];
    if (blob === undefined) return;
    host.pull(blob, () => {
      if (--left === 0) done();
      pullNext();
    });
  };
  for (let lane = 0; lane < PARALLEL; lane++) pullNext();
}

/** Bytes of payload per second. */
function payloadRate(bps: number): number {
  return (bps / 8) * PAYLOAD_SHARE;
}

function hashShare(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE() / 2 ** 32;
}
