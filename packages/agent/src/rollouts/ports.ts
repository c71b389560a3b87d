// What rollouts/ needs of the rest of the agent: images as the agent itself fetches them, and a way to tell the tracker.
// agent.ts hands in the implementations (content/own-images.ts, the coordinator).

import type { Digest } from '@flotilla/shared/digest';
import type { AgentMessage } from '@flotilla/shared/tracker-api';
import type { Descriptor, Repository } from '../content/ports.ts';

export type { Descriptor, Repository };

export type RolloutProgress = Extract<AgentMessage, { type: 'rollout-progress' }>;
export type RolloutResult = Extract<AgentMessage, { type: 'rollout-result' }>;

/** Where the bytes of a blob came from that was fetched. */
export interface FetchedBytes {
  readonly peer: number;
  readonly origin: number;
}

/** Images fetched for nobody in particular, with the agent's own rights. Every method throws AgentError. */
export interface OwnImages {
  /** The tag, as the origin says now. Never an older answer. */
  resolve(repository: Repository, tag: string, signal: AbortSignal): Promise<Descriptor>;
  /** A manifest that the origin lets this agent read, fetched where it is not here; verified. */
  manifest(repository: Repository, digest: Digest, signal: AbortSignal): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }>;
  /** Has the whole blob here, after whatever local clients are waiting for. */
  fetch(repository: Repository, blob: Descriptor, signal: AbortSignal): Promise<FetchedBytes>;
  /** Bytes of the blob that are here: of the finished one, or of the one on its way. */
  held(blob: Pick<Descriptor, 'digest' | 'size'>): Promise<number>;
  /** Where the bytes of a blob on its way have come from up to now; undefined: it is not on its way. */
  underWay(blob: Pick<Descriptor, 'digest' | 'size'>): FetchedBytes | undefined;
  /** Keeps these from eviction until the returned function is called. */
  keep(digests: readonly Digest[]): () => void;
  /** The bytes of a finished blob, each chunk compared with its digest; undefined: it is not here. @throws STORE_CORRUPT */
  readStored(digest: Digest, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** What this tag answers while its origin is unreachable. */
  pin(repository: Repository, tag: string, descriptor: Descriptor): Promise<void>;
}
