// What opens a repository, where it was found, and the places it is looked for in.
//
// Invariant: a Secret's text never stands in a message, a log field or a status.

import type { AgentError } from '../../errors.ts';
import type { OriginEntry } from '../origins.ts';

export type Secret =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** A refresh token (docker's `identitytoken`): exchanged for tokens by POST at the realm. */
  | { readonly kind: 'identity'; readonly token: string }
  /** A token for the registry itself (docker's `registrytoken`): sent as it is. */
  | { readonly kind: 'bearer'; readonly token: string };

/** A repository at one URL of an origin. Secrets belong to hosts, so that a mirror never gets those of what it mirrors. */
export interface SecretPlace {
  readonly entry: OriginEntry;
  readonly base: URL;
  readonly repository: string;
}

export interface FoundSecret {
  readonly secret: Secret | undefined;
  /** Where it was found, for the status. */
  readonly from: string | undefined;
  /** A source that could not be asked, while nothing else had one. */
  readonly failure: AgentError | undefined;
}

export interface CredentialSource {
  /** Never rejects but with the signal's reason. */
  find(place: SecretPlace, signal: AbortSignal): Promise<FoundSecret>;
  /** The origin did not take what was found: it is looked for again the next time. */
  refused(place: SecretPlace): void;
}

/** For agents without credentials. */
export const NO_CREDENTIALS: CredentialSource = {
  find: () => Promise.resolve({ secret: undefined, from: undefined, failure: undefined }),
  refused: () => undefined,
};

const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_HOSTS: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/** A host as files and plugins write it: Docker Hub has one name, though it has many. */
export function canonicalHost(host: string): string {
  const lower = host.toLowerCase();
  return DOCKER_HUB_HOSTS.has(lower.replace(/:443$/, '')) ? DOCKER_HUB : lower;
}

/** The spellings of a URL's host: with its port, and without where the port goes without saying. */
export function hostsOf(base: URL): string[] {
  const plain = canonicalHost(base.host);
  return base.port === '' && plain !== DOCKER_HUB ? [plain, `${plain}:${base.protocol === 'https:' ? '443' : '80'}`] : [plain];
}

/** What programs of docker are asked for. */
export function dockerServer(base: URL): string {
  const host = canonicalHost(base.host);
  return host === DOCKER_HUB ? 'https://index.docker.io/v1/' : host;
}
