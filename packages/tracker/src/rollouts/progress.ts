// How far the hosts of one rollout are, as they tell: soft, for people to look at, and never what a decision is made by.
//
// Bound: one entry per host of the rollout, MAX_MANIFESTS lists of blobs. Pure: time is handed in.

import type { AgentMessage } from '@flotilla/shared/tracker-api';
import { MAX_ROLLOUT_LAYERS } from '@flotilla/shared/tracker-api';

/** Platforms of one image in one fleet. */
const MAX_MANIFESTS = 16;
/** How fast a rate follows what is measured. */
const RATE_MS = 3_000;
/** A first rate counts in full when it was measured for so long. */
const FULL_MS = 1_000;
/** A rate that nothing was added to for so long is none. */
const STALE_MS = 15_000;

export type RolloutProgress = Extract<AgentMessage, { type: 'rollout-progress' }>;

/** A blob of a manifest. */
export type Layer = readonly [digest: string, size: number];

interface Moved {
  readonly peer: number;
  readonly origin: number;
}

const NOTHING: Moved = { peer: 0, origin: 0 };

export interface HostProgress {
  phase: string;
  manifest: string | undefined;
  /** Bytes here of each layer of `manifest`. */
  held: readonly number[];
  heldBytes: number;
  /** Where bytes came from: those of this attempt, and of earlier ones that this tracker has heard of. */
  fetched: Moved;
  earlier: Moved;
  /** Bytes per second; see `rateOf`. */
  rate: number;
  atMs: number;
}

export class Progress {
  /** Blobs by manifest. */
  readonly manifests: Map<string, readonly Layer[]>;
  readonly #hosts = new Map<string, HostProgress>();

  constructor(manifests: Readonly<Record<string, readonly Layer[]>>) {
    this.manifests = new Map(Object.entries(manifests));
  }

  of(peerId: string): HostProgress | undefined {
    return this.#hosts.get(peerId);
  }

  /** @returns whether blobs were told that were not known */
  take(peerId: string, { phase, manifest, layers, held, fetched: told }: RolloutProgress, nowMs: number): boolean {
    const last = this.#hosts.get(peerId);
    const fresh = manifest !== undefined && layers !== undefined && this.#learn(manifest, layers);
    const known = manifest ?? last?.manifest;
    const bytes = held ?? (manifest === last?.manifest ? (last?.held ?? []) : []);
    const heldBytes = bytes.reduce((sum, each) => sum + each, 0);
    const before = last?.fetched ?? NOTHING;
    const fetched = told ?? before;
    // Less than before: something was begun anew, and what had come did come.
    const sum = last?.earlier ?? NOTHING;
    const earlier = { peer: sum.peer + Math.max(0, before.peer - fetched.peer), origin: sum.origin + Math.max(0, before.origin - fetched.origin) };
    this.#hosts.set(peerId, { phase, manifest: known, held: bytes, heldBytes, fetched, earlier, rate: rateAfter(last, heldBytes, phase, nowMs), atMs: nowMs });
    return fresh;
  }

  /** Bytes per second that reach the host now. */
  rateOf(peerId: string, nowMs: number): number {
    const host = this.#hosts.get(peerId);
    return host === undefined || nowMs - host.atMs > STALE_MS ? 0 : host.rate;
  }

  /** Bytes of the image for a manifest; undefined: not known yet. */
  sizeOf(manifest: string | undefined): number | undefined {
    return this.manifests.get(manifest ?? '')?.reduce((sum, [, size]) => sum + size, 0);
  }

  #learn(manifest: string, layers: readonly { digest: string; size: number }[]): boolean {
    if (this.manifests.has(manifest) || this.manifests.size >= MAX_MANIFESTS) return false;
    this.manifests.set(
      manifest,
      layers.slice(0, MAX_ROLLOUT_LAYERS).map(({ digest, size }): Layer => [digest, size]),
    );
    return true;
  }
}

/** A mean that forgets, by how long the host was silent; what was there at the first word counts for nothing. */
function rateAfter(last: HostProgress | undefined, heldBytes: number, phase: string, nowMs: number): number {
  if (last === undefined || last.held.length === 0 || phase !== 'pulling') return 0;
  const elapsedMs = Math.max(1, nowMs - last.atMs);
  const now = Math.max(0, ((heldBytes - last.heldBytes) * 1000) / elapsedMs);
  // Two words close together say little of a second.
  const weight = last.rate === 0 ? Math.min(1, elapsedMs / FULL_MS) : 1 - Math.exp(-elapsedMs / RATE_MS);
  return last.rate + (now - last.rate) * weight;
}
