// Authorization at origins: distribution's token flow (anonymous or with credentials) and Basic.
//
// Invariants: a token is asked for once per (URL, repository, authority) at a time, used only for those, and never after it expired;
// credentials go only to the origin and to realms that belong to it; nothing that was got by one authority answers for another. Non-goal: where credentials come from.

import { createHash } from 'node:crypto';
import type { Authority, Repository, Right } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { parseChallenges, type Challenge } from './challenge.ts';
import { ExpiringMap } from './expiring-map.ts';
import { field } from './failures.ts';
import type { OriginEntry } from './origins.ts';
import { checkedRealm } from './realm.ts';
import { SharedCalls } from './shared-calls.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** The credentials for a repository, if this agent has any. */
export type CredentialSource = (repository: Repository) => Credentials | undefined;

/** A repository at one URL of its origin, and whose right is used there. */
export interface Realm {
  readonly entry: OriginEntry;
  readonly base: URL;
  readonly repository: string;
  readonly authority: Authority;
}

/** What is sent as Authorization, until when, and whether anybody could have got it. */
export interface Authorization {
  readonly header: string;
  /** From here on a new token is asked for before the request. */
  readonly staleAtMs: number;
  readonly anonymous: boolean;
}

/** GETs a token; returns the text of a 200. @throws AgentError for every other answer */
export type TokenRequest = (realm: Realm, url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<string>;

/** What is known of a repository: how it challenges, and what answers that at present. */
interface Known {
  readonly challenge: Challenge;
  readonly authorization: Authorization;
}

/** A repository counts once for each authority. */
const MAX_REPOSITORIES = 4096;
/** A challenge is remembered so that an expired token costs one round trip, not two. */
const KNOWN_MS = 60 * 60_000;
/** distribution's token specification: without `expires_in` a token lives 60 s. */
const DEFAULT_EXPIRY_S = 60;
const MAX_MARGIN_MS = 10_000;
const CLIENT_ID = 'flotilla';

export class Authorizations {
  readonly #known: ExpiringMap<Known>;
  readonly #calls = new SharedCalls<Authorization>();
  readonly #request: TokenRequest;
  readonly #credentials: CredentialSource;
  readonly #nowMs: () => number;

  constructor(request: TokenRequest, credentials: CredentialSource, nowMs: () => number) {
    this.#request = request;
    this.#credentials = credentials;
    this.#nowMs = nowMs;
    this.#known = new ExpiringMap(MAX_REPOSITORIES, nowMs);
  }

  /** The Authorization to begin with; undefined: none is known to be needed. */
  async current(realm: Realm, signal: AbortSignal): Promise<Authorization | undefined> {
    const known = this.#known.get(keyOf(realm));
    if (known === undefined) return undefined;
    return known.authorization.staleAtMs > this.#nowMs() ? known.authorization : this.#renew(realm, known.challenge, signal);
  }

  /**
   * The Authorization that answers a 401.
   * @param used what was sent with the refused request
   * @throws AgentError ORIGIN_UNAUTHORIZED, ORIGIN_AUTH_FAILED, ORIGIN_REALM_REFUSED and those of the connection
   */
  async answer(realm: Realm, wwwAuthenticate: string | readonly string[] | undefined, used: Authorization | undefined, signal: AbortSignal): Promise<Authorization> {
    const known = this.#known.get(keyOf(realm))?.authorization;
    // Somebody else renewed it while the request was on its way.
    if (known !== undefined && known.header !== used?.header && known.staleAtMs > this.#nowMs()) return known;
    const challenges = parseChallenges(wwwAuthenticate);
    const challenge =
      challenges.find(({ scheme, params }) => scheme === 'bearer' && params.has('realm')) ?? challenges.find(({ scheme }) => scheme === 'basic');
    if (challenge === undefined) throw unauthorized(realm, 'asks for credentials in no way that is known here');
    return this.#renew(realm, challenge, signal);
  }

  /** Forgets what was refused in spite of being fresh. */
  refused(realm: Realm, used: Authorization): void {
    if (this.#known.get(keyOf(realm))?.authorization === used) this.#known.delete(keyOf(realm));
  }

  /** The right under which an answer came that was asked for with this. */
  rightOf(authorization: Authorization | undefined): Right {
    if (authorization === undefined) return { anonymous: true, lifetimeMs: undefined };
    const { anonymous, staleAtMs } = authorization;
    return { anonymous, lifetimeMs: staleAtMs === Infinity ? undefined : Math.max(0, staleAtMs - this.#nowMs()) };
  }

  #renew(realm: Realm, challenge: Challenge, signal: AbortSignal): Promise<Authorization> {
    return this.#calls.run(keyOf(realm), signal, async (shared) => {
      const own = this.#secretOf(realm);
      const authorization = challenge.scheme === 'basic' ? basic(realm, own) : await this.#bearer(realm, challenge, own, shared);
      this.#known.set(keyOf(realm), { challenge, authorization }, KNOWN_MS);
      return authorization;
    });
  }

  /** The Authorization that the authority itself has; undefined: none. */
  #secretOf({ entry, repository, authority }: Realm): string | undefined {
    if (authority.kind === 'anonymous') return undefined;
    if (authority.kind === 'caller') return authority.authorization;
    const credentials = this.#credentials({ origin: entry.name, repository });
    return credentials === undefined ? undefined : basicHeader(credentials);
  }

  async #bearer(realm: Realm, challenge: Challenge, own: string | undefined, signal: AbortSignal): Promise<Authorization> {
    // A caller that brings a token has asked for it elsewhere; its end is not known here.
    if (own !== undefined && isBearer(own)) return { header: own, staleAtMs: this.#nowMs() + DEFAULT_EXPIRY_S * 1000, anonymous: false };
    const url = checkedRealm(challenge.params.get('realm') ?? '', realm.base, realm.entry, own === undefined);
    const service = challenge.params.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', `repository:${realm.repository}:pull`);
    if (own !== undefined) url.searchParams.set('client_id', CLIENT_ID);
    // Counted from before the request: the token is never older than we think.
    const askedAtMs = this.#nowMs();
    const text = await this.#request(realm, url, own === undefined ? {} : { authorization: own }, signal);
    const { token, lifetimeMs } = readToken(text, realm);
    return { header: `Bearer ${token}`, staleAtMs: askedAtMs + lifetimeMs - Math.min(MAX_MARGIN_MS, lifetimeMs / 10), anonymous: own === undefined };
  }
}

function readToken(text: string, realm: Realm): { token: string; lifetimeMs: number } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw authFailed(realm, 'the token server sent no JSON', error);
  }
  const token = [field(parsed, 'token'), field(parsed, 'access_token')].find((each) => typeof each === 'string' && each !== '');
  // Visible ASCII only: anything else would not be one header.
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw authFailed(realm, 'the token server sent no token');
  const seconds = field(parsed, 'expires_in');
  return { token, lifetimeMs: 1000 * (typeof seconds === 'number' && seconds > 0 ? seconds : DEFAULT_EXPIRY_S) };
}

