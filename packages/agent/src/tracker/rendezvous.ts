// Which runs of a blob this agent may read at the origin where no tracker says so. Pure: time and what peers show come in.
//
// Every agent ranks itself and its live peers for each run by a hash of (blob, run, agent). Rank 0 reads at once, rank r once
// the run has lain open for 2r seconds; nobody reads what is here, or what a live peer holds or reads. So agents that see the
// same peers do not take one run twice within 2 s of its being open, and a run whose first readers are gone comes to the next. News may be
// later than that: what is taken twice and not begun is given back (docs/decisions/0018).
// Runs are cut alike by all agents: runChunks() belongs to the exchange protocol. An agent without peers takes long runs at once.
// Non-goals: agents that do not see one another may read the same; only a tracker prevents that.

import { hash } from 'node:crypto';
import { Bitfield, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkCount, chunkSize, type BlobKey } from '@flotilla/shared/chunk-map';
import type { LeaseRoster } from '../content/ports.ts';

/** How much longer each rank waits than the one before it. */
export const RANK_WAIT_MS = 2_000;
const RUN_CHUNKS = 16;
const MAX_RUN_BYTES = 16 * 1024 * 1024;
const LONG_RUN_CHUNKS = 64;
/** A chunk that stalled is granted again as a hedge after this time at the earliest. */
const HEDGE_AGAIN_MS = 10_000;
/** Chunks with a hedge on record; the oldest are forgotten, which at worst reads one twice. */
const MAX_HEDGES = 1_024;

/** Chunks per run of a blob of `size` bytes: 16, and at most 16 MiB. */
export function runChunks(size: number): number {
  return Math.min(RUN_CHUNKS, Math.max(1, Math.floor(MAX_RUN_BYTES / chunkSize(size))));
}

/** What the agent sees at one moment. */
export interface RendezvousView {
  readonly nowMs: number;
  readonly have: ReadonlyBitfield;
  /** What it reads itself, or has been granted and not read yet. */
  readonly reading: readonly IndexRange[];
  readonly roster: LeaseRoster;
  /** Only chunks in here are of use. */
  readonly within: readonly IndexRange[] | undefined;
}

export interface RunGrant {
  readonly first: number;
  readonly count: number;
  readonly mode: 'run' | 'stream' | 'hedge';
}

export class Rendezvous {
  readonly #key: BlobKey;
  readonly #self: string;
  readonly #chunks: number;
  readonly #runChunks: number;
  readonly #runs: number;
  /** Since when a run has had a chunk that nobody holds or reads; NaN: it has none. */
  readonly #openSinceMs: Float64Array;
  /** Hash of (blob, run, agent), for the agents of the last roster. */
  readonly #scores = new Map<string, Float64Array>();
  readonly #hedges = new Map<number, { askedMs: number; grantedMs: number }>();
  #streams = false;

  constructor(key: BlobKey, self: string) {
    this.#key = key;
    this.#self = self;
    this.#chunks = chunkCount(key.size);
    this.#runChunks = runChunks(key.size);
    this.#runs = Math.ceil(this.#chunks / this.#runChunks);
    this.#openSinceMs = new Float64Array(this.#runs).fill(Number.NaN);
  }

  /** The origin has no Range: from now on one agent streams the whole blob. */
  stream(): void {
    this.#streams = true;
  }

