// Every setting of the agent: one schema, in layers. Defaults (config-defaults.ts) < YAML file < environment < flags.
//
// A setting has one name, written `p2pListen` in the file, `FLOTILLA_P2P_LISTEN` in the environment, `--p2p-listen` as a flag. Maps
// (origin, label) are merged entry by entry, everything else is replaced as a whole. Unknown keys of the file are refused with the
// nearest known one; unknown variables only warned about, because a cluster sets FLOTILLA_... for its services by itself.
// This is the only file that reads process.env.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Type, type Static, type TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { parseDocument } from 'yaml';
import {
  formatAdvertised,
  formatBytes,
  readAdvertise,
  readBoolean,
  readBytes,
  readListen,
  readNumber,
  readPattern,
  readProxy,
  readRate,
  readText,
  readUrl,
  withoutUserinfo,
  type AdvertisedAddress,
  type Read,
} from './config-values.ts';
import { ambient, defaults } from './config-defaults.ts';
import { hideSecrets, joinOrigins, OriginSchema, readOrigin, SettingRefused, showOrigin } from './config-origins.ts';
import { AgentError } from './errors.ts';
import { formatAddress, type SocketAddress } from './listen.ts';
import { LOG_LEVELS } from './log.ts';
import { nearest } from './nearest.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const Address = Type.Object({ host: Type.String(), port: Type.Integer({ minimum: 0, maximum: 65_535 }) });
const Rate = Type.Optional(Type.Integer({ minimum: KIB, description: 'bytes per second; absent: no limit' }));
const Label = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^\\x00-\\x1f]*$' });

/** What the agent runs with. Sizes in bytes, rates in bytes per second, `...Ms` in milliseconds. */
export const AgentConfigSchema = Type.Object({
  data: Type.String({ minLength: 1 }),
  listen: Address,
  p2pListen: Address,
  adminListen: Address,
  /** the endpoint speaks TLS with these two */
  tlsCert: Type.Optional(Type.String({ minLength: 1 })),
  tlsKey: Type.Optional(Type.String({ minLength: 1 })),
  advertise: Type.Array(Type.Object({ host: Type.String(), port: Type.Optional(Type.Integer()) }), { maxItems: 16 }),
  tracker: Type.Array(Type.String(), { maxItems: 16 }),
  joinTokenFile: Type.Optional(Type.String({ minLength: 1 })),
  /** by NAME (docs/origins.md) */
  origin: Type.Record(Type.String(), OriginSchema),
  /** which hosts that nobody configured may be origins */
  origins: Type.Union([Type.Literal('any-public'), Type.Literal('listed')]),
  /** files of `podman login` and `docker login`; the first with credentials for a repository counts */
  authFiles: Type.Array(Type.String({ minLength: 1 }), { maxItems: 16 }),
  /** the kubelet's credential providers */
  credentialProviderConfig: Type.Optional(Type.String({ minLength: 1 })),
  credentialProviderBinDir: Type.Optional(Type.String({ minLength: 1 })),
  /** empty: none */
  httpProxy: Type.Optional(Type.String()),
  httpsProxy: Type.Optional(Type.String()),
  noProxy: Type.Optional(Type.String({ maxLength: 65_536 })),
  defaultOrigin: Type.Optional(Type.String({ pattern: '^[a-z0-9]+([._-][a-z0-9]+)*$' })),
  name: Label,
  zone: Type.Optional(Label),
  label: Type.Record(Type.String(), Type.String({ maxLength: 255 })),
  uploadLimit: Rate,
  downloadLimit: Rate,
  originLimit: Rate,
  zoneLimit: Rate,
  /** absent: a tenth of the file system */
  storeLimit: Type.Optional(Type.Integer({ minimum: MIB })),
  /** share of the file system that is left free */
  storeMinFreeShare: Type.Number({ minimum: 0, maximum: 0.95 }),
  /** chunks kept in memory to be served again */
  cacheBytes: Type.Integer({ minimum: MIB, maximum: 64 * 1024 * MIB }),
  /** whose credentials are used at origins for local callers (docs/rights.md) */
  rights: Type.Union([Type.Literal('agent'), Type.Literal('pass-through')]),
  /** globs over origin/repository: what every local caller may read with the agent's own credentials */
  allow: Type.Array(Type.String(), { maxItems: 1000 }),
  originDown: Type.Union([Type.Literal('same-repository'), Type.Literal('allow'), Type.Literal('deny')]),
  challenge: Type.Boolean(),
  tellPrivateNames: Type.Boolean(),
  /** who asks origins what a public tag is, and whether a repository is public */
  resolveBy: Type.Union([Type.Literal('agent'), Type.Literal('tracker')]),
  /** fetch the rest of an image once six of its blobs were asked for (docs/decisions/0002) */
  prefetch: Type.Boolean(),
  /** a pull without a byte from any source for this long is broken off */
  stallMs: Type.Integer({ minimum: 1000, maximum: 3_600_000 }),
  /** a command that runs after a rollout, with the image reference as its only argument; absent: none */
  rolloutHook: Type.Optional(Type.String({ minLength: 1 })),
  rolloutHookTimeoutMs: Type.Integer({ minimum: 1000, maximum: 3_600_000 }),
  /** an OpenTelemetry collector that takes OTLP over HTTP; absent: nothing is traced */
  traceTo: Type.Optional(Type.String({ minLength: 1 })),
  /** how long open responses may take when the agent stops */
  drainTimeoutMs: Type.Integer({ minimum: 0, maximum: 3_600_000 }),
  logLevel: Type.Union(LOG_LEVELS.map((level) => Type.Literal(level))),
});
export type AgentConfig = Static<typeof AgentConfigSchema>;
export type SettingName = keyof AgentConfig;

