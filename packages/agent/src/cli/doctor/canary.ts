// A small image pulled through a client as it is configured, to see whether the pull comes by the agent: clients bypass a mirror without
// a word. What the client keeps of it is taken away again, unless the client had the image before.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LoggedRequest } from '../../content/request-log.ts';
import type { ClientName } from '../setup/clients.ts';
import { ok, problem, skipped, warning, type Finding } from './finding.ts';

/** Tiny images that anybody may read, by registry. Each is under a megabyte. */
export const CANARIES: ReadonlyMap<string, string> = new Map([
  ['docker.io', 'docker.io/library/hello-world:latest'],
  ['registry.k8s.io', 'registry.k8s.io/pause:3.10'],
  ['public.ecr.aws', 'public.ecr.aws/docker/library/hello-world:latest'],
  ['quay.io', 'quay.io/podman/hello:latest'],
]);

const TIMEOUT_MS = 120_000;
/** Of the repository that no pull of anybody else goes to. */
const NAMESPACE = 'flotilla-doctor';

/** What a client does with the image, step by step; `undo` always, what it says does not matter. */
interface Recipe {
  readonly pull: readonly string[];
  readonly undo: readonly (readonly string[])[];
}

export interface CanaryInit {
  /** Where a program lies; undefined: it is not installed. */
  readonly findProgram: (name: string) => string | undefined;
  /** containerd's folder of hosts.toml files. */
  readonly certsFolder: string;
}

/** @returns undefined where it went well, else what the client said @throws nothing */
export type RunPull = (client: ClientName, image: string, signal: AbortSignal) => Promise<{ readonly error: string | undefined } | 'no program'>;

export function canaryPuller({ findProgram, certsFolder }: CanaryInit): RunPull {
  return async (client, image, signal) => {
    const scratch = await mkdtemp(join(tmpdir(), 'flotilla-canary-'));
    try {
      const recipe = await recipeFor(client, image, scratch, certsFolder, findProgram, signal);
      if (recipe === undefined) return 'no program';
      try {
        return { error: await run(recipe.pull, signal) };
      } finally {
        for (const step of recipe.undo) await run(step, AbortSignal.timeout(TIMEOUT_MS));
      }
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  };
}

async function recipeFor(client: ClientName, image: string, scratch: string, certsFolder: string, findProgram: CanaryInit['findProgram'], signal: AbortSignal): Promise<Recipe | undefined> {
  const program = (name: string): string[] => {
    const path = findProgram(name);
    return path === undefined ? [] : [path];
  };
  switch (client) {
    case 'podman':
    case 'crio': {
      const [crictl] = client === 'crio' ? program('crictl') : [];
      if (crictl !== undefined) return { pull: [crictl, 'pull', image], undo: (await run([crictl, 'inspecti', image], signal)) === undefined ? [] : [[crictl, 'rmi', image]] };
      // All of them read the same configuration; skopeo leaves nothing behind. Whom the image is signed by is nobody's concern here.
      const [skopeo] = program('skopeo');
      if (skopeo !== undefined) return { pull: [skopeo, '--insecure-policy', 'copy', '--override-os', 'linux', `docker://${image}`, `dir:${join(scratch, 'image')}`], undo: [] };
      const [builder] = [...program('podman'), ...program('buildah')];
      if (builder === undefined) return undefined;
      const storage = ['--root', join(scratch, 'root'), '--runroot', join(scratch, 'run'), '--storage-driver', 'vfs'];
      return { pull: [builder, ...storage, 'pull', '--quiet', image], undo: [] };
    }
    case 'containerd': {
      const [ctr] = program('ctr');
      if (ctr === undefined) return undefined;
      const own = [ctr, '--namespace', NAMESPACE];
      return { pull: [...own, 'content', 'fetch', '--hosts-dir', certsFolder, image], undo: [[...own, 'images', 'rm', '--sync', image], [ctr, 'namespaces', 'rm', NAMESPACE]] };
    }
    case 'docker': {
      const [docker] = program('docker');
      if (docker === undefined) return undefined;
      const had = (await run([docker, 'image', 'inspect', image], signal)) === undefined;
      return { pull: [docker, 'pull', '--quiet', image], undo: had ? [] : [[docker, 'image', 'rm', image]] };
    }
  }
}

/** @returns undefined where it ended well, else the end of what it said */
function run([program = '', ...args]: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(program, args, { signal, timeout: TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(undefined);
      else resolve(lastLine(`${stdout}\n${stderr}`) ?? error.message);
    });
  });
}

function lastLine(text: string): string | undefined {
  return text.trim().split('\n').findLast((line) => line.trim() !== '')?.trim().slice(0, 300);
}

/** What became of the canary. `requests`: those of its repository that the agent has had since the pull began. */
export function judgeCanary(client: ClientName, image: string, error: string | undefined, requests: readonly LoggedRequest[]): Finding {
  const check = `canary ${client}`;
  const refusals = requests.filter(({ outcome }) => outcome !== 'served' && outcome !== 'pending').map(({ outcome }) => outcome);
  const served = requests.some(({ outcome }) => outcome === 'served');
  if (error !== undefined) {
    const came = requests.length === 0 ? 'and did not ask the agent' : refusals.length > 0 ? `the agent answered ${refusals[0]}` : 'although the agent served it';
    const help = requests.length === 0 ? `Look at its configuration with "flotilla setup ${client} --print", and restart it if that was not done after setting it up.` : 'See the log of the agent, and "flotilla status" for faults of the origin.';
    return problem(check, `${client} could not pull ${image} (${error}); ${came}`, help);
  }
  if (served && refusals.length === 0) return ok(check, `${image} came by the agent`);
  if (requests.length > 0) return warning(check, `${client} pulled ${image}, but at least in part past the agent, which answered ${refusals[0] ?? 'nothing'}`, 'See docs/errors.md for this code, and "flotilla status" for faults of the origin.');
  return problem(check, `${client} pulled ${image} past the agent`, bypassHelp(client));
}

function bypassHelp(client: ClientName): string {
  switch (client) {
    case 'podman':
      return 'Another registries.conf(5) may be in force: CONTAINERS_REGISTRIES_CONF, or one in the home of the user who pulls.';
    case 'crio':
    case 'containerd':
      return `Restart it, if that was not done after "flotilla setup ${client}".`;
    case 'docker':
      return 'Reload Docker, and start the agent with --default-origin docker.io.';
  }
}

/** Nothing to try with. `last`: an image that clients pulled lately. */
export function noCanary(client: ClientName, tried: readonly string[], last: string | undefined): Finding {
  const why = tried.length === 0 ? 'no small image is known for its registries' : `${tried.join(' and ')} ${tried.length === 1 ? 'is' : 'are'} not there`;
  const hint = last === undefined ? '' : `, such as ${last}`;
  return warning(`canary ${client}`, `not tried: ${why}`, `Name a small image of yours with --canary IMAGE${hint}.`);
}

/** There is a client without a program to pull with. */
export function noProgram(client: ClientName): Finding {
  return skipped(`canary ${client}`, 'not tried: none of its command line programs is installed');
}
