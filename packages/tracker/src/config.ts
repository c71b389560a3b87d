// Every setting of the tracker: one table, four layers. Defaults < YAML file < environment < flags.
//
// A setting has one name, written `tlsCert` in the file, `FLOTILLA_TRACKER_TLS_CERT` in the environment, `--tls-cert` as a flag.
// Unknown keys of the file are refused with the nearest known one; unknown variables only warned about, because a cluster sets
// FLOTILLA_TRACKER_... for its services by itself. This is the only file that reads process.env.

import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { readOrigins, readProxy, showOrigins, showProxy, type NamedOrigin } from './config-origins.ts';
import { TrackerError } from './errors.ts';
import { LOG_LEVELS, type LogLevel } from './log.ts';

export interface SocketAddress {
  /** An IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** What the tracker runs with. `...Ms` in milliseconds. */
export interface TrackerConfig {
  readonly data: string;
  readonly listen: SocketAddress;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  /** More names and addresses under which agents reach it, for its own certificate. */
  readonly tlsName: readonly string[];
  readonly insecureHttp: boolean;
  /** Folder of the level database. */
  readonly state: string;
  readonly metricsPerHost: boolean;
  /** Bytes per second that blobs may leave their origins at, the whole fleet together. */
  readonly originLimit?: number;
  /** Asks origins for the fleet what public tags are. */
  readonly resolve: boolean;
  /** Those besides the built-in ones that it asks then; several entries of a name are tried in order. */
  readonly origin: readonly NamedOrigin[];
  /** To them. Empty: none. */
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly noProxy?: string;
  readonly heartbeatMs: number;
  readonly logLevel: LogLevel;
}
export type SettingName = keyof TrackerConfig;

interface Setting {
  /** From text, or from what YAML made of it. undefined: not allowed. */
  readonly read: (raw: unknown) => unknown;
  readonly allowed: string;
  readonly help: string;
  /** Placeholder of the flag's value; empty: the flag takes none; absent: the setting has no flag. */
  readonly flag?: string;
  readonly list?: true;
}

const PROXY = { read: readProxy, allowed: 'http://HOST:PORT, https://HOST:PORT or none' } as const;

/** How each setting is written. The order is that of `flotilla-tracker config` and of the help. */
export const SETTINGS: Readonly<Record<SettingName, Setting>> = {
  data: { read: readPath, allowed: 'a folder', flag: 'DIR', help: 'folder for everything that the tracker keeps' },
  listen: { read: readListen, allowed: 'ADDRESS:PORT, such as 0.0.0.0:5052 or [::]:5052', flag: 'ADDRESS:PORT', help: 'where agents and operators connect' },
  tlsCert: { read: readPath, allowed: 'a PEM file', flag: 'FILE', help: 'certificate chain to use instead of one by its own CA' },
  tlsKey: { read: readPath, allowed: 'a PEM file', flag: 'FILE', help: 'key of --tls-cert' },
  tlsName: { read: readName, allowed: 'a host name or IP address', flag: 'NAME', list: true, help: 'further name for its own certificate (repeatable)' },
  insecureHttp: { read: readBoolean, allowed: 'true or false', flag: '', help: 'speak plain HTTP: only on loopback, or behind something that encrypts' },
  state: { read: readState, allowed: 'level:DIR', flag: 'level:DIR', help: 'what must survive a restart (default: level:DATA/state)' },
  metricsPerHost: { read: readBoolean, allowed: 'true or false', flag: '', help: "each agent's totals as metrics of their own" },
  originLimit: { read: readRate, allowed: 'a rate of at least 1KiB/s, such as 200MB/s or 1Gbit/s', flag: 'RATE', help: 'most that blobs leave their origins at, the whole fleet together' },
  resolve: { read: readBoolean, allowed: 'true or false', flag: '', help: 'ask origins for the fleet what public tags are (agents with resolveBy: tracker)' },
  origin: { read: readOrigins, allowed: 'NAME=URL, or a mapping as in the settings of agents', flag: 'NAME=URL', list: true, help: 'with --resolve: a registry by name, as agents have it (repeatable)' },
  httpProxy: { ...PROXY, help: 'with --resolve: proxy for origins with http:// (default: HTTP_PROXY)' },
  httpsProxy: { ...PROXY, help: 'with --resolve: proxy for origins with https:// (default: HTTPS_PROXY)' },
  noProxy: { read: (raw) => (typeof raw === 'string' ? raw : undefined), allowed: 'hosts, addresses and CIDR blocks with commas between them', help: 'with --resolve: origins that are reached without a proxy (default: NO_PROXY)' },
  heartbeatMs: { read: readHeartbeat, allowed: 'milliseconds from 100 to 600000', help: 'an agent silent for three of these is gone' },
  logLevel: { read: (raw) => LOG_LEVELS.find((level) => level === raw), allowed: LOG_LEVELS.join(', '), help: 'least level of the lines on stderr' },
};
const NAMES = Object.keys(SETTINGS) as SettingName[];
const PREFIX = 'FLOTILLA_TRACKER_';
const CONFIG_VARIABLE = `${PREFIX}CONFIG`;

export type Flags = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;
type Environment = Readonly<Record<string, string | undefined>>;

/** One line of `flotilla-tracker config`. `where` is what to change. */
export interface ConfigEntry {
  readonly setting: SettingName;
  readonly text: string;
  readonly source: 'default' | 'file' | 'environment' | 'flag';
  readonly where: string;
}

export interface LoadedConfig {
  readonly config: TrackerConfig;
  readonly entries: readonly ConfigEntry[];
  readonly warnings: readonly string[];
}

/** Reads all layers. @throws TrackerError CONFIG_INVALID, STATE_UNSUPPORTED */
export function loadConfig({ flags = {}, env = process.env }: { flags?: Flags; env?: Environment } = {}): LoadedConfig {
  const file = typeof flags['config'] === 'string' ? flags['config'] : env[CONFIG_VARIABLE];
  const layers = [
    { source: 'default' as const, where: () => 'default', values: defaults(env) },
    ...(file ? [{ source: 'file' as const, where: () => file, values: readFile(file) }] : []),
    { source: 'environment' as const, where: variableOf, values: fromEnvironment(env) },
    { source: 'flag' as const, where: flagOf, values: flags },
  ];
  const values: Record<string, unknown> = {};
  const entries: ConfigEntry[] = [];
  for (const name of NAMES) {
    const layer = layers.findLast(({ values }) => values[name] !== undefined);
    const where = layer?.where(name) ?? 'default';
    values[name] = layer === undefined ? undefined : readValue(name, layer.values[name], where);
    if (name === 'state') values[name] ??= join(values['data'] as string, 'state');
    entries.push({ setting: name, text: textOf(name, values[name]), source: layer?.source ?? 'default', where });
  }
  const config = values as unknown as TrackerConfig;
  if ((config.tlsCert === undefined) !== (config.tlsKey === undefined)) throw new TrackerError('CONFIG_INVALID', '--tls-cert and --tls-key belong together: give both');
  if (config.insecureHttp && config.tlsCert !== undefined) throw new TrackerError('CONFIG_INVALID', '--insecure-http and --tls-cert exclude each other');
  return { config, entries, warnings: unknownVariables(env) };
}

export function variableOf(name: SettingName): string {
  return `${PREFIX}${name.replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()}`;
}

export function flagOf(name: SettingName): string {
  return `--${name.replace(/([a-z])([A-Z])/g, '$1-$2').toLowerCase()}`;
}

export function formatAddress({ host, port }: SocketAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function defaults(env: Environment): Partial<Record<SettingName, unknown>> {
  const dataHome = env['XDG_DATA_HOME'] || join(env['HOME'] || homedir(), '.local', 'share');
  return {
    data: process.getuid?.() === 0 ? '/var/lib/flotilla-tracker' : join(dataHome, 'flotilla-tracker'),
    listen: '0.0.0.0:5052',
    tlsName: [],
    insecureHttp: false,
    metricsPerHost: false,
    resolve: false,
    origin: [],
    httpProxy: env['http_proxy'] || env['HTTP_PROXY'],
    httpsProxy: env['https_proxy'] || env['HTTPS_PROXY'],
    noProxy: env['no_proxy'] || env['NO_PROXY'],
    heartbeatMs: 30_000,
    logLevel: 'info',
  };
}

function readFile(path: string): Partial<Record<SettingName, unknown>> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new TrackerError('CONFIG_INVALID', `the settings file ${path} cannot be read`, { cause: error });
  }
  const document = parseDocument(text);
  const [fault] = document.errors;
  if (fault !== undefined) throw new TrackerError('CONFIG_INVALID', `${path} is no YAML: ${fault.message.split('\n')[0]}`, { cause: fault });
  const content: unknown = document.toJS() ?? {};
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new TrackerError('CONFIG_INVALID', `${path} must be a mapping of settings, such as "listen: 0.0.0.0:5052"`);
  }
  for (const key of Object.keys(content)) {
    if (NAMES.includes(key as SettingName)) continue;
    const meant = nearest(key, NAMES);
    throw new TrackerError('CONFIG_INVALID', `${path}: unknown setting "${key}"${meant === undefined ? '' : `; did you mean "${meant}"?`}`);
  }
  return content;
}