interface Setting {
  readonly shape: 'one' | 'list' | 'map';
  /** One value, one item of a list, or one value of a map. May throw SettingRefused where it knows better what is wrong than `allowed`. */
  readonly read: Read<unknown>;
  /** A key of a map that is written twice on the command line; absent: the last one counts. */
  readonly join?: (first: never, second: never) => unknown;
  /** What may stand there, for messages and help. */
  readonly allowed: string;
  readonly help: string;
  /** Placeholder of the flag's value; absent: the setting has no flag. */
  readonly flag?: string;
  /** Keys of a map. */
  readonly keys?: RegExp;
  readonly show?: (value: never) => string;
  /** What may be printed as JSON. */
  readonly hide?: (value: never) => unknown;
}

const LISTEN = { shape: 'one', read: readListen, allowed: 'ADDRESS:PORT, such as 127.0.0.1:5050 or [::]:5050', flag: 'ADDRESS:PORT', show: (address: SocketAddress) => formatAddress(address) } as const;
const RATE = { shape: 'one', read: readRate, allowed: 'a rate of at least 1KiB/s, such as 50MB/s or 400Mbit/s', flag: 'RATE', show: (rate: number) => `${formatBytes(rate)}/s` } as const;
const TEXT = { shape: 'one', read: readText, allowed: 'a text of at most 255 characters' } as const;

const PROXY = { shape: 'one', read: readProxy, allowed: 'http://HOST:PORT, https://HOST:PORT or none', show: (url: string) => (url === '' ? 'none' : withoutUserinfo(url)), hide: withoutUserinfo } as const;

