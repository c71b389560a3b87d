// The files in which `podman login` and `docker login` leave credentials: containers-auth.json(5) and docker's config.json. Pure.
//
// A key is a host, a host with a path (all repositories below it), or docker's URL of a registry. The longest path that holds a repository
// wins. Messages never quote the file: what cannot be read may be a secret.

import { field } from '../failures.ts';
import { canonicalHost, type Secret } from './secret.ts';

/** Keys are `host` or `host/path`, each with what stands there. */
export interface DockerConfig {
  readonly auths: ReadonlyMap<string, Secret>;
  /** The name behind `docker-credential-`. */
  readonly helpers: ReadonlyMap<string, string>;
  /** The helper for everything without one of its own. */
  readonly store: string | undefined;
}

const HELPER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** @throws Error without a word of the file */
export function parseDockerConfig(text: string): DockerConfig {
  const content = parseJson(text);
  const auths = new Map<string, Secret>();
  for (const [key, value] of entriesOf(content, 'auths')) {
    const secret = secretOf(value);
    if (secret !== undefined) auths.set(normalKey(key), secret);
  }
  const helpers = new Map<string, string>();
  for (const [key, value] of entriesOf(content, 'credHelpers')) helpers.set(normalKey(key), helperName(value));
  const store = field(content, 'credsStore');
  return { auths, helpers, store: store === undefined || store === '' ? undefined : helperName(store) };
}

/** The value whose key holds the repository most closely. @param hosts spellings of one host */
export function closest<T>(values: ReadonlyMap<string, T>, hosts: readonly string[], repository: string): T | undefined {
  const parts = repository.split('/');
  for (let length = parts.length; length >= 0; length--) {
    for (const host of hosts) {
      const value = values.get([host, ...parts.slice(0, length)].join('/'));
      if (value !== undefined) return value;
    }
  }
  return undefined;
}

/** The answer of `docker-credential-* get`. @throws Error without a word of it */
export function parseHelperAnswer(text: string): Secret | undefined {
  const content = parseJson(text);
  const [username, secret] = [field(content, 'Username'), field(content, 'Secret')];
  if (typeof username !== 'string' || typeof secret !== 'string') throw new Error('its answer has no Username and Secret');
  if (secret === '') return undefined;
  return username === '<token>' ? { kind: 'identity', token: secret } : { kind: 'basic', username, password: secret };
}

/** @throws Error without a word of the text: V8's own message quotes it */
export function parseJson(text: string): unknown {
  const parsed = tryJson(text);
  if (parsed === undefined) throw new Error('it is no JSON');
  return parsed.value;
}

function tryJson(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function secretOf(value: unknown): Secret | undefined {
  const text = (name: string): string | undefined => {
    const found = field(value, name);
    return typeof found === 'string' && found !== '' ? found : undefined;
  };
  const [identity, registry, auth] = [text('identitytoken'), text('registrytoken'), text('auth')];
  if (identity !== undefined) return { kind: 'identity', token: identity };
  if (registry !== undefined) return { kind: 'bearer', token: registry };
  if (auth !== undefined) {
    // docker pads with zeros.
    const plain = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = plain.indexOf(':');
    if (colon <= 0) throw new Error('an "auth" is not the base64 of NAME:PASSWORD');
    return { kind: 'basic', username: plain.slice(0, colon), password: plain.slice(colon + 1) };
  }
  const [username, password] = [text('username'), text('password')];
  return username === undefined || password === undefined ? undefined : { kind: 'basic', username, password };
}

/** `https://index.docker.io/v1/` and `docker.io` are one key; a path counts only without a scheme. */
function normalKey(key: string): string {
  const scheme = /^https?:\/\//i.exec(key);
  const [host = '', ...path] = key.slice(scheme?.[0].length ?? 0).replace(/\/+$/, '').split('/');
  const version = path.length === 1 && /^v[12]$/.test(path[0] ?? '');
  return [canonicalHost(host), ...(scheme !== null || version ? [] : path)].join('/');
}

function entriesOf(content: unknown, name: string): [string, unknown][] {
  if (typeof content !== 'object' || content === null || Array.isArray(content)) throw new Error('it is no mapping');
  const value = field(content, name);
  if (value === undefined || value === null) return [];
  if (typeof value !== 'object' || Array.isArray(value)) throw new Error(`"${name}" is no mapping`);
  return Object.entries(value);
}

function helperName(value: unknown): string {
  // It becomes part of a program's name.
  if (typeof value !== 'string' || !HELPER.test(value)) throw new Error('the name of a credential helper is no plain word');
  return value;
}
