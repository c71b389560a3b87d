// The kubelet's credential providers, as its documentation defines them: the CredentialProviderConfig file, which image goes to which
// provider, and what provider and kubelet say to each other (credentialprovider.kubelet.k8s.io). Pure.
//
// Non-goal: providers that want a pod's service account token; an agent has no pod.

import { parseDocument } from 'yaml';
import { field } from '../failures.ts';
import { parseJson } from './docker-config.ts';
import type { Secret } from './secret.ts';

export interface Provider {
  readonly name: string;
  readonly apiVersion: string;
  readonly matchImages: readonly string[];
  readonly defaultCacheMs: number;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface ProviderConfig {
  readonly providers: readonly Provider[];
  /** Names of providers that want what an agent does not have. */
  readonly skipped: readonly string[];
}

export interface ProviderAnswer {
  readonly keyType: 'Image' | 'Registry' | 'Global';
  /** undefined: the provider's default counts. */
  readonly cacheMs: number | undefined;
  /** By image pattern. */
  readonly auth: ReadonlyMap<string, Secret>;
}

const CONFIG_VERSIONS: ReadonlySet<unknown> = new Set(['kubelet.config.k8s.io/v1', 'kubelet.config.k8s.io/v1beta1', 'kubelet.config.k8s.io/v1alpha1']);
const PLUGIN_VERSIONS: ReadonlySet<unknown> = new Set([
  'credentialprovider.kubelet.k8s.io/v1',
  'credentialprovider.kubelet.k8s.io/v1beta1',
  'credentialprovider.kubelet.k8s.io/v1alpha1',
]);
const MAX_PROVIDERS = 64;

/** @throws Error that says what is wrong */
export function parseProviderConfig(text: string): ProviderConfig {
  // Its messages quote what they find, and the environment of a provider may hold a secret.
  const document = parseDocument(text, { prettyErrors: false });
  const [fault] = document.errors;
  if (fault !== undefined) throw new Error(`it is no YAML from character ${fault.pos[0]} on`);
  const content: unknown = document.toJS();
  if (field(content, 'kind') !== 'CredentialProviderConfig' || !CONFIG_VERSIONS.has(field(content, 'apiVersion'))) {
    throw new Error('it is no CredentialProviderConfig of kubelet.config.k8s.io/v1');
  }
  const list = field(content, 'providers');
  if (!Array.isArray(list) || list.length > MAX_PROVIDERS) throw new Error(`it has no list of at most ${MAX_PROVIDERS} providers`);
  const wantsPod = (value: unknown): boolean => field(field(value, 'tokenAttributes'), 'requireServiceAccount') === true;
  const providers = list.filter((value) => !wantsPod(value)).map(providerOf);
  const twice = providers.find(({ name }, index) => providers.findIndex((each) => each.name === name) !== index);
  if (twice !== undefined) throw new Error(`it has two providers called "${twice.name}"`);
  return { providers, skipped: list.filter(wantsPod).map((value) => String(field(value, 'name'))) };
}

/** What a provider reads from its input. */
export function providerRequest(apiVersion: string, image: string): string {
  return JSON.stringify({ kind: 'CredentialProviderRequest', apiVersion, image });
}

/** @throws Error without a word of the answer */
export function parseProviderAnswer(text: string, apiVersion: string): ProviderAnswer {
  const content = parseJson(text);
  if (field(content, 'kind') !== 'CredentialProviderResponse' || field(content, 'apiVersion') !== apiVersion) {
    throw new Error(`its answer is no CredentialProviderResponse of ${apiVersion}`);
  }
  const keyType = field(content, 'cacheKeyType');
  if (keyType !== 'Image' && keyType !== 'Registry' && keyType !== 'Global') throw new Error('its answer has no cacheKeyType');
  const duration = field(content, 'cacheDuration');
  const cacheMs = duration === undefined || duration === null ? undefined : durationMs(duration);
  if (duration !== undefined && duration !== null && cacheMs === undefined) throw new Error('the cacheDuration of its answer is no duration');
  const auth = field(content, 'auth') ?? {};
  if (typeof auth !== 'object') throw new Error('the auth of its answer is no mapping');
  return { keyType, cacheMs, auth: new Map(Object.entries(auth).map(([pattern, value]) => [pattern, basicOf(value)])) };
}

/** The secret whose pattern fits the image; among several the last in the alphabet, as more special ones sort behind. */
export function secretFor(auth: ReadonlyMap<string, Secret>, image: string): Secret | undefined {
  const [pattern] = [...auth.keys()].filter((each) => matchesImage(each, image)).toSorted().toReversed();
  return pattern === undefined ? undefined : auth.get(pattern);
}

/**
 * Whether `host[:port][/path]` with globs in its host fits an image: as many labels in the host, the same port, and a path that
 * begins the image's.
 */
export function matchesImage(pattern: string, image: string): boolean {
  const [wanted, given] = [splitImage(pattern), splitImage(image)];
  if (wanted.port !== given.port || wanted.labels.length !== given.labels.length) return false;
  if (!given.path.startsWith(wanted.path)) return false;
  return wanted.labels.every((label, index) => globFits(label, given.labels[index] ?? ''));
}

function splitImage(text: string): { labels: string[]; port: string | undefined; path: string } {
  const [, host = '', port, path = ''] = /^(?:https?:\/\/)?([^:/]*)(?::([^/]*))?(\/.*)?$/.exec(text) ?? [];
  return { labels: host.split('.'), port, path: path.replace(/\/$/, '') };
}

/** `*` any characters, `?` one; nothing else is special in the names of hosts. */
function globFits(glob: string, text: string): boolean {
  const source = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.');
  return new RegExp(`^${source}$`, 'i').test(text);
}

/** A duration as Go writes it, `12h30m`; undefined: it is none. */
export function durationMs(value: unknown): number | undefined {
  if (value === '0' || value === 0) return 0;
  if (typeof value !== 'string' || !/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(value)) return undefined;
  const units: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let ms = 0;
  for (const [, amount, unit = ''] of value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) ms += Number(amount) * (units[unit] ?? 0);
  return ms;
}

function providerOf(value: unknown): Provider {
  const name = field(value, 'name');
  if (typeof name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) throw new Error('the name of a provider is not that of a program in a folder');
  const apiVersion = field(value, 'apiVersion');
  if (typeof apiVersion !== 'string' || !PLUGIN_VERSIONS.has(apiVersion)) throw new Error(`provider "${name}" has no apiVersion credentialprovider.kubelet.k8s.io/v1`);
  const matchImages = texts(field(value, 'matchImages'));
  if (matchImages === undefined || matchImages.length === 0) throw new Error(`provider "${name}" has no matchImages`);
  const defaultCacheMs = durationMs(field(value, 'defaultCacheDuration'));
  if (defaultCacheMs === undefined) throw new Error(`provider "${name}" has no defaultCacheDuration, such as 12h`);
  const args = texts(field(value, 'args') ?? []);
  if (args === undefined) throw new Error(`the args of provider "${name}" are no list of texts`);
  const env = field(value, 'env') ?? [];
  const pairs = Array.isArray(env) ? env.map((each) => [field(each, 'name'), field(each, 'value')]) : [[undefined, undefined]];
  if (!pairs.every(([key, text]) => typeof key === 'string' && typeof text === 'string')) throw new Error(`the env of provider "${name}" is no list of name and value`);
  return { name, apiVersion, matchImages, defaultCacheMs, args, env: Object.fromEntries(pairs) as Record<string, string> };
}

function basicOf(value: unknown): Secret {
  const [username, password] = [field(value, 'username'), field(value, 'password')];
  if (typeof username !== 'string' || typeof password !== 'string') throw new Error('an entry of its answer has no username and password');
  return { kind: 'basic', username, password };
}

function texts(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.every((each) => typeof each === 'string') ? value : undefined;
}
