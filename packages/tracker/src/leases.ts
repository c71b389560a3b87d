// Who reads which chunks of one blob at the origin.
//
// Invariant: a chunk is under at most one live lease (and one hedge), and never leased while a live member that counts holds it.
// A lease lives until its chunks are read, it is given back, its reader leaves, or its deadline passes without a sign of life.
// It is never cut while it is read: what an origin has sent by then would leave it twice.
// Every ready member holds one run being read and one spare, up to twelve of a blob; runs ascend; who was granted least goes first, who is slow not at all (pace.ts).
// Pure: time comes in, events go out through BookOutput. Non-goals: digests (vouches.ts), blame (audit.ts), sockets.

import { Bitfield, toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import type { AgentMessage, Grant } from '@flotilla/shared/tracker-api';
import { Holdings } from './holdings.ts';
import { covers, LeaseTable } from './lease-table.ts';
import {
  backOff,
  deadlineWindowMs,
  lastRunChunks,
  MAX_SILENT_MS,
  newReader,
  rangeBytes,
  RUN_SIZES,
  runChunks,
  soloRunChunks,
  type BookOutput,
  type Joining,
  type Lease,
  type Reader,
  type ReaderStatus,
  type RunSizes,
} from './lease.ts';
import { Pace } from './pace.ts';
import { RunLimit } from './run-limit.ts';

const MAX_LEASES_PER_MEMBER = 2;
/** Of a member that needs many stretches far from each other: each is a chunk or two, and their round trips should not add up. */
const MAX_SCATTERED_LEASES = 6;
/** From so many stretches on. */
const SCATTERED = 3;
/** Only who has been alone for so long takes long runs: the first of a crowd is alone for a moment as well. */
const SOLO_AFTER_MS = 300;
/** Leases given back unread more often than this in a row make a reader wait. */
const MAX_IDLE_RELEASES = 3;
const DEFAULT_THROTTLE_MS = 1_000;
/** Runs that one member may bring along from before. */
const MAX_ADOPTED = 8;

type ReleaseReason = Extract<AgentMessage, { type: 'release' }>['reason'];

export class LeaseBook {
  readonly blob: BlobKey;
  readonly chunks: number;
  readonly holdings: Holdings;
  readonly #epoch: number;
  readonly #out: BookOutput;
  readonly #sizes: RunSizes;
  readonly #limit = new RunLimit();
  readonly #readers = new Map<string, Reader>();
  readonly #table: LeaseTable;
  /** Readers that could take a run now. */
  readonly #askers = new Set<Reader>();
  /** Trusted readers that can read and lack chunks: the runs are shared among them. */
  readonly #sharers = new Set<Reader>();
  readonly #pace = new Pace(
    this.#sharers,
    (reader) => this.#out.throttledUntilMs(reader.origin, reader.peer),
    ({ peer }) => this.holdings.count(peer),
  );
  #aloneSinceMs: number | undefined;
  #hedged: Bitfield | undefined;
  #grants = 0;
  #streamOnly = false;

  constructor(blob: BlobKey, epoch: number, out: BookOutput, sizes = RUN_SIZES) {
    this.blob = blob;
    this.chunks = chunkCount(blob.size);
    this.holdings = new Holdings(this.chunks);
    this.#table = new LeaseTable(blob, this.holdings);
    this.#epoch = epoch;
    this.#out = out;
    this.#sizes = sizes;
  }

  /** Whether time alone may change something here. */
  get active(): boolean {
    return this.#table.size > 0 || this.#askers.size > 0;
  }

  /** Runs and streams being read. */
  get liveLeases(): number {
    return this.#table.live;
  }

  get readers(): ReadonlyMap<string, Reader> {
    return this.#readers;
  }

  lease(id: string): Lease | undefined {
    return this.#table.get(id);
  }

  // ---- what members say

  /** Joins, or says anew what it holds and reads. Leases that it got from this book live on. */
  join(peer: string, { trusted, canRead, origin, have, reading }: Joining, nowMs: number): void {
    const reader = this.#readers.get(peer) ?? newReader(peer, trusted);
    this.#readers.set(peer, reader);
    Object.assign(reader, { trusted, canRead, origin });
    this.#table.lower(this.holdings.remove(peer));
    if (!trusted) this.holdings.distrust(peer);
    for (const range of have) this.have(peer, range, nowMs);
    this.#adopt(reader, reading, nowMs);
    this.#refresh(reader);
  }

  /** `peer` serves these chunks from now on, whether it joined or not. */
  have(peer: string, range: IndexRange, nowMs: number): void {
    this.holdings.add(peer, range);
    const reader = this.#readers.get(peer);
    if (reader === undefined) return;
    for (const lease of reader.leases.slice()) this.#read(lease, range, nowMs);
    this.#refresh(reader);
  }

  lost(peer: string, range: IndexRange): void {
    this.#table.lower(this.holdings.drop(peer, range));
    this.#refreshPeer(peer);
  }

  /** `peer` holds the whole blob. */
  seed(peer: string): void {
    this.holdings.seed(peer);
    const reader = this.#readers.get(peer);
    if (reader === undefined) return;
    reader.need = 0;
    for (const lease of reader.leases.slice()) this.#end(lease);
    this.#refresh(reader);
  }

  need(peer: string, runs: number, originRate: number, within: readonly IndexRange[] | undefined): void {
    const reader = this.#readers.get(peer);
    if (reader === undefined) return;
    Object.assign(reader, { need: runs, originRate, within });
    this.#refresh(reader);
  }

  /**
   * Lets `peer` read chunks from `index` on that somebody else may hold or read; each once, while that lease lives. A run of them,
   * because a holder that does not deliver one chunk will hardly deliver the next.
   * @returns whether it may
   */
  hedge(peer: string, index: number, nowMs: number): boolean {
    const reader = this.#readers.get(peer);
    // That nothing comes may be the limit's doing, and a hedge would undo it.
    if (reader === undefined || !this.#mayRead(reader, nowMs) || !this.#out.open(nowMs)) return false;
    this.#hedged ??= new Bitfield(this.chunks);
    const hedged = this.#hedged;
    const fits = (at: number): boolean => at < this.chunks && !hedged.has(at) && !this.holdings.has(peer, at) && !reader.leases.some((lease) => covers(lease, at));
    const most = runChunks(this.blob, reader.originRate, this.#sizes);
    let count = 0;
    while (count < most && fits(index + count)) count++;
    if (count === 0) return false;
    hedged.setRange([index, count]);
    this.#issue(reader, [index, count], 'hedge', nowMs);
    return true;
  }

  /**
   * @param bytes of this lease so far. The same number again says that the reader lives and waits for its origin: a crowd at a
   *   narrow origin waits for seconds, and who is cut off then has cost bytes that the next one asks for again.
   * @returns whether `peer` holds the lease
   */
  progress(peer: string, leaseId: string, bytes: number, nowMs: number): boolean {
    const lease = this.#table.get(leaseId);
    if (lease === undefined || lease.reader.peer !== peer) return false;
    if (bytes > lease.bytes) {
      this.#limit.add(bytes - lease.bytes);
      lease.bytes = bytes;
      lease.movedAtMs = nowMs;
    }
    if (nowMs - lease.movedAtMs < MAX_SILENT_MS) this.#table.extend(lease, nowMs);
    return true;
  }

  /** A lease from before the last start tells of progress: its reader lives. */
  progressOfAdopted(peer: string, nowMs: number): void {
    for (const lease of this.#readers.get(peer)?.leases ?? []) if (lease.mode === 'adopted') this.#table.extend(lease, nowMs);
  }

  /** Chunks were read at the origin, under a lease of this book or an older one. */
  done(peer: string, range: IndexRange, nowMs: number): void {
    const reader = this.#readers.get(peer);
    if (reader !== undefined) Object.assign(reader, { failures: 0, idleReleases: 0, backoffUntilMs: 0 });
    this.have(peer, range, nowMs);
  }

  release(peer: string, leaseId: string, reason: ReleaseReason, retryAfterMs: number | undefined, nowMs: number): void {
    const lease = this.#table.get(leaseId);
    if (lease === undefined || lease.reader.peer !== peer) return;
    const { reader } = lease;
    switch (reason) {
      case 'unneeded':
        if (lease.chunksRead === 0 && !lease.recalled && ++reader.idleReleases > MAX_IDLE_RELEASES) backOff(reader, 0, nowMs);
        break;
      case 'failed':
        backOff(reader, retryAfterMs ?? 0, nowMs);
        break;
      case 'denied':
        reader.canRead = false;
        break;
      case 'throttled':
        this.#out.throttle(reader.origin, peer, retryAfterMs ?? DEFAULT_THROTTLE_MS, nowMs);
        break;
      case 'no-ranges':
        this.#streamOnly = true;
        break;
      default:
        reason satisfies never;
    }
    this.#end(lease);
  }

  /** Leaves the swarm. @param kept whether it serves what it announced all the same */
  leave(peer: string, kept: boolean): void {
    const reader = this.#readers.get(peer);
    if (reader !== undefined) {
      this.#readers.delete(peer);
      for (const lease of this.#table.of(reader)) this.#end(lease);
      this.#refresh(reader);
    }
    if (!kept) this.#table.lower(this.holdings.remove(peer));
    if (this.#readers.size === 0) {
      this.#streamOnly = false;
      this.#hedged = undefined;
      this.#aloneSinceMs = undefined;
    }
  }

  // ---- blame

  /** A member that can read it, for a chunk that is in dispute. @returns the lease, or undefined if `peer` cannot read now */
  audit(peer: string, index: number, nowMs: number): string | undefined {
    const reader = this.#readers.get(peer);
    if (reader === undefined || !this.#mayRead(reader, nowMs)) return undefined;
    return this.#issue(reader, [index, 1], 'audit', nowMs).id;
  }

  /** Members that could read an audit now. */
  auditors(nowMs: number): string[] {
    return [...this.#readers.values()].filter((reader) => reader.trusted && this.#mayRead(reader, nowMs)).map((reader) => reader.peer);
  }

  /** An audit got its answer. */
  endAudit(lease: Lease): void {
    this.#table.end(lease);
  }

  /** `peer` may not vouch any more: its leases end, and what only it claims to hold is leased again. */
  distrust(peer: string): void {
    const reader = this.#readers.get(peer);
    if (reader !== undefined) {
      reader.trusted = false;
      for (const lease of this.#table.of(reader)) {
        this.#out.send(peer, { type: 'revoke', leaseId: lease.id, keep: 0 });
        this.#end(lease);
      }
      this.#refresh(reader);
    }
    this.#table.lower(this.holdings.distrust(peer));
  }

  /** Somebody got wrong bytes from `peer`: until it joins anew, what it alone claims to hold of this blob is leased again. */
  doubt(peer: string): void {
    this.#table.lower(this.holdings.distrust(peer));
  }

  /** These chunks are wrong or doubted: nobody but a seed and the keepers holds them any more. */
  invalidate(range: IndexRange, keepers: readonly string[]): void {
    for (const peer of this.holdings.partials()) if (!keepers.includes(peer)) this.lost(peer, range);
  }

  // ---- time

  /** Gives out what can be given now. */
  grant(nowMs: number): void {
    if (this.#sharers.size > 1) this.#aloneSinceMs = undefined;
    else if (this.#askers.size > 0) this.#aloneSinceMs ??= nowMs;
    if (this.#askers.size === 0) return;
    if (!this.#table.anyLeasable() || !this.#out.open(nowMs)) return;
    if (this.#streamOnly) {
      this.#grantStream(nowMs);
      return;
    }
    const passed = new Set<Reader>();
    while (this.#table.live < this.#limit.runs && this.#out.open(nowMs)) {
      const reader = this.#next(nowMs, passed);
      if (reader === undefined) return;
      const run = this.#find(reader, nowMs);
      if (run === undefined) passed.add(reader);
      else this.#issue(reader, run, 'run', nowMs);
    }
  }

  /** Time has passed: deadlines, the ramp of the limit. To be followed by `grant`. */
  tick(nowMs: number): void {
    for (const lease of this.#table.values()) if (lease.deadlineMs <= nowMs) this.#expire(lease, nowMs);
    this.#limit.step(nowMs, () => this.#ready());
    if (this.#pace.step(nowMs)) this.#recallSpares();
  }

  /** Another number after each change of who gains little. */
  get paceChanges(): number {
    return this.#pace.changes;
  }

  /** Whether `peer` reads, and gains far less than is usual. */
  gainsLittle(peer: string): boolean {
    const reader = this.#readers.get(peer);
    return reader !== undefined && this.#pace.gainsLittle(reader);
  }

  status(): ReaderStatus[] {
    return [...this.#readers.values()].map(({ peer, leases, grantedBytes }) => ({ peerId: peer, held: this.holdings.count(peer), leases: leases.length, grantedBytes }));
  }

  // ---- choosing

  #ready(): number {
    let ready = this.#askers.size;
    for (const reader of this.#readers.values()) if (reader.leases.length > 0 && !this.#askers.has(reader)) ready++;
    return ready;
  }

  #mayRead(reader: Reader, nowMs: number): boolean {
    return reader.canRead && reader.backoffUntilMs <= nowMs && this.#out.throttledUntilMs(reader.origin, reader.peer) <= nowMs;
  }

  /** Fewest granted first; then who waits longest. Members that lost their trust only where nobody else could read. */
  #next(nowMs: number, passed: ReadonlySet<Reader>): Reader | undefined {
    let best: Reader | undefined;
    for (const reader of this.#askers) {
      if (passed.has(reader) || !this.#mayRead(reader, nowMs) || (!reader.trusted && this.#sharers.size > 0) || this.#pace.passesOver(reader)) continue;
      const less = best === undefined || reader.grantedChunks - best.grantedChunks || reader.lastGrant - best.lastGrant;
      if (less === true || less < 0) best = reader;
    }
    return best;
  }

  /** What who is slow has not begun to read, others read sooner: it is asked back, and is granted to them once it is. */
  #recallSpares(): void {
    for (const reader of this.#sharers) {
      if (!this.#pace.passesOver(reader)) continue;
      const [current, ...spares] = reader.leases.filter(({ mode }) => mode === 'run');
      // With its last chunk under way the spare is begun.
      if (current === undefined || current.unread.count < 2) continue;
      for (const spare of spares) {
        if (spare.recalled || spare.bytes > 0) continue;
        spare.recalled = true;
        this.#out.send(reader.peer, { type: 'revoke', leaseId: spare.id, keep: 0, spare: true });
      }
    }
  }

  /** The lowest run of chunks that this reader may have. */
  #find(reader: Reader, nowMs: number): IndexRange | undefined {
    // What it claims to hold may not count; it would not read it all the same.
    const leaves = this.#pace.leaves(reader);
    const fits = (index: number): boolean => this.#table.leasable(index) && !this.holdings.has(reader.peer, index) && !leaves(index);
    const [first, end] = this.#firstFitting(reader.within ?? [[0, this.chunks]], fits);
    if (first >= end) return undefined;
    const solo = this.#aloneSinceMs !== undefined && nowMs - this.#aloneSinceMs >= SOLO_AFTER_MS;
    const usual = (solo ? soloRunChunks : runChunks)(this.blob, reader.originRate, this.#sizes);
    const most = Math.min(usual, lastRunChunks(this.blob, this.chunks - first, Math.min(this.#sharers.size, this.#limit.runs), this.#sizes));
    const affordable = Math.max(1, Math.floor(this.#out.mostBytes() / rangeBytes(this.blob, first, 1)));
    let count = 1;
    while (count < Math.min(most, affordable) && first + count < end && fits(first + count)) count++;
    return [first, count];
  }

  /** The first chunk that fits, and the end of its stretch; none where they are the same. */
  #firstFitting(stretches: readonly IndexRange[], fits: (index: number) => boolean): [first: number, end: number] {
    for (const [stretchFirst, count] of stretches) {
      const end = Math.min(this.chunks, stretchFirst + count);
      let first = Math.max(this.#table.cursor, stretchFirst);
      while (first < end && !fits(first)) first++;
      if (first < end) return [first, end];
    }
    return [0, 0];
  }

  /** One reader takes all the rest; the others get it from there. */
  #grantStream(nowMs: number): void {
    for (const lease of this.#table.values()) if (lease.mode === 'stream') return;
    const reader = this.#next(nowMs, new Set());
    const first = this.#table.cursor;
    if (reader !== undefined) this.#issue(reader, [first, this.chunks - first], 'stream', nowMs);
  }

  // ---- the life of a lease

  #issue(reader: Reader, range: IndexRange, mode: Grant['mode'], nowMs: number): Lease {
    const id = this.#out.newLeaseId();
    const [first, count] = range;
    const bytes = rangeBytes(this.blob, first, count);
    const windowMs = deadlineWindowMs(bytes + this.#table.queuedBytes(reader), reader.originRate);
    const lease = this.#table.add({ id, reader, mode, range, windowMs }, nowMs);
    if (mode === 'run' || mode === 'stream') {
      reader.need--;
      reader.grantedChunks += count;
      reader.lastGrant = ++this.#grants;
      this.#hedged?.clearRange(range);
    }
    reader.grantedBytes += bytes;
    this.#out.granted(mode, bytes);
    this.#out.send(reader.peer, { type: 'grant', epoch: this.#epoch, leaseId: id, blob: this.blob, first, count, deadlineMs: windowMs, mode });
    this.#refresh(reader);
    return lease;
  }

  /** What a member reads already, told after this tracker or its session started: nobody else has to. */
  #adopt(reader: Reader, reading: readonly IndexRange[], nowMs: number): void {
    const mine = (index: number): boolean => this.holdings.has(reader.peer, index) || reader.leases.some((lease) => covers(lease, index));
    const indexes: number[] = [];
    for (const [first, count] of reading) for (let index = first; index < first + count; index++) if (!mine(index)) indexes.push(index);
    for (const range of toRanges(indexes).slice(0, MAX_ADOPTED)) {
      const windowMs = deadlineWindowMs(rangeBytes(this.blob, ...range) + this.#table.queuedBytes(reader), 0);
      this.#table.add({ id: this.#out.newLeaseId(), reader, mode: 'adopted', range, windowMs }, nowMs);
    }
  }

  #read(lease: Lease, range: IndexRange, nowMs: number): void {
    const before = lease.chunksRead;
    this.#limit.add(this.#table.read(lease, range));
    if (lease.chunksRead === before) return;
    lease.movedAtMs = nowMs;
    this.#table.extend(lease, nowMs);
    if (lease.unread.count === 0) this.#end(lease);
  }

  #expire(lease: Lease, nowMs: number): void {
    if (lease.mode !== 'adopted') this.#out.send(lease.reader.peer, { type: 'revoke', leaseId: lease.id, keep: lease.chunksRead });
    backOff(lease.reader, 0, nowMs);
    this.#end(lease);
  }

  #end(lease: Lease): void {
    const unread = this.#table.end(lease);
    if (lease.mode !== 'adopted') for (const [first, count] of unread) this.#out.returned(rangeBytes(this.blob, first, count));
    if (lease.mode === 'hedge') for (const range of unread) this.#hedged?.clearRange(range);
    this.#refresh(lease.reader);
    if (lease.mode === 'audit') this.#out.auditEnded(lease.id);
  }

  #refreshPeer(peer: string): void {
    const reader = this.#readers.get(peer);
    if (reader !== undefined) this.#refresh(reader);
  }

  #refresh(reader: Reader): void {
    const lacks = this.#readers.get(reader.peer) === reader && reader.canRead && !this.holdings.complete(reader.peer);
    // Hedges come on top: they must not keep a reader from its ordinary runs.
    const runs = reader.leases.reduce((count, lease) => count + (lease.mode === 'hedge' ? 0 : 1), 0);
    put(this.#sharers, reader, lacks && reader.trusted);
    put(this.#askers, reader, lacks && reader.need > 0 && runs < (isScattered(reader) ? MAX_SCATTERED_LEASES : MAX_LEASES_PER_MEMBER));
  }
}

function isScattered({ within }: Reader): boolean {
  return within !== undefined && within.length >= SCATTERED;
}

function put<T>(set: Set<T>, item: T, member: boolean): void {
  if (member) set.add(item);
  else set.delete(item);
}
