// One blob on its way to a simulated host: a model of content/, without bytes, disk and readers that go away.
//
// It holds leases as held-leases.ts does: one run being read, and a spare that starts when the last chunk of the run before is
// coming in. When to ask for a hedge is the agent's own Patience. Everything else is the swarm's and the tracker's business.
// Non-goals: verification of the whole, rooms on disk, ranges, vouching.

import { Patience } from '@flotilla/agent/content/patience';
import type { ChunkVerdict, SwarmHandle, SwarmMember } from '@flotilla/agent/content/ports';
import { Bitfield, toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { CHUNK_DIGEST_BYTES, chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { packDigests, type AgentMessage, type Grant, type TrackerEvent } from '@flotilla/shared/tracker-api';
import type { Clock } from './clock.ts';
import type { Flow, Links, Pipe } from './links.ts';

/** As in held-leases.ts. */
const WANTED_RUNS = 2;
const ALIVE_INTERVAL_MS = 1_000;
/** As in watch.ts. */
const LOOK_MS = 500;
/** As in download.ts and its settings. */
const URGENT_MS = 1_000;
const PATIENCE = { lingerMs: 5_000, hedgeMs: 5_000, stallMs: 60_000, auditMs: 15_000, settleMs: 2_000 };
/** A chunk is hashed and written. */
const CHECK_MS = 2;

const DIGEST = new Uint8Array(CHUNK_DIGEST_BYTES);
const PACKED_DIGEST = packDigests([DIGEST]);
const ZEROS = new Uint8Array(4 * 1024 * 1024);

interface HeldLease {
  readonly id: string;
  readonly mode: Grant['mode'];
  readonly first: number;
  count: number;
  /** The chunk that is read next. */
  next: number;
  reading: boolean;
  flow: Flow | undefined;
  bytes: number;
  toldAtMs: number;
}

export interface DownloadWorld {
  readonly clock: Clock;
  readonly links: Links;
  readonly latencyMs: number;
  readonly originUp: Pipe;
  /** What a connection to the origin takes of a full link, beside one between hosts. */
  readonly originShare: number;
  readonly down: Pipe;
  readonly peerId: string;
  send(message: AgentMessage): void;
  /** Whether what this peer sends is wrong. */
  lies(peerId: string): boolean;
  /** Peers that trade the blob now. */
  join(member: SwarmMember): SwarmHandle;
  /** A request to the origin, and bytes that came from it. */
  asked(): void;
  read(bytes: number): void;
  hedged(): void;
  finished(): void;
}

export class SimDownload implements SwarmMember {
  readonly key: BlobKey;
  readonly have: Bitfield;
  readonly #world: DownloadWorld;
  readonly #swarm: SwarmHandle;
  readonly #patience: Patience;
  readonly #held = new Map<string, HeldLease>();
  /** Chunks that came and are being checked. */
  readonly #checked = new Set<number>();
  readonly #stopLooking: () => void;
  #asked = 0;
  #cursor = 0;
  #starvingSinceMs: number;
  #originRate = 0;
  #open = true;
  /** Out of the fleet, it reads at the origin by itself. */
  #alone = false;

  constructor(key: BlobKey, world: DownloadWorld) {
    this.key = key;
    this.have = new Bitfield(chunkCount(key.size));
    this.#world = world;
    this.#starvingSinceMs = world.clock.nowMs;
    this.#patience = new Patience(PATIENCE, world.clock.nowMs);
    this.#patience.readersChanged(1, world.clock.nowMs);
    this.#swarm = world.join(this);
    this.#send({ type: 'want', blob: this.#blob, canRead: true, have: [], reading: [] });
    this.#ask();
    this.#stopLooking = world.clock.every(LOOK_MS, () => this.#look());
  }

  // ---- what the swarm asks

  digestOf(): Uint8Array {
    return DIGEST;
  }

  readChunk(index: number): Promise<Uint8Array> {
    this.#world.clock.promised();
    return Promise.resolve(ZEROS.subarray(0, this.#bytes(index)));
  }

  wants(index: number): boolean {
    if (!this.#open || this.have.has(index) || this.#checked.has(index)) return false;
    for (const { first, count, next } of this.#held.values()) if (index >= next && index < first + count) return false;
    return true;
  }

  urgent(): number | undefined {
    return this.#world.clock.nowMs - this.#starvingSinceMs >= URGENT_MS && !this.have.full ? this.#cursor : undefined;
  }

  accept(index: number, _digest: Uint8Array, _bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    const { promise, resolve } = Promise.withResolvers<ChunkVerdict>();
    const { clock } = this.#world;
    clock.after(CHECK_MS, () => {
      clock.promised();
      if (this.#world.lies(peerId)) resolve('forged');
      else resolve(this.#keep(index) ? 'kept' : 'duplicate');
    });
    return promise;
  }

  sourcesChanged(): void {}

  // ---- what the tracker says

  event(event: TrackerEvent): void {
    if (event.type === 'grant') this.#granted(event);
    else if (event.type === 'revoke') this.#revoked(event);
    else if (event.type === 'peers') this.#swarm.connect(event.peers);
  }

  /** The fleet has put this host out: it reads what it lacks by itself. */
  leaveFleet(): void {
    this.#alone = true;
    for (const lease of this.#held.values()) if (!lease.reading) this.#held.delete(lease.id);
    this.#readAlone();
  }

  /** The host is gone. */
  stop(): void {
    this.#open = false;
    this.#stopLooking();
    for (const { flow } of this.#held.values()) flow?.stop();
    this.#held.clear();
  }

  // ---- chunks come

  #keep(index: number): boolean {
    this.#checked.delete(index);
    if (!this.#open || !this.have.set(index)) return false;
    const { nowMs } = this.#world.clock;
    this.#patience.progressed(nowMs);
    if (index === this.#cursor) {
      while (this.have.has(this.#cursor)) this.#cursor++;
      this.#starvingSinceMs = nowMs;
    }
    this.#swarm.announce([index]);
    this.#send({ type: 'have', blob: this.#blob, ranges: [[index, 1]] });
    if (this.have.full) this.#finish();
    return true;
  }

  #finish(): void {
    this.#stopLooking();
    for (const lease of this.#held.values()) if (!lease.reading) this.#end(lease);
    this.#send({ type: 'seed', blob: this.#blob, signature: '' });
    this.#world.finished();
    this.#open = false;
    this.#send({ type: 'leave', blob: this.#blob, kept: true });
    this.#swarm.leave();
  }

  // ---- leases

  #ask(): void {
    if (!this.#open || this.#alone) return;
    let runs = WANTED_RUNS;
    for (const { mode } of this.#held.values()) if (mode === 'run') runs--;
    runs = Math.max(0, runs);
    if (this.have.full) runs = 0;
    if (runs === this.#asked) return;
    this.#asked = runs;
    this.#send({ type: 'need', blob: this.#blob, runs, originRate: this.#originRate });
  }

  #granted({ leaseId, mode, first, count }: Grant): void {
    if (mode === 'run') this.#asked = Math.max(0, this.#asked - 1);
    if (!this.#open || this.have.full) {
      this.#send({ type: 'release', leaseId, reason: 'unneeded' });
      return;
    }
    this.#held.set(leaseId, { id: leaseId, mode, first, count, next: first, reading: false, flow: undefined, bytes: 0, toldAtMs: this.#world.clock.nowMs });
    this.#startNext();
    this.#leasesChanged();
  }

  #revoked({ leaseId, keep, spare = false }: Extract<TrackerEvent, { type: 'revoke' }>): void {
    const lease = this.#held.get(leaseId);
    if (lease === undefined || (spare && lease.reading)) return;
    lease.count = Math.min(lease.count, Math.max(keep, lease.next - lease.first));
    if (lease.next >= lease.first + lease.count) {
      lease.flow?.stop();
      this.#end(lease);
    }
  }

  #startNext(): void {
    for (const lease of this.#held.values()) {
      if (lease.reading || (lease.mode === 'run' && this.#busy())) continue;
      lease.reading = true;
      this.#read(lease);
    }
  }

  /** A run with more than its last chunk to come keeps the spare waiting. */
  #busy(): boolean {
    for (const { reading, mode, first, count, next } of this.#held.values()) if (reading && mode === 'run' && first + count - next > 1) return true;
    return false;
  }

  #read(lease: HeldLease): void {
    const { clock, links, latencyMs, originUp, originShare, down } = this.#world;
    while (this.#unread(lease) > 0 && this.have.has(lease.next)) lease.next++;
    if (this.#unread(lease) === 0) {
      this.#end(lease);
      return;
    }
    const startedMs = clock.nowMs;
    this.#world.asked();
    lease.flow = links.flow(originUp, down, () => this.#chunkRead(lease, startedMs), originShare);
    clock.after(2 * latencyMs, () => {
      if (this.#held.has(lease.id)) lease.flow!.start(this.#bytes(lease.next));
    });
  }

  /** @returns bytes of the next chunk of the run */
  #chunkRead(lease: HeldLease, startedMs: number): number {
    const index = lease.next++;
    const bytes = this.#bytes(index);
    const { clock } = this.#world;
    lease.bytes += bytes;
    this.#world.read(bytes);
    this.#checked.add(index);
    clock.after(CHECK_MS, () => {
      if (!this.#open && !this.have.full) return;
      this.#keep(index);
      this.#send({ type: 'done', leaseId: lease.id, blob: this.#blob, first: index, digests: PACKED_DIGEST });
    });
    this.#startNext();
    if (this.#unread(lease) > 0) return this.#bytes(lease.next);
    const rate = (lease.bytes * 1000) / Math.max(1, clock.nowMs - startedMs);
    this.#originRate = this.#originRate === 0 ? rate : this.#originRate * 0.7 + rate * 0.3;
    clock.after(CHECK_MS, () => this.#end(lease));
    return 0;
  }

  #end(lease: HeldLease): void {
    if (!this.#held.delete(lease.id)) return;
    if (this.#alone) {
      this.#readAlone();
      return;
    }
    this.#send({ type: 'release', leaseId: lease.id, reason: 'unneeded' });
    if (!this.#open) return;
    this.#startNext();
    this.#leasesChanged();
  }

  #leasesChanged(): void {
    this.#swarm.reading([...this.#held.values()].map(({ first, count, next }): IndexRange => [next, first + count - next]).filter(([, count]) => count > 0));
    this.#ask();
    this.#swarm.poke();
  }

  #readAlone(): void {
    if (!this.#open || this.#held.size > 0) return;
    const [missing] = toRanges(Array.from({ length: this.have.length }, (_, index) => index).filter((index) => !this.have.has(index) && !this.#checked.has(index)));
    if (missing === undefined) return;
    const id = `alone ${missing[0]}`;
    this.#held.set(id, { id, mode: 'run', first: missing[0], count: missing[1], next: missing[0], reading: false, flow: undefined, bytes: 0, toldAtMs: 0 });
    this.#startNext();
  }

  // ---- time

  #look(): void {
    const { clock, down } = this.#world;
    const { nowMs } = clock;
    for (const lease of this.#held.values()) {
      if (!lease.reading || nowMs - lease.toldAtMs < ALIVE_INTERVAL_MS) continue;
      lease.toldAtMs = nowMs;
      this.#send({ type: 'progress', leaseId: lease.id, bytes: Math.round(lease.bytes + (lease.flow?.active === true ? this.#bytes(lease.next) - lease.flow.left : 0)) });
    }
    if (down.busy) this.#patience.progressed(nowMs);
    const index = this.#cursor;
    const verdict = this.#patience.decide(
      {
        repairing: false,
        followed: false,
        starving: { index, sinceMs: this.#starvingSinceMs },
        expected: this.#swarm.heldByPeer(index) || this.#swarm.readByPeer(index),
        covered: [...this.#held.values()].some(({ first, count, next }) => index >= next && index < first + count),
        alone: this.#swarm.peers().length === 0,
      },
      nowMs,
    );
    if (verdict.kind === 'hedge') {
      this.#world.hedged();
      this.#send({ type: 'hedge', blob: this.#blob, index });
    }
    this.#swarm.poke();
  }

  #unread({ first, count, next }: HeldLease): number {
    return Math.max(0, first + count - next);
  }

  #bytes(index: number): number {
    const { start, end } = chunkBounds(this.key.size, index);
    return end - start;
  }

  /** As it goes on the wire. */
  get #blob(): { digest: string; size: number } {
    return { digest: this.key.digest, size: this.key.size };
  }

  #send(message: AgentMessage): void {
    if (!this.#alone) this.#world.send(message);
  }
}
