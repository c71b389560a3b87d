// What a lab leaves behind when it is killed outright: namespaces and folders that carry the pid of a lab that is gone.
// Every lab removes them before it starts. Labs that still run are not touched.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError, run } from './command.ts';

export const NAMESPACE_PREFIX = 'flotilla-lab-';
/** Short, because the agents' control sockets are below it. */
const FOLDER_PREFIX = 'flab-';

export async function sweep(): Promise<void> {
  for (const line of (await run('ip', ['netns', 'list'])).split('\n')) {
    const [name = ''] = line.split(' ');
    if (isOrphan(name, NAMESPACE_PREFIX)) await removeNamespace(name);
  }
  for (const name of await readdir(tmpdir())) {
    if (isOrphan(name, FOLDER_PREFIX)) await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}

/** A new folder for a lab's data; the caller removes it. */
export function makeFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
}

/** Ends what runs in a namespace and deletes it; nothing happens where there is none. */
export async function removeNamespace(name: string): Promise<void> {
  try {
    // Nobody else knows the namespace, so what still runs in it is the lab's.
    for (const pid of (await run('ip', ['netns', 'pids', name])).split('\n')) {
      if (pid !== '') signalTo(Number(pid), 'SIGKILL');
    }
    await run('ip', ['netns', 'del', name]);
  } catch (error) {
    if (!(error instanceof CommandError && /No such file/.test(error.message))) throw error;
  }
}

function isOrphan(name: string, prefix: string): boolean {
  const [, pid] = new RegExp(`^${prefix}(\\d+)-`).exec(name) ?? [];
  return pid !== undefined && !signalTo(Number(pid), 0);
}

/** @returns false where there is no such process */
function signalTo(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
}
