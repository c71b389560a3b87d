// What origins show to anybody, asked once for the whole fleet.
//
// Invariants: no answer is given that was asked for more than FRESH_MS before the question, counted from when the origin was asked; so what was pushed
// before that is seen. Who asks meanwhile waits for the same answer: one question to an origin for each thing asked and FRESH_MS, however many hosts
// ask. An answer that the origin did not give is kept as long, so that a fleet does not try it in turn. Names of images are in no log.
// Pure but for `ask`; the clock is handed in. Non-goals: how an origin is asked (public-origin.ts), whether a member may ask (agent-api.ts).

import type { ResolveRequest, ResolveResponse } from '@flotilla/shared/tracker-api';

/** How old an answer may be when it is given. */
export const FRESH_MS = 3_000;
const MAX_KEPT = 4096;
/** Questions at a time, to one origin: one that hangs holds up no other. Who asks for more gets `busy`, and asks the origin itself. */
const MAX_OF_ORIGIN = 64;
/** And to all. */
const MAX_AT_ONCE = 256;

export interface PublicAnswersInit {
  /** Asks the origin. Never rejects. */
  readonly ask: (request: ResolveRequest) => Promise<ResolveResponse>;
  /** Told of each answer that goes out: `found`, or why there is none; and whether the origin was asked for it. */
  readonly answered: (answer: string, asked: boolean) => void;
  /** Monotonic ms. */
  readonly now: () => number;
}

interface Kept {
  readonly askedAtMs: number;
  readonly answer: Promise<ResolveResponse>;
}

export class PublicAnswers {
  readonly #init: PublicAnswersInit;
  /** By question, the oldest first. */
  readonly #kept = new Map<string, Kept>();
  /** Open questions by origin; none is 0. */
  readonly #open = new Map<string, number>();
  #atOnce = 0;

  constructor(init: PublicAnswersInit) {
    this.#init = init;
  }

  async resolve(request: ResolveRequest): Promise<ResolveResponse> {
    const { now, answered } = this.#init;
    const key = keyOf(request);
    const known = this.#kept.get(key);
    const fresh = known !== undefined && now() - known.askedAtMs < FRESH_MS ? known : undefined;
    const answer = fresh === undefined ? await this.#ask(key, request) : await fresh.answer;
    answered(answer.found === undefined ? (answer.why ?? 'failed') : 'found', fresh === undefined);
    return answer;
  }

  #ask(key: string, request: ResolveRequest): Promise<ResolveResponse> {
    const { origin } = request;
    if (this.#atOnce >= MAX_AT_ONCE || (this.#open.get(origin) ?? 0) >= MAX_OF_ORIGIN) return Promise.resolve({ why: 'busy' });
    this.#count(origin, 1);
    const answer = this.#init.ask(request).finally(() => this.#count(origin, -1));
    this.#kept.delete(key);
    this.#kept.set(key, { askedAtMs: this.#init.now(), answer });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    return answer;
  }

  #count(origin: string, step: 1 | -1): void {
    this.#atOnce += step;
    const open = (this.#open.get(origin) ?? 0) + step;
    if (open === 0) this.#open.delete(origin);
    else this.#open.set(origin, open);
  }
}

/** The order of media types matters to no registry; which are there does. */
function keyOf({ origin, urls, repository, kind, reference, accept = [] }: ResolveRequest): string {
  return JSON.stringify([origin, urls, repository, kind, reference, [...new Set(accept)].sort()]);
}
