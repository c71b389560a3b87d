// Ctrl-C of a command that asks a running agent: what is under way is given up, the agent told by the connection's end, the exit code the
// signal's.

import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** @returns the work's exit code, or 128 + the signal where one came first */
export async function interruptible(work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const abort = new AbortController();
  let code = 0;
  const stop = (name: NodeJS.Signals): void => {
    code = 128 + constants.signals[name];
    abort.abort();
  };
  for (const name of SIGNALS) process.once(name, stop);
  try {
    const result = await work(abort.signal);
    return abort.signal.aborted ? code : result;
  } catch (error) {
    if (abort.signal.aborted) return code;
    throw error;
  } finally {
    for (const name of SIGNALS) process.off(name, stop);
  }
}
