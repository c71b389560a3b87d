// From what was seen in a run to the figures of it. Pure: counters, clocks and logs come as values.

import { chunkSize } from '@flotilla/shared/chunk-map';
import { transferS } from './bound.ts';
import type { OriginUse } from './access-log.ts';
import type { ClientOutcome } from './clients.ts';
import { sumBy, type Measured } from './exposition.ts';
import type { MemoryUse } from './processes.ts';
import type { Link } from './network.ts';
import { GIB, median, MIB } from './quantities.ts';
import type { Plan } from './scenarios.ts';
import type { Sample } from './timeline.ts';

/** A run with less of the machine idle measured the machine, not Flotilla. */
const LEAST_IDLE_SHARE = 0.2;
const MB = 1e6;

export interface Observed {
  readonly plan: Plan;
  /** Digest and size of every blob of the image. */
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
  /** performance.now() at time zero. */
  readonly startedMs: number;
  readonly outcomes: readonly ClientOutcome[];
  readonly origin: OriginUse;
  /** Bytes down the hosts' links, by the interfaces and frame by frame; and what all interfaces have sent to the bridge and had from it. */
  readonly wire: { readonly interfaces: number; readonly frames: number; readonly sent: number; readonly received: number };
  /** What came into each zone: bytes by the interface of its link, and chunk bytes by what the agents had from other zones and the registry sent them. */
  readonly zones: readonly { readonly wire: number; readonly payload: number }[];
  /** Ports of the timeline. */
  readonly originPort: string;
  readonly samples: readonly Sample[];
  readonly cpuSeconds: { readonly agents: number; readonly tracker: number; readonly registry: number };
  readonly memory: readonly MemoryUse[];
  readonly idleShare: number;
  /** Of the agents that live. */
  readonly metrics: readonly (readonly Measured[])[];
  /** Agents and tracker that ended although nobody killed them. */
  readonly died: readonly string[];
  /** Whom the tracker believes no more at the end, by port; and the hosts that deserve it. */
  readonly suspects?: { readonly named: readonly string[]; readonly vouchedFalsely: readonly Link[] } | undefined;
}

/** Times in seconds since all clients were told to start; sizes in bytes where no unit is named. */
export interface Figures {
  readonly counts: boolean;
  readonly boundS: number;
  readonly lastS: number;
  readonly medianS: number;
  readonly firstS: number;
  readonly lastOverBound: number;
  readonly lastOverMedian: number;
  /** The same download without Flotilla on the same link; Flotilla's time over it. Absent where there was none. */
  readonly directS: number | undefined;
  readonly overDirect: number | undefined;
  /** The last of the hosts that are not judged (slow ones), where there are any. */
  readonly othersLastS: number | undefined;
  readonly copies: number;
  readonly originRequests: number;
  readonly originBlobReadsPerMiB: number;
  readonly originOtherPerHost: number;
  readonly originOther: Readonly<Record<string, number>>;
  /** When the origin's link had carried as many bytes as the image has, and how long that takes at least. */
  readonly originSentOnceS: number | undefined;
  readonly originSentOnceBoundS: number;
  /** Bytes on the origin's link, over the image's: what was lost on the way left it twice. */
  readonly originWire: number;
  /** When its first 64 KiB had left. */
  readonly originFirstBytesS: number | undefined;
  readonly wirePerPayload: number;
  readonly framesPerPayload: number;
  /** Of all bytes sent, those that did not fit into the queue before the receiver's link: they were sent again. */
  readonly lostShare: number;
  /** Payload that came into each zone over its link, over the image; the largest; and the same of all bytes on that link. Absent without zones. */
  readonly zoneCopies: readonly number[] | undefined;
  readonly zoneCopiesMax: number | undefined;
  readonly zoneWireMax: number | undefined;
  readonly cpuPerGiB: number;
  readonly agentCpuPerGiB: number;
  readonly trackerCpuPerGiB: number;
  readonly registryCpuPerGiB: number;
  /** Absent without agents. */
  readonly rssMB: number | undefined;
  readonly rssMaxMB: number | undefined;
  readonly peakMaxMB: number | undefined;
  readonly idleShare: number;
  readonly bytes: Readonly<Record<string, number>>;
  readonly duplicateShare: number;
  /** Wrong bytes that peers sent and that were thrown away, over all that was delivered; at most, as chunks are counted. Absent without liars. */
  readonly forgedShare: number | undefined;
  /** Answers to the judged hosts' clients that ended before their last byte. */
  readonly brokenAnswers: number;
  /** What left the origin beyond one copy, over what the false vouchers were leased; how many of them the tracker names, and of the others. Absent without any. */
  readonly extraOverLeases: number | undefined;
  readonly liarsNamed: number | undefined;
  readonly honestNamed: number | undefined;
  readonly fallbacks: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
  readonly swarmEvents: Readonly<Record<string, number>>;
  readonly failures: number;
  readonly wrong: number;
  readonly complaints: readonly string[];
  readonly died: readonly string[];
}