/** How each setting is written. The order is that of `flotilla config` and of the help. */
export const SETTINGS: Readonly<Record<SettingName, Setting>> = {
  data: { shape: 'one', read: readPath, allowed: 'a folder', flag: 'DIR', help: 'folder for everything that the agent keeps' },
  listen: { ...LISTEN, help: 'where container clients find the v2 endpoint' },
  p2pListen: { ...LISTEN, help: 'where other agents connect' },
  adminListen: { ...LISTEN, help: 'health and metrics' },
  tlsCert: { shape: 'one', read: readPath, allowed: 'a PEM file', flag: 'FILE', help: 'certificate chain of the v2 endpoint, which speaks TLS then; read again when it changes' },
  tlsKey: { shape: 'one', read: readPath, allowed: 'a PEM file', flag: 'FILE', help: 'key of that certificate' },
  advertise: {
    shape: 'list',
    read: readAdvertise,
    allowed: 'HOST or HOST:PORT, such as 10.0.0.7:5051',
    flag: 'ADDR',
    help: 'address under which other agents reach this one (repeatable)',
    show: (address: AdvertisedAddress) => formatAdvertised(address),
  },
  tracker: { shape: 'list', read: readUrl, allowed: 'an http or https URL without credentials', flag: 'URL', help: 'the tracker of the fleet (repeatable)' },
  joinTokenFile: { shape: 'one', read: readPath, allowed: 'a file', flag: 'FILE', help: "the tracker's join token" },
  origin: {
    shape: 'map',
    read: readOrigin,
    join: joinOrigins,
    show: showOrigin,
    hide: hideSecrets,
    allowed: 'NAME=URL with a lower-case NAME and an http or https URL, such as docker.io=https://mirror.example',
    flag: 'NAME=URL',
    keys: /^[a-z0-9]+([._-][a-z0-9]+)*$/,
    help: 'a registry by name (repeatable; several URLs for a name are tried in order)',
  },
  origins: { ...TEXT, allowed: 'any-public or listed', help: 'which hosts may be origins besides those that are configured and built in: any with public addresses, or none' },
  authFiles: { shape: 'list', read: readPath, allowed: 'a file', help: "files with the agent's own credentials, as podman and docker write them" },
  credentialProviderConfig: { shape: 'one', read: readPath, allowed: 'a file', help: "the kubelet's CredentialProviderConfig" },
  credentialProviderBinDir: { shape: 'one', read: readPath, allowed: 'a folder', help: "the folder of the kubelet's credential providers" },
  httpProxy: { ...PROXY, help: 'proxy for origins with http:// (default: HTTP_PROXY)' },
  httpsProxy: { ...PROXY, help: 'proxy for origins with https:// (default: HTTPS_PROXY)' },
  noProxy: { ...TEXT, allowed: 'hosts, addresses and CIDR blocks with commas between them', help: 'what is reached without a proxy (default: NO_PROXY)' },
  defaultOrigin: { ...TEXT, allowed: "an origin's name, such as docker.io", flag: 'NAME', help: 'origin of image names that do not name one' },
  name: { ...TEXT, flag: 'NAME', help: "this agent's name on the dashboard" },
  zone: { ...TEXT, flag: 'ZONE', help: 'where this host stands: a blob comes into a zone once, and goes round in it' },
  label: { shape: 'map', read: readText, allowed: 'KEY=VALUE', flag: 'KEY=VALUE', keys: /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/, help: 'label for rollouts and the dashboard (repeatable)' },
  uploadLimit: { ...RATE, help: 'most that is sent to peers' },
  downloadLimit: { ...RATE, help: 'most that is taken from peers and origins' },
  originLimit: { ...RATE, help: 'most that is taken from origins' },
  zoneLimit: { ...RATE, help: 'most that is sent to peers of other zones, and most that is taken from them' },
  storeLimit: { shape: 'one', read: readBytes, allowed: 'a size of at least 1MiB, such as 200GB', flag: 'SIZE', help: 'most that is kept on disk (default: a tenth of the file system)', show: formatBytes },
  storeMinFreeShare: { shape: 'one', read: readNumber, allowed: 'a number from 0 to 0.95', help: 'share of the file system that is left free' },
  cacheBytes: { shape: 'one', read: readBytes, allowed: 'a size from 1MiB to 64GiB', help: 'chunks kept in memory', show: formatBytes },
  rights: { ...TEXT, allowed: 'agent or pass-through', help: "whose credentials are used at origins for local callers: the agent's, where allow says so, or their own" },
  allow: {
    shape: 'list',
    read: readPattern,
    allowed: 'ORIGIN/REPOSITORY, with * for a part of one name and ** for several, such as docker.io/acme/**',
    help: "repositories that every local caller may read with the agent's own credentials",
  },
  originDown: { ...TEXT, allowed: 'same-repository, allow or deny', help: 'what is served of a repository while its origin does not answer: to whom it was allowed before, to all, or nothing' },
  challenge: { shape: 'one', read: readBoolean, allowed: 'true or false', help: 'ask clients for credentials (401), where rights is pass-through' },
  tellPrivateNames: { shape: 'one', read: readBoolean, allowed: 'true or false', help: 'tell the tracker the names of private images too' },
  resolveBy: { ...TEXT, allowed: 'agent or tracker', help: 'who asks origins what public tags are: the agent itself, or the tracker once for the fleet, where it has --resolve' },
  prefetch: { shape: 'one', read: readBoolean, allowed: 'true or false', help: 'fetch the rest of an image once six of its blobs were asked for' },
  stallMs: { shape: 'one', read: readNumber, allowed: 'milliseconds from 1000 to 3600000', help: 'a pull without progress for this long is broken off' },
  rolloutHook: { shape: 'one', read: readPath, allowed: 'the file of a command', help: 'command that runs after a rollout, with the image reference as its only argument' },
  rolloutHookTimeoutMs: { shape: 'one', read: readNumber, allowed: 'milliseconds from 1000 to 3600000', help: 'how long that command may take' },
  traceTo: { shape: 'one', read: readUrl, allowed: 'an http or https URL without credentials, such as http://127.0.0.1:4318', flag: 'URL', help: 'OpenTelemetry collector that gets traces of pulls, by OTLP over HTTP (default: none)' },
  drainTimeoutMs: { shape: 'one', read: readNumber, allowed: 'milliseconds from 0 to 3600000', help: 'how long open responses may take when the agent stops' },
  logLevel: { shape: 'one', read: readText, allowed: LOG_LEVELS.join(', '), help: 'least level of the lines on stderr' },
};
const NAMES = Object.keys(SETTINGS) as SettingName[];

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a value comes from: `where` is what to change. */
export interface Provenance {
  readonly source: 'default' | 'file' | 'environment' | 'flag';
  readonly where: string;
}

