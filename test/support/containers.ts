// A home for podman, buildah and skopeo that shares nothing with the machine's own: storage, state, locks, registries.conf.
//
// Everything lies in one folder; `close` stops the containers, undoes mounts and deletes it. Registries on 127.0.0.1 speak plain HTTP here.

import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, type CommandOptions } from './command.ts';
import { programPath } from './programs.ts';

/** Limits that an unprivileged machine cannot raise, and the host's network: runs where a full container might not. */
const RUN_FLAGS = ['--network=host', '--ulimit', 'nproc=1024:1024', '--ulimit', 'nofile=1024:1024'];

export class ContainersHome {
  readonly dir: string;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(dir: string) {
    this.dir = dir;
    this.#env = {
      ...process.env,
      CONTAINERS_CONF: join(dir, 'containers.conf'),
      CONTAINERS_REGISTRIES_CONF: join(dir, 'registries.conf'),
      REGISTRY_AUTH_FILE: join(dir, 'auth.json'),
      TMPDIR: join(dir, 'tmp'),
    };
  }

  /**
   * @param dropIn text of registries.conf(5) besides the plain-HTTP entries, such as a mirror
   * @param plainHttp host:port of registries without TLS
   */
  static async create({ plainHttp = [], dropIn = '' }: { readonly plainHttp?: readonly string[]; readonly dropIn?: string } = {}): Promise<ContainersHome> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-containers-'));
    await mkdir(join(dir, 'tmp'));
    const insecure = plainHttp.map((host) => `[[registry]]\nlocation = "${host}"\ninsecure = true\n`);
    await writeFile(join(dir, 'registries.conf'), `unqualified-search-registries = []\n${insecure.join('')}${dropIn}`);
    await writeFile(join(dir, 'policy.json'), JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
    await writeFile(join(dir, 'auth.json'), '{}');
    const containersConf = `[network]
network_backend = "netavark"
network_config_dir = "${join(dir, 'network')}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
`;
    await writeFile(join(dir, 'containers.conf'), containersConf);
    return new ContainersHome(dir);
  }

  podman(args: readonly string[], options?: CommandOptions): Promise<string> {
    const runtime = programPath('runc') ?? 'runc';
    return this.#run('podman', [...this.#storage(), '--tmpdir', join(this.dir, 'tmp', 'libpod'), '--runtime', runtime, ...args], options);
  }

  buildah(args: readonly string[], options?: CommandOptions): Promise<string> {
    return this.#run('buildah', [...this.#storage(), ...args], options);
  }

  skopeo(args: readonly string[], options?: CommandOptions): Promise<string> {
    return this.#run('skopeo', ['--policy', join(this.dir, 'policy.json'), ...args], options);
  }

  /** `podman run -d`; the image is pulled if it is not here. @returns the container's id */
  async runContainer(image: string, flags: readonly string[] = []): Promise<string> {
    return (await this.podman(['run', '-d', ...RUN_FLAGS, ...flags, image])).trim();
  }

  /** Stops all containers and deletes everything. */
  async close(): Promise<void> {
    await this.podman(['rm', '--all', '--force', '--time', '0']);
    await this.podman(['image', 'umount', '--all', '--force']);
    for (const mountPoint of await mountPointsUnder(this.dir)) await run('umount', [mountPoint]);
    await rm(this.dir, { recursive: true, force: true });
  }

  #storage(): string[] {
    return ['--root', join(this.dir, 'storage'), '--runroot', join(this.dir, 'run'), '--storage-driver', 'overlay'];
  }

  #run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run(program, args, { ...options, env: { ...this.#env, ...options.env } });
  }
}

/** Deepest first. */
export async function mountPointsUnder(dir: string): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
  return mounts.filter((path) => path.startsWith(`${dir}/`)).toReversed();
}
