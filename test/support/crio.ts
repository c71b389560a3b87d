// A CRI-O of its own, in one folder, with an /etc/containers of its own: it sees that folder's in a mount namespace. Without networks and with
// plain copies for layers, which is enough to pull.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run, type CommandOptions } from './command.ts';
import { mountPointsUnder } from './containers.ts';
import { programPath } from './programs.ts';

const START_TIMEOUT_MS = 60_000;
const RELOADED = /Applied new registry configuration/g;

export class Crio {
  /** The root of the host that it runs on, as far as /etc/containers goes. */
  readonly root: string;
  readonly #dir: string;
  readonly #child: ChildProcess;

  private constructor(dir: string, root: string, child: ChildProcess) {
    this.#dir = dir;
    this.root = root;
    this.#child = child;
  }

  /** Root's home there is its home. @throws Error with its log when it does not answer */
  static async start({ rootsOwn }: { readonly rootsOwn?: string } = {}): Promise<Crio> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-crio-'));
    const root = join(dir, 'host');
    await mkdir(join(root, 'etc/containers'), { recursive: true });
    await mkdir(join(root, 'root/.config/containers'), { recursive: true });
    if (rootsOwn !== undefined) await writeFile(join(root, 'root/.config/containers/registries.conf'), rootsOwn);
    await writeFile(join(dir, 'policy.json'), JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
    await writeFile(join(dir, 'crio.conf'), settings(dir));
    const log = openSync(join(dir, 'log'), 'a');
    const child = spawn(programPath('unshare') ?? 'unshare', Crio.#seeing(root, [programPath('crio') ?? 'crio', '--config', join(dir, 'crio.conf'), '--config-dir', '']), { stdio: ['ignore', log, log], env: { ...process.env, HOME: join(root, 'root') } });
    closeSync(log);
    const crio = new Crio(dir, root, child);
    await crio.#until('answers', async () => {
      await crio.crictl(['version'], { timeoutMs: 5000 });
      return true;
    });
    return crio;
  }

  /** For `crictl` wherever it is started. */
  get env(): NodeJS.ProcessEnv {
    const socket = `unix://${join(this.#dir, 'crio.sock')}`;
    return { CONTAINER_RUNTIME_ENDPOINT: socket, IMAGE_SERVICE_ENDPOINT: socket };
  }

  crictl(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run('crictl', args, { ...options, env: { ...process.env, ...this.env, ...options.env } });
  }

  /** Runs a program that sees the same /etc/containers; its exit code does not count. */
  beside(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
    const command = ['sh', '-c', '"$@" || true', 'sh', program, ...args];
    return run('unshare', Crio.#seeing(this.root, command), { ...options, env: { ...process.env, ...this.env, ...options.env } });
  }

  /** As `systemctl reload crio` does; resolves when it has read registries.conf(5) again. */
  async reload(): Promise<void> {
    const before = this.#log.match(RELOADED)?.length ?? 0;
    this.#child.kill('SIGHUP');
    await this.#until('reloads', async () => (this.#log.match(RELOADED)?.length ?? 0) > before);
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await exited;
    }
    for (const mountPoint of await mountPointsUnder(this.#dir)) await run('umount', [mountPoint]);
    await rm(this.#dir, { recursive: true, force: true });
  }

  get #log(): string {
    return readFileSync(join(this.#dir, 'log'), 'utf8');
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    for (let last: unknown; ; ) {
      try {
        if (await condition()) return;
      } catch (error) {
        last = error;
      }
      if (performance.now() < deadlineMs && this.#child.exitCode === null) {
        await delay(50);
        continue;
      }
      const log = this.#log;
      await this.close();
      throw new Error(`CRI-O never ${what}:\n${log}`, { cause: last });
    }
  }

  static #seeing(root: string, command: readonly string[]): string[] {
    return ['--mount', '--propagation', 'private', 'sh', '-c', 'mount --bind "$0" /etc/containers && exec "$@"', join(root, 'etc/containers'), ...command];
  }
}

function settings(dir: string): string {
  return `[crio]
root = "${dir}/storage"
runroot = "${dir}/run"
storage_driver = "vfs"
log_dir = "${dir}/pods"
version_file = "${dir}/version"
clean_shutdown_file = "${dir}/clean.shutdown"
[crio.api]
listen = "${dir}/crio.sock"
[crio.runtime]
conmon_cgroup = "pod"
cgroup_manager = "cgroupfs"
container_exits_dir = "${dir}/exits"
container_attach_socket_dir = "${dir}/attach"
namespaces_dir = "${dir}/namespaces"
pinns_path = "${programPath('pinns') ?? 'pinns'}"
default_runtime = "runc"
apparmor_profile = "unconfined"
irqbalance_config_restore_file = "disable"
[crio.runtime.runtimes.runc]
runtime_path = "${programPath('runc') ?? 'runc'}"
runtime_root = "${dir}/runc"
monitor_path = "${programPath('conmon') ?? 'conmon'}"
[crio.image]
signature_policy = "${dir}/policy.json"
signature_policy_dir = "${dir}/policies"
[crio.network]
network_dir = "${dir}/cni"
plugin_dirs = ["${dir}/cni-plugins"]
[crio.nri]
enable_nri = false
`;
}
