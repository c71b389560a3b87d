// The commands of `flotilla` and their flags. Flags of settings are made from the table in config.ts.

import { Command, CommanderError, Option } from 'commander';
import { flagOf, SETTINGS, type SettingName } from '../config.ts';
import { AgentError } from '../errors.ts';
import { AGENT_VERSION } from '../version.ts';
import { runAgent } from './agent.ts';
import { printConfig } from './config.ts';
import { EXIT } from './exit-codes.ts';
import { printStatus } from './status.ts';
import { processTerminal, type Terminal } from './terminal.ts';

type Flags = Record<string, string | string[] | undefined>;

/** Runs a command line. @returns the exit code; never rejects */
export async function run(argv: readonly string[], terminal: Terminal = processTerminal): Promise<number> {
  let code: number = EXIT.ok;
  const program = new Command('flotilla')
    .description('Container images to a whole fleet, from one copy out of the origin.')
    .version(AGENT_VERSION)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) });

  settingFlags(program.command('agent').description('run the agent of this host')).action(async (flags: Flags) => {
    code = await runAgent({ flags }, terminal);
  });

  settingFlags(program.command('config').description('print every setting and where it comes from'))
    .option('--json', 'as JSON')
    .action(({ json, ...flags }: Flags & { json?: boolean }) => {
      code = printConfig({ flags }, json === true, terminal);
    });

  dataFlags(program.command('status').description('what the agent of this host is doing'))
    .option('--json', 'as JSON')
    .action(async ({ json, ...flags }: Flags & { json?: boolean }) => {
      code = await printStatus({ flags }, json === true, terminal);
    });

  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    return report(error, terminal);
  }
}

/** One line on stderr, with what to do where the message does not say it. */
function report(error: unknown, terminal: Terminal): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (!(error instanceof AgentError)) {
    terminal.err(`flotilla: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return EXIT.failed;
  }
  const selfExplaining = error.code === 'CONFIG_INVALID' || error.code === 'PORT_IN_USE';
  const cause = error.cause instanceof Error && !selfExplaining ? ` (${error.cause.message})` : '';
  terminal.err(`flotilla: ${error.message}${cause}${selfExplaining ? '' : `. ${error.row.help}`}\n`);
  return error.code === 'CONFIG_INVALID' ? EXIT.usage : EXIT.failed;
}

function settingFlags(command: Command): Command {
  command.option('--config <FILE>', 'settings as YAML (FLOTILLA_CONFIG)');
  for (const [name, { flag, help, shape }] of Object.entries(SETTINGS)) {
    if (flag === undefined) continue;
    const option = new Option(`${flagOf(name as SettingName)} <${flag}>`, help);
    if (shape !== 'one') option.argParser<string[]>((value, previous) => [...(previous ?? []), value]);
    command.addOption(option);
  }
  return command;
}

/** For commands that only need to know which agent is meant. */
function dataFlags(command: Command): Command {
  return command.option('--config <FILE>', 'settings of the agent').option('--data <DIR>', SETTINGS.data.help);
}
