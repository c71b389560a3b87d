// For tests: swarms on a clock of the test's own, and agents that remember what they were told.

import { createHash } from 'node:crypto';
import type { IndexRange } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import { packDigests, type AgentMessage, type Grant, type TrackerEvent } from '@flotilla/shared/tracker-api';
import type { BlameRecord } from './blame.ts';
import { RestartWindow } from './restart-window.ts';
import type { RunSizes } from './lease.ts';
import { Swarms, type SwarmsInit } from './swarms.ts';

/** Runs of four chunks of a small blob, to its end: so that tests of other things can say who reads what. */
const PLAIN_RUNS: RunSizes = { minBytes: 256 * 1024, firstBytes: 256 * 1024, ms: 100, maxChunks: 16 };

const KIB = 1024;

/** A blob of so many chunks of 64 KiB. */
export function blobOf(chunks: number, name = 'layer'): BlobKey {
  return { digest: `sha256:${createHash('sha256').update(name).digest('hex')}` as Digest, size: chunks * 64 * KIB };
}

/** What chunk `index` really hashes to, in these tests. */
export function trueDigest(index: number): Uint8Array {
  return createHash('sha256').update(`chunk ${index}`).digest();
}

export function falseDigest(index: number, liar: string): Uint8Array {
  return createHash('sha256').update(`${liar} lies about ${index}`).digest();
}

/** Numbers in [0, 1) that are the same in every run. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class TestFleet {
  readonly swarms: Swarms;
  readonly events = new Map<string, TrackerEvent[]>();
  /** Everything, in order. */
  readonly log: { peer: string; event: TrackerEvent }[] = [];
  readonly blamed: BlameRecord[] = [];
  readonly quarantined: { peer: string; reason: string }[] = [];
  readonly badBlobs: BlobKey[] = [];
  readonly signatures = new Set<string>();
  /** Where agents stand that join from now on. */
  readonly zones = new Map<string, string>();
  nowMs = 1_000_000;

  constructor({ seed = 1, known = [], epoch = 3, limitsOf, runSizes = PLAIN_RUNS }: { seed?: number; known?: string[]; epoch?: number; limitsOf?: SwarmsInit['limitsOf']; runSizes?: RunSizes } = {}) {
    this.swarms = new Swarms(
      { epoch, random: seededRandom(seed), runSizes, window: new RestartWindow(known, this.nowMs), ...(limitsOf && { limitsOf }) },
      {
        send: (peer, event) => {
          this.log.push({ peer, event });
          this.of(peer).push(event);
        },
        blameChanged: (record) => this.blamed.push(record),
        quarantine: (peer, reason) => this.quarantined.push({ peer, reason }),
        originBlamed: (blob) => this.badBlobs.push(blob),
        signedBy: (peer, _bytes, signature) => this.signatures.has(`${peer} ${Buffer.from(signature).toString()}`),
      },
    );
  }

  of(peer: string): TrackerEvent[] {
    let events = this.events.get(peer);
    if (events === undefined) this.events.set(peer, (events = []));
    return events;
  }

  /** Events of one type that `peer` got, oldest first. */
  told<T extends TrackerEvent['type']>(peer: string, type: T): Extract<TrackerEvent, { type: T }>[] {
    return this.of(peer).filter((event): event is Extract<TrackerEvent, { type: T }> => event.type === type);
  }

  forget(): void {
    this.events.clear();
  }

  join(...peers: string[]): void {
    for (const peer of peers) this.swarms.join({ peerId: peer, addresses: [`/ip4/10.0.0.1/tcp/${5000 + this.swarms.agents}`] }, this.zones.get(peer));
  }

  /** One batch. */
  say(peer: string, ...messages: AgentMessage[]): boolean {
    const taken = messages.map((message) => this.swarms.apply(peer, message, this.nowMs));
    this.swarms.settle(this.nowMs);
    return taken.every(Boolean);
  }

  pass(ms: number, stepMs = 50): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs = Math.min(end, this.nowMs + stepMs);
      this.swarms.tick(this.nowMs);
    }
  }

  /** Joins the fleet and the swarm, able to read, and asks for two runs. */
  reader(peer: string, blob: BlobKey, init: { have?: IndexRange[]; reading?: IndexRange[]; canRead?: boolean; origin?: string; runs?: number; rate?: number } = {}): void {
    this.join(peer);
    this.say(peer, want(blob, init), need(blob, init.runs ?? 2, init.rate ?? 0));
  }

  grants(peer: string, mode: Grant['mode'] = 'run'): Grant[] {
    return this.told(peer, 'grant').filter((grant) => grant.mode === mode);
  }

  /** Reads chunks of a grant and reports them. */
  done(peer: string, grant: Pick<Grant, 'leaseId' | 'blob' | 'first' | 'count'>, digest: (index: number) => Uint8Array = trueDigest): void {
    const digests = Array.from({ length: grant.count }, (_, offset) => digest(grant.first + offset));
    this.say(peer, { type: 'done', leaseId: grant.leaseId, blob: grant.blob, first: grant.first, digests: packDigests(digests) });
  }
}

export function want(blob: BlobKey, { have = [], reading = [], canRead = true, origin }: { have?: IndexRange[]; reading?: IndexRange[]; canRead?: boolean; origin?: string } = {}): AgentMessage {
  return {
    type: 'want',
    blob,
    canRead,
    have: have.map(([first, count]) => [first, count]),
    reading: reading.map(([first, count]) => [first, count]),
    ...(origin !== undefined && { source: { origin, repository: 'library/nginx', kind: 'blob' } }),
  };
}

export function need(blob: BlobKey, runs: number, originRate = 0, within?: [number, number]): AgentMessage {
  return { type: 'need', blob, runs, originRate, ...(within !== undefined && { within }) };
}

/** The chunks of some grants, ascending. */
export function chunksOf(grants: readonly Pick<Grant, 'first' | 'count'>[]): number[] {
  return grants.flatMap(({ first, count }) => Array.from({ length: count }, (_, offset) => first + offset)).sort((a, b) => a - b);
}

export function chunks(blob: BlobKey): number {
  return chunkCount(blob.size);
}
