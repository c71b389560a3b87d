// What the lab needs, asked before anything is made.

import { access, constants, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { run } from './command.ts';

/** The lab cannot run here; the message says why. */
export class RefusedError extends Error {}

const PROGRAMS: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  tc: 'iproute2',
  bash: 'bash',
  curl: 'curl',
  sha256sum: 'coreutils',
  setpriv: 'util-linux',
  'docker-registry': 'docker-registry',
};

/** @throws RefusedError */
export async function refuseWhereImpossible(): Promise<void> {
  if (process.platform !== 'linux') throw new RefusedError('the lab needs Linux: it is made of network namespaces');
  if (process.getuid?.() !== 0) throw new RefusedError('the lab needs root, to make network namespaces');
  const missing: string[] = [];
  for (const program of Object.keys(PROGRAMS)) if (!(await installed(program))) missing.push(program);
  if (missing.length > 0) {
    const packages = new Set(missing.map((program) => PROGRAMS[program]));
    throw new RefusedError(`the lab needs ${missing.join(', ')} (Debian: apt-get install ${[...packages].join(' ')})`);
  }
  await tryNamespace();
}

/**
 * The TCP congestion control that the hosts will have.
 * @throws RefusedError where the kernel has no such one
 */
export async function congestionControl(wanted: string): Promise<string> {
  const available = (await readFile('/proc/sys/net/ipv4/tcp_available_congestion_control', 'utf8')).trim().split(' ');
  if (!available.includes(wanted)) throw new RefusedError(`--congestion ${wanted}: this kernel has ${available.join(', ')}`);
  return wanted;
}

/** Root in a container may still lack the right. */
async function tryNamespace(): Promise<void> {
  const name = `flotilla-lab-${process.pid}-try`;
  let made = false;
  try {
    await run('ip', ['netns', 'add', name]);
    made = true;
    await run('ip', ['-n', name, 'link', 'add', 'name', 'try0', 'type', 'veth', 'peer', 'name', 'try1']);
    await run('tc', ['-n', name, 'qdisc', 'add', 'dev', 'try0', 'root', 'tbf', 'rate', '1mbit', 'burst', '64kb', 'latency', '50ms']);
  } catch (error) {
    throw new RefusedError(`the lab may not make shaped links here: ${(error as Error).message}`, { cause: error });
  } finally {
    if (made) await run('ip', ['netns', 'del', name]);
  }
}

async function installed(program: string): Promise<boolean> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const found = await access(join(folder, program), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}
