// The commands of `flotilla` and their flags. Flags of settings are made from the table in config.ts.

import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { flagOf, SETTINGS, type SettingName } from '../config.ts';
import { AgentError } from '../errors.ts';
import { AGENT_VERSION } from '../version.ts';
import { runAgent } from './agent.ts';
import { completionScript, SHELLS, type Shell } from './completion.ts';
import { printConfig } from './config.ts';
import { examine, type DoctorOptions } from './doctor/doctor.ts';
import { EXIT } from './exit-codes.ts';
import { CommandFailure } from './failure.ts';
import { printFleet } from './fleet-status.ts';
import { interruptible } from './interruptible.ts';
import { changeLimits, type LimitOptions } from './limit.ts';
import { pullImage, type PullOptions } from './pull.ts';
import { rolloutCommands } from './rollout/commands.ts';
import { CLIENT_NAMES, type ClientName } from './setup/clients.ts';
import { thisHost } from './setup/host.ts';
import { setUp } from './setup/setup.ts';
import { printStatus } from './status.ts';
import { processTerminal, type Terminal } from './terminal.ts';

type Flags = Record<string, string | string[] | undefined>;

/** Runs a command line. @returns the exit code; never rejects */
export async function run(argv: readonly string[], terminal: Terminal = processTerminal): Promise<number> {
  let code: number = EXIT.ok;
  try {
    await createProgram(terminal, (exitCode) => (code = exitCode)).parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    return report(error, terminal);
  }
}

/** All commands. @param ended is told the exit code of the one that ran */
export function createProgram(terminal: Terminal, ended: (exitCode: number) => void): Command {
  const program = new Command('flotilla')
    .description('Container images to a whole fleet, from one copy out of the origin.')
    .version(AGENT_VERSION)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) });

  settingFlags(program.command('agent').description('run the agent of this host')).action(async (flags: Flags) => {
    ended(await runAgent({ flags }, terminal));
  });

  settingFlags(program.command('config').description('print every setting and where it comes from'))
    .option('--json', 'as JSON')
    .action(({ json, ...flags }: Flags & { json?: boolean }) => {
      ended(printConfig({ flags }, json === true, terminal));
    });

  dataFlags(program.command('status').description('what the agent of this host is doing'))
    .option('--watch', 'again every second, until Ctrl-C')
    .option('--fleet', 'what this agent knows of its fleet, tracker or not')
    .option('--json', 'as JSON')
    .action(async ({ json, watch, fleet, ...flags }: Flags & { json?: boolean; watch?: boolean; fleet?: boolean }) => {
      ended(await interruptible((signal) => (fleet === true ? printFleet({ flags }, { json }, terminal, signal) : printStatus({ flags }, { json, watch }, terminal, signal))));
    });

  dataFlags(program.command('limit').description('change how fast this host may take and give, until its agent ends; without a rate: print the limits in force'))
    .option('--upload <RATE>', 'most that is sent to peers, or none')
    .option('--download <RATE>', 'most that is taken from peers and origins, or none')
    .option('--origin <RATE>', 'most that is taken from origins, or none')
    .option('--zone <RATE>', 'most that is sent to peers of other zones, and most that is taken from them, or none')
    .option('--settings', 'all as the settings have them')
    .option('--json', 'as JSON')
    .action(async ({ upload, download, origin, zone, settings, json, ...flags }: Flags & LimitOptions) => {
      ended(await interruptible((signal) => changeLimits({ upload, download, origin, zone, settings, json }, { flags }, terminal, signal)));
    });

  dataFlags(program.command('pull').description('have an image on this host, with a bar for each of its blobs'))
    .argument('<IMAGE>', 'such as docker.io/library/nginx:1.27; without an origin, of the default one')
    .option('--platform <OS/ARCH>', "platform that the image has to be of (default: of an index, this host's)")
    .option('--json', 'what happens, one JSON object a line')
    .action(async (image: string, { platform, json, ...flags }: Flags & PullOptions) => {
      ended(await interruptible((signal) => pullImage(image, { platform, json }, { flags }, terminal, signal)));
    });

  dataFlags(program.command('doctor').description('check all that a pull on this host depends on, and say what to do'))
    .addOption(new Option('--client <NAME>', 'a client to check (repeatable; default: those that are installed)').choices(CLIENT_NAMES).argParser(collectChoice))
    .option('--canary <IMAGE>', 'a small image to pull through each client (default: a tiny public one)')
    .option('--json', 'as JSON')
    .action(async ({ client, canary, json, ...flags }: Flags & Pick<DoctorOptions, 'canary' | 'json'> & { client?: ClientName[] }) => {
      ended(await interruptible((signal) => examine({ clients: client, canary, json }, { flags }, thisHost(), terminal, signal)));
    });

  program
    .command('setup')
    .description("write a container client's mirror configuration, so that its pulls ask the agent first")
    .addArgument(new Argument('<client>', 'the client to configure').choices(CLIENT_NAMES))
    .addOption(new Option('--origin <NAME>', 'a registry as in image names (repeatable; default: all that the agent knows by name)').argParser(collect))
    .option('--endpoint <HOST:PORT>', "where clients reach the agent (default: the settings' listen)")
    .option('--config <FILE>', 'settings of the agent')
    .option('--print', 'show what would be written, and write nothing')
    .option('--undo', 'restore what stood there before')
    .option('--force', 'replace or remove what somebody else wrote there')
    .option('--root <DIR>', 'the root folder of the host to configure', '/')
    .option('--json', 'as JSON')
    .action((client: ClientName, { origin, config, root, ...options }: SetupFlags) => {
      ended(setUp(client, { ...options, origins: origin }, { flags: { config } }, thisHost(root), terminal));
    });

  rolloutCommands(program, terminal, ended);

  program
    .command('completion')
    .description('print the script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .action((shell: Shell) => terminal.out(completionScript(shell, program)));
  return program;
}

interface SetupFlags {
  readonly origin?: string[];
  readonly endpoint?: string;
  readonly config?: string;
  readonly print?: boolean;
  readonly undo?: boolean;
  readonly force?: boolean;
  readonly root: string;
  readonly json?: boolean;
}

/** One line on stderr, with what to do where the message does not say it. */
function report(error: unknown, terminal: Terminal): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (error instanceof CommandFailure) {
    terminal.err(`flotilla: ${error.message}. ${error.help}\n`);
    return error.exitCode;
  }
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
    if (shape !== 'one') option.argParser(collect);
    command.addOption(option);
  }
  return command;
}

/** A repeatable option loses its list of choices by `argParser`. */
function collectChoice(value: string, previous: string[] | undefined): string[] {
  if (!CLIENT_NAMES.includes(value as ClientName)) throw new InvalidArgumentError(`Allowed choices are ${CLIENT_NAMES.join(', ')}.`);
  return collect(value, previous);
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** For commands that only need to know which agent is meant. */
function dataFlags(command: Command): Command {
  return command.option('--config <FILE>', 'settings of the agent').option('--data <DIR>', SETTINGS.data.help);
}
