// Authorization at origins: distribution's token flow (anonymous or with credentials) and Basic.
//
// Invariants: a token is asked for once per (URL, repository, authority) at a time, used only for those, and never after it expired;
// credentials go only to the origin and to realms that belong to it; nothing that was got by one authority answers for another. Where the
// agent's own credentials cannot be had, it asks as anybody would, and says why only if that was not enough.
// Non-goal: where credentials come from (credentials/).

import { createHash } from 'node:crypto';
import type { Authority, Right } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { parseChallenges, type Challenge } from './challenge.ts';
import type { CredentialSource, FoundSecret, Secret } from './credentials/secret.ts';
import { ExpiringMap } from './expiring-map.ts';
import { field } from './failures.ts';
import type { OriginEntry } from './origins.ts';
import { checkedRealm } from './realm.ts';
import { SharedCalls } from './shared-calls.ts';

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
  /** Why the agent's own credentials are not in it. */
  readonly withheld: AgentError | undefined;
  /** Where the agent's own credentials are from that are sent as they are; undefined: a token, or another's. */
  readonly ownFrom: string | undefined;
}

/** Told whenever the agent's own credentials were looked for. */
export type CredentialsLooked = (realm: Realm, found: FoundSecret) => void;

/** What is asked of a token server: a GET, or a POST where there is a form. */
export interface TokenQuestion {
  readonly url: URL;
  readonly authorization: string | undefined;
  readonly form: URLSearchParams | undefined;
}

/** Asks for a token; returns the text of a 200. @throws AgentError for every other answer */
export type TokenRequest = (realm: Realm, question: TokenQuestion, signal: AbortSignal) => Promise<string>;

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
/** How nobody's right was challenged tells the one that is tried next what will be wanted. */
const CHALLENGED_MS = 15_000;
const MAX_MARGIN_MS = 10_000;
/** The agent's own password is looked up again after this, in case that it was changed or taken away. */
const PASSWORD_MS = 60_000;
/** After this credentials that could not be had are looked for again. */
const WITHHELD_MS = 15_000;
const CLIENT_ID = 'flotilla';

export class Authorizations {
  readonly #known: ExpiringMap<Known>;
  /** By repository: how nobody was challenged. */
  readonly #challenged: ExpiringMap<Challenge>;
  readonly #calls = new SharedCalls<Authorization>();
  readonly #request: TokenRequest;
  readonly #credentials: CredentialSource;
  readonly #looked: CredentialsLooked;
  readonly #nowMs: () => number;

  constructor(request: TokenRequest, credentials: CredentialSource, looked: CredentialsLooked, nowMs: () => number) {
    this.#request = request;
    this.#credentials = credentials;
    this.#looked = looked;
    this.#nowMs = nowMs;
    this.#known = new ExpiringMap(MAX_REPOSITORIES, nowMs);
    this.#challenged = new ExpiringMap(MAX_REPOSITORIES, nowMs);
  }

  /** The Authorization to begin with; undefined: none is known to be needed. */
  async current(realm: Realm, signal: AbortSignal): Promise<Authorization | undefined> {
    const known = this.#known.get(keyOf(realm));
    if (known === undefined) {
      // Whoever comes after nobody's right has the origin's word of a moment ago.
      const challenge = realm.authority.kind === 'anonymous' ? undefined : this.#challenged.get(placeOf(realm));
      return challenge && this.#renew(realm, challenge, signal);
    }
    return known.authorization.staleAtMs > this.#nowMs() ? known.authorization : this.#renew(realm, known.challenge, signal);
  }

