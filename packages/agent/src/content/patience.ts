// How long a download waits for what: when it asks for a hedge lease, gives up its readers, or ends. Pure: the clock is handed in.
//
//   no reader for lingerMs ─────────────────────────────> close
//   repairing, no answer for auditMs ───────────────────> unrepaired
//   starving, the origin fails, no peer has it ─────────> give-up   (after settleMs: peers may not have said what they hold)
//   starving, no byte for hedgeMs, again every hedgeMs ─> hedge     (and on and on, while hedges alone bring bytes; the first later where peers have only begun)
//   starving, no byte for stallMs ──────────────────────> stalled

import type { AgentError } from '../errors.ts';

/** Failures of the origin in a row, without a chunk between them, that break a pull whose peers do not hold what it lacks. */
const MAX_ORIGIN_FAILURES = 3;
/** Times hedgeMs, for the very first byte among peers: on slow links a crowd takes so long to begin, and each hedge then is a second copy of what is on its way. */
const FIRST_BYTE_PATIENCE = 3;

export interface PatienceLimits {
  readonly lingerMs: number;
  readonly hedgeMs: number;
  readonly stallMs: number;
  readonly auditMs: number;
  readonly settleMs: number;
}

export interface PatienceView {
  readonly repairing: boolean;
  /** Peers follow what this host reads, so it may not end although nobody reads here. */
  readonly followed: boolean;
  /** The chunk that a reader has waited for the longest. */
  readonly starving: { readonly index: number; readonly sinceMs: number } | undefined;
  /** A peer holds that chunk or reads it at the origin. */
  readonly expected: boolean;
  /** A lease of this host covers it. */
  readonly covered: boolean;
  /** No peer trades this blob. */
  readonly alone: boolean;
}

export type PatienceVerdict = { readonly kind: 'wait' | 'close' | 'unrepaired' | 'hedge' | 'stalled' } | { readonly kind: 'give-up'; readonly error: AgentError };

export class Patience {
  readonly #limits: PatienceLimits;
  #idleSinceMs: number | undefined;
  #repairingSinceMs = 0;
  #lastByteMs: number;
  #begun = false;
  #receivedBytes = 0;
  #hedgedAtMs = Number.NEGATIVE_INFINITY;
  /** A hedge was the last thing that brought bytes: the next one need not wait. */
  #hedging = false;
  #failure: { readonly error: AgentError; readonly atMs: number } | undefined;
  #failures = 0;

  constructor(limits: PatienceLimits, nowMs: number) {
    this.#limits = limits;
    this.#idleSinceMs = nowMs;
    this.#lastByteMs = nowMs;
  }

  readersChanged(count: number, nowMs: number): void {
    if (count > 0) this.#idleSinceMs = undefined;
    else this.#idleSinceMs ??= nowMs;
  }

  repairing(nowMs: number): void {
    this.#repairingSinceMs = nowMs;
  }

  /** @param hedged the bytes came under a hedge lease: whoever should have delivered them still does not */
  progressed(nowMs: number, hedged = false): void {
    this.#lastByteMs = nowMs;
    this.#begun = true;
    this.#hedging = hedged;
  }

  /** Bytes of chunks that are still incomplete are progress too. @param total what today's peers have sent */
  received(total: number, nowMs: number): void {
    if (total > this.#receivedBytes) this.progressed(nowMs);
    this.#receivedBytes = total;
  }

  originFailed(error: AgentError, nowMs: number): void {
    this.#failure = { error, atMs: nowMs };
    this.#failures++;
  }

  originWell(): void {
    this.#failure = undefined;
    this.#failures = 0;
  }

  get hedging(): boolean {
    return this.#hedging;
  }

  /** No bytes for so long. */
  stuckMs(sinceMs: number, nowMs: number): number {
    return nowMs - Math.max(this.#lastByteMs, sinceMs);
  }

  decide(view: PatienceView, nowMs: number): PatienceVerdict {
    const { lingerMs, hedgeMs, stallMs, auditMs } = this.#limits;
    if (view.repairing) return { kind: nowMs - this.#repairingSinceMs >= auditMs ? 'unrepaired' : 'wait' };
    if (this.#idleSinceMs !== undefined) return { kind: nowMs - this.#idleSinceMs >= lingerMs && !view.followed ? 'close' : 'wait' };
    const { starving } = view;
    if (starving === undefined) return { kind: 'wait' };
    const error = this.#hopeless(view, starving.sinceMs, nowMs);
    if (error !== undefined) return { kind: 'give-up', error };
    const stuckMs = this.stuckMs(starving.sinceMs, nowMs);
    if (stuckMs >= stallMs) return { kind: 'stalled' };
    if (view.covered) return { kind: 'wait' };
    const patienceMs = this.#begun || view.alone ? hedgeMs : FIRST_BYTE_PATIENCE * hedgeMs;
    if (!this.#hedging && (stuckMs < patienceMs || nowMs - this.#hedgedAtMs < hedgeMs)) return { kind: 'wait' };
    this.#hedging = false;
    this.#hedgedAtMs = nowMs;
    return { kind: 'hedge' };
  }

  /** The origin's error, where it is the last word. */
  #hopeless({ expected, covered, alone }: PatienceView, starvingSinceMs: number, nowMs: number): AgentError | undefined {
    if (this.#failure === undefined || expected || covered) return undefined;
    const { error, atMs } = this.#failure;
    if (nowMs - starvingSinceMs < this.#limits.settleMs) return undefined;
    if (!error.row.retryable) return error;
    // It may have recovered since, and while there are peers one of them may read it.
    if (atMs < starvingSinceMs) return undefined;
    return alone || this.#failures >= MAX_ORIGIN_FAILURES ? error : undefined;
  }
}
