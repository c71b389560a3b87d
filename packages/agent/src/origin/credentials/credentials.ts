// Where this agent's credentials come from, in order: the origin's own settings, the files of podman and docker with their helpers, the
// kubelet's credential providers. The first that has some for the repository is used.
//
// Invariants: files are read again each time, so that a login counts at once; what programs say is kept as long as they allow, bounded. A
// source that fails hides no other one: its failure is handed on beside what was found, for the status.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from '../../errors.ts';
import { ExpiringMap } from '../expiring-map.ts';
import { SharedCalls } from '../shared-calls.ts';
import { closest, parseDockerConfig, parseHelperAnswer } from './docker-config.ts';
import { matchesImage, parseProviderAnswer, parseProviderConfig, providerRequest, secretFor, type Provider, type ProviderAnswer, type ProviderConfig } from './kubelet-config.ts';
import { Programs, type ProgramEnvironment, type ProgramLimits } from './program.ts';
import { canonicalHost, dockerServer, hostsOf, type CredentialSource, type FoundSecret, type Secret, type SecretPlace } from './secret.ts';

/** The credentials that the settings of one origin give. */
export type OriginCredentials =
  /** None at all, whatever files and programs say. */
  | { readonly kind: 'none' }
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  | { readonly kind: 'password-file'; readonly username: string; readonly passwordFile: string }
  | { readonly kind: 'auth-file'; readonly path: string }
  /** `docker-credential-NAME` */
  | { readonly kind: 'helper'; readonly name: string };

export interface CredentialSettings {
  /** Files of podman and docker, the first that has credentials counts; one that does not exist is passed over. */
  readonly authFiles: readonly string[];
  /** The kubelet's own settings: --image-credential-provider-config and --image-credential-provider-bin-dir. */
  readonly kubelet?: { readonly config: string; readonly binDir: string };
  /** What programs see. */
  readonly env: ProgramEnvironment;
  readonly programs?: ProgramLimits;
}

type Asked = { readonly secret: Secret | undefined; readonly from: string };

const MAX_FILE_BYTES = 1024 * 1024;
/** What a helper said is used for so long, whether it had something or not. */
const HELPER_MS = 60_000;
/** A program that failed is left alone for so long; one whose secret was refused as well. */
const RETRY_MS = 10_000;
const MAX_KEPT = 512;

export class Credentials implements CredentialSource {
  readonly #settings: CredentialSettings;
  readonly #nowMs: () => number;
  readonly #programs: Programs;
  readonly #calls = new SharedCalls<Kept>();
  readonly #helpers: ExpiringMap<Kept>;
  readonly #answers: ExpiringMap<Kept>;

  constructor(settings: CredentialSettings, nowMs: () => number) {
    this.#settings = settings;
    this.#nowMs = nowMs;
    this.#programs = new Programs(settings.env, settings.programs);
    this.#helpers = new ExpiringMap(MAX_KEPT, nowMs);
    this.#answers = new ExpiringMap(MAX_KEPT, nowMs);
  }

  async find(place: SecretPlace, signal: AbortSignal): Promise<FoundSecret> {
    let failure: AgentError | undefined;
    for (const ask of this.#sources(place)) {
      try {
        const asked = await ask(signal);
        if (asked?.secret !== undefined) return { secret: asked.secret, from: asked.from, failure };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        failure ??= error instanceof AgentError ? error : failed('the credentials', error);
      }
    }
    return { secret: undefined, from: undefined, failure };
  }

  refused({ base, repository }: SecretPlace): void {
    const server = dockerServer(base);
    const image = imageOf(base, repository);
    for (const kept of [this.#helpers, this.#answers]) {
      kept.deleteWhere((key, { askedAtMs }) => this.#nowMs() - askedAtMs >= RETRY_MS && [server, image, canonicalHost(base.host), ''].includes(key.slice(key.indexOf('\0') + 1)));
    }
  }

  /** What to ask, in order. */
  *#sources(place: SecretPlace): Generator<(signal: AbortSignal) => Promise<Asked | undefined>> {
    const own = place.entry.credentials;
    if (own !== undefined) {
      yield (signal) => this.#own(own, place, signal);
      return;
    }
    for (const path of this.#settings.authFiles) yield (signal) => this.#authFile(path, place, signal);
    const { kubelet } = this.#settings;
    if (kubelet !== undefined) yield (signal) => this.#kubelet(kubelet, place, signal);
  }

  async #own(own: OriginCredentials, place: SecretPlace, signal: AbortSignal): Promise<Asked | undefined> {
    switch (own.kind) {
      case 'none':
        return undefined;
      case 'password':
        return { secret: { kind: 'basic', username: own.username, password: own.password }, from: 'the settings of the origin' };
      case 'password-file': {
        const text = await readText(own.passwordFile, signal);
        if (text === undefined) throw failed(own.passwordFile, new Error('there is no such file'));
        return { secret: { kind: 'basic', username: own.username, password: text.replace(/\r?\n$/, '') }, from: own.passwordFile };
      }
      case 'auth-file':
        return this.#authFile(own.path, place, signal);
      case 'helper':
        return this.#helper(own.name, place, signal);
    }
  }

  async #authFile(path: string, place: SecretPlace, signal: AbortSignal): Promise<Asked | undefined> {
    const text = await readText(path, signal);
    if (text === undefined || text.trim() === '') return undefined;
    const config = explained(path, () => parseDockerConfig(text));
    const hosts = hostsOf(place.base);
    const helper = closest(config.helpers, hosts, place.repository) ?? config.store;
    if (helper !== undefined) {
      const asked = await this.#helper(helper, place, signal);
      if (asked.secret !== undefined) return asked;
    }
    return { secret: closest(config.auths, hosts, place.repository), from: path };
  }

