// What a command of the CLI says when it cannot do what was asked: one line on stderr, and the exit code.
// Failures of the agent itself are AgentErrors, which have rows in errors.ts; these never leave the command line.

import { EXIT } from './exit-codes.ts';

/** `message` says what is in the way, `help` what to do about it. */
export class CommandFailure extends Error {
  readonly help: string;
  readonly exitCode: number;

  constructor(message: string, help: string, options: ErrorOptions & { readonly exitCode?: number } = {}) {
    super(message, options);
    this.name = 'CommandFailure';
    this.help = help;
    this.exitCode = options.exitCode ?? EXIT.failed;
  }
}

/** What a lower layer said, in parentheses. */
export function because(error: unknown): string {
  const said = error instanceof Error ? error.message : String(error);
  return ` (${said.split('\n')[0]})`;
}
