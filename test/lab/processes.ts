// Programs inside namespaces, and what the kernel says they used.
//
// `setpriv` and `ip netns exec` replace themselves by the program, so the pid is the program's own; and should the lab be
// killed outright, the kernel kills its programs with it. Each program leads a process group: `end` reaches its children too.

import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';

/** USER_HZ: what /proc counts processor time in, on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;
const KIB = 1024;

export interface ProcessInit {
  /** Where its output goes. @default nowhere */
  readonly logFile?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Output and input as pipes, on `child`. */
  readonly piped?: boolean;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface MemoryUse {
  /** Resident bytes: now, and at most so far. */
  readonly rss: number;
  readonly peak: number;
}

export class LabProcess {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  #exit: Exit | undefined;
  #cpuSeconds = 0;
  #memory: MemoryUse = { rss: 0, peak: 0 };

  constructor(child: ChildProcess) {
    this.child = child;
    this.pid = child.pid!;
    this.exited = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
    // Who cares waits for it; a program that cannot even start is seen by the wait for it.
    this.exited.catch(() => undefined);
  }

  /** How it ended; undefined while it runs. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Processor seconds of all its threads; after its end, at the last look. */
  cpuSeconds(): number {
    this.#look();
    return this.#cpuSeconds;
  }

  memory(): MemoryUse {
    this.#look();
    return this.#memory;
  }

  /** Sends the signal to it and its children, and waits for its end; what outlives `graceMs` is killed. */
  async end(signal: NodeJS.Signals = 'SIGTERM', graceMs = 5000): Promise<void> {
    if (this.#exit !== undefined) return;
    this.#look();
    this.#send(signal);
    const timer = setTimeout(() => this.#send('SIGKILL'), graceMs);
    await this.exited.finally(() => clearTimeout(timer));
  }

  #send(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  #look(): void {
    if (this.#exit !== undefined) return;
    const stat = readProc(this.pid, 'stat');
    const status = readProc(this.pid, 'status');
    if (stat === undefined || status === undefined) return;
    // Fields are counted after the name, which may hold spaces: state is the first.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    this.#cpuSeconds = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
    // An ended process that was not waited for yet has no memory any more.
    if (kib('VmHWM') > 0) this.#memory = { rss: kib('VmRSS') * KIB, peak: kib('VmHWM') * KIB };
  }
}

/** Starts a program in a namespace (or in the machine's own, without one). */
export function startIn(namespace: string | undefined, command: string, args: readonly string[], { logFile, env, cwd, piped = false }: ProcessInit = {}): LabProcess {
  const log = logFile === undefined ? undefined : openSync(logFile, 'a');
  const inside = namespace === undefined ? [] : ['ip', 'netns', 'exec', namespace];
  try {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...inside, command, ...args], {
      cwd,
      detached: true,
      env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', ...env },
      stdio: piped ? ['pipe', 'pipe', 'pipe'] : ['ignore', log ?? 'ignore', log ?? 'ignore'],
    });
    return new LabProcess(child);
  } finally {
    if (log !== undefined) closeSync(log);
  }
}

/** Processor time of the whole machine so far, in ticks: idle and all. Waiting for a disk is idle. */
export function machineTime(): { idle: number; all: number } {
  const line = readFileSync('/proc/stat', 'utf8').split('\n')[0]!;
  // user nice system idle iowait irq softirq steal; guest time is part of user.
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return { idle: ticks[3]! + ticks[4]!, all: ticks.reduce((sum, value) => sum + value, 0) };
}

function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
