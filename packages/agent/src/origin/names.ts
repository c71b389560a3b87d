// Which origin and repository an image path means: the rules of "image names". Pure.
//
// With `ns` the whole path is the repository and `ns` matches an origin's NAME or its URL's host:port; otherwise the first
// component is the origin if it is a NAME or has a dot; otherwise the default origin. A host that nobody configured is an origin
// too, over https. Non-goal: whether its addresses are allowed; that is decided when a connection is made (addresses.ts).

import { isIP } from 'node:net';
import { isRepository } from '@flotilla/shared/reference';
import type { Repository } from '../content/ports.ts';
import { AgentError } from '../errors.ts';

/** The origins that have a name, as the rules see them. */
export interface OriginNames {
  /** Whether `name` is the NAME of a configured or built-in origin. */
  has(name: string): boolean;
  /** The NAME of the origin with a URL at `host:port` (the port may be left out where it is the scheme's own). */
  byHost(hostPort: string): string | undefined;
}

export interface NamingRules {
  readonly names: OriginNames;
  readonly defaultOrigin: string | undefined;
  /** What a DNS host that is no configured origin is: an origin with public addresses, or refused. */
  readonly unlisted: 'public' | 'refuse';
}

const ORIGIN_NAME = /^[a-z0-9]+([._-][a-z0-9]+)*$/;
const DNS_LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
/** At least two labels; the last begins with a letter, so that no spelling of an IPv4 address passes (`127.1`, `10.0x1`). */
const DNS_HOST = new RegExp(`^(?:${DNS_LABEL}\\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$`);
const MAX_DNS_LENGTH = 253;
const DOCKER_HUB = 'docker.io';

/** Whether the text may be the NAME in `--origin NAME=URL`. */
export function isOriginName(text: string): boolean {
  return text.length <= MAX_DNS_LENGTH && ORIGIN_NAME.test(text);
}

/** Whether the text is a DNS host with at least one dot, and an optional port. IP addresses are not. */
export function isUnlistedHost(text: string): boolean {
  const { host, port } = splitPort(text);
  return host.length <= MAX_DNS_LENGTH && DNS_HOST.test(host) && (port === undefined || isPort(port));
}

/**
 * The origin and the repository there of `path` as it stood in a URL.
 * @param ns the registry that the client meant, where it said so beside the path
 * @throws AgentError NAME_INVALID, NAME_UNKNOWN, ORIGIN_FORBIDDEN
 */
export function resolveImage(path: string, ns: string | undefined, rules: NamingRules): Repository {
  if (!isRepository(path)) throw new AgentError('NAME_INVALID', `"${path.slice(0, 160)}" is not a repository name`);
  if (ns !== undefined) return place(originOf(ns.toLowerCase(), rules), path);
  const slash = path.indexOf('/');
  if (slash > 0) {
    const first = path.slice(0, slash);
    if (rules.names.has(first) || first.includes('.')) return place(originOf(first, rules), path.slice(slash + 1));
  }
  if (rules.defaultOrigin === undefined) {
    throw new AgentError('NAME_UNKNOWN', `"${path.slice(0, 160)}" names no origin, and there is no default origin (--default-origin)`);
  }
  return place(rules.defaultOrigin, path);
}

function originOf(text: string, rules: NamingRules): string {
  if (rules.names.has(text)) return text;
  const named = rules.names.byHost(text);
  if (named !== undefined) return named;
  const { host, port } = splitPort(text);
  if (isIP(host.replace(/^\[(.*)\]$/, '$1')) !== 0) {
    throw new AgentError('ORIGIN_FORBIDDEN', `${text.slice(0, 160)} is an address; only a configured origin may be one`, { detail: { origin: text } });
  }
  if (!isUnlistedHost(text)) {
    throw new AgentError('NAME_UNKNOWN', `no origin is called "${text.slice(0, 160)}", and it is no DNS host`, { detail: { origin: text } });
  }
  if (rules.unlisted === 'refuse') {
    throw new AgentError('ORIGIN_FORBIDDEN', `${text} is not among the configured origins`, { detail: { origin: text } });
  }
  return port === '443' ? host : text;
}

function place(origin: string, path: string): Repository {
  const repository = origin === DOCKER_HUB && !path.includes('/') ? `library/${path}` : path;
  if (!isRepository(repository)) throw new AgentError('NAME_INVALID', `"${repository.slice(0, 160)}" is too long a repository name`);
  return { origin, repository };
}

function splitPort(text: string): { host: string; port: string | undefined } {
  const match = /^(.*):(\d+)$/.exec(text);
  // `::1` is an address without a port, not the host `:` with one.
  if (match === null || isIP(text) !== 0) return { host: text, port: undefined };
  return { host: match[1] ?? '', port: match[2] };
}

function isPort(text: string): boolean {
  return /^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65_535;
}
