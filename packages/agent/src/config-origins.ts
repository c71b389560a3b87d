// The settings of one origin, as they stand under `origin:` in the file: a URL, a list of URLs, or a mapping. Pure.
//
// Invariant: a secret that stands here is never quoted, neither in what is shown nor in what is refused.

import { resolve } from 'node:path';
import { Type, type Static } from 'typebox';
import { readText, readUrl } from './config-values.ts';
import { nearest } from './nearest.ts';

const Path = Type.String({ minLength: 1 });
const Credentials = Type.Union([
  Type.Object({ kind: Type.Literal('none') }),
  Type.Object({ kind: Type.Literal('password'), username: Type.String(), password: Type.String() }),
  Type.Object({ kind: Type.Literal('password-file'), username: Type.String(), passwordFile: Path }),
  Type.Object({ kind: Type.Literal('auth-file'), path: Path }),
  Type.Object({ kind: Type.Literal('helper'), name: Type.String() }),
]);

export const OriginSchema = Type.Object({
  /** base URLs, tried in order; absent: the one built in, or https:// and the name */
  urls: Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: 16 })),
  /** hosts of token servers that belong to the origin although they lie elsewhere */
  realms: Type.Optional(Type.Array(Type.String(), { maxItems: 16 })),
  /** PEM files */
  ca: Type.Optional(Path),
  clientCert: Type.Optional(Path),
  clientKey: Type.Optional(Path),
  /** takes any certificate */
  insecure: Type.Optional(Type.Boolean()),
  /** instead of what files and programs have */
  credentials: Type.Optional(Credentials),
});
export type OriginSetting = Static<typeof OriginSchema>;
type CredentialSetting = Static<typeof Credentials>;

/** Why a value is refused, in words that stand behind the setting's name. */
export class SettingRefused extends Error {}