/** One line of `flotilla config`; an entry of a map is named `origin.docker.io`. */
export interface ConfigEntry extends Provenance {
  readonly setting: string;
  /** Without secrets. */
  readonly value: unknown;
  /** As a person writes it; empty where nothing is set. */
  readonly text: string;
}

export interface LoadedConfig {
  readonly config: AgentConfig;
  readonly entries: readonly ConfigEntry[];
  readonly warnings: readonly string[];
}

export interface ConfigInput {
  /** By setting name: what stood behind the flag, a list for repeated ones. `config` is the file. */
  readonly flags?: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** @default process.env */
  readonly env?: Environment;
}

interface Layer {
  readonly source: Provenance['source'];
  readonly where: (name: SettingName) => string;
  readonly values: Readonly<Partial<Record<SettingName, unknown>>>;
}

/** Reads all layers. @throws AgentError CONFIG_INVALID naming the setting, where it stood, and what is allowed */
export function loadConfig({ flags = {}, env = process.env }: ConfigInput = {}): LoadedConfig {
  const file = flags['config']?.toString() ?? env['FLOTILLA_CONFIG'];
  const layers: Layer[] = [
    { source: 'default', where: () => 'default', values: defaults(env) },
    { source: 'environment', where: (name) => ambient(name, env)?.variable ?? name, values: Object.fromEntries(NAMES.map((name) => [name, ambient(name, env)?.value])) },
    ...(file ? [{ source: 'file' as const, where: () => file, values: readFile(file) }] : []),
    { source: 'environment', where: variable, values: fromEnvironment(env) },
    { source: 'flag', where: flagOf, values: pick(flags) },
  ];
  const config: Record<string, unknown> = {};
  const entries: ConfigEntry[] = [];
  for (const name of NAMES) {
    const { value, parts } = merge(name, layers);
    if (value !== undefined) config[name] = value;
    for (const part of parts) entries.push({ ...part, value: hidden(name, part.value), text: textOf(name, part.value) });
  }
  check(config, entries);
  return { config: config as AgentConfig, entries, warnings: unknownVariables(env) };
}