export function figuresOf(observed: Observed): Figures {
  const { plan, blobs, outcomes, origin, wire, cpuSeconds, memory, metrics, samples } = observed;
  const imageBytes = blobs.reduce((sum, { size }) => sum + size, 0);
  const endS = ({ endedMs }: ClientOutcome): number => (endedMs - observed.startedMs) / 1000;
  const right = outcomes.filter(({ outcome }) => outcome === 'right');
  const judged = right.filter(({ host }) => plan.judged.includes(host)).map(endS);
  const others = right.filter(({ host }) => !plan.judged.includes(host)).map(endS);
  const spoilt = outcomes.filter(({ host, outcome }) => outcome !== 'right' && (plan.judged.includes(host) || !isKilled(plan, host)));
  const failures = spoilt.length;
  const delivered = right.length * imageBytes;
  const perGiB = (seconds: number): number => seconds / (delivered / GIB);
  // A run in which somebody got nothing has no last host.
  const lastS = judged.length === plan.judged.length ? Math.max(...judged) : Number.NaN;
  const payload = blobs.reduce((sum, { digest }) => sum + (origin.payload.get(digest) ?? 0), 0);
  const sumOf = (name: string, label: string): Record<string, number> => sumBy(metrics, name, label);
  const duplicates = Object.values(sumOf('flotilla_duplicate_bytes_total', '')).reduce((sum, value) => sum + value, 0);
  const passed = (bytes: number): number | undefined => samples.find(({ ports }) => (ports.get(observed.originPort)?.up ?? 0) >= bytes)?.atS;
  const rss = memory.map(({ rss }) => rss / MB);
  return {
    counts: observed.idleShare >= LEAST_IDLE_SHARE && failures === 0,
    boundS: plan.boundS,
    lastS,
    medianS: median(judged),
    firstS: Math.min(...judged),
    lastOverBound: lastS / plan.boundS,
    lastOverMedian: lastS / median(judged),
    directS: undefined,
    overDirect: undefined,
    othersLastS: others.length === 0 ? undefined : Math.max(...others),
    copies: payload / imageBytes,
    originRequests: origin.requests,
    originBlobReadsPerMiB: origin.blobReads / (imageBytes / MIB),
    originOtherPerHost: (origin.requests - origin.blobReads) / plan.hostsBps.length,
    originOther: origin.other,
    originSentOnceS: passed(imageBytes),
    originSentOnceBoundS: transferS(imageBytes, plan.originBps),
    originWire: (samples.at(-1)?.ports.get(observed.originPort)?.up ?? 0) / imageBytes,
    originFirstBytesS: passed(64 * 1024),
    wirePerPayload: wire.interfaces / delivered,
    framesPerPayload: wire.frames / delivered,
    lostShare: 1 - wire.received / wire.sent,
    ...zoneFigures(observed.zones, imageBytes),
    cpuPerGiB: perGiB(cpuSeconds.agents + cpuSeconds.tracker + cpuSeconds.registry),
    agentCpuPerGiB: perGiB(cpuSeconds.agents),
    trackerCpuPerGiB: perGiB(cpuSeconds.tracker),
    registryCpuPerGiB: perGiB(cpuSeconds.registry),
    ...(rss.length === 0
      ? { rssMB: undefined, rssMaxMB: undefined, peakMaxMB: undefined }
      : { rssMB: median(rss), rssMaxMB: Math.max(...rss), peakMaxMB: Math.max(...memory.map(({ peak }) => peak / MB)) }),
    idleShare: observed.idleShare,
    bytes: sumOf('flotilla_blob_bytes_total', 'source'),
    duplicateShare: duplicates / delivered,
    forgedShare: plan.liars.length === 0 ? undefined : ((sumOf('flotilla_swarm_events_total', 'kind')['forged_chunks'] ?? 0) * Math.max(...blobs.map(({ size }) => chunkSize(size)))) / delivered,
    brokenAnswers: outcomes.filter(({ host }) => plan.judged.includes(host)).reduce((sum, { broken }) => sum + broken, 0),
    ...suspectFigures(observed, payload - imageBytes),
    fallbacks: sumOf('flotilla_fallbacks_total', 'kind'),
    errors: sumOf('flotilla_errors_total', 'code'),
    swarmEvents: sumOf('flotilla_swarm_events_total', 'kind'),
    failures,
    wrong: outcomes.filter(({ outcome }) => outcome === 'wrong').length,
    complaints: [...new Set(spoilt.map(({ complaint }) => complaint ?? ''))].slice(0, 5),
    died: observed.died,
  };
}

function suspectFigures({ suspects, origin }: Observed, extraBytes: number): Pick<Figures, 'extraOverLeases' | 'liarsNamed' | 'honestNamed'> {
  if (suspects === undefined) return { extraOverLeases: undefined, liarsNamed: undefined, honestNamed: undefined };
  const { named, vouchedFalsely } = suspects;
  const leased = vouchedFalsely.reduce((sum, { address }) => sum + (origin.payloadByClient.get(address) ?? 0), 0);
  const liarsNamed = vouchedFalsely.filter(({ port }) => named.includes(port)).length;
  return { extraOverLeases: extraBytes / leased, liarsNamed, honestNamed: named.length - liarsNamed };
}

function zoneFigures(zones: Observed['zones'], imageBytes: number): Pick<Figures, 'zoneCopies' | 'zoneCopiesMax' | 'zoneWireMax'> {
  if (zones.length === 0) return { zoneCopies: undefined, zoneCopiesMax: undefined, zoneWireMax: undefined };
  const zoneCopies = zones.map(({ payload }) => payload / imageBytes);
  return { zoneCopies, zoneCopiesMax: Math.max(...zoneCopies), zoneWireMax: Math.max(...zones.map(({ wire }) => wire / imageBytes)) };
}

function isKilled(plan: Plan, host: number): boolean {
  return plan.kills.some(({ what }) => what === host);
}
