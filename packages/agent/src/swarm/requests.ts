// When a peer is asked for its next chunk, and when it is given up on.
//
// A peer gets one request at a time (a queue at the uploader is a delay for everybody), a second one only where the round trip
// would otherwise leave the link idle: where rate x round trip exceeds a chunk, or where there are too few sources to fill the gap.
// A peer that moves nothing for much longer than a chunk usually takes, from it or from anyone, stalls: all that was asked of it goes
// elsewhere, and it rests. On slow links a chunk waits for seconds in the uploader's queue: to give up then sends it twice.
// Which chunk: picker.ts. Pure: the clock and timers are handed in. Invariant: the picker and the peer's intake agree on what is asked of it.

import type { BlobLink, BlobSwarm } from './blob-swarm.ts';
import type { SwarmCounters } from './counters.ts';
import { Account } from './ledger.ts';
import type { TokenBucket } from './limits.ts';
import type { Timers } from './timers.ts';

const STALL_MS = 2_000;
const STALL_FACTOR = 4;
/** Before the first chunk has come from anyone, nobody knows what is usual. */
const COLD_STALL_MS = 5_000;
const LONGEST_STALL_MS = 30_000;
/** How long a stalled peer rests: doubled with each stall in a row. */
const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 60_000;
/** With fewer sources than this, two requests each. */
const FEW_SOURCES = 8;

export interface RequestsComponents {
  readonly counters: SwarmCounters;
  readonly nowMs: () => number;
  readonly timers: Timers;
  /** It stands in another zone: what is usual there says nothing of peers near by, nor the other way round. */
  readonly isForeign: (link: BlobLink) => boolean;
  /** What holds back what this peer is asked for. */
  readonly limits: (link: BlobLink) => readonly TokenBucket[];
  /** Blobs that are being fetched. */
  readonly fetching: () => readonly BlobSwarm[];
  readonly links: () => Iterable<BlobLink>;
}

export class Requests {
  readonly #with: RequestsComponents;
  readonly #awake = new Set<BlobLink>();
  /** What all peers near by together delivered, and all in other zones. */
  readonly #near = new Account();
  readonly #across = new Account();
  #cancelTurn: (() => void) | undefined;
  /** The first moment at which a limit lets something be asked for. */
  #limited: { readonly untilMs: number; readonly cancel: () => void } | undefined;
  #closed = false;

  constructor(components: RequestsComponents) {
    this.#with = components;
  }

  /** There may be something to ask of this peer: looked at once this turn is over. */
  wake(link: BlobLink): void {
    if (this.#closed) return;
    this.#awake.add(link);
    this.#cancelTurn ??= this.#with.timers.soon(() => {
      this.#cancelTurn = undefined;
      const links = [...this.#awake];
      this.#awake.clear();
      for (const each of links) this.#fill(each);
    });
  }

