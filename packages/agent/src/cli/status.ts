// `flotilla status`: what the agent of this host is doing, asked over its control socket.

import { once } from 'node:events';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { loadDataDir, type ConfigInput } from '../config.ts';
import { controlSocketPath, type AgentStatus, type TrackerStatus } from '../control.ts';
import { formatAddress } from '../listen.ts';
import { EXIT } from './exit-codes.ts';
import { humanBytes, humanDuration, table, type Terminal } from './terminal.ts';

const TIMEOUT_MS = 5000;

/** @returns 0 ready, 1 not ready or no answer, 3 not running @throws AgentError CONFIG_INVALID */
export async function printStatus(input: ConfigInput, json: boolean, terminal: Terminal): Promise<number> {
  const data = loadDataDir(input);
  let status: AgentStatus;
  try {
    status = await askStatus(controlSocketPath(data));
  } catch (error) {
    return explain(error, data, terminal);
  }
  terminal.out(json ? `${JSON.stringify(status, null, 2)}\n` : describe(status, Date.now()));
  return status.state === 'ready' ? EXIT.ok : EXIT.failed;
}

async function askStatus(socketPath: string): Promise<AgentStatus> {
  const request = http.get({ socketPath, path: '/status', signal: AbortSignal.timeout(TIMEOUT_MS), agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`the agent answered ${response.statusCode}: ${body.slice(0, 200)}`);
  return JSON.parse(body) as AgentStatus;
}

function explain(error: unknown, data: string, terminal: Terminal): number {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    terminal.err(`flotilla: no agent runs with the data folder ${data}. Start it with "flotilla agent --data ${data}", or name the folder of the one that runs with --data.\n`);
    return EXIT.notRunning;
  }
  if (code === 'EACCES') {
    terminal.err(`flotilla: ${controlSocketPath(data)} is not open to you. Ask as the agent's user or a member of its group.\n`);
    return EXIT.failed;
  }
  terminal.err(`flotilla: the agent gave no answer: ${error instanceof Error ? error.message : String(error)}. See its log.\n`);
  return EXIT.failed;
}

/** The page that a person reads. */
export function describe(status: AgentStatus, nowMs: number): string {
  const { addresses, store, bytes, downloads } = status;
  const facts = table([
    ['agent', `${status.name}, version ${status.version}, ${status.state}, up ${humanDuration(nowMs - Date.parse(status.startedAt))}`],
    ['endpoint', formatAddress(addresses.registry)],
    ...(addresses.peers ? [['peers', `${formatAddress(addresses.peers)}, ${status.peers.connected} connected${status.peerId === undefined ? '' : `, id ${status.peerId}`}`]] : []),
    ['admin', formatAddress(addresses.admin)],
    ['tracker', describeTracker(status.tracker)],
    ['store', `${humanBytes(store.bytes)} of ${humanBytes(store.limitBytes)}, ${store.blobs} blobs, ${humanBytes(store.freeBytes)} free on disk`],
    ['received', `${humanBytes(bytes.peer)} from peers, ${humanBytes(bytes.origin)} from origins, ${humanBytes(bytes.duplicate)} twice`],
    ['sent', `${humanBytes(bytes.uploaded)} to peers, ${humanBytes(bytes.store)} from the store`],
  ]);
  if (downloads.length === 0) return `${facts}\nno downloads\n`;
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
  return `${facts}\n${table([['BLOB', 'SIZE', 'HERE', 'PEERS', 'ORIGIN', 'SOURCES', 'READERS', 'STATE'], ...rows])}`;
}

function describeTracker({ state, url, lastError }: TrackerStatus): string {
  if (state === 'none') return 'none: this agent runs alone';
  const fault = state === 'connected' || lastError === undefined ? '' : ` (${lastError.code}: ${lastError.message})`;
  return `${state}${url === undefined ? '' : `, ${url}`}${fault}`;
}
