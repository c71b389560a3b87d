// Who may read what, as the origin says: decided per (origin, repository, credential), never per digest alone.
//
//   granted    the caller's right is fresh, and so is what is known of the digest here ──> served without a question
//   ask        the origin answers one of the caller's authorities (callers.ts) ──────────> served, and remembered for a minute
//   whileDown  the origin is silent: the rule `originDown` ──────────────────────────────> served as before, or not
//
// A digest known from elsewhere counts for nothing: a grant is of a repository, and is either the origin's own answer to this caller or
// a manifest of that repository that was there a minute ago. A manifest that an index names is one of the repository only once the origin
// has answered for it there. Non-goals: bytes (content/), how the origin is asked (origin/).

import { createHmac } from 'node:crypto';
import { Level } from 'level';
import type { Digest } from '@flotilla/shared/digest';
import type { Authority, Caller, Descriptor, Permit, Repository, Right, Source } from '../content/ports.ts';
import { toAgentError, type AgentError } from '../errors.ts';
import { Callers, subjectOf, usableAuthorization, type RightsRules } from './callers.ts';
import { Decisions, FRESH_MS } from './decisions.ts';
import { denial, type Situation } from './denial.ts';
import { factKey, Facts, type Fact, type FactRow, type KnownFact, type TagRow } from './facts.ts';
import { KeptTable, type Row } from './kept-table.ts';
import { PrivateBlobs, type PrivateRow } from './private-blobs.ts';
import { Recent } from './recent.ts';

export type { Fact, KnownFact };

/** What is served of a repository while its origin does not answer. */
export type OriginDown =
  /** What is known of it, to whom it was allowed before. */
  | 'same-repository'
  /** What is known of it, to anybody. */
  | 'allow'
  /** Nothing. */
  | 'deny';

export type AccessOutcome = 'public' | 'agent' | 'caller' | 'denied' | 'unknown' | 'down-kept' | 'down-allowed' | 'down-denied';

export interface RightsInit {
  readonly rules: RightsRules & { readonly originDown: OriginDown; readonly challenge: boolean; readonly tellPrivateNames: boolean };
  /** A secret of this agent that survives restarts: credentials are remembered by a hash keyed with it. */
  readonly key: Uint8Array;
  /** Whether an origin is configured or well known. */
  readonly listed: (origin: string) => boolean;
  readonly decided?: (outcome: AccessOutcome) => void;
  /** What could not be written: a disk that takes no notes fails no pull. */
  readonly unnoted?: (error: unknown) => void;
  /** @default Date.now */
  readonly nowMs?: () => number;
  /** Calls `tick` at this interval until the returned function is called. @default a timer that keeps no process alive */
  readonly every?: (intervalMs: number, tick: () => void) => () => void;
}

/** The rules, and how questions were decided since the start. */
export type RightsStatus = RightsInit['rules'] & { readonly decided: Readonly<Partial<Record<AccessOutcome, number>>> };

/** A digest that may be served, and since when the origin has not been asked about it. */
export interface Grant {
  readonly fact: KnownFact;
  readonly permit: Permit;
  readonly atMs: number;
}

const PRUNE_INTERVAL_MS = 3600_000;
const MONTH_MS = 30 * 24 * 3600_000;
const MAX_GRANTS = 20_000;
const LIMITS = {
  facts: { maxRows: 200_000, keepMs: MONTH_MS },
  tags: { maxRows: 50_000, keepMs: MONTH_MS },
  decisions: { maxRows: 50_000, keepMs: MONTH_MS },
  // As long as the blobs may lie in the store.
  private: { maxRows: 200_000, keepMs: Number.POSITIVE_INFINITY },
};

export class Rights {
  readonly facts: Facts;
  readonly rules: RightsInit['rules'];
  readonly #db: Level;
  readonly #tables: readonly Pick<KeptTable<Row>, 'prune' | 'pruneSoon' | 'idle'>[];
  readonly #callers: Callers;
  readonly #decisions: Decisions;
  readonly #private: PrivateBlobs;
  /** The origin's own answers for a digest, to one authority. */
  readonly #grants: Recent;
  /** The origin's word that a digest is not there. */
  readonly #gone: Recent;
  readonly #outcomes = new Map<AccessOutcome, number>();
  readonly #init: RightsInit;
  readonly #nowMs: () => number;
  readonly #stopPruning: () => void;

