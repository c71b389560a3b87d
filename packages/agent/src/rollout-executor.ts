// The executor of rollouts as this host's settings want it: its journal in the data folder, its hook, its clock.

import { setTimeout as delay } from 'node:timers/promises';
import { environment, type AgentConfig } from './config.ts';
import { HOST_PLATFORM } from './content/platform.ts';
import type { Logger } from './log.ts';
import { RolloutExecutor, type ExecutorComponents } from './rollouts/executor.ts';
import { runHook } from './rollouts/hook.ts';
import { Journal } from './rollouts/journal.ts';

export async function openExecutor(
  { data, rolloutHook: command, rolloutHookTimeoutMs: timeoutMs }: AgentConfig,
  parts: Pick<ExecutorComponents, 'images' | 'report' | 'endpoint'> & { readonly log: Logger },
): Promise<RolloutExecutor> {
  const journal = await Journal.open(data);
  if (journal.damaged !== undefined) parts.log.error({ err: journal.damaged }, 'what came of rollouts is not known any more');
  return new RolloutExecutor({
    ...parts,
    journal,
    host: HOST_PLATFORM,
    ...(command !== undefined && { hook: (facts, signal) => runHook({ command, timeoutMs }, facts, environment(), signal) }),
    now: Date.now,
    wait: (ms, signal) => delay(ms, undefined, { signal }),
    every: (intervalMs, act) => {
      const timer = setInterval(act, intervalMs).unref();
      return () => clearInterval(timer);
    },
  });
}
