// The table of origins: the well-known registries, what the operator configured, and any other DNS host.
//
// Invariant: only origins that the operator configured may lie at private addresses; the rest must be public.

import { AgentError } from '../errors.ts';
import type { OriginCredentials } from './credentials/credentials.ts';
import { isOriginName, isUnlistedHost, type OriginNames } from './names.ts';

/** TLS of one origin; files are PEM. */
export interface OriginTls {
  /** Certificates that are trusted besides the system's. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** Accepts any certificate. */
  readonly insecure?: boolean;
}

/** An origin as configured. */
export interface OriginSettings {
  readonly name: string;
  /** `scheme://host[:port]`, tried in order. @default those built in, or https:// and the name where that is a DNS host */
  readonly urls?: readonly string[];
  /** Hosts (`host` or `host:port`) whose token servers belong to this origin although they lie at another site. */
  readonly realms?: readonly string[];
  readonly tls?: OriginTls;
  /** Instead of those that files and programs have. */
  readonly credentials?: OriginCredentials;
}

/** An origin, checked. */
export interface OriginEntry {
  readonly name: string;
  /** At least one; no path. */
  readonly urls: readonly [URL, ...URL[]];
  readonly realms: readonly string[];
  readonly tls: OriginTls;
  readonly credentials: OriginCredentials | undefined;
  /** Whether it may lie at private addresses. */
  readonly privateAllowed: boolean;
}

const BUILT_IN: readonly OriginSettings[] = [
  { name: 'docker.io', urls: ['https://registry-1.docker.io'], realms: ['auth.docker.io'] },
  ...['quay.io', 'registry.access.redhat.com', 'registry.redhat.io', 'ghcr.io', 'gcr.io', 'registry.k8s.io', 'mcr.microsoft.com', 'public.ecr.aws'].map(
    (name) => ({ name, urls: [`https://${name}`] }),
  ),
];

/** Looks origins up by NAME, by host, or as a host that nobody configured. */
export class OriginTable implements OriginNames {
  readonly #entries = new Map<string, OriginEntry>();
  readonly #names = new Map<string, string>();

  /** @throws AgentError CONFIG_INVALID */
  constructor(configured: readonly OriginSettings[]) {
    for (const settings of configured) {
      if (this.#entries.has(settings.name)) throw invalid(`origin "${settings.name}" is configured twice`);
      this.#add(checkedEntry(settings, true));
    }
    for (const settings of BUILT_IN) {
      if (!this.#entries.has(settings.name)) this.#add(checkedEntry(settings, false));
    }
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  byHost(hostPort: string): string | undefined {
    return this.#names.get(hostPort);
  }

  /** NAMEs of configured and built-in origins, the configured ones first. */
  names(): string[] {
    return [...this.#entries.keys()];
  }

  /** @throws AgentError NAME_UNKNOWN */
  entry(name: string): OriginEntry {
    const entry = this.#entries.get(name);
    if (entry !== undefined) return entry;
    if (!isUnlistedHost(name)) throw new AgentError('NAME_UNKNOWN', `no origin is called "${name.slice(0, 160)}"`, { detail: { origin: name } });
    return { name, urls: [new URL(`https://${name}`)], realms: [], tls: {}, credentials: undefined, privateAllowed: false };
  }

  #add(entry: OriginEntry): void {
    this.#entries.set(entry.name, entry);
    for (const url of entry.urls) {
      const port = url.port === '' ? defaultPort(url) : url.port;
      const spellings = url.port === '' ? [url.hostname, `${url.hostname}:${port}`] : [url.host];
      for (const host of spellings) if (!this.#names.has(host)) this.#names.set(host, entry.name);
    }
  }
}

function checkedEntry(settings: OriginSettings, configured: boolean): OriginEntry {
  const { name } = settings;
  if (!isOriginName(name)) throw invalid(`origin name "${name}" is not lower-case letters and digits joined by . _ -`);
  const builtIn = BUILT_IN.find((each) => each.name === name);
  const texts = settings.urls ?? builtIn?.urls ?? (isUnlistedHost(name) ? [`https://${name}`] : []);
  const [first, ...rest] = texts.map((text) => originUrl(name, text));
  if (first === undefined) throw invalid(`origin "${name}" has no URL`);
  // The token server that is built in belongs to the URL that is built in.
  const realms = settings.realms ?? (settings.urls === undefined ? builtIn?.realms : undefined) ?? [];
  return { name, urls: [first, ...rest], realms, tls: settings.tls ?? {}, credentials: settings.credentials, privateAllowed: configured };
}

function originUrl(name: string, text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const whole = url !== undefined && /^https?:$/.test(url.protocol) && (url.href === `${url.origin}/`) && !/[?#]/.test(text);
  if (!whole) throw invalid(`the URL of origin "${name}" is not http://host[:port] or https://host[:port]: "${withoutPassword(text)}"`);
  return url;
}

/** A mistyped URL may hold a password; an error message must not. */
function withoutPassword(text: string): string {
  return text.replace(/\/\/[^/]*@/, '//...@').slice(0, 160);
}

function defaultPort(url: URL): string {
  return url.protocol === 'https:' ? '443' : '80';
}

function invalid(message: string): AgentError {
  return new AgentError('CONFIG_INVALID', message);
}