function basic(realm: Realm, own: string | undefined): Authorization {
  if (own === undefined) throw unauthorized(realm, 'asks for a user name and password');
  return { header: own, staleAtMs: Infinity, anonymous: false };
}

function isBearer(header: string): boolean {
  return /^bearer /i.test(header);
}

function basicHeader({ username, password }: Credentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function keyOf(realm: Realm): string {
  return `${realm.entry.name} ${realm.base.origin} ${realm.repository} ${authorityKey(realm.authority)}`;
}

/** Tells authorities apart; for callers by what they bring as well, so that an id used twice opens nothing. */
export function authorityKey(authority: Authority): string {
  if (authority.kind !== 'caller') return authority.kind;
  return `caller ${createHash('sha256').update(authority.authorization).digest('base64')} ${authority.id}`;
}

function unauthorized({ entry, repository }: Realm, what: string): AgentError {
  return new AgentError('ORIGIN_UNAUTHORIZED', `${entry.name} ${what} for ${repository}`, { detail: { origin: entry.name, repository, status: 401 } });
}

function authFailed({ entry, repository }: Realm, message: string, cause?: unknown): AgentError {
  return new AgentError('ORIGIN_AUTH_FAILED', `${entry.name}: ${message}`, { cause, detail: { origin: entry.name, repository } });
}
