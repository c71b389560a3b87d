// Notices peers that are gone without a word (power, cable): TCP alone would go on retransmitting for a quarter of an hour.
//
// Every look pings each peer, which also measures the round trip. A late answer is no reason to give up a connection that is
// busy: a peer is dead when its ping failed and nothing at all was heard from it for `silenceMs`.

import type { BlobSwarm } from './blob-swarm.ts';
import type { Link } from './link.ts';
import { PeerFault } from './peer-fault.ts';
import type { PeerSession } from './session.ts';

/** To a peer over a connection. */
export type PeerLink = Link<BlobSwarm, PeerSession>;

export interface LivenessComponents {
  /** Round trip in ms; rejects where no answer comes before the signal. */
  readonly ping: (peerId: string, signal: AbortSignal) => Promise<number>;
  readonly nowMs: () => number;
  readonly silenceMs: number;
}

export class Liveness {
  readonly #with: LivenessComponents;
  readonly #asking = new Set<PeerLink>();

  constructor(components: LivenessComponents) {
    this.#with = components;
  }

  look(links: Iterable<PeerLink>): void {
    for (const link of links) if (!this.#asking.has(link)) void this.#ask(link);
  }

  async #ask(link: PeerLink): Promise<void> {
    const { ping, nowMs, silenceMs } = this.#with;
    this.#asking.add(link);
    try {
      link.measured(await ping(link.peerId, AbortSignal.timeout(silenceMs)));
    } catch (error) {
      const silentMs = nowMs() - link.session.heardAtMs;
      if (silentMs >= silenceMs) link.session.close(new PeerFault('PEER_TIMEOUT', `nothing heard for ${silentMs} ms`, { cause: error }));
    } finally {
      this.#asking.delete(link);
    }
  }
}