  /**
   * The Authorization that answers a 401.
   * @param used what was sent with the refused request
   * @throws AgentError ORIGIN_UNAUTHORIZED, ORIGIN_CREDENTIALS_REFUSED, ORIGIN_AUTH_FAILED, ORIGIN_REALM_REFUSED and those of the connection
   */
  async answer(realm: Realm, wwwAuthenticate: string | readonly string[] | undefined, used: Authorization | undefined, signal: AbortSignal): Promise<Authorization> {
    const known = this.#known.get(keyOf(realm))?.authorization;
    // Somebody else renewed it while the request was on its way.
    if (known !== undefined && known.header !== used?.header && known.staleAtMs > this.#nowMs()) return known;
    const challenges = parseChallenges(wwwAuthenticate);
    const challenge =
      challenges.find(({ scheme, params }) => scheme === 'bearer' && params.has('realm')) ?? challenges.find(({ scheme }) => scheme === 'basic');
    if (challenge === undefined) throw unauthorized(realm, 'asks for credentials in no way that is known here');
    if (realm.authority.kind === 'anonymous') this.#challenged.set(placeOf(realm), challenge, CHALLENGED_MS);
    return this.#renew(realm, challenge, signal);
  }

  /** Forgets what was refused in spite of being fresh. @returns ORIGIN_CREDENTIALS_REFUSED where it was the agent's own, and no token */
  refused(realm: Realm, used: Authorization): AgentError | undefined {
    if (realm.authority.kind === 'agent' && !used.anonymous) this.#credentials.refused(realm);
    if (this.#known.get(keyOf(realm))?.authorization === used) this.#known.delete(keyOf(realm));
    return used.ownFrom === undefined ? undefined : credentialsRefused(realm, used.ownFrom, realm.base.host);
  }

  /** The right under which an answer came that was asked for with this. */
  rightOf(authorization: Authorization | undefined): Right {
    if (authorization === undefined) return { anonymous: true, lifetimeMs: undefined };
    const { anonymous, staleAtMs } = authorization;
    return { anonymous, lifetimeMs: staleAtMs === Infinity ? undefined : Math.max(0, staleAtMs - this.#nowMs()) };
  }

  #renew(realm: Realm, challenge: Challenge, signal: AbortSignal): Promise<Authorization> {
    return this.#calls.run(keyOf(realm), signal, async (shared) => {
      const { secret, failure, from } = await this.#secretOf(realm, shared);
      const authorization = await this.#authorized(realm, challenge, secret, shared).catch((error: unknown) => {
        if (!(error instanceof AgentError) || error.code !== 'ORIGIN_UNAUTHORIZED') throw error;
        if (from === undefined) throw failure ?? error;
        this.#credentials.refused(realm);
        // A 403 may be about the repository alone.
        const by = error.detail?.['status'] === 401 ? error.detail['host'] : undefined;
        throw typeof by === 'string' ? credentialsRefused(realm, from, by, error) : error;
      });
      const staleAtMs = Math.min(authorization.staleAtMs, failure === undefined ? Infinity : this.#nowMs() + WITHHELD_MS);
      const isToken = challenge.scheme === 'bearer' && secret?.kind !== 'bearer';
      const known = { ...authorization, staleAtMs, withheld: failure, ownFrom: isToken ? undefined : from };
      this.#known.set(keyOf(realm), { challenge, authorization: known }, KNOWN_MS);
      return known;
    });
  }

