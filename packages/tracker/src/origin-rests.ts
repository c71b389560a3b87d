// Who leaves an origin alone after its 429, and for how long (docs/decisions/0015). Pure; times come in.
//
//   a member is limited ──> it rests for as long as the origin said, alone: its address or its account may have used up what it had
//   another one as well, while the first rests ──> the origin limits the fleet, behind one address or one account: all rest
//
// Invariants: one member's 429 never stops others that the origin serves; an origin that limits all sees no new leases from the second 429 on, until
// its time is over. Non-goal: requests other than leases; each agent waits for itself (the agent's origin/standing).

/** However long an origin asks all to wait; then one member or two find out. */
const MAX_FLEET_REST_MS = 60_000;
/** However long it asks one. Agents themselves wait no longer. */
const MAX_MEMBER_REST_MS = 15 * 60_000;
/** Beyond, the origins that were limited longest ago are forgotten. */
const MAX_ORIGINS = 1_000;

interface OriginRest {
  /** By member: as many as are limited now. */
  readonly limited: Map<string, number>;
  allUntilMs: number;
}

export class OriginRests {
  /** The one that was limited last is the last one. */
  readonly #origins = new Map<string, OriginRest>();

  /** `origin` said 429 to `peer`, and to come back after `retryAfterMs`. */
  limited(origin: string, peer: string, retryAfterMs: number, nowMs: number): void {
    const rest = this.#origins.get(origin) ?? { limited: new Map<string, number>(), allUntilMs: 0 };
    this.#origins.delete(origin);
    this.#origins.set(origin, rest);
    const [oldest] = this.#origins.keys();
    if (this.#origins.size > MAX_ORIGINS && oldest !== undefined) this.#origins.delete(oldest);
    const { limited } = rest;
    for (const [other, untilMs] of limited) if (untilMs <= nowMs) limited.delete(other);
    limited.set(peer, Math.max(limited.get(peer) ?? 0, nowMs + Math.min(MAX_MEMBER_REST_MS, retryAfterMs)));
    if (limited.size > 1) rest.allUntilMs = Math.max(rest.allUntilMs, nowMs + Math.min(MAX_FLEET_REST_MS, retryAfterMs));
  }

  /** Until when `peer` is to leave the origin alone; what is past: it need not. */
  untilMs(origin: string, peer: string): number {
    const rest = this.#origins.get(origin);
    return rest === undefined ? 0 : Math.max(rest.allUntilMs, rest.limited.get(peer) ?? 0);
  }

  /** Origins that limit the fleet. */
  all(nowMs: number): string[] {
    return [...this.#origins].filter(([, { allUntilMs }]) => allUntilMs > nowMs).map(([origin]) => origin);
  }
}
