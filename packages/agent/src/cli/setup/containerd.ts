// containerd, and with it ctr, nerdctl and Kubernetes: one hosts.toml for each registry below certs.d, and the config_path in config.toml
// by which the CRI plugin finds them (nerdctl looks there anyway, ctr is told by --hosts-dir).

import { CommandFailure } from '../failure.ts';
import type { Host, HostFiles } from './host.ts';
import { hostsRoute, hostsToml, withoutHost } from './hosts-toml.ts';
import { trustNote, type Client, type Plan } from './plan.ts';
import { at, endedLine, firstThatMeans, isTable, parseToml, withValue, type TomlTable } from './toml.ts';

const PLUGIN_V2 = 'io.containerd.grpc.v1.cri';
const PLUGIN_V3 = 'io.containerd.cri.v1.images';
const MARK = '# Added by "flotilla setup containerd": where the mirrors of registries stand.';
const BLOCK = new RegExp(`\\n?${MARK.replace(/[.]/g, '\\.')}\\n\\[plugins\\."[^"\\n]*"\\.registry\\]\\n  config_path = "[^"\\n]*"\\n`);

export const containerd: Client = {
  journal: () => 'containerd',
  programs: ['containerd'],

  plan(files, host, target): Plan {
    const base = baseFolder(host);
    const cri = criOf(files, base);
    const notes = [...cri.notes, ...trustNote(target, `hosts.toml, as "ca" below [host."${target.endpoint.origin}"]`)];
    const planned = new Map<string, string>();
    for (const origin of target.origins) {
      const change = hostsToml(files, cri.certsFolder, origin, target);
      if (change !== undefined) planned.set(...change);
    }
    const text = cri.wanted === undefined ? undefined : withConfigPath(files, cri.path, cri.wanted);
    if (text !== undefined) planned.set(cri.path, text);
    return { files: planned, notes, next: [] };
  },

  without(path, text) {
    if (path.endsWith('/hosts.toml')) return withoutHost(text);
    const rest = text.replace(BLOCK, '');
    if (rest === text) return undefined;
    return /^\s*(version = 2\s*)?$/.test(rest) ? null : rest;
  },

  restart: (path) => (path.endsWith('/config.toml') ? 'systemctl restart containerd (running containers go on)' : undefined),

  routes(files, host, target) {
    const cri = criOf(files, baseFolder(host));
    return target.origins.map(({ registry }) => {
      const route = hostsRoute(files, cri.certsFolder, registry, target);
      if (!route.viaAgent || cri.wanted === undefined) return { registry, ...route };
      return { registry, viaAgent: false, why: `${cri.path} has no config_path for the CRI plugin, so ${route.why} is not read` };
    });
  },
};

/** Where containerd's files lie. */
export function containerdFolder(files: HostFiles, host: Host): string {
  return criOf(files, baseFolder(host)).certsFolder;
}

function baseFolder({ uid, home }: Host): string {
  return uid === 0 ? '/etc/containerd' : `${home}/.config/containerd`;
}

interface CriRegistry {
  /** config.toml */
  readonly path: string;
  readonly certsFolder: string;
  /** The config_path that is missing. */
  readonly wanted: string | undefined;
  readonly notes: readonly string[];
}

/** What config.toml says about mirrors. @throws CommandFailure where it uses the older way, which excludes this one */
function criOf(files: HostFiles, base: string): CriRegistry {
  const path = `${base}/config.toml`;
  const certsFolder = `${base}/certs.d`;
  const text = files.read(path);
  const parsed = text === undefined ? {} : parseToml(path, text);
  const disabled = parsed['disabled_plugins'];
  if (Array.isArray(disabled) && disabled.some((plugin) => plugin === 'cri' || plugin === PLUGIN_V2)) {
    return { path, certsFolder, wanted: undefined, notes: [`The CRI plugin is disabled in ${path}: mirrors are for nerdctl, and for ctr with --hosts-dir ${certsFolder}.`] };
  }
  const registry = at(parsed, ...pluginKeys(path, parsed), 'registry');
  const table = isTable(registry) ? registry : {};
  for (const key of ['mirrors', 'configs'] as const) {
    const old = table[key];
    if (isTable(old) && Object.keys(old).length > 0 && (key === 'mirrors' || usesTls(old))) {
      throw new CommandFailure(`${path} sets registry.${key}, which containerd does not take together with config_path`, `Move what it says into ${certsFolder}/<registry>/hosts.toml first (docs/clients/containerd.md).`);
    }
  }
  const set = table['config_path'];
  const notes = isTable(parsed) && Array.isArray(parsed['imports']) && parsed['imports'].length > 0 ? [`${path} imports other files; what they say is not looked at.`] : [];
  if (typeof set === 'string' && set !== '') return { path, certsFolder: set.split(':')[0]!, wanted: undefined, notes };
  // The default of newer releases, so that nothing is lost by writing it down.
  const wanted = parsed['version'] === 3 ? `${certsFolder}:/etc/docker/certs.d` : certsFolder;
  return { path, certsFolder, wanted, notes };
}

function pluginKeys(path: string, parsed: TomlTable): string[] {
  const { version } = parsed;
  if (version === 3) return ['plugins', PLUGIN_V3];
  if (version === 2 || Object.keys(parsed).length === 0) return ['plugins', PLUGIN_V2];
  const namesPlugins = ['plugins', 'disabled_plugins', 'required_plugins'].some((key) => parsed[key] !== undefined);
  if (!namesPlugins) return ['plugins', PLUGIN_V2];
  throw new CommandFailure(`${path} is of version ${typeof version === 'number' ? version : 1}, which names plugins in another way`, `Bring it to version 2 or 3 with "containerd config migrate", and set it up again.`);
}

/** Credentials may stand beside config_path, certificates not. */
function usesTls(configs: TomlTable): boolean {
  return Object.values(configs).some((config) => isTable(config) && config['tls'] !== undefined);
}

function withConfigPath(files: HostFiles, path: string, value: string): string {
  const text = files.read(path) ?? '';
  const parsed = parseToml(path, text);
  const keys = pluginKeys(path, parsed);
  // Without a version a file is of the first one, where plugins have other names; it may be raised only where it names none.
  const versioned = parsed['version'] === undefined ? `version = 2\n${text === '' ? '' : `\n${text}`}` : text;
  const wanted = withValue(parseToml(path, versioned), [...keys, 'registry', 'config_path'], value);
  const result = firstThatMeans(wanted, configPathEdits(versioned, `plugins."${keys[1]}".registry`, value));
  if (result !== undefined) return result;
  throw new CommandFailure(`config_path cannot be added to ${path} without rewriting it`, `Set config_path = "${value}" in its table [plugins."${keys[1]}".registry] by hand, and set it up again.`);
}

/** A table at the end; an empty value replaced; a line after the table's header. */
function* configPathEdits(text: string, table: string, value: string): Generator<string> {
  yield `${endedLine(text)}\n${MARK}\n[${table}]\n  config_path = ${JSON.stringify(value)}\n`;
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    const empty = /^(\s*config_path\s*=\s*)(""|'')(.*)$/.exec(line);
    if (empty !== null) yield lines.with(index, `${empty[1]}${JSON.stringify(value)}${empty[3]}`).join('\n');
    if (/^\s*\[[^[].*registry"?'?\s*\]/.test(line)) yield lines.toSpliced(index + 1, 0, `  config_path = ${JSON.stringify(value)}`).join('\n');
  }
}
