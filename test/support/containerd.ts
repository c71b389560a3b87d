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

export class Containerd {
  readonly dir: string;
  readonly #child: ChildProcess;

  private constructor(dir: string, child: ChildProcess) {
    this.dir = dir;
    this.#child = child;
  }

  /** @throws Error with its log when it does not answer */
  static async start(): Promise<Containerd> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-containerd-'));
    const config = `version = 2
root = "${join(dir, 'root')}"
state = "${join(dir, 'state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${join(dir, 'c.sock')}"
`;
    await writeFile(join(dir, 'config.toml'), config);
    const log = openSync(join(dir, 'log'), 'a');
    const child = spawn(programPath('containerd') ?? 'containerd', ['--config', join(dir, 'config.toml')], { stdio: ['ignore', log, log] });
    closeSync(log);
    const containerd = new Containerd(dir, child);
    await containerd.#answers();
    return containerd;
  }

  /** For `ctr` wherever it is started. */
  get env(): NodeJS.ProcessEnv {
    return { CONTAINERD_ADDRESS: join(this.dir, 'c.sock'), CONTAINERD_SNAPSHOTTER: 'native' };
  }

  ctr(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run('ctr', args, { ...options, env: { ...process.env, ...this.env, ...options.env } });
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
