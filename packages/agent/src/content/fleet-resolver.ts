// What an origin shows to anybody, asked of the tracker, which asks each origin once for the whole fleet (the setting `resolveBy`).
//
//   asked ──> a tracker that does so is connected, and has not failed lately ──> it answers in time ──> found
//      otherwise undefined, with a reason that is counted: the agent asks the origin itself, as without the setting
//
// Invariants: only nobody's right is asked about, so that a credential never leaves this host; what the tracker says is as old as it promises
// and is not kept here. Non-goals: who may be told a repository's name (access/), how the tracker is asked (tracker/).

import { isDigest, parseDigest } from '@flotilla/shared/digest';
import { ResolveRequest, type ResolveResponse } from '@flotilla/shared/tracker-api';
import { Compile } from 'typebox/compile';
import { toAgentError } from '../errors.ts';
import type { Descriptor, Granted, Repository } from './ports.ts';

/** What is asked about, in a repository. */
export interface PublicQuestion {
  readonly kind: 'blob' | 'manifest';
  /** A tag, or a digest. */
  readonly reference: string;
  /** As the client sent it; empty: anything. */
  readonly accept?: readonly string[];
}

/**
 * How the tracker was no help. `away`: it is not connected, or does not ask origins; `paused`: it has failed a moment ago; `busy`: too much is
 * asked at once, here or there; `too-long`: the client names more media types, or longer ones, than the tracker takes; `not-configured`: it does
 * not know this origin at these URLs; `not-public`: the origin refuses anybody, or has nothing.
 */
type NoHelp = 'away' | 'paused' | 'busy' | 'failed' | 'too-long' | 'not-configured' | 'not-public';

export interface FleetResolverStatus {
  /** Questions that the tracker answered. */
  readonly found: number;
  /** Those that this agent asked the origin itself, by the reason. */
  readonly asked: Readonly<Partial<Record<NoHelp, number>>>;
  /** Why the tracker last gave no answer. */
  readonly lastError: { readonly code: string; readonly message: string } | undefined;
}

export interface FleetResolverInit {
  /** undefined: no tracker is connected that asks origins. */
  readonly ask: (request: ResolveRequest, signal: AbortSignal) => Promise<ResolveResponse | undefined>;
  /** Where this agent would ask; undefined: nobody has named this origin, and the tracker is not led there. */
  readonly urlsOf: (origin: string) => readonly string[] | undefined;
  readonly fallback: (kind: string) => void;
  /** Monotonic ms. */
  readonly now: () => number;
  /** @default 3000 */
  readonly timeoutMs?: number;
}

/** A client waits for both, should the tracker be silent. */
const TIMEOUT_MS = 3_000;
/** A tracker that gave no answer is not waited for again within this time. */
const PAUSE_MS = 10_000;
/** Each has a connection to the tracker; leases must not wait behind them. */
const MAX_AT_ONCE = 4;
/** Beyond that the agent asks for itself. */
const MAX_WAITING = 256;
const checkRequest = Compile(ResolveRequest);

export class FleetResolver {
  readonly #init: FleetResolverInit;
  readonly #asked = new Map<NoHelp, number>();
  #found = 0;
  #atOnce = 0;
  /** Questions that wait for their turn, the oldest first. */
  readonly #waiting: (() => void)[] = [];
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #lastError: FleetResolverStatus['lastError'];

  constructor(init: FleetResolverInit) {
    this.#init = init;
  }

  /** What the origin shows to anybody; undefined: ask it. @throws the signal's reason, nothing else */
  async ask({ origin, repository }: Repository, { kind, reference, accept = [] }: PublicQuestion, signal: AbortSignal): Promise<Granted<Descriptor> | undefined> {
    const urls = this.#init.urlsOf(origin);
    if (urls === undefined) return this.#none('not-configured');
    const request = { origin, urls: [...urls], repository, kind, reference, ...(accept.length > 0 && { accept: [...accept] }) };
    // The tracker would refuse it, and that would look as if the tracker failed.
    if (!checkRequest.Check(request)) return this.#none('too-long');
    if (this.#init.now() < this.#pausedUntilMs) return this.#none('paused');
    if (this.#waiting.length >= MAX_WAITING) return this.#none('busy');
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(this.#init.timeoutMs ?? TIMEOUT_MS)]);
    const waited = this.#atOnce >= MAX_AT_ONCE;
    if (!(await this.#turn(inTime))) {
      signal.throwIfAborted();
      return this.#none('busy');
    }
    try {
      inTime.throwIfAborted();
      const said = await this.#init.ask(request, inTime);
      if (said === undefined) return this.#none('away');
      const { found, why } = said;
      if (found === undefined) return this.#none(reasonOf(why));
      // The tracker is trusted with what a tag is, never with what a digest is.
      if (isDigest(reference) && found.digest !== reference) return this.#none('failed');
      this.#found++;
      return { digest: parseDigest(found.digest), size: found.size, mediaType: found.mediaType, right: { anonymous: true, lifetimeMs: undefined } };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      // It had only what the queue left of its time: that says nothing of the tracker.
      if (waited && inTime.aborted) return this.#none('busy');
      const { code, message } = toAgentError(error);
      this.#lastError = { code, message };
      this.#pausedUntilMs = this.#init.now() + PAUSE_MS;
      return this.#none('failed');
    } finally {
      this.#atOnce--;
      this.#waiting.shift()?.();
    }
  }

  status(): FleetResolverStatus {
    return { found: this.#found, asked: Object.fromEntries(this.#asked), lastError: this.#lastError };
  }

  /** @returns false: it did not come in time */
  #turn(inTime: AbortSignal): Promise<boolean> {
    if (this.#atOnce < MAX_AT_ONCE) {
      this.#atOnce++;
      return Promise.resolve(true);
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const come = (): void => {
      inTime.removeEventListener('abort', late);
      this.#atOnce++;
      resolve(true);
    };
    const late = (): void => {
      this.#waiting.splice(this.#waiting.indexOf(come), 1);
      resolve(false);
    };
    this.#waiting.push(come);
    inTime.addEventListener('abort', late, { once: true });
    return promise;
  }

  #none(why: NoHelp): undefined {
    this.#asked.set(why, (this.#asked.get(why) ?? 0) + 1);
    this.#init.fallback(`resolve-${why}`);
    return undefined;
  }
}

function reasonOf(why: string | undefined): NoHelp {
  return why === 'not-public' || why === 'not-configured' || why === 'busy' ? why : 'failed';
}