const KEYS = ['urls', 'realms', 'ca', 'clientCert', 'clientKey', 'insecure', 'credentials'] as const satisfies readonly (keyof OriginSetting)[];
const CREDENTIAL_KEYS = ['username', 'password', 'passwordFile', 'authFile', 'helper'] as const;
/** A host as URLs have it: a name, an IPv4 address or an IPv6 one in brackets; with or without a port. */
const HOST = /^(?:[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:\d{1,5})?$/i;
const HELPER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const HIDDEN = '(hidden)';

/** undefined: it is neither a URL, nor a list of them, nor a mapping. @throws SettingRefused */
export function readOrigin(raw: unknown): OriginSetting | undefined {
  if (typeof raw === 'string') {
    const url = readUrl(raw);
    return url === undefined ? undefined : { urls: [url] };
  }
  if (Array.isArray(raw)) return { urls: urlsOf(raw) };
  if (typeof raw !== 'object' || raw === null) return undefined;
  const given = new Map<string, unknown>(Object.entries(raw).filter(([, value]) => value !== null));
  refuseUnknown(given.keys(), KEYS);
  const setting: OriginSetting = {
    ...(given.has('urls') && { urls: urlsOf(given.get('urls')) }),
    ...(given.has('realms') && { realms: listOf(given.get('realms')).map(readHost) }),
    ...Object.fromEntries((['ca', 'clientCert', 'clientKey'] as const).filter((key) => given.has(key)).map((key) => [key, readFilePath(key, given.get(key))])),
    ...(given.has('insecure') && { insecure: readFlag(given.get('insecure')) }),
    ...(given.has('credentials') && { credentials: readCredentials(given.get('credentials')) }),
  };
  if ((setting.clientCert === undefined) !== (setting.clientKey === undefined)) throw new SettingRefused('clientCert and clientKey are given together, or not at all');
  return setting;
}

/** Several URLs for one name on the command line are tried in order. */
export function joinOrigins(first: OriginSetting, second: OriginSetting): OriginSetting {
  return { ...first, ...second, urls: [...(first.urls ?? []), ...(second.urls ?? [])] };
}

/** As `flotilla config` shows it. */
export function showOrigin({ urls = [], realms = [], ca, clientCert, insecure, credentials }: OriginSetting): string {
  const more = [
    ...(realms.length === 0 ? [] : [`realms ${realms.join(' ')}`]),
    ...(ca === undefined ? [] : [`ca ${ca}`]),
    ...(clientCert === undefined ? [] : [`clientCert ${clientCert}`]),
    ...(insecure === true ? ['insecure'] : []),
    ...(credentials === undefined ? [] : [`credentials ${showCredentials(credentials)}`]),
  ];
  return [urls.join(', '), ...more].filter((part) => part !== '').join('; ');
}

/** The same without its secrets. */
export function hideSecrets(setting: OriginSetting): OriginSetting {
  const { credentials } = setting;
  return credentials?.kind === 'password' ? { ...setting, credentials: { ...credentials, password: HIDDEN } } : setting;
}

function showCredentials(credentials: CredentialSetting): string {
  switch (credentials.kind) {
    case 'none':
      return 'none';
    case 'password':
      return `${credentials.username} ${HIDDEN}`;
    case 'password-file':
      return `${credentials.username} ${credentials.passwordFile}`;
    case 'auth-file':
      return credentials.path;
    case 'helper':
      return `docker-credential-${credentials.name}`;
  }
}

function readCredentials(raw: unknown): CredentialSetting {
  if (raw === 'none') return { kind: 'none' };
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new SettingRefused('credentials are "none", or a mapping with username and passwordFile, username and password, authFile, or helper');
  }
  const given = new Map<string, unknown>(Object.entries(raw).filter(([, value]) => value !== null));
  refuseUnknown(given.keys(), CREDENTIAL_KEYS, 'credentials.');
  const is = (...keys: readonly string[]): boolean => given.size === keys.length && keys.every((key) => given.has(key));
  if (is('username', 'password')) return { kind: 'password', username: readUsername(given), password: readWord('password', given.get('password')) };
  if (is('username', 'passwordFile')) return { kind: 'password-file', username: readUsername(given), passwordFile: readFilePath('passwordFile', given.get('passwordFile')) };
  if (is('authFile')) return { kind: 'auth-file', path: readFilePath('authFile', given.get('authFile')) };
  if (is('helper')) {
    const name = given.get('helper');
    if (typeof name !== 'string' || !HELPER.test(name)) throw new SettingRefused('credentials.helper is the word behind docker-credential-, such as ecr-login');
    return { kind: 'helper', name };
  }
  throw new SettingRefused('credentials are either username and passwordFile, or username and password, or authFile, or helper');
}

function readUsername(given: ReadonlyMap<string, unknown>): string {
  const name = readWord('username', given.get('username'));
  if (name.includes(':')) throw new SettingRefused('credentials.username has a colon, which no registry can tell from the password');
  return name;
}

function readWord(key: string, raw: unknown): string {
  const text = readText(raw);
  if (text === undefined || text === '') throw new SettingRefused(`credentials.${key} is no text`);
  return text;
}

function urlsOf(raw: unknown): string[] {
  const urls = listOf(raw).map((item) => readUrl(item));
  if (urls.length === 0 || !urls.every((url) => url !== undefined)) throw new SettingRefused('urls are http:// or https:// and a host, without credentials');
  return urls;
}

function readHost(raw: unknown): string {
  if (typeof raw !== 'string' || !HOST.test(raw)) throw new SettingRefused('realms are hosts, such as auth.example.com or auth.example.com:5001');
  return raw.toLowerCase();
}

function readFilePath(key: string, raw: unknown): string {
  if (typeof raw !== 'string' || raw.trim() === '') throw new SettingRefused(`${key} is a file`);
  return resolve(raw);
}

function readFlag(raw: unknown): boolean {
  if (typeof raw !== 'boolean') throw new SettingRefused('insecure is true or false');
  return raw;
}

function refuseUnknown(given: Iterable<string>, known: readonly string[], prefix = ''): void {
  for (const key of given) {
    if (known.includes(key)) continue;
    const meant = nearest(key, known);
    throw new SettingRefused(`unknown key "${prefix}${key}"${meant === undefined ? `; known are ${known.join(', ')}` : `; did you mean "${prefix}${meant}"?`}`);
  }
}

function listOf(raw: unknown): readonly unknown[] {
  return Array.isArray(raw) ? raw : [raw];
}
