// From the first SIGTERM or SIGINT to the exit.
//
//   running ── signal ──> draining ── all open responses done ──> closing ──> exit 0
//                            ├── drainTimeoutMs ────────────────> closing ──> exit 0, with a warning
//                            └── second signal ─────────────────> closing ──> exit 128 + signal
//
// Closing is bounded too: the store survives being cut off at any moment, so nothing is worth waiting for long.

import { once, type EventEmitter } from 'node:events';
import { constants } from 'node:os';
import { errorFields, type Logger } from '../log.ts';
import { EXIT } from './exit-codes.ts';

export interface Stoppable {
  /** Not ready at once; resolves when open responses are done, or soon after the signal aborts. */
  drain(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export interface LifetimeInit {
  readonly drainTimeoutMs: number;
  /** @default 1500 */
  readonly closeTimeoutMs?: number;
}

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** @param signals what emits them: `process` @returns the exit code */
export async function untilStopped(agent: Stoppable, signals: EventEmitter, { drainTimeoutMs, closeTimeoutMs = 1500 }: LifetimeInit, log: Logger): Promise<number> {
  const first = await nextSignal(signals);
  log.info({ signal: first, drainTimeoutMs }, 'stopping');
  const hurry = new AbortController();
  let second: NodeJS.Signals | undefined;
  const done = new AbortController();
  nextSignal(signals, done.signal).then(
    (signal) => {
      second = signal;
      hurry.abort();
    },
    () => undefined,
  );
  const timer = setTimeout(() => {
    log.warn({ drainTimeoutMs }, 'open responses are cut off');
    hurry.abort();
  }, drainTimeoutMs);
  try {
    await bounded('drain', agent.drain(hurry.signal), closeTimeoutMs, hurry.signal, log);
    clearTimeout(timer);
    await bounded('close', agent.close(), closeTimeoutMs, undefined, log);
  } finally {
    clearTimeout(timer);
    done.abort();
  }
  log.info({}, 'stopped');
  return second === undefined ? EXIT.ok : 128 + constants.signals[second];
}

/** Waits for a step, but no longer than `timeoutMs` after `from` has aborted (or from now on). Its failure is logged, not thrown. */
async function bounded(step: string, work: Promise<void>, timeoutMs: number, from: AbortSignal | undefined, log: Logger): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    const start = (): void => {
      timer = setTimeout(() => {
        log.warn({ step, timeoutMs }, 'not waited for any longer');
        resolve();
      }, timeoutMs);
    };
    if (from === undefined || from.aborted) start();
    else from.addEventListener('abort', start, { once: true });
  });
  const finished = work.catch((error: unknown) => log.error({ step, error: errorFields(error) }, 'stopping failed'));
  await Promise.race([finished, late]);
  clearTimeout(timer);
}

function nextSignal(signals: EventEmitter, until?: AbortSignal): Promise<NodeJS.Signals> {
  const settled = new AbortController();
  const signal = until === undefined ? settled.signal : AbortSignal.any([settled.signal, until]);
  return Promise.race(SIGNALS.map(async (name) => (await once(signals, name, { signal }), name))).finally(() => settled.abort());
}
