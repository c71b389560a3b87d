// `flotilla status`: what the agent of this host is doing, asked over its control socket.

import { setTimeout as delay } from 'node:timers/promises';
import { loadDataDir, type ConfigInput } from '../config.ts';
import type { AgentStatus, TrackerStatus } from '../control.ts';
import { formatAddress } from '../listen.ts';
import { ControlClient } from './control-client.ts';
import { EXIT } from './exit-codes.ts';
import { humanBytes, humanDuration, table, type Terminal } from './terminal.ts';

/** Cursor to the top left, and what was there goes. */
const CLEAR_SCREEN = '\u001b[H\u001b[2J';

export interface StatusOptions {
  readonly json?: boolean | undefined;
  /** Again and again until the signal aborts. */
  readonly watch?: boolean | undefined;
  /** @default 1000 */
  readonly watchMs?: number;
}

/** @returns 0 ready, 1 not ready @throws CommandFailure, AgentError CONFIG_INVALID */
export async function printStatus(input: ConfigInput, { json = false, watch = false, watchMs = 1000 }: StatusOptions, terminal: Terminal, signal: AbortSignal): Promise<number> {
  const client = new ControlClient(loadDataDir(input));
  for (;;) {
    const status = await client.status(signal);
    if (watch && !json) terminal.out(CLEAR_SCREEN);
    // One object a line where many follow.
    terminal.out(json ? `${JSON.stringify(status, null, watch ? 0 : 2)}\n` : describe(status, Date.now()));
    if (!watch) return status.state === 'ready' ? EXIT.ok : EXIT.failed;
    await delay(watchMs, undefined, { signal });
  }
}

/** The page that a person reads. */
export function describe(status: AgentStatus, nowMs: number): string {
  const { addresses, store, bytes, downloads, limits } = status;
  const facts = table([
    ['agent', `${status.name}, version ${status.version}, ${status.state}, up ${humanDuration(nowMs - Date.parse(status.startedAt))}`],
    ['endpoint', formatAddress(addresses.registry)],
    ...(addresses.peers ? [['peers', `${formatAddress(addresses.peers)}, ${status.peers.connected} connected${status.peerId === undefined ? '' : `, id ${status.peerId}`}`]] : []),
    ['admin', formatAddress(addresses.admin)],
    ['tracker', describeTracker(status.tracker)],
    ['store', `${humanBytes(store.bytes)} of ${humanBytes(store.limitBytes)}, ${store.blobs} blobs, ${humanBytes(store.freeBytes)} free on disk`],
    ['received', `${humanBytes(bytes.peer)} from peers, ${humanBytes(bytes.origin)} from origins, ${humanBytes(bytes.duplicate)} twice`],
    ['sent', `${humanBytes(bytes.uploaded)} to peers, ${humanBytes(bytes.store)} from the store`],
    ...(limits === undefined ? [] : [['limits', describeLimits(limits)]]),
    ...(status.rights === undefined ? [] : [['rights', describeRights(status.rights)]]),
    ...(status.resolvedByTracker === undefined ? [] : [['tags', describeResolver(status.resolvedByTracker)]]),
    ...(status.brakes === undefined || status.brakes.length === 0 ? [] : [['brakes', `${status.brakes.length} set on this host by operators`]]),
  ]);
  return `${facts}${describeFaults(status, nowMs)}${describeRollouts(status.rollouts ?? [])}${describeDownloads(downloads)}`;
}

function describeRollouts(rollouts: NonNullable<AgentStatus['rollouts']>): string {
  if (rollouts.length === 0) return '';
  const rows = rollouts.map(({ rolloutId, image, phase, held, size }) => [rolloutId, image, phase, size === undefined ? '-' : `${humanBytes(held)} of ${humanBytes(size)}`]);
  return `\n${table([['ROLLOUT', 'IMAGE', 'PHASE', 'HERE'], ...rows])}`;
}

function describeDownloads(downloads: AgentStatus['downloads']): string {
  if (downloads.length === 0) return '\nno downloads\n';
  const rows = downloads.map((download) => [
    download.digest.slice(0, 19),
    humanBytes(download.size),
    `${Math.floor((100 * download.held) / Math.max(1, download.chunks))} %`,
    humanBytes(download.bytes.peer),
    humanBytes(download.bytes.origin),
    String(download.sources.length),
    String(download.readers),
    download.lastError ?? download.state,
  ]);
  return `\n${table([['BLOB', 'SIZE', 'HERE', 'PEERS', 'ORIGIN', 'SOURCES', 'READERS', 'STATE'], ...rows])}`;
}

/** What went wrong at origins lately, the newest first of each. */
function describeFaults({ origins = [] }: AgentStatus, nowMs: number): string {
  const rows = origins.flatMap(({ name, faults }) =>
    faults.map(({ code, host, count, lastAtMs, message }) => [name, code, host ?? '-', String(count), `${humanDuration(Math.max(0, nowMs - lastAtMs))} ago`, message]),
  );
  return rows.length === 0 ? '' : `\n${table([['ORIGIN', 'FAULT', 'HOST', 'TIMES', 'LAST', 'MESSAGE'], ...rows])}`;
}

export function describeLimits({ upload, download, origin, zone }: NonNullable<AgentStatus['limits']>): string {
  return `upload ${describeLimit(upload)}, download ${describeLimit(download)}, from origins ${describeLimit(origin)}, between zones ${describeLimit(zone)}`;
}

function describeLimit(rate: number | undefined): string {
  return rate === undefined ? 'unlimited' : `${humanBytes(rate)}/s`;
}

function describeRights({ mode, allow, originDown, decided }: NonNullable<AgentStatus['rights']>): string {
  const callers = mode === 'pass-through' ? ["callers' own credentials"] : [];
  const agents = allow.length > 0 ? [`the agent's own for ${allow.join(' ')}`] : [];
  const used = [...callers, ...agents].join(', ') || 'public images only';
  return `${used}; origin down: ${originDown}; ${decided.denied ?? 0} denied`;
}

function describeResolver({ found, asked, lastError }: NonNullable<AgentStatus['resolvedByTracker']>): string {
  const reasons = Object.entries(asked).map(([why, times]) => `${times} ${why}`);
  const fault = lastError === undefined ? '' : ` (last: ${lastError.code}: ${lastError.message})`;
  return `${found} answered by the tracker, asked by this agent: ${reasons.join(', ') || 'none'}${fault}`;
}

function describeTracker({ state, url, lastError }: TrackerStatus): string {
  if (state === 'none') return 'none: this agent runs alone';
  const fault = state === 'connected' || lastError === undefined ? '' : ` (${lastError.code}: ${lastError.message})`;
  return `${state}${url === undefined ? '' : `, ${url}`}${fault}`;
}
