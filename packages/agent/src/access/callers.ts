// Whose rights may be tried for a local caller, and under which name what was found out is remembered. Pure.
//
//   nobody's ──> the caller's own (pass-through, origins that have a name) ──> the agent's (repositories that a rule allows; the agent itself)
//
// Invariants: a credential leaves this file only inside an Authority, and what is remembered of it is a keyed hash, another one at each
// origin. Non-goal: whether the origin accepts any of them (rights.ts).

import { createHmac } from 'node:crypto';
import { posix } from 'node:path';
import type { Authority, Caller, Repository } from '../content/ports.ts';

/** What the settings say about rights. */
export interface RightsRules {
  /** `agent`: callers' credentials are ignored. `pass-through`: they are used at the origin. */
  readonly mode: 'agent' | 'pass-through';
  /** Globs over `origin/repository`: what every local caller may read with the agent's own credentials. */
  readonly allow: readonly string[];
}

const ANONYMOUS: Authority = { kind: 'anonymous' };
const AGENT: Authority = { kind: 'agent' };
/** Basic or Bearer, in visible ASCII. */
const USABLE = /^(Basic|Bearer) +([\x21-\x7e]{1,16384})$/i;

export class Callers {
  readonly rules: RightsRules;
  readonly #key: Uint8Array;
  readonly #listed: (origin: string) => boolean;

  /**
   * @param key a secret of this agent that survives restarts
   * @param listed whether an origin is configured or well known; callers' credentials go to no other
   */
  constructor(rules: RightsRules, key: Uint8Array, listed: (origin: string) => boolean) {
    this.rules = rules;
    this.#key = key;
    this.#listed = listed;
  }

  /** In the order in which they are tried; nobody's right comes first. */
  authorities(repository: Repository, caller: Caller): Authority[] {
    if (caller.own) return [ANONYMOUS, AGENT];
    const own = this.#own(repository, caller);
    return [ANONYMOUS, ...(own === undefined ? [] : [own]), ...(this.allows(repository) ? [AGENT] : [])];
  }

  /** Whether a rule gives the agent's own credentials to local callers of this repository. */
  allows({ origin, repository }: Repository): boolean {
    const name = `${origin}/${repository}`;
    return this.rules.allow.some((pattern) => posix.matchesGlob(name, pattern));
  }

  #own({ origin }: Repository, { authorization }: Caller): Authority | undefined {
    if (this.rules.mode !== 'pass-through' || !this.#listed(origin)) return undefined;
    const usable = usableAuthorization(authorization);
    if (usable === undefined) return undefined;
    const id = createHmac('sha256', this.#key).update(`${origin}\0${usable}`).digest('base64url');
    return { kind: 'caller', id, authorization: usable };
  }
}

/** Under which name an authority's rights are remembered. */
export function subjectOf(authority: Authority): string {
  return authority.kind === 'caller' ? `caller ${authority.id}` : authority.kind;
}

/** Whether the right ends by itself: then it is not kept over a restart. */
export function isToken(authority: Authority): boolean {
  return authority.kind === 'caller' && authority.authorization.startsWith('Bearer ');
}

/** The header in one spelling; undefined: none, none that an origin would understand, or an empty name and password. */
export function usableAuthorization(header: string | undefined): string | undefined {
  const [, scheme, value = ''] = USABLE.exec(header?.trim() ?? '') ?? [];
  if (scheme === undefined) return undefined;
  if (scheme.toLowerCase() === 'bearer') return `Bearer ${value}`;
  // podman answers a challenge with `:` where it has no credentials.
  const text = Buffer.from(value, 'base64').toString('latin1');
  return text.length > 1 && text.includes(':') ? `Basic ${value}` : undefined;
}