function fromEnvironment(env: Environment): Partial<Record<SettingName, unknown>> {
  const values: Partial<Record<SettingName, unknown>> = {};
  for (const name of NAMES) {
    const text = env[variableOf(name)];
    if (text !== undefined && text !== '') values[name] = SETTINGS[name].list ? text.split(',').map((item) => item.trim()) : text;
  }
  return values;
}

function unknownVariables(env: Environment): string[] {
  const known = [...NAMES.map(variableOf), CONFIG_VARIABLE].map((name) => name.slice(PREFIX.length));
  return Object.keys(env).flatMap((key) => {
    const name = key.slice(PREFIX.length);
    if (!key.startsWith(PREFIX) || known.includes(name)) return [];
    const meant = nearest(name, known);
    return meant === undefined ? [] : [`unknown variable ${key}; did you mean ${PREFIX}${meant}?`];
  });
}

function readValue(name: SettingName, raw: unknown, where: string): unknown {
  const { read, list, allowed } = SETTINGS[name];
  const one = (item: unknown): unknown => {
    const value = read(item);
    if (value !== undefined) return value;
    const shown = typeof item === 'string' ? item : JSON.stringify(item);
    throw new TrackerError('CONFIG_INVALID', `${name}: "${shown}" is not allowed (${where}); write ${allowed}`);
  };
  return list ? (Array.isArray(raw) ? raw : [raw]).flatMap(one) : one(raw);
}

