// Why a host is slow, from the figures that it told and what others do at the same time. Pure: one call, one answer.
//
//   limit or brake at work -> throttled      its origin refused it lately -> 429, credentials, dns, origin
//   thread full -> cpu      disk never idle and slow -> disk      others hold what it lacks, it reaches none -> no-peers
//   nobody holds it, others are refused -> as those      peers hold it, others get more -> link
//   a disk that writes wait for by the second -> disk, also while memory still keeps the rate up
//   too few pull to compare -> not slow, and what is full on the host is its reason all the same: a canary has no neighbours
//
// The order matters: a limit explains a low rate whatever else is busy; a thread that is full makes writes look slow, so CPU comes before disk;
// the link is what is left when peers are there and nothing on the host is full. Non-goals: what to say of the whole fleet (verdict.ts).

import { FULL_LOOP, type FaultKind } from '@flotilla/shared/agent-report';
import type { SlowReason } from '@flotilla/shared/live-api';

/** A host is slow below this share of what others get. */
const SLOW_SHARE = 0.5;
/** Below this one where its main thread is full: that is seen in itself, and its rate, smoothed over seconds, only confirms it. */
const FULL_SHARE = 0.75;
/** A rate within this share of a limit is held by the limit. */
const AT_LIMIT_SHARE = 0.75;
const BUSY_DISK = 0.6;
/** A write of a chunk that takes longer is no write of a healthy disk. */
const SLOW_WRITE_MS = 50;
/** Chunks wait for one another: more arrives than the disk takes. Memory takes the rest for a while, and the rate says nothing yet. */
const DROWNING_WRITE_MS = 1_000;
const FULL_DISK = 0.9;

/** What is known of a host that pulls, or tries to. */
export interface HostPull {
  /** Bytes per second from peers and origins, over the last seconds. */
  readonly peerRate: number;
  readonly originRate: number;
  /** It has bytes to get, or its pulls fail now. */
  readonly pulling: boolean;
  /** It has been at it long enough for its rate to mean something. */
  readonly settled: boolean;
  readonly loop: number;
  readonly diskBusy: number;
  readonly diskWriteMs: number;
  /** Peers connected, and of these that hold something it lacks; undefined: an older agent. */
  readonly peers: number | undefined;
  readonly sources: number | undefined;
  readonly limits: { readonly download?: number; readonly origin?: number };
  /** Brakes that hold it to its origin, or its downloads to a rate. */
  readonly brakes: readonly { readonly originOnly: boolean; readonly downloadLimit?: number }[];
  /** What its origins refused in the last seconds, the latest first. */
  readonly faults: readonly { readonly origin: string; readonly kind: FaultKind }[];
}

/** What others do meanwhile. */
export interface Surroundings {
  /** What hosts that pull get in the middle; undefined: too few to compare. */
  readonly medianRate: number | undefined;
  /** Somebody else holds chunks that this host lacks. */
  readonly heldElsewhere: boolean;
  /** What the origins of its blobs refuse to others now. */
  readonly originFault: { readonly origin: string; readonly kind: FaultKind; readonly hosts: number } | undefined;
}

export interface SlowVerdict {
  readonly slow: boolean;
  readonly reason: SlowReason;
  /** Empty where nothing unusual can be seen. */
  readonly evidence: string;
}

const FAST: SlowVerdict = { slow: false, reason: '', evidence: '' };
const REASON_OF: Readonly<Record<FaultKind, SlowReason>> = { dns: 'dns', throttled: '429', credentials: 'credentials', unreachable: 'origin', other: 'origin' };
const SAYING: Readonly<Record<FaultKind, (origin: string) => string>> = {
  dns: (origin) => `the name of ${origin} is not found`,
  throttled: (origin) => `${origin} answers 429`,
  credentials: (origin) => `${origin} refuses its credentials`,
  unreachable: (origin) => `${origin} does not answer`,
  other: (origin) => `${origin} fails`,
};

/** Why this host is slow, if it is. */
export function slowReason(host: HostPull, around: Surroundings): SlowVerdict {
  if (!host.pulling) return FAST;
  const rate = host.peerRate + host.originRate;
  const held = limitedBy(host, rate);
  const behind = around.medianRate !== undefined && rate < around.medianRate * (host.loop >= FULL_LOOP ? FULL_SHARE : SLOW_SHARE);
  const stuck = rate === 0 && (host.settled || host.faults.length > 0);
  const refused = host.faults[0];
  if (held !== undefined) return because('throttled', held);
  if (isDrowning(host)) return { slow: true, ...fullOn(host)! };
  if (!stuck && !(behind && host.settled)) {
    const full = around.medianRate === undefined && host.settled ? fullOn(host) : undefined;
    return full === undefined ? FAST : { slow: false, ...full };
  }
  // What is refused counts while the origin gives nothing: a fleet that holds the blob needs no origin.
  if (refused !== undefined && host.originRate === 0) return because(REASON_OF[refused.kind], SAYING[refused.kind](refused.origin));
  const full = fullOn(host);
  if (full !== undefined) return { slow: true, ...full };
  if (host.sources === 0 && around.heldElsewhere) return because('no-peers', host.peers === 0 ? 'it is connected to no peer' : `none of its ${host.peers} peers holds what it lacks; others do`);
  if (around.originFault !== undefined && !around.heldElsewhere) {
    const { origin, kind, hosts } = around.originFault;
    return because(REASON_OF[kind], `nobody holds what it lacks, and ${SAYING[kind](origin)} (${hosts} ${hosts === 1 ? 'host' : 'hosts'})`);
  }
  if (behind && (host.sources ?? 0) > 0) return because('link', `${bytes(rate)}/s from ${host.sources} ${host.sources === 1 ? 'peer' : 'peers'} where others get ${bytes(around.medianRate)}/s`);
  return { slow: true, reason: '', evidence: rate === 0 ? 'nothing arrives' : '' };
}

function isDrowning({ settled, loop, diskBusy, diskWriteMs }: HostPull): boolean {
  return settled && loop < FULL_LOOP && diskBusy >= FULL_DISK && diskWriteMs >= DROWNING_WRITE_MS;
}

/** Of what a host has itself. */
function fullOn({ loop, diskBusy, diskWriteMs }: HostPull): Pick<SlowVerdict, 'reason' | 'evidence'> | undefined {
  if (loop >= FULL_LOOP) return { reason: 'cpu', evidence: `its main thread is at work ${percent(loop)} of the time` };
  if (diskBusy >= BUSY_DISK && diskWriteMs >= SLOW_WRITE_MS) return { reason: 'disk', evidence: `a write takes ${Math.round(diskWriteMs)} ms, the disk is busy ${percent(diskBusy)} of the time` };
  return undefined;
}

function limitedBy({ limits, brakes, originRate }: HostPull, rate: number): string | undefined {
  if (brakes.some((brake) => brake.originOnly)) return 'a brake holds it to its origin';
  const download = limits.download;
  const braked = brakes.some((brake) => brake.downloadLimit !== undefined && brake.downloadLimit === download);
  if (download !== undefined && rate >= download * AT_LIMIT_SHARE) return `${braked ? 'a brake' : 'its download limit'} lets ${bytes(download)}/s through`;
  // A limit on the origin explains a rate only where nearly all comes from there.
  if (limits.origin !== undefined && originRate >= limits.origin * AT_LIMIT_SHARE && originRate >= rate * AT_LIMIT_SHARE) return `its origin limit lets ${bytes(limits.origin)}/s through`;
  return undefined;
}

function because(reason: SlowReason, evidence: string): SlowVerdict {
  return { slow: true, reason, evidence };
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** As people write it: 12.3 MB. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
