// A copy of this checkout as a stranger's clone would be, and `npm start` run in it as from a fresh shell.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { run } from './command.ts';
import { checkout } from './processes.ts';

/** A full set-up from the package registry is part of the first start. */
const START_TIMEOUT_MS = 170_000;

export class CheckoutCopy {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** All files that git knows or would add; nothing installed. */
  static async create(): Promise<CheckoutCopy> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-checkout-'));
    const listed = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: checkout });
    const deleted = new Set((await run('git', ['ls-files', '-z', '--deleted'], { cwd: checkout })).split('\0'));
    for (const file of new Set(listed.split('\0'))) {
      if (file !== '' && !deleted.has(file)) await cp(join(checkout, file), join(dir, file));
    }
    return new CheckoutCopy(dir);
  }

  npm(args: readonly string[]): NpmRun {
    return new NpmRun(this.dir, args);
  }

  /** Command lines of processes that work in this copy, by id. */
  async processes(): Promise<ReadonlyMap<number, string>> {
    const found = new Map<number, string>();
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      try {
        if (await readlink(`/proc/${entry}/cwd`) === this.dir) found.set(Number(entry), await run('ps', ['-o', 'args=', '-p', entry]));
      } catch (error) {
        // It ended while it was looked at.
        if (!(error instanceof Error)) throw error;
      }
    }
    return found;
  }

  /** Kills what was left running and deletes the copy. */
  async close(): Promise<void> {
    for (const pid of (await this.processes()).keys()) process.kill(pid, 'SIGKILL');
    await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** One run of npm in a process group of its own, as a terminal's foreground job is. */
export class NpmRun {
  output = '';
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;

  constructor(cwd: string, args: readonly string[]) {
    const child = spawn('npm', args, { cwd, env: shellEnvironment(), detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#closed = once(child, 'close');
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (this.output += text));
  }

  /** Waits until it has printed this. @throws Error with its output when it ends before */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    const ended = this.#closed.then(() => true);
    for (;;) {
      const match = pattern.exec(this.output);
      if (match !== null) return match;
      const more = Promise.race([once(this.#child.stdout!, 'data', { signal: deadline }), once(this.#child.stderr!, 'data', { signal: deadline })]);
      if ((await Promise.race([more, ended])) === true) {
        const last = pattern.exec(this.output);
        if (last !== null) return last;
        throw new Error(`npm ended without printing ${pattern}:\n${this.output}`);
      }
    }
  }

  /** Ctrl-C: SIGINT to every process of the group. */
  interrupt(): void {
    process.kill(-this.#child.pid!, 'SIGINT');
  }

  /** A signal to npm alone. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** @returns the exit code once it and its output have ended, null when a signal ended it */
  async ended(): Promise<number | null> {
    await this.#closed;
    return this.#child.exitCode;
  }
}

/** What a person's shell has: nothing that the npm of this test run has set. */
function shellEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|INIT_CWD$|NODE_ENV$|VITEST|TEST$|FLOTILLA_)/.test(name));
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  return { ...Object.fromEntries(kept), PATH: path.join(delimiter) };
}
