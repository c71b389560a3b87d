// What operators see of a rollout: its summary, its detail, its hosts. Pure: from records, what hosts told, and who is connected.

import type { RolloutDetail, RolloutHosts, RolloutHostState, RolloutLayer, RolloutSummary } from '@flotilla/shared/rollout-api';
import type { Progress } from './progress.ts';
import type { HostRecord } from './records.ts';
import type { Presence, Rollout } from './rollout.ts';
import { timeLeftMs, type WorkingHost } from './time-left.ts';

const SLOWEST = 10;
const NAMES_PER_FAILURE = 10;
/** Of the hosts that are done, as many as tell how long one takes. */
const MAX_DURATIONS = 200;

export interface RolloutParts {
  readonly rollout: Rollout;
  readonly progress: Progress;
  readonly presence: Presence;
  readonly nowMs: number;
}

export function summaryOf(parts: RolloutParts): RolloutSummary {
  const { rollout, presence } = parts;
  const { record, hosts } = rollout;
  const counts = { total: hosts.size, waiting: 0, working: 0, done: 0, failed: 0, away: 0 };
  const bytes = { total: 0, held: 0, peer: 0, origin: 0, rate: 0 };
  const waves = record.waves.map(({ target }) => ({ target, started: 0, done: 0, failed: 0 }));
  const working: WorkingHost[] = [];
  const tookMs: number[] = [];
  const usual = usualSize(parts);
  for (const [peerId, host] of hosts) {
    counts[host.state]++;
    const { size = usual, held } = shareOf(parts, peerId, host);
    bytes.total += size;
    bytes.held += held;
    const moved = movedOf(parts, peerId, host);
    bytes.peer += moved.peer;
    bytes.origin += moved.origin;
    const here = presence.connected(peerId);
    if (!here && (host.state === 'waiting' || host.state === 'working')) counts.away++;
    const rate = parts.progress.rateOf(peerId, parts.nowMs);
    if (host.state === 'working') bytes.rate += rate;
    if (host.state === 'working' && here) working.push({ lacksBytes: size === 0 ? undefined : size - held, rate });
    if (host.state === 'done' && host.ms !== undefined && tookMs.length < MAX_DURATIONS) tookMs.push(host.ms);
    const wave = waves[host.wave ?? -1];
    if (wave === undefined) continue;
    wave.started++;
    if (host.state === 'done') wave.done++;
    if (host.state === 'failed') wave.failed++;
  }
  const wavesLeft = record.waves.length - 1 - record.wave;
  const left = record.state === 'running' || record.state === 'resolving' ? timeLeftMs({ working, tookMs, wavesLeft }) : undefined;
  const { id, image, digest, state, reason, selector, platform, verifyOnly, pauseOnFailure, originLimit, createdAtMs, createdBy, deadlineMs, endedAtMs } = record;
  return {
    id,
    image,
    ...(digest !== undefined && { digest }),
    state,
    ...(reason !== undefined && { reason }),
    selector,
    ...(platform !== undefined && { platform }),
    verifyOnly,
    pauseOnFailure,
    ...(originLimit !== undefined && { originLimit }),
    createdAtMs,
    createdBy,
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(endedAtMs !== undefined && { endedAtMs }),
    ...(record.catchUpUntilMs !== undefined && record.closed !== true && { catchUpUntilMs: record.catchUpUntilMs }),
    wave: record.wave,
    waves: waves.map((wave, index) => ({ ...wave, ...waveState(parts.rollout, index) })),
    hosts: counts,
    bytes: { ...bytes, rate: Math.round(bytes.rate) },
    ...(left !== undefined && { timeLeftMs: left }),
  };
}

export function detailOf(parts: RolloutParts): RolloutDetail {
  return { ...summaryOf(parts), manifests: manifestsOf(parts), slowest: slowestOf(parts), failures: failuresOf(parts) };
}

/** Which hosts are meant; all, where nothing is said. */
export interface RolloutHostsFilter {
  readonly state?: RolloutHostState;
  /** Those alone that have more to tell of their end than their state. */
  readonly outcome?: boolean;
}

export function hostsOf(parts: RolloutParts, { state, outcome = false }: RolloutHostsFilter = {}): RolloutHosts {
  const rows: RolloutHosts['rows'] = [];
  const outcomes: RolloutHosts['outcomes'] = {};
  for (const [peerId, host] of parts.rollout.hosts) {
    const tells = host.error !== undefined || host.hook !== undefined;
    if ((state !== undefined && host.state !== state) || (outcome && !tells)) continue;
    const { size, held } = shareOf(parts, peerId, host);
    const working = host.state === 'working';
    const share = size === undefined ? -1 : Math.floor((1000 * held) / Math.max(1, size));
    const rate = working ? Math.round(parts.progress.rateOf(peerId, parts.nowMs)) : 0;
    const word = working ? (parts.progress.of(peerId)?.phase ?? '') : (host.error?.code ?? '');
    rows.push([peerId, host.name, host.zone ?? '', host.state, parts.presence.connected(peerId) ? 1 : 0, host.wave ?? -1, Math.min(1000, share), rate, word]);
    if (!tells) continue;
    const { attempt, error, ms, hook } = host;
    outcomes[peerId] = { attempt, ...(error !== undefined && { error }), ...(ms !== undefined && { ms }), ...(hook !== undefined && { hook }) };
  }
  return { id: parts.rollout.record.id, rows, outcomes };
}

