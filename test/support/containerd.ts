// A containerd of its own, in one folder: socket, state, content. Its snapshots are plain copies, which work wherever a folder does.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run, type CommandOptions } from './command.ts';
import { programPath } from './programs.ts';

const START_TIMEOUT_MS = 60_000;

/** Debian's. */
const DEBIANS = { daemon: 'containerd', ctr: 'ctr' };
/** Version 2, which Debian 12 does not have: its programs by names of their own. */
export const CONTAINERD_2 = { daemon: 'containerd2', ctr: 'ctr2' };

/** Each layer in so many requests at once, as containerd can since 2.1. */
export interface ParallelFetch {
  readonly maxConcurrentDownloads: number;
  readonly concurrentLayerFetchBuffer: number;
}

export class Containerd {
  readonly dir: string;
  readonly #child: ChildProcess;
  readonly #ctr: string;

  private constructor(dir: string, child: ChildProcess, ctr: string) {
    this.dir = dir;
    this.#child = child;
    this.#ctr = ctr;
  }

  /** Debian's. @throws Error with its log when it does not answer */
  static start(): Promise<Containerd> {
    return Containerd.#start(DEBIANS, '');
  }

  /** Version 2. @throws Error with its log when it does not answer */
  static startVersion2(parallel?: ParallelFetch): Promise<Containerd> {
    const fetch = parallel && [`max_concurrent_downloads = ${parallel.maxConcurrentDownloads}`, `concurrent_layer_fetch_buffer = ${parallel.concurrentLayerFetchBuffer}`];
    // It unpacks what it pulls, by overlays unless told otherwise, which do not work wherever a folder does.
    const unpack = ['[[plugins."io.containerd.transfer.v1.local".unpack_config]]', 'platform = "linux/amd64"', 'snapshotter = "native"'];
    return Containerd.#start(CONTAINERD_2, ['[plugins."io.containerd.transfer.v1.local"]', ...(fetch ?? []), ...unpack].join('\n'));
  }

  static async #start(programs: typeof DEBIANS, plugins: string): Promise<Containerd> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-containerd-'));
    const config = `version = 2
root = "${join(dir, 'root')}"
state = "${join(dir, 'state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${join(dir, 'c.sock')}"
${plugins}`;
    await writeFile(join(dir, 'config.toml'), config);
    const log = openSync(join(dir, 'log'), 'a');
    const child = spawn(programPath(programs.daemon) ?? programs.daemon, ['--config', join(dir, 'config.toml')], { stdio: ['ignore', log, log] });
    closeSync(log);
    const containerd = new Containerd(dir, child, programs.ctr);
    await containerd.#answers();
    return containerd;
  }

  /** For `ctr` wherever it is started. */
  get env(): NodeJS.ProcessEnv {
    return { CONTAINERD_ADDRESS: join(this.dir, 'c.sock'), CONTAINERD_SNAPSHOTTER: 'native' };
  }

  ctr(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run(this.#ctr, args, { ...options, env: { ...process.env, ...this.env, ...options.env } });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await exited;
    }
    await rm(this.dir, { recursive: true, force: true });
  }

  async #answers(): Promise<void> {
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      try {
        await this.ctr(['version'], { timeoutMs: 5000 });
        return;
      } catch (error) {
        if (performance.now() < deadlineMs && this.#child.exitCode === null) {
          await delay(50);
          continue;
        }
        const log = readFileSync(join(this.dir, 'log'), 'utf8');
        await this.close();
        throw new Error(`containerd does not answer:\n${log}`, { cause: error });
      }
    }
  }
}
