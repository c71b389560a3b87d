// Runs a credential program (docker-credential-*, a kubelet plugin): text in, text out, within bounds. Never through a shell.
//
// Invariants: a program that does not end in time is killed with everything that it started; at most MAX_RUNNING run at once, and at most
// MAX_WAITING wait. What a program says is not put into messages: it may be a secret.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Program {
  /** A path, or a name to be found in PATH. */
  readonly file: string;
  readonly args: readonly string[];
  readonly stdin: string;
  /** Added to the runner's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface ProgramOutput {
  readonly exitCode: number;
  readonly stdout: string;
}

export interface ProgramLimits {
  /** @default 20_000 */
  readonly timeoutMs?: number;
}

export type ProgramEnvironment = Readonly<Record<string, string | undefined>>;

const DEFAULT_TIMEOUT_MS = 20_000;
const MAX_STDOUT_BYTES = 1024 * 1024;
const MAX_RUNNING = 4;
const MAX_WAITING = 256;

export class Programs {
  readonly #env: ProgramEnvironment;
  readonly #timeoutMs: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /** @param env what programs see; PATH is where they are looked for */
  constructor(env: ProgramEnvironment, { timeoutMs = DEFAULT_TIMEOUT_MS }: ProgramLimits = {}) {
    this.#env = env;
    this.#timeoutMs = timeoutMs;
  }

  /** Waits for its turn and runs to the end. @throws Error that says why there is no output, or the signal's reason */
  async run(program: Program, signal: AbortSignal): Promise<ProgramOutput> {
    signal.throwIfAborted();
    await this.#turn();
    try {
      signal.throwIfAborted();
      return await this.#run(program, signal);
    } finally {
      const next = this.#waiting.shift();
      // The turn is handed on, so that nobody comes in between.
      if (next === undefined) this.#running--;
      else next();
    }
  }

  async #turn(): Promise<void> {
    if (this.#running >= MAX_RUNNING) {
      if (this.#waiting.length >= MAX_WAITING) throw new Error('too many credential programs are waited for');
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      await promise;
      return;
    }
    this.#running++;
  }

  async #run({ file, args, stdin, env }: Program, signal: AbortSignal): Promise<ProgramOutput> {
    // A group of its own, so that it can be killed with its children, which would otherwise hold the pipes open.
    const child = spawn(file, args, { env: { ...this.#env, ...env }, stdio: ['pipe', 'pipe', 'ignore'], shell: false, detached: true });
    let failure: Error | undefined;
    const stop = (error: Error): void => {
      failure ??= error;
      killGroup(child.pid);
      child.stdout.destroy();
    };
    const onAbort = (): void => stop(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)));
    signal.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => stop(new Error(`it did not end within ${this.#timeoutMs} ms`)), this.#timeoutMs);
    const pieces: Buffer[] = [];
    let bytes = 0;
    child.stdout.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes > MAX_STDOUT_BYTES) stop(new Error(`it printed more than ${MAX_STDOUT_BYTES} bytes`));
      else pieces.push(piece);
    });
    // A program that does not read its input may be right.
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    try {
      const [exitCode, killedBy] = (await once(child, 'close')) as [number | null, string | null];
      if (failure !== undefined) throw failure;
      if (exitCode === null) throw new Error(`it was killed by ${killedBy}`);
      return { exitCode, stdout: Buffer.concat(pieces).toString('utf8') };
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