function waveState({ record }: Rollout, index: number): Pick<RolloutSummary['waves'][number], 'state' | 'openedAtMs' | 'endedAtMs'> {
  const { openedAtMs, endedAtMs } = record.waves[index]!;
  const state = endedAtMs !== undefined || index < record.wave ? 'over' : openedAtMs === undefined ? 'waiting' : 'open';
  return { state, ...(openedAtMs !== undefined && { openedAtMs }), ...(endedAtMs !== undefined && { endedAtMs }) };
}

/** What a host holds of the image, as far as is known. */
function shareOf({ progress }: RolloutParts, peerId: string, host: HostRecord): { size: number | undefined; held: number } {
  if (host.state === 'done') {
    const size = host.bytes?.size ?? progress.sizeOf(host.manifest);
    return { size, held: size ?? 0 };
  }
  const told = progress.of(peerId);
  const size = progress.sizeOf(told?.manifest ?? host.manifest);
  return { size, held: Math.min(told?.heldBytes ?? 0, size ?? Number.POSITIVE_INFINITY) };
}

/** What a host has fetched: as it said at its end, or says on the way, with earlier attempts. */
function movedOf({ progress }: RolloutParts, peerId: string, host: HostRecord): { peer: number; origin: number } {
  const told = progress.of(peerId);
  const now = (host.state === 'done' ? host.bytes : undefined) ?? told?.fetched ?? { peer: 0, origin: 0 };
  return { peer: now.peer + (told?.earlier.peer ?? 0), origin: now.origin + (told?.earlier.origin ?? 0) };
}

/** Of hosts that have not said what they need: the largest that is known, so that a total does not shrink. */
function usualSize({ progress }: RolloutParts): number {
  return Math.max(0, ...[...progress.manifests.keys()].map((manifest) => progress.sizeOf(manifest) ?? 0));
}

/** Two thousand hosts of sixty layers, each second: sums in flat arrays. */
function manifestsOf({ rollout, progress }: RolloutParts): RolloutDetail['manifests'] {
  const sums = new Map([...progress.manifests].map(([manifest, layers]) => [manifest, { layers, hosts: 0, done: 0, held: new Float64Array(layers.length), complete: new Uint32Array(layers.length) }]));
  for (const [peerId, host] of rollout.hosts) {
    const told = host.state === 'done' ? undefined : progress.of(peerId);
    const each = sums.get((host.state === 'done' ? host.manifest : told?.manifest) ?? '');
    if (each === undefined) continue;
    each.hosts++;
    if (told === undefined) {
      each.done++;
      continue;
    }
    for (let index = 0; index < each.held.length; index++) {
      const size = each.layers[index]![1];
      const held = Math.min(size, told.held[index] ?? 0);
      each.held[index]! += held;
      if (held === size) each.complete[index]!++;
    }
  }
  return [...sums].map(([manifest, { layers, hosts, done, held, complete }]) => ({
    manifest,
    hosts,
    layers: layers.map(([digest, size], index): RolloutLayer => ({ digest, size, hosts, held: held[index]! + done * size, complete: complete[index]! + done })),
  }));
}

function slowestOf(parts: RolloutParts): RolloutDetail['slowest'] {
  const { rollout, progress, presence, nowMs } = parts;
  const rows: { readonly row: RolloutDetail['slowest'][number]; readonly leftMs: number }[] = [];
  for (const [peerId, host] of rollout.hosts) {
    if (host.state !== 'working' || !presence.connected(peerId)) continue;
    const { size, held } = shareOf(parts, peerId, host);
    const rate = Math.round(progress.rateOf(peerId, nowMs));
    const lacks = size === undefined ? Number.POSITIVE_INFINITY : size - held;
    const leftMs = lacks === 0 ? 0 : rate > 0 ? Math.round((lacks * 1000) / rate) : Number.POSITIVE_INFINITY;
    const row = {
      peerId,
      name: host.name,
      ...(host.zone !== undefined && { zone: host.zone }),
      phase: progress.of(peerId)?.phase ?? '',
      held: size === undefined || size === 0 ? 0 : held / size,
      rate,
      ...(Number.isFinite(leftMs) && { timeLeftMs: leftMs }),
    };
    rows.push({ row, leftMs });
  }
  rows.sort((a, b) => (a.leftMs === b.leftMs ? a.row.held - b.row.held : b.leftMs - a.leftMs));
  return rows.slice(0, SLOWEST).map(({ row }) => row);
}

function failuresOf({ rollout }: RolloutParts): RolloutDetail['failures'] {
  const groups = new Map<string, RolloutDetail['failures'][number]>();
  for (const host of rollout.hosts.values()) {
    if (host.state !== 'failed' || host.error === undefined) continue;
    const { code, message } = host.error;
    const group = groups.get(code) ?? { code, message, hosts: 0, names: [] };
    groups.set(code, group);
    group.hosts++;
    if (group.names.length < NAMES_PER_FAILURE) group.names.push(host.name);
  }
  return [...groups.values()].sort((a, b) => b.hosts - a.hosts);
}