export function variable(name: SettingName): string {
  return `FLOTILLA_${name.replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()}`;
}

export function flagOf(name: SettingName): string {
  return `--${name.replace(/([a-z])([A-Z])/g, '$1-$2').toLowerCase()}`;
}

/** The folder of a running agent, for commands that only need that. */
export function loadDataDir(input: ConfigInput): string {
  return loadConfig(input).config.data;
}

/** Of this process, for what it starts. */
export function environment(): Environment {
  return process.env;
}

/** What programs that the agent starts see of the environment: all but its own settings. */
export function programEnvironment(env: Environment = process.env): Environment {
  return Object.fromEntries(Object.entries(env).filter(([key]) => !key.startsWith('FLOTILLA_')));
}

function readFile(path: string): Partial<Record<SettingName, unknown>> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `the settings file ${path} cannot be read`, { cause: error });
  }
  // Pretty messages quote the file, which may hold a password.
  const document = parseDocument(text, { prettyErrors: false });
  const [fault] = document.errors;
  if (fault !== undefined) throw new AgentError('CONFIG_INVALID', `${path} is no YAML: ${fault.message.split('\n')[0]} (line ${text.slice(0, fault.pos[0]).split('\n').length})`, { cause: fault });
  const content: unknown = document.toJS() ?? {};
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new AgentError('CONFIG_INVALID', `${path} must be a mapping of settings, such as "listen: 127.0.0.1:5050"`);
  }
  for (const key of Object.keys(content)) {
    if (NAMES.includes(key as SettingName)) continue;
    const meant = nearest(key, NAMES);
    throw new AgentError('CONFIG_INVALID', `${path}: unknown setting "${key}"${meant === undefined ? '' : `; did you mean "${meant}"?`}`);
  }
  return content;
}

/** Lists and maps are written with commas between their items. */
function fromEnvironment(env: Environment): Partial<Record<SettingName, unknown>> {
  const values: Partial<Record<SettingName, unknown>> = {};
  for (const name of NAMES) {
    const text = env[variable(name)];
    if (text === undefined || text === '') continue;
    values[name] = SETTINGS[name].shape === 'one' ? text : text.split(',').map((item) => item.trim()).filter((item) => item !== '');
  }
  return values;
}

function unknownVariables(env: Environment): string[] {
  const known = [...NAMES.map(variable), 'FLOTILLA_CONFIG'];
  return Object.keys(env).flatMap((key) => {
    if (!key.startsWith('FLOTILLA_') || known.includes(key)) return [];
    const meant = nearest(key.slice('FLOTILLA_'.length), known.map((name) => name.slice('FLOTILLA_'.length)));
    return meant === undefined ? [] : [`unknown variable ${key}; did you mean FLOTILLA_${meant}?`];
  });
}

function pick(flags: NonNullable<ConfigInput['flags']>): Partial<Record<SettingName, unknown>> {
  return Object.fromEntries(NAMES.filter((name) => flags[name] !== undefined).map((name) => [name, flags[name]]));
}

type Part = Omit<ConfigEntry, 'text'>;

function merge(name: SettingName, layers: readonly Layer[]): { value: unknown; parts: Part[] } {
  const { shape } = SETTINGS[name];
  const given = layers.filter((layer) => layer.values[name] !== undefined && layer.values[name] !== null);
  if (shape === 'map') {
    const parts = new Map<string, Part>();
    for (const layer of given) {
      for (const [key, value] of readMap(name, layer)) parts.set(key, { setting: `${name}.${key}`, value, source: layer.source, where: layer.where(name) });
    }
    const value = Object.fromEntries([...parts].map(([key, part]) => [key, part.value]));
    return { value, parts: parts.size === 0 ? [{ setting: name, value: {}, source: 'default', where: 'default' }] : [...parts.values()] };
  }
  const layer = given.at(-1);
  if (layer === undefined) return { value: undefined, parts: [{ setting: name, value: undefined, source: 'default', where: 'default' }] };
  const raw = layer.values[name];
  const value = shape === 'one' ? readOne(name, raw, layer) : asList(raw).map((item) => readOne(name, item, layer));
  return { value, parts: [{ setting: name, value, source: layer.source, where: layer.where(name) }] };
}

