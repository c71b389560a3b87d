// hosts.toml of one registry, below certs.d: containerd's way to put a mirror before a registry (and Docker's with the containerd store).
// A file that is there keeps all it says; the agent is put before its other hosts.
//
// A folder without hosts.toml may hold certificates, which a hosts.toml would hide: they are named in it.

import { CommandFailure } from '../failure.ts';
import type { HostFiles } from './host.ts';
import type { MirroredOrigin, Target } from './plan.ts';
import { at, endedLine, firstThatMeans, isTable, parseToml, type TomlTable } from './toml.ts';

/** The folder of every registry that has none of its own. */
export const ANY_REGISTRY = '_default';

const MARK = '# Written by "flotilla setup": the agent of this host first.';
const BLOCK = new RegExp(`^${escaped(MARK)}\\n\\[host\\."[^"\\n]*"\\]\\n  capabilities = \\["pull", "resolve"\\]\\n\\n?`, 'm');

/** @returns path and text, or undefined where the agent comes first already @throws CommandFailure */
export function hostsToml(files: HostFiles, certsFolder: string, origin: MirroredOrigin, target: Target): [path: string, text: string] | undefined {
  const folder = hostFolder(files, certsFolder, origin.registry);
  const path = `${folder}/hosts.toml`;
  const url = target.endpoint.origin;
  const text = files.read(path);
  if (text === undefined || text.trim() === '') return [path, fresh(files, folder, origin, url)];
  const parsed = parseToml(path, text);
  if (hostsOf(parsed)[0] === url) return undefined;
  const merged = hostsOf(parsed).includes(url) ? undefined : withHost(text, parsed, url);
  if (merged !== undefined) return [path, merged];
  throw new CommandFailure(`${path} is written in a way that the agent cannot be added to`, `Put [host."${url}"] with capabilities = ["pull", "resolve"] before its other hosts, or leave ${origin.registry} out with --origin.`);
}

/** See Client.without. */
export function withoutHost(text: string): string | null | undefined {
  const rest = text.replace(BLOCK, '');
  if (rest === text) return undefined;
  return rest.trim() === '' ? null : rest;
}

/** Whether pulls of this registry ask the agent first, and which file says so. */
export function hostsRoute(files: HostFiles, certsFolder: string, registry: string, target: Target): { viaAgent: boolean; why: string } {
  const path = `${hostFolder(files, certsFolder, registry, true)}/hosts.toml`;
  const text = files.read(path);
  if (text === undefined) return { viaAgent: false, why: `there is no ${path}` };
  const viaAgent = hostsOf(parseToml(path, text))[0] === target.endpoint.origin;
  return { viaAgent, why: viaAgent ? path : `${path} does not name ${target.endpoint.origin} first` };
}

/** Hosts in the order in which they are tried, less the server itself. */
function hostsOf(parsed: TomlTable): string[] {
  const hosts = at(parsed, 'host');
  return isTable(hosts) ? Object.keys(hosts) : [];
}

function fresh(files: HostFiles, folder: string, { registry, server }: MirroredOrigin, url: string): string {
  const names = files.list(folder) ?? [];
  const authorities = names.filter((name) => name.endsWith('.crt'));
  const pairs = names.filter((name) => name.endsWith('.cert')).map((name) => [name, name.replace(/\.cert$/, '.key')]);
  const lines = [
    ...(registry === ANY_REGISTRY || server === undefined ? [] : [`server = ${JSON.stringify(server)}`]),
    ...(authorities.length === 0 ? [] : [`ca = ${JSON.stringify(authorities)}`]),
    ...(pairs.length === 0 ? [] : [`client = ${JSON.stringify(pairs)}`]),
  ];
  return `${lines.map((line) => `${line}\n`).join('')}${lines.length > 0 ? '\n' : ''}${block(url)}`;
}

function withHost(text: string, parsed: TomlTable, url: string): string | undefined {
  const others = at(parsed, 'host');
  const wanted = { ...parsed, host: { [url]: { capabilities: ['pull', 'resolve'] }, ...(isTable(others) ? others : {}) } };
  return firstThatMeans(wanted, insertions(text, block(url)), (result) => hostsOf(result)[0] === url);
}

/** The block before the first host, before any table, or at the end. */
function* insertions(text: string, added: string): Generator<string> {
  const lines = endedLine(text).split('\n');
  for (const start of [/^\s*\[\s*"?host\b/, /^\s*\[/]) {
    const line = lines.findIndex((candidate) => start.test(candidate));
    if (line >= 0) yield [...lines.slice(0, line), added, ...lines.slice(line)].join('\n');
  }
  yield `${endedLine(text)}\n${added}`;
}

function block(url: string): string {
  return `${MARK}\n[host.${JSON.stringify(url)}]\n  capabilities = ["pull", "resolve"]\n`;
}

/** containerd takes the first of these folders that exists. A registry without any gets one of its own, unless asked which is read. */
function hostFolder(files: HostFiles, certsFolder: string, registry: string, read = false): string {
  const plain = `${certsFolder}/${registry}`;
  const colon = registry.lastIndexOf(':');
  const underscored = colon < 0 ? undefined : `${certsFolder}/${registry.slice(0, colon)}_${registry.slice(colon + 1)}_`;
  for (const folder of [underscored, plain]) if (folder !== undefined && files.list(folder) !== undefined) return folder;
  return read ? `${certsFolder}/${ANY_REGISTRY}` : plain;
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
