// What each peer gave, took and did wrong. Pure: the clock is handed in.
//
// Invariant: a ban outlives the session; the books of a peer that is not connected are kept for MAX_ACCOUNTS peers.
// Non-goals: deciding whom to ask (picker.ts) and whether a member is expelled (the tracker says so).

/** Peers remembered at most; the longest unused account without a ban goes first. */
const MAX_ACCOUNTS = 1024;
/** Rates look back about this far. */
const RATE_WINDOW_MS = 2_000;
/** Weight of the newest chunk in the mean latency. */
const LATENCY_WEIGHT = 0.25;
/** Bytes per second assumed of a peer that has delivered nothing yet, when judging whether it stalls. */
const UNKNOWN_RATE = 256 * 1024;

/** An exponentially decaying rate in bytes per second. */
export class RateMeter {
  #rate = 0;
  #atMs = 0;

  add(bytes: number, nowMs: number): void {
    this.#decay(nowMs);
    this.#rate += bytes / (RATE_WINDOW_MS / 1000);
  }

  rate(nowMs: number): number {
    this.#decay(nowMs);
    return this.#rate;
  }

  #decay(nowMs: number): void {
    if (nowMs > this.#atMs) this.#rate *= Math.exp(-(nowMs - this.#atMs) / RATE_WINDOW_MS);
    this.#atMs = Math.max(this.#atMs, nowMs);
  }
}

/** The books of one peer. */
export class Account {
  readonly down = new RateMeter();
  readonly up = new RateMeter();
  bytesDown = 0;
  bytesUp = 0;
  forged = 0;
  conflicts = 0;
  stalls = 0;
  bannedUntilMs = 0;
  usedAtMs = 0;
  #latencyMs: number | undefined;
  #chunkBytes = 0;

  received(bytes: number, nowMs: number): void {
    this.bytesDown += bytes;
    this.down.add(bytes, nowMs);
    this.usedAtMs = nowMs;
  }

  sent(bytes: number, nowMs: number): void {
    this.bytesUp += bytes;
    this.up.add(bytes, nowMs);
    this.usedAtMs = nowMs;
  }

  /** A chunk of `bytes` came `latencyMs` after it was asked for. */
  delivered(bytes: number, latencyMs: number): void {
    this.stalls = 0;
    const before = this.#latencyMs ?? latencyMs;
    this.#latencyMs = before + (latencyMs - before) * LATENCY_WEIGHT;
    this.#chunkBytes = this.#chunkBytes === 0 ? bytes : this.#chunkBytes + (bytes - this.#chunkBytes) * LATENCY_WEIGHT;
  }

  /** Mean time from request to whole chunk; undefined before the first. */
  get latencyMs(): number | undefined {
    return this.#latencyMs;
  }

  /** How long a chunk of `bytes` should take from this peer. */
  expectedMs(bytes: number): number {
    if (this.#latencyMs === undefined) return (bytes / UNKNOWN_RATE) * 1000;
    return this.#latencyMs * Math.max(1, bytes / this.#chunkBytes);
  }
}

/** The books of all peers, and the bans that this host itself has spoken. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();

  of(peerId: string): Account {
    let account = this.#accounts.get(peerId);
    if (account === undefined) {
      account = new Account();
      this.#accounts.set(peerId, account);
      this.#forgetOldest(account);
    }
    return account;
  }

  ban(peerId: string, untilMs: number): void {
    const account = this.of(peerId);
    account.bannedUntilMs = Math.max(account.bannedUntilMs, untilMs);
  }

  isBanned(peerId: string, nowMs: number): boolean {
    return (this.#accounts.get(peerId)?.bannedUntilMs ?? 0) > nowMs;
  }

  bans(nowMs: number): { peerId: string; untilMs: number }[] {
    return [...this.#accounts]
      .filter(([, account]) => account.bannedUntilMs > nowMs)
      .map(([peerId, account]) => ({ peerId, untilMs: account.bannedUntilMs }));
  }

  #forgetOldest(spared: Account): void {
    if (this.#accounts.size <= MAX_ACCOUNTS) return;
    let oldest: [string, Account] | undefined;
    for (const entry of this.#accounts) {
      if (entry[1] === spared) continue;
      if (oldest === undefined || rank(entry[1]) < rank(oldest[1])) oldest = entry;
    }
    if (oldest !== undefined) this.#accounts.delete(oldest[0]);
  }
}

/** Banned accounts go last. */
function rank(account: Account): number {
  return Math.max(account.usedAtMs, account.bannedUntilMs);
}