/** Entries of a map: a mapping in the file, `KEY=VALUE` texts elsewhere. */
function readMap(name: SettingName, layer: Layer): Map<string, unknown> {
  const { keys } = SETTINGS[name];
  const join = SETTINGS[name].join as ((first: unknown, second: unknown) => unknown) | undefined;
  const raw = layer.values[name];
  const isMapping = typeof raw === 'object' && raw !== null && !Array.isArray(raw);
  const pairs = isMapping ? Object.entries(raw) : asList(raw).map((item): [string, unknown] => splitPair(name, item, layer));
  const entries = new Map<string, unknown>();
  for (const [key, value] of pairs) {
    if (keys?.test(key) === false) throw invalid(name, key, layer.where(name));
    const read = readOne(name, value, layer, key);
    entries.set(key, join === undefined || !entries.has(key) ? read : join(entries.get(key), read));
  }
  return entries;
}

function splitPair(name: SettingName, item: unknown, layer: Layer): [string, string] {
  const text = typeof item === 'string' ? item : '';
  const equals = text.indexOf('=');
  if (equals <= 0) throw invalid(name, item, layer.where(name));
  return [text.slice(0, equals), text.slice(equals + 1)];
}

function readOne(name: SettingName, raw: unknown, layer: Layer, key?: string): unknown {
  let value: unknown;
  try {
    value = SETTINGS[name].read(raw);
  } catch (error) {
    if (!(error instanceof SettingRefused)) throw error;
    throw new AgentError('CONFIG_INVALID', `${name}${key === undefined ? '' : `.${key}`}: ${error.message} (${layer.where(name)})`, { cause: error });
  }
  if (value === undefined) throw invalid(name, raw, layer.where(name));
  return value;
}

/** The limits of each value. */
function check(config: Record<string, unknown>, entries: readonly ConfigEntry[]): void {
  const [fault] = Value.Errors(AgentConfigSchema as TSchema, config);
  if (fault === undefined) return;
  const [, name = '', key] = fault.instancePath.split('/');
  const entry = entries.find(({ setting }) => setting === name || setting === `${name}.${key}`);
  throw invalid(name as SettingName, entry?.text ?? '', entry?.where ?? 'default');
}

function invalid(name: SettingName, raw: unknown, where: string): AgentError {
  const shown = withoutUserinfo(typeof raw === 'string' ? raw : JSON.stringify(raw));
  return new AgentError('CONFIG_INVALID', `${name}: "${shown}" is not allowed (${where}); write ${SETTINGS[name].allowed}`);
}

function textOf(name: SettingName, value: unknown): string {
  const show = (SETTINGS[name].show ?? String) as (value: unknown) => string;
  if (value === undefined) return '';
  if (Array.isArray(value)) return value.map(show).join(', ');
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0 ? '' : show(value);
}

function hidden(name: SettingName, value: unknown): unknown {
  const hide = SETTINGS[name].hide as ((value: unknown) => unknown) | undefined;
  return hide === undefined || value === undefined || (typeof value === 'object' && value !== null && Object.keys(value).length === 0) ? value : hide(value);
}

function asList(raw: unknown): readonly unknown[] {
  return Array.isArray(raw) ? raw : [raw];
}

/** Relative paths start at the working directory, wherever they are written. */
function readPath(raw: unknown): string | undefined {
  return typeof raw === 'string' && raw.trim() !== '' ? resolve(raw) : undefined;
}
