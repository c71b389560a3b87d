// `flotilla agent`: reads the settings, starts the agent, and lives until a signal says otherwise.

import { loadConfig, type ConfigInput } from '../config.ts';
import { formatAddress } from '../listen.ts';
import { createLogger } from '../log.ts';
import { turnRest } from '../turn-rest.ts';
import { AGENT_VERSION } from '../version.ts';
import { untilStopped } from './lifetime.ts';
import type { Terminal } from './terminal.ts';

/** @returns the exit code @throws AgentError when it cannot start */
export async function runAgent(input: ConfigInput, terminal: Terminal): Promise<number> {
  const { config, warnings } = loadConfig(input);
  for (const warning of warnings) terminal.err(`flotilla: ${warning}\n`);
  const log = createLogger(config.logLevel);
  // Only this command needs the whole agent; the others start without loading it.
  const { startAgent } = await import('../agent.ts');
  const agent = await startAgent(config, log, turnRest());
  const { registry, peers, admin } = agent.addresses;
  log.info(
    { version: AGENT_VERSION, name: config.name, registry: formatAddress(registry), ...(peers && { peers: formatAddress(peers) }), admin: formatAddress(admin) },
    'agent listens',
  );
  return untilStopped(agent, process, { drainTimeoutMs: config.drainTimeoutMs }, log);
}