  async #helper(name: string, { base }: SecretPlace, signal: AbortSignal): Promise<Asked> {
    const file = `docker-credential-${name}`;
    const server = dockerServer(base);
    const kept = await this.#kept(this.#helpers, `${file}\0${server}`, signal, async (shared) => {
      const { exitCode, stdout } = await this.#programs.run({ file, args: ['get'], stdin: server }, shared);
      // The protocol knows no other way to say that there is nothing.
      if (exitCode !== 0 && /credentials not found/i.test(stdout)) return { auth: new Map(), cacheMs: HELPER_MS };
      if (exitCode !== 0) throw new Error(`it ended with code ${exitCode}`);
      const secret = parseHelperAnswer(stdout);
      return { auth: new Map(secret === undefined ? [] : [[server, secret]]), cacheMs: HELPER_MS };
    });
    return { secret: secretOf(kept, file).get(server), from: file };
  }

  async #kubelet({ config, binDir }: NonNullable<CredentialSettings['kubelet']>, { base, repository }: SecretPlace, signal: AbortSignal): Promise<Asked | undefined> {
    const text = await readText(config, signal);
    if (text === undefined) throw failed(config, new Error('there is no such file'));
    const { providers }: ProviderConfig = explained(config, () => parseProviderConfig(text));
    const image = imageOf(base, repository);
    let failure: unknown;
    for (const provider of providers) {
      if (!provider.matchImages.some((pattern) => matchesImage(pattern, image))) continue;
      try {
        const secret = secretFor(await this.#provider(provider, binDir, base, image, signal), image);
        if (secret !== undefined) return { secret, from: provider.name };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return undefined;
  }

  async #provider(provider: Provider, binDir: string, base: URL, image: string, signal: AbortSignal): Promise<ReadonlyMap<string, Secret>> {
    const { name, apiVersion, args, env, defaultCacheMs } = provider;
    const keys = { Image: image, Registry: canonicalHost(base.host), Global: '' };
    const known = Object.values(keys).map((key) => this.#answers.get(`${name}\0${key}`)).find((kept) => kept !== undefined);
    if (known !== undefined) return secretOf(known, name);
    const kept = await this.#kept(this.#answers, `${name}\0${image}`, signal, async (shared) => {
      const { exitCode, stdout } = await this.#programs.run({ file: join(binDir, name), args, env, stdin: providerRequest(apiVersion, image) }, shared);
      if (exitCode !== 0) throw new Error(`it ended with code ${exitCode}`);
      const { keyType, cacheMs = defaultCacheMs, auth }: ProviderAnswer = parseProviderAnswer(stdout, apiVersion);
      return { auth, cacheMs, key: `${name}\0${keys[keyType]}` };
    });
    return secretOf(kept, name);
  }

  /** What a program said, or says now: once at a time for each key. A failure is kept for a while too. */
  #kept(
    cache: ExpiringMap<Kept>,
    key: string,
    signal: AbortSignal,
    ask: (signal: AbortSignal) => Promise<{ auth: ReadonlyMap<string, Secret>; cacheMs: number; key?: string }>,
  ): Promise<Kept> {
    const known = cache.get(key);
    if (known !== undefined) return Promise.resolve(known);
    return this.#calls.run(key, signal, async (shared) => {
      const askedAtMs = this.#nowMs();
      try {
        const { auth, cacheMs, key: keptKey = key } = await ask(shared);
        const kept: Kept = { auth, askedAtMs };
        if (cacheMs > 0) cache.set(keptKey, kept, cacheMs);
        return kept;
      } catch (error) {
        if (shared.aborted) throw shared.reason;
        const kept: Kept = { failure: error, askedAtMs };
        cache.set(key, kept, RETRY_MS);
        return kept;
      }
    });
  }
}

/** What a program said, and when it was asked. */
type Kept = { readonly askedAtMs: number } & ({ readonly auth: ReadonlyMap<string, Secret> } | { readonly failure: unknown });

function secretOf(kept: Kept, program: string): ReadonlyMap<string, Secret> {
  if ('failure' in kept) throw failed(program, kept.failure);
  return kept.auth;
}

function imageOf(base: URL, repository: string): string {
  return `${canonicalHost(base.host)}/${repository}`;
}

/** undefined: there is no such file. @throws AgentError ORIGIN_CREDENTIALS */
async function readText(path: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const bytes = await readFile(path, { signal });
    if (bytes.length > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
    return bytes.toString('utf8');
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw failed(path, error);
  }
}

function explained<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw failed(path, error);
  }
}

function failed(what: string, cause: unknown): AgentError {
  const said = cause instanceof Error ? cause.message : String(cause);
  return new AgentError('ORIGIN_CREDENTIALS', `${what}: ${said}`, { cause, detail: { source: what } });
}
