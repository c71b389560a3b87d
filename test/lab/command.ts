// Runs a short program to its end: set-up and questions, nothing that lasts.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** A program that did not end well; the message has what it said. */
export class CommandError extends Error {
  readonly exitCode: number | null;
  constructor(command: string, exitCode: number | null, stderr: string, options?: ErrorOptions) {
    super(`${command}: ${stderr.trim() || `exit code ${exitCode}`}`, options);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}

/** @returns what it printed @throws CommandError, or the signal's reason */
export async function run(command: string, args: readonly string[], { input = '', signal }: { input?: string; signal?: AbortSignal } = {}): Promise<string> {
  signal?.throwIfAborted();
  const shown = [command, ...args].join(' ');
  // A group of its own: Ctrl-C at the terminal is for the lab, which then cleans up in its own order.
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true, signal });
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  child.stdin.on('error', () => child.stdin.destroy());
  child.stdin.end(input);
  try {
    const [exitCode] = (await once(child, 'close')) as [number | null];
    const [stdout, stderr] = await output;
    if (exitCode !== 0) throw new CommandError(shown, exitCode, stderr);
    return stdout;
  } catch (error) {
    if (error instanceof CommandError) throw error;
    signal?.throwIfAborted();
    throw new CommandError(shown, null, (error as Error).message, { cause: error });
  }
}
