// Looks twice a second at whether a download moves, and does what Patience decides: a hedge, an end, an error for who starves.

import type { AgentError } from '../errors.ts';
import type { Chunks } from './chunks.ts';
import type { HeldLeases } from './held-leases.ts';
import type { Patience } from './patience.ts';
import type { LeaseRoster, SwarmHandle } from './ports.ts';
import type { Readers } from './readers.ts';

const LOOK_MS = 500;

export interface WatchComponents {
  readonly chunks: Chunks;
  readonly readers: Readers;
  readonly leases: HeldLeases;
  readonly swarm: SwarmHandle;
  readonly now: () => number;
  /** @default a timer that keeps no process alive */
  readonly every?: (intervalMs: number, look: () => void) => () => void;
}

/** What only the download can do. */
export interface WatchOwner {
  roster(): LeaseRoster;
  /** It stands back now for others: that nothing comes means nothing. */
  givesWay(): boolean;
  hedge(index: number): void;
  /** Readers have starved for too long. */
  stalled(stuckMs: number): void;
  /** Nobody needs it any more. */
  over(): void;
  /** Nothing more can come of it. */
  hopeless(error: AgentError): void;
}

export class Watch {
  readonly #patience: Patience;
  readonly #with: WatchComponents;
  readonly #owner: WatchOwner;
  readonly #stopLooking: () => void;

  constructor(patience: Patience, components: WatchComponents, owner: WatchOwner) {
    this.#patience = patience;
    this.#with = components;
    this.#owner = owner;
    this.#stopLooking = (components.every ?? everyUnref)(LOOK_MS, () => this.look());
  }

  /** Looks now. */
  look(): void {
    const { chunks, readers, leases, swarm } = this.#with;
    if (chunks.stored !== undefined) return;
    leases.tellAlive();
    readers.wake();
    const now = this.#with.now();
    this.#patience.received(swarm.sources().reduce((sum, source) => sum + source.bytesDown, 0), now);
    const givesWay = this.#owner.givesWay();
    if (givesWay) this.#patience.progressed(now);
    const starving = givesWay ? undefined : readers.starving();
    const roster = this.#owner.roster();
    const verdict = this.#patience.decide(
      {
        repairing: chunks.repairing,
        // A stream of the whole blob is read on for the peers that follow it.
        followed: leases.streaming && roster.peers.length > 0,
        starving,
        expected: starving !== undefined && (roster.heldByPeer(starving.index) || roster.readByPeer(starving.index)),
        covered: starving !== undefined && leases.covers(starving.index),
        alone: roster.peers.length === 0,
      },
      now,
    );
    switch (verdict.kind) {
      case 'close':
        this.#owner.over();
        return;
      case 'unrepaired':
        this.#owner.hopeless(chunks.mismatch('nobody could say which part is not of'));
        return;
      case 'give-up':
        if (verdict.error.code === 'DIGEST_MISMATCH') this.#owner.hopeless(verdict.error);
        else readers.failStarving(verdict.error);
        return;
      case 'stalled':
        this.#owner.stalled(this.#patience.stuckMs(starving!.sinceMs, now));
        return;
      case 'hedge':
        this.#owner.hedge(starving!.index);
        break;
      case 'wait':
    }
    if (starving !== undefined) swarm.poke([[starving.index, 1]]);
  }

  stop(): void {
    this.#stopLooking();
  }
}

function everyUnref(intervalMs: number, look: () => void): () => void {
  const timer = setInterval(look, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}
