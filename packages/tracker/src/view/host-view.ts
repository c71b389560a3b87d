// One host as operators see it. Read off what is known of it; pure.

import { HOST_STATES, type HostDetail } from '@flotilla/shared/live-api';
import type { Member } from '../members.ts';
import type { BrakeRecord } from './brakes.ts';
import type { Host } from './host.ts';
import type { Hosts } from './hosts.ts';
import type { ImageCatalogue } from './image-catalogue.ts';
import { slowHost } from './image-progress.ts';

const DETAIL_FRESH_MS = 3_000;

export interface HostViewSources {
  readonly hosts: Hosts;
  readonly catalogue: ImageCatalogue;
  readonly member: Member | undefined;
  readonly trusted: boolean;
  /** Index into HOST_STATES. */
  readonly state: number;
  readonly brakes: readonly BrakeRecord[];
  /** Chunks that it holds of a blob, as a share in thousandths. */
  readonly shareOf: (digest: string, size: number) => number;
}

export function hostDetail(topic: string, host: Host, { hosts, catalogue, member, trusted, state, brakes, shareOf }: HostViewSources, nowMs: number): HostDetail {
  const { fetching, vitals } = host;
  const rate = host.rate(nowMs);
  const timeLeftMs = rate === 0 || fetching.size === 0 ? undefined : Math.ceil(((fetching.size - fetching.held) * 1000) / rate);
  const report = host.detail !== undefined && nowMs - host.detail.atMs <= DETAIL_FRESH_MS ? host.detail.report : undefined;
  return {
    topic,
    atMs: nowMs,
    info: host.info,
    figures: host.figures(state, nowMs),
    state: HOST_STATES[state]!,
    ...(member?.reason !== undefined && { stateReason: member.reason }),
    trusted,
    addresses: [...host.addresses],
    enrolledAtMs: member?.enrolledAtMs ?? 0,
    seenAtMs: Math.max(member?.seenAtMs ?? 0, host.heardAtMs),
    ...(host.openedAtMs !== undefined && { sessionAtMs: host.openedAtMs }),
    ...(host.clockSkewMs !== undefined && { clockSkewMs: host.clockSkewMs }),
    slow: slowHost(host, fetching.held, fetching.size, rate, timeLeftMs),
    ...(vitals !== undefined && {
      vitals: { loop: vitals.loop, cpu: vitals.cpu, diskWriteMs: vitals.diskWriteMs, diskBusy: vitals.diskBusy, peers: vitals.peers, sources: vitals.sources, missingBytes: vitals.missingBytes, freeBytes: vitals.freeBytes, memoryBytes: vitals.memoryBytes },
    }),
    limits: { ...host.limits },
    brakes: brakes.map(({ id }) => id),
    downloads: (report?.downloads ?? []).map(({ digest, size, peerBytes, originBytes, duplicateBytes, sources, error }) => ({
      digest,
      size,
      image: catalogue.nameOf(digest),
      share: shareOf(digest, size),
      peer: peerBytes,
      origin: originBytes,
      duplicate: duplicateBytes,
      sources: sources.length,
      ...(error !== undefined && { error }),
    })),
    peers: (report?.peers ?? []).map(([peerId, downRate, upRate, bytesDown, bytesUp]) => {
      const n = hosts.find(peerId)?.n;
      return { ...(n !== undefined && { n }), peerId, downRate, upRate, bytesDown, bytesUp };
    }),
    store: { ...host.store, ...(vitals !== undefined && { freeBytes: vitals.freeBytes }) },
    faults: [...host.faults()].map(({ origin, kind, count }) => ({ origin, kind, count })),
    errors: (report?.errors ?? []).map((error) => ({ ...error })),
  };
}
