// `flotilla setup CLIENT`: writes the client's mirror configuration, shows it, or takes it back.

import { loadConfig, type ConfigInput } from '../../config.ts';
import { EXIT } from '../exit-codes.ts';
import { CommandFailure } from '../failure.ts';
import { table, type Terminal } from '../terminal.ts';
import { CLIENTS, type ClientName } from './clients.ts';
import { filesOnDisk, type Host } from './host.ts';
import { ANY_REGISTRY } from './hosts-toml.ts';
import { SetupJournal, type FileReport } from './journal.ts';
import { hostPort, type Plan, type Target } from './plan.ts';
import { targetOf, type TargetOptions } from './target.ts';

export interface SetupOptions extends TargetOptions {
  readonly print?: boolean | undefined;
  readonly undo?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** What --json prints. */
export interface SetupReport {
  readonly client: ClientName;
  readonly endpoint: string;
  readonly origins: readonly string[];
  /** With --print nothing was done, and `text` is what would stand there. */
  readonly files: readonly (FileReport & { readonly text?: string | undefined })[];
  readonly notes: readonly string[];
  readonly next: readonly string[];
}

/** @returns the exit code @throws CommandFailure, AgentError CONFIG_INVALID */
export function setUp(client: ClientName, options: SetupOptions, input: ConfigInput, host: Host, terminal: Terminal): number {
  const { config } = loadConfig(input);
  const target = targetOf(config, options);
  const report = options.undo === true ? undone(client, options, target, host) : done(client, options, target, host);
  terminal.out(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : describe(report, options));
  return EXIT.ok;
}

function done(client: ClientName, options: SetupOptions, target: Target, host: Host): SetupReport {
  const journal = journalOf(client, target, host);
  checkOrigins(client, target);
  const plan: Plan = CLIENTS[client].plan(journal.files(), host, target);
  const files = options.print === true ? journal.preview(plan.files).map((file) => ({ ...file, text: plan.files.get(file.path) })) : journal.apply(plan.files);
  return { ...about(client, target), origins: target.origins.map(({ registry }) => registry), files, notes: plan.notes, next: [...restarts(client, files), ...plan.next] };
}

function undone(client: ClientName, options: SetupOptions, target: Target, host: Host): SetupReport {
  const journal = journalOf(client, target, host);
  const notes = journal.isEmpty ? [`Nothing was set up for ${client}.`] : [];
  const files = options.print === true ? journal.preview(new Map()) : journal.undo();
  return { ...about(client, target), origins: [], files, notes, next: restarts(client, files) };
}

/** Each once, for the files that changed. */
function restarts(client: ClientName, files: readonly FileReport[]): string[] {
  const steps = files.filter(({ action }) => action !== 'unchanged').map(({ path }) => CLIENTS[client].restart(path));
  return [...new Set(steps.filter((step) => step !== undefined))];
}

function journalOf(client: ClientName, target: Target, host: Host): SetupJournal {
  const writer = CLIENTS[client];
  return new SetupJournal(host, writer.journal(filesOnDisk(host), host), (path, text) => writer.without(path, text, target), { force: target.force });
}

function about(client: ClientName, target: Target): Pick<SetupReport, 'client' | 'endpoint'> {
  return { client, endpoint: target.endpoint.origin };
}

function checkOrigins(client: ClientName, { origins }: Target): void {
  const hasDefault = origins.some(({ registry }) => registry === ANY_REGISTRY);
  if (!hasDefault || client === 'containerd') return;
  throw new CommandFailure(`${client} has no configuration for all registries at once`, 'Name them one by one with --origin.', { exitCode: EXIT.usage });
}

function describe({ client, endpoint, origins, files, notes, next }: SetupReport, { print, undo }: SetupOptions): string {
  const lines: string[] = [];
  if (print === true) {
    for (const { path, text, action } of files) lines.push(text === undefined || action === 'unchanged' ? `# ${path}: ${action}\n` : `# ${path}\n${text}`);
    if (files.length === 0) lines.push('# nothing to change\n');
  } else {
    lines.push(table(files.map(({ path, action }) => [action, path])));
  }
  const asComment = print === true ? '# ' : '';
  for (const note of notes) lines.push(`${asComment}note: ${note}\n`);
  for (const step of next) lines.push(`${asComment}next: ${step}\n`);
  if (print !== true && undo !== true) lines.push(`${client} asks ${hostPort({ endpoint: new URL(endpoint) })} first for ${origins.join(', ')}. "flotilla doctor" checks that it does.\n`);
  return lines.join('');
}
