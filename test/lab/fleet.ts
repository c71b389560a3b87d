// Tracker and agents as an operator would run them, each in its host's namespace, warmed up before the clock starts.
//
// Warm: every agent is ready, connected to the tracker, and has the peers of its standing mesh.

import { readFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { AgentStatus } from '@flotilla/agent/control';
import type { MemberStatus } from '@flotilla/tracker/status';
import { run } from './command.ts';
import { readExposition, type Measured } from './exposition.ts';
import type { Link } from './network.ts';
import { startIn, type LabProcess } from './processes.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const TRACE_HOOK = fileURLToPath(new URL('trace-hook.ts', import.meta.url));
const LIE_HOOK = fileURLToPath(new URL('lie-hook.ts', import.meta.url));
const FALSE_VOUCHER_HOOK = fileURLToPath(new URL('../support/false-voucher-hook.ts', import.meta.url));
export const ORIGIN_NAME = 'lab';
export const AGENT_URL = 'http://127.0.0.1:5050';
const METRICS_URL = 'http://127.0.0.1:5053/metrics';
const TRACKER_PORT = 5052;
/** What the standing mesh of a large fleet has at least. */
const MESH_PEERS = 12;
/** A mesh that does not grow for so long is as large as it gets. */
const MESH_SETTLED_MS = 8000;
const START_TIMEOUT_MS = 60_000;
/** Agents that start at the same moment: a start is all processor. */
const STARTS_AT_ONCE = 3;
const POLL_MS = 250;

export interface FleetInit {
  readonly tracker: Link;
  readonly hosts: readonly Link[];
  readonly originUrl: string;
  readonly dir: string;
  /** Agents write who sent what to whom. */
  readonly trace: boolean;
  /** Where the first agent writes a processor profile when it ends. */
  readonly profileDir: string | undefined;
  readonly nodeFlags: readonly string[];
  /** The tracker asks the origin for all what tags are. */
  readonly resolveByTracker: boolean;
  /** Hosts whose agents send wrong bytes on. */
  readonly liars: readonly number[];
  /** Hosts whose agents vouch for wrong bytes. */
  readonly falseVouchers: readonly number[];
  /** Hosts by zone; none: the agents are told of none. */
  readonly zones: readonly (readonly number[])[];
  readonly signal: AbortSignal;
}

export interface FleetAgent {
  readonly host: number;
  readonly link: Link;
  readonly process: LabProcess;
  readonly dataDir: string;
  readonly logFile: string;
  readonly traceFile: string;
}

export class Fleet {
  readonly tracker: LabProcess;
  readonly agents: readonly FleetAgent[];
  /** Host names by peer id. */
  readonly peers = new Map<string, string>();
  readonly #init: FleetInit;

  private constructor(tracker: LabProcess, agents: readonly FleetAgent[], init: FleetInit) {
    this.tracker = tracker;
    this.agents = agents;
    this.#init = init;
  }

  /** Starts all of it and waits until it is warm. `opened` ends it. */
  static async start(init: FleetInit, opened: AsyncDisposableStack, say: (line: string) => void): Promise<Fleet> {
    const tracker = await startTracker(init, opened);
    const agents: FleetAgent[] = [];
    const fleet = new Fleet(tracker, agents, init);
    for (let first = 0; first < init.hosts.length; first += STARTS_AT_ONCE) {
      const batch = init.hosts.slice(first, first + STARTS_AT_ONCE).map((link, at) => startAgent(init, link, first + at, opened));
      agents.push(...batch);
      await Promise.all(batch.map((agent) => fleet.#until(agent, (status) => status.state === 'ready', 'ready')));
    }
    say(`${agents.length} agents started`);
    for (const agent of agents) {
      const status = await fleet.#until(agent, ({ tracker }) => tracker.state === 'connected', 'connected to the tracker');
      if (status.peerId !== undefined) fleet.peers.set(status.peerId, agent.link.port);
    }
    const peers = await fleet.#meshed();
    say(`all connected to the tracker; peers per agent ${Math.min(...peers)} to ${Math.max(...peers)}`);
    return fleet;
  }

  /** By host; undefined for agents that have ended. */
  async metrics(): Promise<(readonly Measured[] | undefined)[]> {
    return Promise.all(
      this.agents.map(async ({ process, link }) =>
        process.exit === undefined ? readExposition(await run('ip', ['netns', 'exec', link.namespace, 'curl', '-sS', '--fail', '--max-time', '20', METRICS_URL], { signal: this.#init.signal })) : undefined,
      ),
    );
  }

  /** Names of the hosts that the tracker believes no more, or has put out of the fleet. */
  async named(): Promise<string[]> {
    const token = (await readFile(join(this.#init.dir, 'tracker', 'operator-token'), 'utf8')).trim();
    const args = ['-sSk', '--fail', '--max-time', '20', '-H', `authorization: Bearer ${token}`, `https://127.0.0.1:${TRACKER_PORT}/api/v1/status`];
    const { members } = JSON.parse(await run('ip', ['netns', 'exec', this.#init.tracker.namespace, 'curl', ...args], { signal: this.#init.signal })) as { members: MemberStatus[] };
    return members.filter(({ state, trusted }) => !trusted || state !== 'member').map(({ peerId }) => this.peers.get(peerId) ?? peerId);
  }

  async #meshed(): Promise<number[]> {
    const wanted = Math.min(this.agents.length - 1, MESH_PEERS);
    let total = -1;
    let grewMs = Date.now();
    for (;;) {
      const peers = await Promise.all(this.agents.map(async (agent) => (await statusOf(agent))?.peers.connected ?? 0));
      const now = peers.reduce((sum, count) => sum + count, 0);
      if (now !== total) [total, grewMs] = [now, Date.now()];
      // Beyond the least there may be more to come; a moment without growth is enough then.
      const settledMs = peers.every((count) => count >= wanted) ? 1000 : MESH_SETTLED_MS;
      if (Date.now() - grewMs >= settledMs) return peers;
      await delay(POLL_MS, undefined, { signal: this.#init.signal });
    }
  }

  async #until(agent: FleetAgent, reached: (status: AgentStatus) => boolean, what: string): Promise<AgentStatus> {
    const deadlineMs = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const status = await statusOf(agent);
      if (status !== undefined && reached(status)) return status;
      if (agent.process.exit !== undefined || Date.now() > deadlineMs) {
        throw new Error(`agent ${agent.link.port} is not ${what}; its log ends: ${await tail(agent.logFile)}`);
      }
      await delay(POLL_MS, undefined, { signal: this.#init.signal });
    }
  }
}

async function startTracker({ tracker: link, dir, originUrl, resolveByTracker, signal }: FleetInit, opened: AsyncDisposableStack): Promise<LabProcess> {
  const dataDir = join(dir, 'tracker');
  const logFile = join(dir, 'tracker.log');
  const args = ['packages/tracker/src/main.ts', '--data', dataDir, '--listen', `0.0.0.0:${TRACKER_PORT}`, '--tls-name', link.address, ...(resolveByTracker ? ['--resolve', '--origin', `${ORIGIN_NAME}=${originUrl}`] : [])];
  const tracker = startIn(link.namespace, process.execPath, args, { logFile, cwd: CHECKOUT });
  opened.defer(() => tracker.end('SIGKILL'));
  const deadlineMs = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const ready = await run('ip', ['netns', 'exec', link.namespace, 'curl', '-sk', '--fail', '--max-time', '5', `https://127.0.0.1:${TRACKER_PORT}/readyz`], { signal }).then(
      () => true,
      () => false,
    );
    if (ready) return tracker;
    signal.throwIfAborted();
    if (tracker.exit !== undefined || Date.now() > deadlineMs) throw new Error(`the tracker is not ready; its log ends: ${await tail(logFile)}`);
    await delay(POLL_MS, undefined, { signal });
  }
}

function startAgent({ tracker, originUrl, dir, resolveByTracker, trace, profileDir, nodeFlags, liars, falseVouchers, zones }: FleetInit, link: Link, host: number, opened: AsyncDisposableStack): FleetAgent {
  const dataDir = join(dir, link.port);
  const logFile = join(dir, `${link.port}.log`);
  const traceFile = join(dir, `${link.port}.trace`);
  const zone = zones.findIndex((hosts) => hosts.includes(host));
  const args = [
    ...nodeFlags,
    ...(trace ? ['--import', TRACE_HOOK] : []),
    ...(liars.includes(host) ? ['--import', LIE_HOOK] : []),
    ...(falseVouchers.includes(host) ? ['--import', FALSE_VOUCHER_HOOK] : []),
    ...(profileDir !== undefined && host === 0 ? ['--cpu-prof', '--cpu-prof-dir', profileDir] : []),
    'packages/agent/src/main.ts', 'agent',
    '--name', link.port,
    ...(zone < 0 ? [] : ['--zone', `zone${zone + 1}`]),
    '--data', dataDir,
    '--p2p-listen', '0.0.0.0:5051',
    '--advertise', link.address,
    '--tracker', `https://${tracker.address}:${TRACKER_PORT}`,
    '--join-token-file', join(dir, 'tracker', 'join-token'),
    '--origin', `${ORIGIN_NAME}=${originUrl}`,
  ];
  // All hosts share one disk here: how full it is must not decide what an agent keeps.
  const env = { FLOTILLA_STORE_MIN_FREE_SHARE: '0', FLOTILLA_STORE_LIMIT: '1000GiB', ...(resolveByTracker && { FLOTILLA_RESOLVE_BY: 'tracker' }), ...(trace && { LAB_TRACE_FILE: traceFile, FLOTILLA_LOG_LEVEL: 'debug' }) };
  const agent = startIn(link.namespace, process.execPath, args, { logFile, env, cwd: CHECKOUT });
  opened.defer(() => agent.end('SIGKILL'));
  return { host, link, process: agent, dataDir, logFile, traceFile };
}

/** The agent's own words; undefined while nobody answers. The control socket is a file: no namespace is in the way. */
function statusOf({ dataDir }: FleetAgent): Promise<AgentStatus | undefined> {
  return new Promise((resolve) => {
    const request = get({ socketPath: join(dataDir, 'agent.sock'), path: '/status', timeout: 5000 }, (response) => {
      resolve(json(response) as Promise<AgentStatus>);
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(undefined));
  });
}

async function tail(file: string): Promise<string> {
  return (await readFile(file, 'utf8')).slice(-1500);
}