  wakeAll(): void {
    for (const link of this.#with.links()) this.wake(link);
  }

  /** The peer will not answer: what was asked of it goes elsewhere. */
  giveUp(link: BlobLink): void {
    for (const fetch of link.intake.fetches()) {
      link.intake.drop(fetch.channel, fetch.index);
      link.outbox.send({ type: 'cancel', channel: fetch.channel, index: fetch.index });
      fetch.owner.failed(link, fetch.index);
    }
  }

  /** The peer said busy. */
  refused(link: BlobLink, blob: BlobSwarm, index: number, retryAfterMs: number): void {
    if (link.intake.drop(blob.channel, index) === undefined) return;
    this.#with.counters.add('busy_answers', 1);
    link.backoffUntilMs = Math.max(link.backoffUntilMs, this.#with.nowMs() + Math.min(Math.max(retryAfterMs, 10), LONGEST_REST_MS));
    blob.failed(link, index);
  }

  /** A chunk of `bytes` came from the peer, `latencyMs` after it was asked for. */
  delivered(link: BlobLink, bytes: number, latencyMs: number): void {
    this.#usualOf(link).delivered(bytes, latencyMs);
  }

  /** Looks for stalls, ends rests. A few times per second. */
  tick(): void {
    const nowMs = this.#with.nowMs();
    for (const link of this.#with.links()) {
      if (link.backoffUntilMs !== 0 && link.backoffUntilMs <= nowMs) {
        link.backoffUntilMs = 0;
        this.wake(link);
      }
      const { intake } = link;
      // Nobody stalls sooner: what is usual need not be worked out for every peer that moves.
      if (intake.size === 0 || nowMs - intake.movedAtMs <= STALL_MS) continue;
      const [oldest] = intake.fetches();
      if (nowMs - intake.movedAtMs > this.#patienceMs(link, oldest!.bytes)) this.#stalled(link, nowMs);
    }
    for (const blob of this.#with.fetching()) blob.tick();
  }

  close(): void {
    this.#closed = true;
    this.#awake.clear();
    this.#cancelTurn?.();
    this.#limited?.cancel();
  }

  #patienceMs(link: BlobLink, bytes: number): number {
    const usual = this.#usualOf(link);
    const usualMs = usual.latencyMs === undefined ? COLD_STALL_MS : STALL_FACTOR * usual.expectedMs(bytes);
    return Math.min(LONGEST_STALL_MS, Math.max(STALL_MS, usualMs, STALL_FACTOR * link.account.expectedMs(bytes)));
  }

  #usualOf(link: BlobLink): Account {
    return this.#with.isForeign(link) ? this.#across : this.#near;
  }

  #stalled(link: BlobLink, nowMs: number): void {
    this.#with.counters.add('stalled_requests', link.intake.size);
    const restMs = Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** Math.min(link.account.stalls, 10));
    link.account.stalls++;
    link.backoffUntilMs = nowMs + restMs;
    this.giveUp(link);
  }

  #fill(link: BlobLink): void {
    const nowMs = this.#with.nowMs();
    if (link.session.closed || link.backoffUntilMs > nowMs) return;
    const blobs = this.#with.fetching();
    // The blob whose turn it is first: several blobs share a peer evenly.
    for (let without = 0; without < blobs.length; link.turn++) {
      const blob = blobs[link.turn % blobs.length]!;
      if (link.intake.size >= this.#atOnce(link, blob) || !blob.isPaired(link)) {
        without++;
        continue;
      }
      const limits = this.#with.limits(link);
      if (this.#waitForLimit(limits, blob.bytesOf(0), nowMs)) return;
      const fetch = blob.pick(link, nowMs);
      if (fetch === undefined) {
        without++;
        continue;
      }
      without = 0;
      for (const limit of limits) limit.take(fetch.bytes, nowMs);
      this.#with.counters.add('requests', 1);
      link.intake.expect(fetch);
      link.outbox.send({ type: 'request', channel: fetch.channel, index: fetch.index });
    }
  }

  /** Requests that this peer should have at a time. */
  #atOnce(link: BlobLink, blob: BlobSwarm): number {
    if (blob.sourceCount < FEW_SOURCES) return 2;
    const { latencyMs } = link.account;
    const roundTripMs = link.roundTripMs;
    if (latencyMs === undefined || roundTripMs === undefined) return 1;
    // rate x round trip > chunk, with rate = chunk / (latency - round trip)
    return roundTripMs > latencyMs - roundTripMs ? 2 : 1;
  }

  #waitForLimit(limits: readonly TokenBucket[], bytes: number, nowMs: number): boolean {
    const waitMs = Math.max(...limits.map((limit) => limit.waitMs(bytes, nowMs)));
    if (waitMs === 0) return false;
    this.#wakeAllAt(nowMs + waitMs, waitMs);
    return true;
  }

  /** Links have limits of their own: whose ends first must not wait for the others'. */
  #wakeAllAt(untilMs: number, waitMs: number): void {
    if (this.#limited !== undefined && this.#limited.untilMs <= untilMs) return;
    this.#limited?.cancel();
    const cancel = this.#with.timers.after(waitMs, () => {
      this.#limited = undefined;
      this.wakeAll();
    });
    this.#limited = { untilMs, cancel };
  }
}