function textOf(name: SettingName, value: unknown): string {
  if (value === undefined) return '';
  if (name === 'state') return `level:${value as string}`;
  if (name === 'origin') return showOrigins(value as readonly NamedOrigin[]);
  if (name === 'httpProxy' || name === 'httpsProxy') return showProxy(value as string);
  if (Array.isArray(value)) return value.join(', ');
  return typeof value === 'object' ? formatAddress(value as SocketAddress) : `${value as string | number | boolean}`;
}

function readPath(raw: unknown): string | undefined {
  return typeof raw === 'string' && raw.trim() !== '' ? resolve(raw) : undefined;
}

function readName(raw: unknown): string | undefined {
  return typeof raw === 'string' && (isIP(raw) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(raw)) ? raw : undefined;
}

function readListen(raw: unknown): SocketAddress | undefined {
  const match = typeof raw === 'string' ? /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(raw) : null;
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  return isIP(host) !== 0 && port <= 65_535 ? { host, port } : undefined;
}

function readBoolean(raw: unknown): boolean | undefined {
  if (typeof raw === 'boolean') return raw;
  return raw === 'true' || raw === '1' ? true : raw === 'false' || raw === '0' ? false : undefined;
}

function readHeartbeat(raw: unknown): number | undefined {
  const value = typeof raw === 'string' && raw.trim() !== '' ? Number(raw) : raw;
  return typeof value === 'number' && Number.isInteger(value) && value >= 100 && value <= 600_000 ? value : undefined;
}

const RATE_UNITS: Readonly<Record<string, number>> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, kbit: 1e3 / 8, mbit: 1e6 / 8, gbit: 1e9 / 8 };

/** `200MB/s`, `1Gbit/s`, also without `/s`: bytes per second. */
function readRate(raw: unknown): number | undefined {
  const [, amount, unit = ''] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)?(?:\/s)?\s*$/i.exec(typeof raw === 'number' ? String(raw) : typeof raw === 'string' ? raw : '') ?? [];
  const rate = Math.floor(Number(amount) * (unit === '' ? 1 : (RATE_UNITS[unit.toLowerCase()] ?? Number.NaN)));
  return Number.isSafeInteger(rate) && rate >= 1024 ? rate : undefined;
}

/** @throws STATE_UNSUPPORTED */
function readState(raw: unknown): string | undefined {
  if (typeof raw !== 'string') return undefined;
  if (/^rediss?:/.test(raw)) throw new TrackerError('STATE_UNSUPPORTED', `state in Redis (${raw.split('@').at(-1)}) is not supported yet`);
  return raw.startsWith('level:') ? readPath(raw.slice('level:'.length)) : undefined;
}

/** The known name with the fewest edits, if they are few for its length. Case and `_` do not count. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (text: string): string => text.toLowerCase().replace(/[-_]/g, '');
  const target = plain(word);
  const [best] = known.map((name) => ({ name, edits: edits(target, plain(name)) })).sort((a, b) => a.edits - b.edits);
  return best !== undefined && best.edits <= Math.max(2, Math.floor(target.length / 4)) ? best.name : undefined;
}

/** Levenshtein distance. */
function edits(a: string, b: string): number {
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) row.push(Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    last = row;
  }
  return last[b.length]!;
}
