// What happens in a run: who pulls when, who is killed when, and the bound that the outcome is held against.
// A plan is data; rollout.ts carries it out.

import { crowdS, fastHostsS, staggeredS, transferS, wavesS, zonesS } from './bound.ts';
import { logNormalSizes } from './image.ts';
import type { LabOptions } from './options.ts';

export const SCENARIOS = {
  crowd: 'all hosts at the same moment',
  direct: 'the same without Flotilla: every host from the origin',
  bare: 'the same by plain libp2p, each host passing on its share',
  'bare-own': 'as bare, over the agents\' own transport and flags',
  alone: 'one host, then the same without Flotilla',
  stagger: 'arrivals spread over T*',
  many: 'an image of 60 layers, log-normal, read six at a time',
  mixed: 'a fifth of the hosts at a fifth of the rate',
  churn: '20 % of the agents killed with -9 at T*/2',
  'no-tracker': 'the tracker killed at T*/2',
  liars: '10 % of the agents, at least one, send wrong bytes on',
  zones: 'three bridges joined by narrow links (--zone-rate), the hosts spread over them',
  'false-vouchers': 'one agent vouches for wrong bytes; clients ask again when an answer breaks',
  rolling: 'hosts in waves, each when the one before has ended',
} as const;
export type ScenarioName = keyof typeof SCENARIOS;

const MANY_LAYERS = 60;
/** As podman and containerd do. */
const CLIENT_TRIES = 5;
const ZONES = 3;

export interface Plan {
  /** Without agents and tracker the clients read straight from the origin. */
  readonly fleet: boolean;
  /** A bare transfer, over libp2p as it comes or over the agents' own transport, in place of agents, registry and clients. */
  readonly bare: 'stock' | 'own' | undefined;
  readonly layerBytes: readonly number[];
  readonly originBps: number;
  readonly hostsBps: readonly number[];
  /** A wave starts when all clients of the one before have ended; `delayS` counts from the wave's start. */
  readonly waves: readonly (readonly { readonly host: number; readonly delayS: number }[])[];
  readonly kills: readonly { readonly atS: number; readonly what: 'tracker' | number }[];
  /** Agents that send wrong bytes on, by number. */
  readonly liars: readonly number[];
  /** Zones and the rate of their links to all else; undefined: all hosts are on one bridge. */
  readonly zones: { readonly linkBps: number; /** Which hosts are where, by number. */ readonly hosts: readonly (readonly number[])[] } | undefined;
  /** Agents that vouch for wrong bytes, by number. */
  readonly falseVouchers: readonly number[];
  /** How often a client asks for a blob whose answer breaks. */
  readonly tries: number;
  /** Hosts whose times count, by number; the others' are reported only. */
  readonly judged: readonly number[];
  /** What the last of the judged is compared with. */
  readonly boundS: number;
}

export type PlanOptions = Pick<LabOptions, 'scenario' | 'hosts' | 'rateBps' | 'originRateBps' | 'zoneRateBps' | 'sizeBytes' | 'waves' | 'killTracker'>;

export function planOf(options: PlanOptions): Plan {
  const { scenario, hosts, rateBps, originRateBps: originBps, sizeBytes } = options;
  const all = Array.from({ length: hosts }, (_, host) => host);
  const hostsBps = all.map(() => rateBps);
  const boundS = crowdS(sizeBytes, { originBps, hostsBps });
  const plan: Plan = {
    fleet: true,
    bare: undefined,
    layerBytes: [sizeBytes],
    originBps,
    hostsBps,
    waves: [all.map((host) => ({ host, delayS: 0 }))],
    kills: options.killTracker ? [{ atS: boundS / 2, what: 'tracker' }] : [],
    liars: [],
    falseVouchers: [],
    tries: 1,
    zones: undefined,
    judged: all,
    boundS,
  };
  switch (scenario) {
    case 'crowd':
    case 'alone':
      return plan;
    case 'direct':
      return { ...plan, fleet: false, kills: [] };
    case 'bare':
    case 'bare-own':
      return { ...plan, fleet: false, bare: scenario === 'bare' ? 'stock' : 'own', kills: [] };
    case 'stagger': {
      const startsS = all.map((host) => (hosts === 1 ? 0 : (boundS * host) / (hosts - 1)));
      return { ...plan, waves: [all.map((host) => ({ host, delayS: startsS[host]! }))], boundS: staggeredS(sizeBytes, { originBps, hostsBps }, startsS) };
    }
    case 'many':
      return { ...plan, layerBytes: logNormalSizes(MANY_LAYERS, sizeBytes) };
    case 'mixed': {
      const slow = new Set(share(all, 0.2));
      const mixedBps = all.map((host) => (slow.has(host) ? rateBps / 5 : rateBps));
      const judged = all.filter((host) => !slow.has(host));
      const links = { originBps, hostsBps: mixedBps };
      return { ...plan, hostsBps: mixedBps, judged, boundS: fastHostsS(sizeBytes, links, judged.map((host) => mixedBps[host]!)) };
    }
    case 'churn': {
      const killed = new Set(share(all, 0.2));
      const kills = [...killed].map((host) => ({ atS: boundS / 2, what: host }));
      return { ...plan, kills: [...plan.kills, ...kills], judged: all.filter((host) => !killed.has(host)) };
    }
    case 'no-tracker':
      return { ...plan, kills: [{ atS: boundS / 2, what: 'tracker' }] };
    case 'liars': {
      const liars = share(all, 0.1);
      const honest = all.filter((host) => !liars.includes(host));
      // Found out, a liar is nobody's peer any more and reads all of it at the origin for itself: a copy each.
      return { ...plan, liars, judged: honest, boundS: Math.max(boundS, transferS((1 + liars.length) * sizeBytes, originBps)) };
    }
    case 'zones': {
      const linkBps = options.zoneRateBps;
      const zones = Array.from({ length: Math.min(ZONES, hosts) }, (_, zone) => all.filter((host) => host % ZONES === zone));
      return { ...plan, zones: { linkBps, hosts: zones }, boundS: zonesS(sizeBytes, originBps, zones.map((members) => ({ linkBps, hostsBps: members.map((host) => hostsBps[host]!) }))) };
    }
    case 'false-vouchers': {
      const falseVouchers = [Math.floor(hosts / 2)];
      return { ...plan, falseVouchers, tries: CLIENT_TRIES, judged: all.filter((host) => !falseVouchers.includes(host)) };
    }
    case 'rolling': {
      const perWave = Math.ceil(hosts / options.waves);
      const waves = Array.from({ length: Math.ceil(hosts / perWave) }, (_, wave) => all.slice(wave * perWave, (wave + 1) * perWave));
      const bound = wavesS(sizeBytes, originBps, rateBps, waves.map(({ length }) => length));
      return { ...plan, waves: waves.map((wave) => wave.map((host) => ({ host, delayS: 0 }))), boundS: bound };
    }
  }
}

/** This share of the hosts, at least one, spread evenly over their numbers. */
function share(hosts: readonly number[], part: number): number[] {
  const count = Math.max(1, Math.round(hosts.length * part));
  return Array.from({ length: count }, (_, at) => hosts[Math.floor(((at + 0.5) * hosts.length) / count)]!);
}
