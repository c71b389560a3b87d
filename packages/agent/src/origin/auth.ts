// Authorization at origins: distribution's token flow (anonymous or with credentials) and Basic.
//
// Invariants: a token is asked for once per (URL, repository) at a time, used only for that repository, and never after it expired;
// credentials go only to the origin and to realms that belong to it. Non-goal: where credentials come from.

import type { Repository } from '../content/ports.ts';
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

/** A repository at one URL of its origin. */
export interface Realm {
  readonly entry: OriginEntry;
  readonly base: URL;
  readonly repository: string;
}

/** GETs a token; returns the text of a 200. @throws AgentError for every other answer */
export type TokenRequest = (realm: Realm, url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<string>;

/** What is known of a repository: how it challenges, and what answers that at present. */
interface Known {
  readonly challenge: Challenge;
  readonly header: string;
  /** From here on a new token is asked for before the request. */
  readonly staleAtMs: number;
}

const MAX_REPOSITORIES = 1024;
/** A challenge is remembered so that an expired token costs one round trip, not two. */
const KNOWN_MS = 60 * 60_000;
/** distribution's token specification: without `expires_in` a token lives 60 s. */
const DEFAULT_EXPIRY_S = 60;
const MAX_MARGIN_MS = 10_000;
const CLIENT_ID = 'flotilla';

export class Authorizations {
  readonly #known: ExpiringMap<Known>;
  readonly #calls = new SharedCalls<string>();
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
  async current(realm: Realm, signal: AbortSignal): Promise<string | undefined> {
    const known = this.#known.get(keyOf(realm));
    if (known === undefined) return undefined;
    return known.staleAtMs > this.#nowMs() ? known.header : this.#renew(realm, known.challenge, signal);
  }

  /**
   * The Authorization that answers a 401.
   * @param used what was sent with the refused request
   * @throws AgentError ORIGIN_UNAUTHORIZED, ORIGIN_AUTH_FAILED, ORIGIN_REALM_REFUSED and those of the connection
   */
  async answer(realm: Realm, wwwAuthenticate: string | readonly string[] | undefined, used: string | undefined, signal: AbortSignal): Promise<string> {
    const known = this.#known.get(keyOf(realm));
    // Somebody else renewed it while the request was on its way.
    if (known !== undefined && known.header !== used && known.staleAtMs > this.#nowMs()) return known.header;
    const challenges = parseChallenges(wwwAuthenticate);
    const challenge =
      challenges.find(({ scheme, params }) => scheme === 'bearer' && params.has('realm')) ?? challenges.find(({ scheme }) => scheme === 'basic');
    if (challenge === undefined) throw unauthorized(realm, 'asks for credentials in no way that is known here');
    return this.#renew(realm, challenge, signal);
  }

  /** Forgets what was refused in spite of being fresh. */
  refused(realm: Realm, header: string): void {
    if (this.#known.get(keyOf(realm))?.header === header) this.#known.delete(keyOf(realm));
  }

  #renew(realm: Realm, challenge: Challenge, signal: AbortSignal): Promise<string> {
    return this.#calls.run(keyOf(realm), signal, async (shared) => {
      const credentials = this.#credentials({ origin: realm.entry.name, repository: realm.repository });
      const renewed = challenge.scheme === 'basic' ? this.#basic(realm, credentials) : await this.#bearer(realm, challenge, credentials, shared);
      this.#known.set(keyOf(realm), { challenge, ...renewed }, KNOWN_MS);
      return renewed.header;
    });
  }

  #basic(realm: Realm, credentials: Credentials | undefined): Omit<Known, 'challenge'> {
    if (credentials === undefined) throw unauthorized(realm, 'asks for a user name and password');
    return { header: basicHeader(credentials), staleAtMs: Infinity };
  }

  async #bearer(realm: Realm, challenge: Challenge, credentials: Credentials | undefined, signal: AbortSignal): Promise<Omit<Known, 'challenge'>> {
    const url = checkedRealm(challenge.params.get('realm') ?? '', realm.base, realm.entry, credentials === undefined);
    const service = challenge.params.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', `repository:${realm.repository}:pull`);
    if (credentials !== undefined) url.searchParams.set('client_id', CLIENT_ID);
    // Counted from before the request: the token is never older than we think.
    const askedAtMs = this.#nowMs();
    const text = await this.#request(realm, url, credentials === undefined ? {} : { authorization: basicHeader(credentials) }, signal);
    const { token, lifetimeMs } = readToken(text, realm);
    return { header: `Bearer ${token}`, staleAtMs: askedAtMs + lifetimeMs - Math.min(MAX_MARGIN_MS, lifetimeMs / 10) };
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

function basicHeader({ username, password }: Credentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function keyOf({ entry, base, repository }: Realm): string {
  return `${entry.name} ${base.origin} ${repository}`;
}

function unauthorized({ entry, repository }: Realm, what: string): AgentError {
  return new AgentError('ORIGIN_UNAUTHORIZED', `${entry.name} ${what} for ${repository}`, { detail: { origin: entry.name, repository, status: 401 } });
}

function authFailed({ entry, repository }: Realm, message: string, cause?: unknown): AgentError {
  return new AgentError('ORIGIN_AUTH_FAILED', `${entry.name}: ${message}`, { cause, detail: { origin: entry.name, repository } });
}