  private constructor(db: Level, init: RightsInit) {
    const { nowMs = Date.now, every = unhurriedly, unnoted = () => undefined } = init;
    const table = <R extends Row>(name: keyof typeof LIMITS): KeptTable<R> => new KeptTable<R>(db, name, LIMITS[name], nowMs, unnoted);
    const [facts, tags, decisions, secrets] = [table<FactRow>('facts'), table<TagRow>('tags'), table('decisions'), table<PrivateRow>('private')];
    this.#db = db;
    this.#tables = [facts, tags, decisions, secrets];
    this.#init = init;
    this.rules = init.rules;
    this.#nowMs = nowMs;
    this.facts = new Facts(facts, tags, nowMs);
    this.#callers = new Callers(init.rules, init.key, init.listed);
    this.#decisions = new Decisions(decisions, nowMs);
    this.#private = new PrivateBlobs(secrets, nowMs);
    this.#grants = new Recent(MAX_GRANTS, nowMs);
    this.#gone = new Recent(MAX_GRANTS, nowMs);
    this.#stopPruning = every(PRUNE_INTERVAL_MS, () => {
      for (const each of this.#tables) each.pruneSoon();
    });
  }

  /** Opens what is kept in `dir`; forgets what is old. */
  static async open(dir: string, init: RightsInit): Promise<Rights> {
    const db = new Level(dir);
    await db.open();
    const rights = new Rights(db, init);
    await Promise.all(rights.#tables.map((table) => table.prune()));
    return rights;
  }

  async close(): Promise<void> {
    this.#stopPruning();
    await Promise.all(this.#tables.map((table) => table.idle()));
    await this.#db.close();
  }

  status(): RightsStatus {
    return { ...this.rules, decided: Object.fromEntries(this.#outcomes) };
  }

  /** What this caller may have of the digest without a question to the origin. */
  async granted(repository: Repository, kind: Fact['kind'], digest: Digest, caller: Caller): Promise<Grant | undefined> {
    const fresh = this.#callers.authorities(repository, caller).filter((authority) => this.#decisions.fresh(repository, authority));
    if (fresh.length === 0) return undefined;
    const fact = await this.known(repository, kind, digest);
    if (fact === undefined) return undefined;
    const key = factKey(repository, kind, digest);
    const notBeforeMs = Math.max(this.#nowMs() - FRESH_MS, (this.#gone.at(key) ?? Number.NEGATIVE_INFINITY) + 1);
    const impliedAtMs = isBelieved(fact) ? fact.impliedAtMs : undefined;
    for (const authority of fresh) {
      const atMs = Math.max(this.#grants.at(grantKey(key, authority)) ?? Number.NEGATIVE_INFINITY, impliedAtMs ?? Number.NEGATIVE_INFINITY);
      if (atMs >= notBeforeMs) return { fact, permit: permitOf(repository, authority), atMs };
    }
    return undefined;
  }

  /** What is known of a digest in a repository. A reference to what came here out of another, private one is nothing known. */
  async known(repository: Repository, kind: Fact['kind'], digest: Digest): Promise<KnownFact | undefined> {
    const fact = await this.facts.get(repository, kind, digest);
    if (fact === undefined || fact.confirmed) return fact;
    return (await this.#private.elsewhereOnly(repository, digest)) ? undefined : fact;
  }

  /**
   * Asks the origin with one of the caller's authorities after the other, until it answers.
   * @param gone called where the origin does not have it although it lets the caller in
   * @throws AgentError ACCESS_DENIED, BLOB_DENIED, CREDENTIALS_WANTED, and what the origin answers
   */
  async ask<T extends { readonly right: Right }>(
    repository: Repository,
    caller: Caller,
    about: 'blob' | 'manifest',
    question: (authority: Authority) => Promise<T>,
    gone?: () => Promise<void>,
  ): Promise<{ answer: T; permit: Permit }> {
    const authorities = this.#callers.authorities(repository, caller);
    let unknown: AgentError | undefined;
    let refusal: AgentError | undefined;
    let failure: AgentError | undefined;
    for (const authority of this.#mostLikelyFirst(repository, authorities)) {
      try {
        const answer = await question(authority);
        return { answer, permit: await this.#allowed(repository, authority, answer.right) };
      } catch (error) {
        const said = toAgentError(error);
        if (isRefusal(said)) await this.#note(this.#decisions.refuse(repository, authority));
        if (isUnknown(said)) {
          unknown = said;
          const letIn = this.#decisions.fresh(repository, authority);
          if (gone !== undefined && (letIn || (await this.#decisions.before(repository, authority)))) await this.#note(gone());
          if (letIn) break;
        } else if (isRefusal(said)) refusal = said;
        else if (mayDependOnCredentials(said)) failure = said;
        else throw said;
      }
    }
    // Registries that hide what may not be read say that it is not there; and what is not there needs no right.
    const answer = unknown ?? failure ?? denial(repository, about, refusal, this.#situation(repository, caller));
    if (answer !== failure) this.#count(answer === unknown ? 'unknown' : 'denied');
    throw answer;
  }

  /**
   * Whose right to what is known of a repository holds while its origin does not answer.
   * @param failure why the origin is taken to be down
   */
  async whileDown(repository: Repository, caller: Caller, failure: AgentError): Promise<Permit | undefined> {
    const { originDown } = this.rules;
    if (originDown !== 'deny') {
      for (const authority of this.#callers.authorities(repository, caller)) {
        if (!(await this.#decisions.before(repository, authority))) continue;
        this.#count('down-kept');
        return permitOf(repository, authority);
      }
    }
    // A token server that fails for one caller only is not down.
    if (originDown === 'allow' && failure.code !== 'ORIGIN_AUTH_FAILED') {
      this.#count('down-allowed');
      return { repository, authority: undefined, private: true };
    }
    this.#count('down-denied');
    return undefined;
  }

  /** Whether the fleet may be asked for a digest while the origin is down. */
  async mayAskFleet(repository: Repository, caller: Caller): Promise<boolean> {
    return this.rules.originDown !== 'deny' && (await this.mayName(repository, caller));
  }

  /** Whether the tracker may hear the repository's name: it has, private names are told too, or nobody here has credentials for it or has needed some. */
  async mayName(repository: Repository, caller: Caller): Promise<boolean> {
    if (caller.named) return true;
    const [anonymous, ...others] = this.#callers.authorities(repository, caller);
    return this.rules.tellPrivateNames || others.length === 0 || (await this.#decisions.before(repository, anonymous!));
  }

  /** The origin has just answered for this digest with this permit. */
  async confirm({ repository, authority }: Permit, { kind, digest, size, mediaType }: Fact): Promise<KnownFact> {
    const fact = { kind, digest, size, mediaType };
    const key = factKey(repository, kind, digest);
    this.#gone.delete(key);
    if (authority !== undefined) this.#grants.mark(grantKey(key, authority), this.#nowMs() + FRESH_MS);
    const known = await this.#note(this.facts.confirm(repository, fact));
    return known ?? { ...fact, impliedAtMs: undefined, confirmed: true, proven: false };
  }

  /** A manifest of this repository refers to these. @param atMs when the origin last had that manifest */
  async imply(repository: Repository, facts: readonly Fact[], atMs: number): Promise<void> {
    // A manifest from before does not bring back what the origin has said is gone.
    const there = facts.filter(({ kind, digest }) => (this.#gone.at(factKey(repository, kind, digest)) ?? Number.NEGATIVE_INFINITY) < atMs);
    await this.#note(this.facts.imply(repository, there, atMs));
  }

  /** The origin does not have this digest in this repository. */
  async forget(repository: Repository, kind: Fact['kind'], digest: Digest): Promise<void> {
    const key = factKey(repository, kind, digest);
    this.#gone.mark(key, this.#nowMs() + FRESH_MS);
    await this.facts.forget(repository, kind, digest);
  }

  /** The origin has refused the bytes to this authority in the middle of a download. */
  async refused({ origin, repository, kind }: Source, authority: Authority, digest: Digest, error: AgentError): Promise<void> {
    const place = { origin, repository };
    await this.#note(isUnknown(error) ? this.forget(place, kind, digest) : this.#decisions.refuse(place, authority));
  }

  /** The bytes of this digest come here, or are read here. */
  async reading({ origin, repository, private: secret }: Source, digest: Digest): Promise<void> {
    if (secret) await this.#note(this.#private.read({ origin, repository }, digest));
  }

  /** The origin has just said what this tag is. */
  async resolved(permit: Permit, tag: string, descriptor: Descriptor): Promise<KnownFact> {
    await this.#note(this.facts.resolved(permit.repository, tag, descriptor));
    return this.confirm(permit, { ...descriptor, kind: 'manifest' });
  }

  /** Whether the bytes may be served only once the origin has shown that it has them: one that nobody configured may say anything. */
  needsProof({ repository }: Permit, fact: KnownFact): boolean {
    return !fact.proven && !this.#init.listed(repository.origin);
  }

  /** Where in the blob it has to show them, from 0 to 1: known to this agent alone, and the same place each time. */
  sampleAt({ repository }: Permit, { kind, digest }: Fact): number {
    return createHmac('sha256', this.#init.key).update(`sample of ${factKey(repository, kind, digest)}`).digest().readUInt32BE() / 2 ** 32;
  }

  /** The origin has shown the bytes of this digest. */
  async proven({ repository }: Permit, { kind, digest }: Fact): Promise<void> {
    await this.#note(this.facts.prove(repository, kind, digest));
  }

  /** Nobody's right before others; but first the one that the origin took a moment ago. */
  #mostLikelyFirst(repository: Repository, authorities: readonly Authority[]): Authority[] {
    const fresh = (authority: Authority): number => Number(this.#decisions.fresh(repository, authority));
    return authorities.toSorted((a, b) => fresh(b) - fresh(a));
  }

  async #allowed(repository: Repository, authority: Authority, right: Right): Promise<Permit> {
    // An agent that has no credentials asks as anybody does.
    const used: Authority = right.anonymous ? { kind: 'anonymous' } : authority;
    this.#count(used.kind === 'anonymous' ? 'public' : used.kind);
    await this.#note(this.#decisions.allow(repository, used, right));
    return permitOf(repository, used);
  }

  #situation(repository: Repository, caller: Caller): Situation {
    return {
      mode: this.rules.mode,
      allowed: this.#callers.allows(repository),
      credentials: usableAuthorization(caller.authorization) !== undefined,
      listed: this.#init.listed(repository.origin),
      challenge: this.rules.challenge,
    };
  }

  #count(outcome: AccessOutcome): void {
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
    this.#init.decided?.(outcome);
  }

  async #note<T>(noted: Promise<T>): Promise<T | undefined> {
    try {
      return await noted;
    } catch (error) {
      this.#init.unnoted?.(error);
      return undefined;
    }
  }
}

function permitOf(repository: Repository, authority: Authority): Permit {
  return { repository, authority, private: authority.kind !== 'anonymous' };
}

function grantKey(fact: string, authority: Authority): string {
  return `${fact}\0${subjectOf(authority)}`;
}

/**
 * Whether a reference alone is enough. Registries take an index that names manifests which they do not have; what those would refer to is
 * nothing of this repository.
 */
export function isBelieved({ kind, confirmed }: Pick<KnownFact, 'kind' | 'confirmed'>): boolean {
  return kind === 'blob' || confirmed;
}

/** The origin shows nothing of the repository to this authority. */
function isRefusal({ code, detail }: AgentError): boolean {
  return code === 'ORIGIN_DENIED' || code === 'ORIGIN_UNAUTHORIZED' || code === 'ORIGIN_CREDENTIALS_REFUSED' || detail?.['originCode'] === 'NAME_UNKNOWN';
}

/** The origin does not have it, as far as this authority is told. */
export function isUnknown({ code }: AgentError): boolean {
  return code === 'MANIFEST_UNKNOWN' || code === 'BLOB_UNKNOWN' || code === 'REPOSITORY_UNKNOWN';
}

/** Requests are limited, or tokens given out, by who asks. */
function mayDependOnCredentials({ code, detail }: AgentError): boolean {
  const status = detail?.['status'];
  return code === 'ORIGIN_THROTTLED' || (code === 'ORIGIN_AUTH_FAILED' && typeof status === 'number' && status < 500);
}

function unhurriedly(intervalMs: number, tick: () => void): () => void {
  const timer = setInterval(tick, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}
