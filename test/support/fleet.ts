// A tracker and agents in this process, on loopback and real disks: for tests that play with timing and faults.
// Tests against real programs and real clients are the *.real.test.ts.

import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '@flotilla/agent/config';
import { startAgent, type RunningAgent } from '@flotilla/agent/agent';
import { createLogger } from '@flotilla/agent/log';
import { loadConfig as loadTrackerConfig } from '@flotilla/tracker/config';
import { startTracker, type Tracker } from '@flotilla/tracker/server';
import { request } from 'undici';
import { freePorts } from './ports.ts';

/** One agent of the test fleet. */
export interface TestAgent {
  readonly name: string;
  readonly dir: string;
  readonly url: string;
  readonly running: RunningAgent;
  /** Bytes by source since its start. */
  bytes(): Promise<{ peer: number; origin: number; store: number; uploaded: number; duplicate: number }>;
  /** Stops it; its folder stays for a restart. */
  stop(): Promise<void>;
}

export interface PulledBlob {
  readonly status: number;
  readonly sha256: string;
  readonly bytes: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** By setting name, as on the command line. */
export type TrackerFlags = Readonly<Record<string, string | boolean | readonly string[]>>;

export class TestFleet {
  readonly dir: string;
  readonly #origins: Readonly<Record<string, string>>;
  readonly #trackerFlags: TrackerFlags;
  readonly #agents = new Set<TestAgent>();
  #tracker: Tracker | undefined;
  /** Chosen at the first start. */
  #trackerListen: string | undefined;

  private constructor(dir: string, origins: Readonly<Record<string, string>>, trackerFlags: TrackerFlags) {
    this.dir = dir;
    this.#origins = origins;
    this.#trackerFlags = trackerFlags;
  }

  /** @param origins NAME -> URL */
  static async start(origins: Readonly<Record<string, string>>, trackerFlags: TrackerFlags = {}): Promise<TestFleet> {
    const fleet = new TestFleet(await mkdtemp(join(tmpdir(), 'flotilla-fleet-')), origins, trackerFlags);
    await fleet.startTracker();
    return fleet;
  }

  get tracker(): Tracker {
    if (this.#tracker === undefined) throw new Error('the tracker is stopped');
    return this.#tracker;
  }

  /** The tracker (again, at the same address). */
  async startTracker(): Promise<void> {
    this.#trackerListen ??= `127.0.0.1:${(await freePorts(1))[0]}`;
    const { config } = loadTrackerConfig({
      env: {},
      flags: { data: join(this.dir, 'tracker'), listen: this.#trackerListen, heartbeatMs: '1000', logLevel: process.env['FLOTILLA_TEST_LOG'] ?? 'silent', ...this.#trackerFlags },
    });
    this.#tracker = await startTracker(config);
  }

  async stopTracker(): Promise<void> {
    await this.#tracker?.close();
    this.#tracker = undefined;
  }

  /** Starts an agent and waits until the tracker knows it. */
  async agent(name: string, flags: Readonly<Record<string, string>> = {}, { alone = false } = {}): Promise<TestAgent> {
    const dir = join(this.dir, name);
    const { config } = loadConfig({
      env: {},
      flags: {
        data: dir,
        listen: '127.0.0.1:0',
        p2pListen: '127.0.0.1:0',
        adminListen: '127.0.0.1:0',
        name,
        logLevel: process.env['FLOTILLA_TEST_LOG'] ?? 'silent',
        storeLimit: '10GiB',
        origin: Object.entries(this.#origins).map(([origin, url]) => `${origin}=${url}`),
        ...(!alone && { tracker: [`https://${this.#trackerListen}`], joinTokenFile: join(this.dir, 'tracker', 'join-token') }),
        ...flags,
      },
    });
    const running = await startAgent({ ...config, storeMinFreeShare: 0 }, createLogger(config.logLevel));
    const { host, port } = running.addresses.registry;
    const agent: TestAgent = {
      name,
      dir,
      url: `http://${host}:${port}`,
      running,
      bytes: async () => (await running.status()).bytes,
      stop: async () => {
        this.#agents.delete(agent);
        await running.close();
      },
    };
    this.#agents.add(agent);
    if (!alone && this.#tracker !== undefined) await until(`${name} connected`, async () => (await running.status()).tracker.state === 'connected');
    return agent;
  }

  /** Every agent has a session with every other one. */
  async meshed(): Promise<void> {
    const others = this.#agents.size - 1;
    for (const agent of this.#agents) {
      await until(`${agent.name} meshed`, async () => (await agent.running.status()).peers.connected >= others);
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#agents].map((agent) => agent.stop()));
    await this.stopTracker();
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** GET through an agent; the whole body, hashed. Rejects where the body breaks. */
export async function pull(agent: TestAgent, path: string, init: { signal?: AbortSignal; headers?: Record<string, string>; onBytes?: (total: number) => void | Promise<void> } = {}): Promise<PulledBlob> {
  const { statusCode, headers, body } = await request(`${agent.url}/v2/${path}`, { ...(init.signal && { signal: init.signal }), headers: init.headers ?? {}, bodyTimeout: 0, headersTimeout: 0 });
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of body as AsyncIterable<Buffer>) {
    hash.update(piece);
    bytes += piece.length;
    await init.onBytes?.(bytes);
  }
  return { status: statusCode, sha256: `sha256:${hash.digest('hex')}`, bytes, headers };
}

/** Polls a condition of another program's state; fails with its name after `withinMs`: 40 s, as a busy machine makes nothing untrue. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, withinMs = 40_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`timed out waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