  /** What the authority itself has. `from`: where the agent's own are from. */
  async #secretOf(realm: Realm, signal: AbortSignal): Promise<Pick<FoundSecret, 'failure' | 'from'> & { secret: Secret | CallersHeader | undefined }> {
    const { authority } = realm;
    if (authority.kind === 'anonymous') return { secret: undefined, failure: undefined, from: undefined };
    if (authority.kind === 'caller') return { secret: { kind: 'header', header: authority.authorization }, failure: undefined, from: undefined };
    const found = await this.#credentials.find(realm, signal);
    this.#looked(realm, found);
    const { secret, failure, from } = found;
    return secret === undefined ? { secret, failure, from: undefined } : { secret, failure: undefined, from: from ?? 'somewhere' };
  }

  #authorized(realm: Realm, challenge: Challenge, secret: Secret | CallersHeader | undefined, signal: AbortSignal): Promise<Fresh> {
    // A token that came from elsewhere is for the registry itself; its end is not known here.
    if (secret?.kind === 'bearer') return Promise.resolve(this.#fixed(`Bearer ${secret.token}`));
    if (secret?.kind === 'header' && /^bearer /i.test(secret.header)) return Promise.resolve(this.#fixed(secret.header));
    if (challenge.scheme === 'bearer') return this.#bearer(realm, challenge, secret, signal);
    if (secret === undefined) return Promise.reject(unauthorized(realm, 'asks for a user name and password'));
    if (secret.kind === 'identity') return Promise.reject(unauthorized(realm, 'asks for a password where there is a refresh token only'));
    if (secret.kind === 'basic') return Promise.resolve(this.#fixed(basicHeader(secret)));
    return Promise.resolve({ header: secret.header, staleAtMs: Infinity, anonymous: false });
  }

  #fixed(header: string): Fresh {
    return { header, staleAtMs: this.#nowMs() + PASSWORD_MS, anonymous: false };
  }

  async #bearer(realm: Realm, challenge: Challenge, secret: Exclude<Secret | CallersHeader, { kind: 'bearer' }> | undefined, signal: AbortSignal): Promise<Fresh> {
    const url = checkedRealm(challenge.params.get('realm') ?? '', realm.base, realm.entry, secret === undefined);
    const service = challenge.params.get('service');
    const asked = { ...(service !== undefined && { service }), scope: `repository:${realm.repository}:pull`, ...(secret !== undefined && { client_id: CLIENT_ID }) };
    let form: URLSearchParams | undefined;
    if (secret?.kind === 'identity') form = new URLSearchParams({ grant_type: 'refresh_token', ...asked, refresh_token: secret.token });
    else for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
    const authorization = secret?.kind === 'basic' ? basicHeader(secret) : secret?.kind === 'header' ? secret.header : undefined;
    // Counted from before the request: the token is never older than we think.
    const askedAtMs = this.#nowMs();
    const { token, lifetimeMs } = readToken(await this.#request(realm, { url, authorization, form }, signal), realm);
    return { header: `Bearer ${token}`, staleAtMs: askedAtMs + lifetimeMs - Math.min(MAX_MARGIN_MS, lifetimeMs / 10), anonymous: secret === undefined };
  }
}

/** The Authorization of a local caller, as it came. */
interface CallersHeader {
  readonly kind: 'header';
  readonly header: string;
}

type Fresh = Omit<Authorization, 'withheld' | 'ownFrom'>;

function readToken(text: string, realm: Realm): { token: string; lifetimeMs: number } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    // Its message quotes the answer, which may hold a token.
    if (!(error instanceof SyntaxError)) throw error;
    throw authFailed(realm, 'the token server sent no JSON');
  }
  const token = [field(parsed, 'token'), field(parsed, 'access_token')].find((each) => typeof each === 'string' && each !== '');
  // Visible ASCII only: anything else would not be one header.
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw authFailed(realm, 'the token server sent no token');
  const seconds = field(parsed, 'expires_in');
  return { token, lifetimeMs: 1000 * (typeof seconds === 'number' && seconds > 0 ? seconds : DEFAULT_EXPIRY_S) };
}

function basicHeader({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function placeOf({ entry, base, repository }: Realm): string {
  return `${entry.name} ${base.origin} ${repository}`;
}

function keyOf(realm: Realm): string {
  return `${placeOf(realm)} ${authorityKey(realm.authority)}`;
}

/** Tells authorities apart; for callers by what they bring as well, so that an id used twice opens nothing. */
export function authorityKey(authority: Authority): string {
  if (authority.kind !== 'caller') return authority.kind;
  return `caller ${createHash('sha256').update(authority.authorization).digest('base64')} ${authority.id}`;
}

function unauthorized({ entry, repository }: Realm, what: string): AgentError {
  return new AgentError('ORIGIN_UNAUTHORIZED', `${entry.name} ${what} for ${repository}`, { detail: { origin: entry.name, repository, status: 401 } });
}

/** @param by the host that refused them */
function credentialsRefused({ entry, repository }: Realm, from: string, by: string, cause?: AgentError): AgentError {
  return new AgentError('ORIGIN_CREDENTIALS_REFUSED', `${by} did not take the credentials for ${entry.name} from ${from}`, {
    cause,
    detail: { origin: entry.name, repository, host: by, source: from, status: 401 },
  });
}

function authFailed({ entry, repository }: Realm, message: string, cause?: unknown): AgentError {
  return new AgentError('ORIGIN_AUTH_FAILED', `${entry.name}: ${message}`, { cause, detail: { origin: entry.name, repository } });
}
