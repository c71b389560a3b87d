// What this agent knows of its fleet, with or without a tracker: peers, who holds what of blobs under way, and what the tracker said last.

import type { FleetWord } from '@flotilla/shared/agent-report';
import type { DownloadStatus } from './content/download-contract.ts';
import type { TrackerStatus } from './control.ts';
import type { SwarmStatus } from './swarm/swarm.ts';

/** The answer to GET /fleet. Peers know no names: only the tracker does. */
export interface FleetKnowledge {
  readonly name: string;
  readonly peerId: string;
  readonly tracker: TrackerStatus & {
    /** Unix ms since when it is in this state. */
    readonly sinceMs: number;
    /** What it said last, and when. */
    readonly word?: FleetWord & { readonly atMs: number };
  };
  readonly peers: SwarmStatus['peers'];
  readonly bans: SwarmStatus['bans'];
  readonly banned: readonly string[];
  readonly blobs: readonly { readonly digest: string; readonly size: number; readonly chunks: number; readonly held: number; readonly sources: readonly { readonly peerId: string; readonly held: number; readonly downRate: number; readonly upRate: number }[] }[];
}

export interface KnowledgeSources {
  readonly name: string;
  readonly peerId: string;
  readonly tracker: () => TrackerStatus & { readonly sinceMs: number };
  readonly swarm: () => Pick<SwarmStatus, 'peers' | 'bans'>;
  /** Expelled or in quarantine, as the tracker said. */
  readonly banned: () => Iterable<string>;
  readonly downloads: () => readonly DownloadStatus[];
}

export class FleetMemory {
  readonly #now: () => number;
  #word: (FleetWord & { readonly atMs: number }) | undefined;

  /** @param now Unix ms */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** The tracker said how the fleet is. */
  heard(word: FleetWord): void {
    this.#word = { ...word, atMs: this.#now() };
  }

  tell({ name, peerId, tracker, swarm, banned, downloads }: KnowledgeSources): FleetKnowledge {
    const { peers, bans } = swarm();
    return {
      name,
      peerId,
      tracker: { ...tracker(), ...(this.#word !== undefined && { word: this.#word }) },
      peers,
      bans,
      banned: [...banned()],
      blobs: downloads().map(({ digest, size, chunks, held, sources }) => ({ digest, size, chunks, held, sources: sources.map(({ peerId: source, held: has, downRate, upRate }) => ({ peerId: source, held: has, downRate, upRate })) })),
    };
  }
}
