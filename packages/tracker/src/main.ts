#!/usr/bin/env node
// The program `flotilla-tracker`: starts the tracker, prints its settings, rotates the join token, lets operators in.
// Exit codes: 0 done, 1 failed, 2 the command line or a setting is wrong. SIGTERM and SIGINT stop it within two seconds.

import { once } from 'node:events';
import { userInfo } from 'node:os';
import { ROLES, type Role } from '@flotilla/shared/operator-api';
import { Command, CommanderError, Option } from 'commander';
import { flagOf, loadConfig, SETTINGS, type Flags, type SettingName } from './config.ts';
import { toTrackerError, TrackerError } from './errors.ts';
import { createLogger } from './log.ts';
import { CODE_TTL_MS, LoginCodes } from './operators/login-codes.ts';
import { isLoopback } from './plain-loopback.ts';
import { runningAddress } from './running.ts';
import { joinTokenFile, rotateJoinToken } from './tokens.ts';
import { TRACKER_VERSION } from './version.ts';

/** Whatever still hangs after this is cut off; state survives that. */
const CLOSE_TIMEOUT_MS = 1_500;

process.exit(await run(process.argv.slice(2)));

async function run(argv: readonly string[]): Promise<number> {
  const program = settingFlags(new Command('flotilla-tracker').description('Knows who has what in a fleet, and leases what must come from the origin.').version(TRACKER_VERSION).exitOverride());
  program.action(() => serve(program.opts()));
  // Flags of settings belong to the program; the commands read them there.
  program.command('config').description('print every setting and where it comes from').action(() => printConfig(program.opts()));
  program
    .command('login')
    .description('print a link to the dashboard that signs in once, within ten minutes')
    .option('--as <NAME>', 'what the audit log calls whoever follows the link', userInfo().username)
    .addOption(new Option('--role <ROLE>', 'what they may do').choices(ROLES).default('admin' satisfies Role))
    .action((login: { as: string; role: Role }) => printLogin(program.opts(), login));
  const token = program.command('token').description('the join token of the fleet');
  token.command('rotate').description('make a new join token; members stay members').action(() => rotate(program.opts()));
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    return report(error);
  }
}

async function serve(flags: Flags): Promise<void> {
  const { config, warnings } = loadConfig({ flags });
  const log = createLogger(config.logLevel);
  for (const warning of warnings) log.warn({}, warning);
  const stopped = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  // The other commands do without, and answer the sooner.
  const { startTracker } = await import('./server.ts');
  const tracker = await startTracker(config, { log });
  console.log(`flotilla-tracker ${TRACKER_VERSION} at ${tracker.url}\njoin token: ${tracker.joinTokenFile}\noperator token: ${tracker.operatorTokenFile}`);
  await stopped;
  log.info({}, 'stopping');
  const timer = setTimeout(() => {
    log.warn({ timeoutMs: CLOSE_TIMEOUT_MS }, 'closing is not waited for any longer');
    process.exit(0);
  }, CLOSE_TIMEOUT_MS);
  await tracker.close();
  clearTimeout(timer);
}

function printConfig(flags: Flags): void {
  const { entries, warnings } = loadConfig({ flags });
  for (const warning of warnings) console.error(`flotilla-tracker: ${warning}`);
  const rows = [['SETTING', 'VALUE', 'FROM'], ...entries.map(({ setting, text, where }) => [setting, text === '' ? '-' : text, where])];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [setting, value, where] of rows) console.log(`${setting!.padEnd(widths[0]!)}  ${value!.padEnd(widths[1]!)}  ${where}`);
}

async function rotate(flags: Flags): Promise<void> {
  const { config } = loadConfig({ flags });
  const { id } = await rotateJoinToken(config.data);
  console.log(`new join token ${id} in ${joinTokenFile(config.data)}; members stay members, agents that enrol from now on need it`);
}

/** The link works on this machine, against the tracker that runs with this data folder. */
async function printLogin(flags: Flags, { as: name, role }: { as: string; role: Role }): Promise<void> {
  const { config } = loadConfig({ flags });
  const url = await runningAddress(config.data);
  if (url === undefined) throw new TrackerError('NOT_RUNNING', `no tracker answers for ${config.data}`);
  const code = await new LoginCodes(config.data).create({ name, role }, Date.now());
  const { protocol, hostname, port } = new URL(url);
  const here = isLoopback(hostname.replace(/^\[|\]$/g, ''));
  // Over loopback a browser needs no certificate, and would warn of ours.
  console.log(`${here ? url.replace(/^https:/, 'http:') : url}/#code=${code}`);
  console.error(`It signs in ${name} (${role}) once, within ${CODE_TTL_MS / 60_000} minutes.`);
  if (here && protocol === 'https:') console.error(`From another machine: the same with https:// and this host's name, https://HOST:${port}/#code=...`);
}

/** One line on stderr, with what to do where the message does not say it. */
function report(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
  const error = toTrackerError(thrown);
  const why = error.cause instanceof Error && error.code !== 'PORT_IN_USE' ? ` (${error.cause.message})` : '';
  const said = `${error.message}${why}`;
  console.error(`flotilla-tracker: ${said}${said.endsWith('?') ? '' : '.'} ${error.row.help}`);
  return error.row.exitCode;
}

function settingFlags(command: Command): Command {
  command.option('--config <FILE>', 'settings as YAML (FLOTILLA_TRACKER_CONFIG)');
  for (const [name, { flag, help, list }] of Object.entries(SETTINGS)) {
    if (flag === undefined) continue;
    const option = new Option(flag === '' ? flagOf(name as SettingName) : `${flagOf(name as SettingName)} <${flag}>`, help);
    if (list) option.argParser<string[]>((value, previous) => [...(previous ?? []), value]);
    command.addOption(option);
  }
  return command;
}
