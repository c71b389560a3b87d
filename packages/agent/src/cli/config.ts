// `flotilla config`: every setting, its value, and what to change to change it.

import { loadConfig, type ConfigInput } from '../config.ts';
import { EXIT } from './exit-codes.ts';
import { table, type Terminal } from './terminal.ts';

/** @throws AgentError CONFIG_INVALID */
export function printConfig(input: ConfigInput, json: boolean, terminal: Terminal): number {
  const { entries, warnings } = loadConfig(input);
  for (const warning of warnings) terminal.err(`flotilla: ${warning}\n`);
  if (json) {
    const lines = entries.map(({ setting, value, source, where }) => ({ setting, value: value ?? null, source, where }));
    terminal.out(`${JSON.stringify(lines, null, 2)}\n`);
  } else {
    terminal.out(table([['SETTING', 'VALUE', 'FROM'], ...entries.map(({ setting, text, where }) => [setting, text === '' ? '-' : text, where])]));
  }
  return EXIT.ok;
}
