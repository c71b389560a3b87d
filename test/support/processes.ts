// Trackers and agents as the processes that an operator runs, on loopback, each with its own data folder.
//
// Ports are chosen beforehand (ports.ts), so that a restart comes back under the same address. Output is kept in a log file in the
// data folder; its end is part of every error. Each process is ended by its id; `close` kills what a test left running.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Agent as HttpAgent, request } from 'undici';
import { freePorts } from './ports.ts';

export const checkout = fileURLToPath(new URL('../..', import.meta.url));

const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
const LOG_TAIL_LINES = 20;

/** Bytes that went to local clients, by where they came from. */
export interface BlobBytes {
  readonly peer: number;
  readonly origin: number;
  readonly store: number;
}

/** One running program. */
export class Program {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #logFile: string;
  readonly #readyUrl: string;
  readonly #trust: HttpAgent;
  #child: ChildProcess | undefined;

  constructor(name: string, args: readonly string[], logFile: string, readyUrl: string, trust: HttpAgent) {
    this.name = name;
    this.#args = args;
    this.#logFile = logFile;
    this.#readyUrl = readyUrl;
    this.#trust = trust;
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error(`${this.name} does not run`);
    return this.#child.pid;
  }

  /** What it has logged since its first start. */
  get log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  /** Starts (again) and waits for /readyz. */
  async start(): Promise<void> {
    const output = openSync(this.#logFile, 'a');
    const child = spawn(process.execPath, this.#args, { cwd: checkout, stdio: ['ignore', output, output] });
    closeSync(output);
    this.#child = child;
    const deadlineMs = performance.now() + READY_TIMEOUT_MS;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${this.name} ended with ${child.exitCode ?? child.signalCode}:\n${this.#logTail()}`);
      if (performance.now() > deadlineMs) throw new Error(`${this.name} is not ready after ${READY_TIMEOUT_MS} ms:\n${this.#logTail()}`);
      await delay(POLL_MS);
    }
  }

  /** SIGTERM by default. @returns the exit code, null when the signal ended it */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    this.#child = undefined;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill(signal);
      await exited;
    }
    return child.exitCode;
  }

  async #isReady(): Promise<boolean> {
    try {
      const response = await request(this.#readyUrl, { dispatcher: this.#trust, signal: AbortSignal.timeout(2000) });
      await response.body.dump();
      return response.statusCode === 200;
    } catch (error) {
      // Not listening yet, or too slow: asked again until the deadline.
      if (error instanceof Error) return false;
      throw error;
    }
  }

  #logTail(): string {
    return this.log.trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
  }
}

/** An agent with the addresses that a client and an operator use. */
export class AgentProgram extends Program {
  /** 127.0.0.1:PORT of the v2 endpoint */
  readonly host: string;
  readonly dataDir: string;
  readonly #adminUrl: string;

  constructor(name: string, args: readonly string[], dataDir: string, logFile: string, host: string, adminUrl: string, trust: HttpAgent) {
    super(name, args, logFile, `${adminUrl}/readyz`, trust);
    this.host = host;
    this.dataDir = dataDir;
    this.#adminUrl = adminUrl;
  }

  get url(): string {
    return `http://${this.host}`;
  }

  async blobBytes(): Promise<BlobBytes> {
    const samples = await this.metrics();
    const of = (source: string): number => samples.get(`flotilla_blob_bytes_total{source="${source}"}`) ?? 0;
    return { peer: of('peer'), origin: of('origin'), store: of('store') };
  }

  /** Samples by name with labels, as Prometheus would read them. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    const response = await request(`${this.#adminUrl}/metrics`, { signal: AbortSignal.timeout(5000) });
    const text = await response.body.text();
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }
}

/** A tracker and its agents. */
export class FleetProcesses {
  readonly dir: string;
  readonly tracker: Program;
  readonly trackerUrl: string;
  readonly agents: AgentProgram[] = [];
  readonly #trust: HttpAgent;

  private constructor(dir: string, tracker: Program, trackerUrl: string, trust: HttpAgent) {
    this.dir = dir;
    this.tracker = tracker;
    this.trackerUrl = trackerUrl;
    this.#trust = trust;
  }

  /** A running tracker, no agent yet. */
  static async start(): Promise<FleetProcesses> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-fleet-'));
    const [port] = await freePorts(1);
    const url = `https://127.0.0.1:${port}`;
    // Only /readyz is asked with it, over loopback; agents themselves pin the tracker's CA.
    const trust = new HttpAgent({ connect: { rejectUnauthorized: false } });
    const args = ['packages/tracker/src/main.ts', '--listen', `127.0.0.1:${port}`, '--data', join(dir, 'tracker')];
    const fleet = new FleetProcesses(dir, new Program('tracker', args, join(dir, 'tracker.log'), `${url}/readyz`, trust), url, trust);
    try {
      await fleet.tracker.start();
    } catch (error) {
      await fleet.close();
      throw error;
    }
    return fleet;
  }

  /** Starts an agent of this fleet. @param flags such as `--origin lab=http://127.0.0.1:5000` @param nodeFlags such as `--import HOOK` */
  async addAgent(name: string, flags: readonly string[] = [], nodeFlags: readonly string[] = []): Promise<AgentProgram> {
    const [port, p2pPort, adminPort] = await freePorts(3);
    const dataDir = join(this.dir, name);
    const args = [
      ...nodeFlags, 'packages/agent/src/main.ts', 'agent', '--name', name, '--data', dataDir,
      '--listen', `127.0.0.1:${port}`, '--p2p-listen', `127.0.0.1:${p2pPort}`, '--admin-listen', `127.0.0.1:${adminPort}`,
      '--tracker', this.trackerUrl, '--join-token-file', join(this.dir, 'tracker', 'join-token'),
      ...flags,
    ];
    const agent = new AgentProgram(name, args, dataDir, join(this.dir, `${name}.log`), `127.0.0.1:${port}`, `http://127.0.0.1:${adminPort}`, this.#trust);
    this.agents.push(agent);
    await agent.start();
    return agent;
  }

  /** Kills what still runs and deletes all data. */
  async close(): Promise<void> {
    await Promise.all([...this.agents, this.tracker].map((program) => program.stop('SIGKILL')));
    await this.#trust.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}