  /** Asks for a chunk that peers hold or read but that does not come. */
  hedge(index: number, nowMs: number): void {
    const old = this.#hedges.get(index);
    if (old !== undefined && nowMs - old.grantedMs < HEDGE_AGAIN_MS) return;
    if (old !== undefined && Number.isNaN(old.grantedMs)) return;
    this.#hedges.delete(index);
    this.#hedges.set(index, { askedMs: nowMs, grantedMs: Number.NaN });
    const oldest = this.#hedges.keys().next();
    if (this.#hedges.size > MAX_HEDGES && oldest.value !== undefined) this.#hedges.delete(oldest.value);
  }

  /**
   * What to read now: at most `runs` runs, and the hedges whose time has come. Call it again about twice a second, also with
   * 0 runs: how long a run has lain open is counted from when it was first seen open.
   */
  decide(view: RendezvousView, runs: number): RunGrant[] {
    const taken = this.#taken(view);
    this.#forgetScores(view.roster.peers);
    const hedges = this.#dueHedges(view, taken);
    if (this.#streams) return [...hedges, ...this.#decideStream(view, taken, runs)];
    if (view.roster.peers.length === 0) {
      this.#openSinceMs.fill(Number.NaN);
      return [...hedges, ...this.#longRuns(view, taken, runs)];
    }
    return [...hedges, ...this.#ownRuns(view, taken, runs)];
  }

  /** This agent's place among the roster for the run of chunk `index`; 0 reads first. */
  rank(index: number, peers: readonly string[]): number {
    const run = Math.floor(index / this.#runChunks);
    const own = this.#score(this.#self, run);
    let rank = 0;
    for (const peer of peers) {
      const score = this.#score(peer, run);
      if (peer !== this.#self && (score > own || (score === own && peer > this.#self))) rank++;
    }
    return rank;
  }

  #ownRuns(view: RendezvousView, taken: Bitfield, runs: number): RunGrant[] {
    const grants: RunGrant[] = [];
    for (let run = 0; run < this.#runs; run++) {
      const start = run * this.#runChunks;
      const free = this.#free(view, taken, start, Math.min(this.#chunks, start + this.#runChunks), this.#runChunks);
      if (free === undefined) {
        this.#openSinceMs[run] = Number.NaN;
        continue;
      }
      if (Number.isNaN(this.#openSinceMs[run]!)) this.#openSinceMs[run] = view.nowMs;
      if (grants.length >= runs) continue;
      const openMs = view.nowMs - this.#openSinceMs[run]!;
      if (openMs >= this.rank(start, view.roster.peers) * RANK_WAIT_MS) grants.push({ first: free[0], count: free[1], mode: 'run' });
    }
    return grants;
  }

  #longRuns(view: RendezvousView, taken: Bitfield, runs: number): RunGrant[] {
    const longest = Math.min(LONG_RUN_CHUNKS, Math.max(1, Math.floor(MAX_RUN_BYTES / chunkSize(this.#key.size))));
    const grants: RunGrant[] = [];
    let from = 0;
    while (grants.length < runs) {
      const free = this.#free(view, taken, from, this.#chunks, longest);
      if (free === undefined) break;
      grants.push({ first: free[0], count: free[1], mode: 'run' });
      from = free[0] + free[1];
    }
    return grants;
  }

  /** The whole blob is one run, which nobody else may be reading any part of. */
  #decideStream(view: RendezvousView, taken: Bitfield, runs: number): RunGrant[] {
    const { roster } = view;
    let open = false;
    let busy = false;
    for (let index = 0; index < this.#chunks && !busy; index++) {
      if (view.have.has(index)) continue;
      busy = taken.has(index) || roster.readByPeer(index);
      open ||= !roster.heldByPeer(index);
    }
    if (busy || !open) {
      this.#openSinceMs.fill(Number.NaN);
      return [];
    }
    if (Number.isNaN(this.#openSinceMs[0]!)) this.#openSinceMs[0] = view.nowMs;
    const openMs = view.nowMs - this.#openSinceMs[0]!;
    if (runs === 0 || openMs < this.rank(0, roster.peers) * RANK_WAIT_MS) return [];
    return [{ first: 0, count: this.#chunks, mode: 'stream' }];
  }

  #dueHedges(view: RendezvousView, taken: Bitfield): RunGrant[] {
    const due: RunGrant[] = [];
    for (const [index, hedge] of this.#hedges) {
      if (view.have.has(index)) this.#hedges.delete(index);
      if (taken.has(index) || !Number.isNaN(hedge.grantedMs)) continue;
      if (view.nowMs - hedge.askedMs < this.rank(index, view.roster.peers) * RANK_WAIT_MS) continue;
      hedge.grantedMs = view.nowMs;
      taken.set(index);
      due.push({ first: index, count: 1, mode: 'hedge' });
    }
    return due;
  }

  /** The first stretch in `[from, to)` that nobody holds or reads, at most `longest` chunks of it. */
  #free(view: RendezvousView, taken: Bitfield, from: number, to: number, longest: number): [first: number, count: number] | undefined {
    const { roster, within } = view;
    const isFree = (index: number): boolean => !taken.has(index) && !roster.readByPeer(index) && !roster.heldByPeer(index);
    for (const [stretchFirst, stretchCount] of within ?? [[0, this.#chunks]]) {
      const end = Math.min(to, stretchFirst + stretchCount);
      let first = Math.max(from, stretchFirst);
      while (first < end && !isFree(first)) first++;
      let last = first;
      while (last < end && last - first < longest && isFree(last)) last++;
      if (last > first) return [first, last - first];
    }
    return undefined;
  }

  /** What this agent has or is reading. */
  #taken({ have, reading }: RendezvousView): Bitfield {
    const taken = have.length === this.#chunks ? Bitfield.fromBytes(this.#chunks, have.bytes()) : new Bitfield(this.#chunks);
    for (const range of reading) taken.setRange(range);
    return taken;
  }

  #score(agent: string, run: number): number {
    let scores = this.#scores.get(agent);
    if (scores === undefined) {
      scores = new Float64Array(this.#runs).fill(Number.NaN);
      this.#scores.set(agent, scores);
    }
    if (Number.isNaN(scores[run]!)) {
      scores[run] = Number.parseInt(hash('sha256', `flotilla-rendezvous/1\n${this.#key.digest}\n${run}\n${agent}`).slice(0, 12), 16);
    }
    return scores[run]!;
  }

  #forgetScores(peers: readonly string[]): void {
    if (this.#scores.size <= 2 * peers.length + 2) return;
    const live = new Set([...peers, this.#self]);
    for (const agent of this.#scores.keys()) if (!live.has(agent)) this.#scores.delete(agent);
  }
}
