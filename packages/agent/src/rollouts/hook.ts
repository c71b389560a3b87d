// The command that this host's own settings name: run after a rollout with the image as its only argument.
//
// Never the tracker's choice, never through a shell, for a bounded time, with little of this agent's environment. When its time is over the whole process
// group is killed. What is told of it: how it ended, and the last MAX_HOOK_OUTPUT bytes of what it wrote.

import { spawn, type ChildProcess } from 'node:child_process';
import { MAX_HOOK_OUTPUT, type HookOutcome } from '@flotilla/shared/tracker-api';

export interface HookSettings {
  /** A file, absolute. */
  readonly command: string;
  readonly timeoutMs: number;
}

/** What it may want to know besides its argument. */
export interface HookFacts {
  /** At this host's agent, by digest: what a client on this host can pull. */
  readonly reference: string;
  /** As the operator wrote it, `origin/repository:tag`. */
  readonly image: string;
  readonly digest: string;
}

/** Variables of this agent that a command needs to work at all. */
const PASSED_ON = ['PATH', 'HOME', 'USER', 'LOGNAME', 'LANG', 'TMPDIR', 'XDG_RUNTIME_DIR', 'XDG_DATA_HOME', 'XDG_CONFIG_HOME'];

/** Runs it to its end. Never rejects: what went wrong is its outcome. @param env of this agent */
export async function runHook({ command, timeoutMs }: HookSettings, facts: HookFacts, env: Readonly<Record<string, string | undefined>>, signal: AbortSignal): Promise<HookOutcome> {
  const startedMs = performance.now();
  const output = new Tail(MAX_HOOK_OUTPUT);
  const exitCode = await ended(command, timeoutMs, facts, env, output, signal);
  return { ...(exitCode !== undefined && { exitCode }), ms: Math.round(performance.now() - startedMs), output: output.text };
}

/** @returns the exit code; undefined: it was killed, or could not be started */
function ended(command: string, timeoutMs: number, facts: HookFacts, env: Readonly<Record<string, string | undefined>>, output: Tail, signal: AbortSignal): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const passedOn = Object.fromEntries(PASSED_ON.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])));
  const child = spawn(command, [facts.reference], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...passedOn, FLOTILLA_IMAGE: facts.image, FLOTILLA_DIGEST: facts.digest },
  });
  const stop = (why: string): void => {
    output.add(Buffer.from(`\n[${why}]`));
    killGroup(child);
  };
  const timer = setTimeout(() => stop(`killed after ${timeoutMs} ms`), timeoutMs);
  const abort = (): void => stop('killed: the rollout was stopped');
  signal.addEventListener('abort', abort, { once: true });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => output.add(part));
  child.once('error', (error) => {
    output.add(Buffer.from(error.message));
    resolve(undefined);
  });
  // Not `close`: something that it left running may hold the pipes for ever.
  child.once('exit', (code) => resolve(code ?? undefined));
  if (signal.aborted) abort();
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    child.stdout.destroy();
    child.stderr.destroy();
  });
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // It has just ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The last bytes of what was written. */
class Tail {
  readonly #maxBytes: number;
  #bytes = Buffer.alloc(0);

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Without half a character at its start, and with nothing that a terminal would obey. */
  get text(): string {
    return this.#bytes
      .toString('utf8')
      .replace(/^\uFFFD+/, '')
      .replace(/[^\P{Cc}\n\t]/gu, '')
      .slice(-this.#maxBytes);
  }

  add(part: Uint8Array): void {
    this.#bytes = Buffer.from(Buffer.concat([this.#bytes, part]).subarray(-this.#maxBytes));
  }
}
