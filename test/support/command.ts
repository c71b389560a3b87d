// Runs one program to its end, with its words in the error.

import { execFile } from 'node:child_process';

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * @returns its standard output
 * @throws Error with what it printed when it fails or takes too long
 */
export function run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { timeoutMs = 120_000, env = process.env, cwd, signal } = options;
  return new Promise((resolve, reject) => {
    execFile(program, args, { cwd, env, signal, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${error.killed === true ? `killed after ${timeoutMs} ms` : `exit ${error.code}`}\n${stdout}${stderr}`, { cause: error }));
    });
  });
}
