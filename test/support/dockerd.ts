// A Docker of its own, in one folder: socket, images, its containerd. Without networks and with plain copies for layers, which is enough to pull.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run, type CommandOptions } from './command.ts';
import { mountPointsUnder } from './containers.ts';
import { programPath } from './programs.ts';

const START_TIMEOUT_MS = 60_000;

/** A release with the containerd image store, which Debian 12 does not have: by a name of its own. */
export const DOCKERD_28 = 'dockerd28';

export class Dockerd {
  readonly dir: string;
  readonly #child: ChildProcess;

  private constructor(dir: string, child: ChildProcess) {
    this.dir = dir;
    this.#child = child;
  }

  /** Debian's, with the classic image store. @param settings text of daemon.json @throws Error with its log when it does not answer */
  static start(settings: string): Promise<Dockerd> {
    return Dockerd.#start(settings, 'vfs', [programPath('dockerd') ?? 'dockerd']);
  }

  /** Of another release, with the containerd image store. @param etc what it finds at /etc/docker */
  static startWithContainerdStore(settings: Readonly<Record<string, unknown>>, etc: string): Promise<Dockerd> {
    const all = JSON.stringify({ ...settings, features: { 'containerd-snapshotter': true } });
    // The folder of its hosts.toml cannot be named otherwise.
    const script = 'mount --bind "$0" /etc/docker && exec "$@"';
    return Dockerd.#start(all, 'native', ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, etc, programPath(DOCKERD_28) ?? DOCKERD_28]);
  }

  static async #start(settings: string, storage: string, [program = '', ...args]: readonly string[]): Promise<Dockerd> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-dockerd-'));
    const config = join(dir, 'daemon.json');
    await writeFile(config, settings);
    const folders = ['--data-root', join(dir, 'data'), '--exec-root', join(dir, 'exec'), '--pidfile', join(dir, 'pid'), '--host', `unix://${join(dir, 'd.sock')}`];
    const log = openSync(join(dir, 'log'), 'a');
    const flags = ['--config-file', config, ...folders, '--iptables=false', '--ip6tables=false', '--bridge=none', `--storage-driver=${storage}`];
    const child = spawn(program, [...args, ...flags], { stdio: ['ignore', log, log] });
    closeSync(log);
    const dockerd = new Dockerd(dir, child);
    await dockerd.#answers();
    return dockerd;
  }

  /** For `docker` wherever it is started. */
  get env(): NodeJS.ProcessEnv {
    return { DOCKER_HOST: `unix://${join(this.dir, 'd.sock')}`, DOCKER_CONFIG: this.dir };
  }

  docker(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run('docker', args, { ...options, env: { ...process.env, ...this.env, ...options.env } });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await exited;
    }
    for (const mountPoint of await mountPointsUnder(this.dir)) await run('umount', [mountPoint]);
    await rm(this.dir, { recursive: true, force: true });
  }

  async #answers(): Promise<void> {
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      try {
        await this.docker(['version'], { timeoutMs: 5000 });
        return;
      } catch (error) {
        if (performance.now() < deadlineMs && this.#child.exitCode === null) {
          await delay(100);
          continue;
        }
        const log = readFileSync(join(this.dir, 'log'), 'utf8');
        await this.close();
        throw new Error(`dockerd does not answer:\n${log}`, { cause: error });
      }
    }
  }
}
