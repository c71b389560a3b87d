// All rollouts of the fleet: takes what operators and hosts say to the right one, lets time pass, writes, then tells.
//
//   operator, host, time -> Rollout (decides) -> WriteAhead (writes) -> `rollouts` to each host that has another task now
//
// Invariant: a host is told its whole list, from records that are on disk. Bounds: MAX_ROLLOUTS are kept, MAX_ACTIVE of them at work, MAX_HOST_RECORDS hosts
// in all of them together; the oldest that is over goes first. Non-goals: HTTP (rollout-routes.ts), sessions (fleet.ts).

import { createHash, randomBytes } from 'node:crypto';
import type { RolloutCommand, RolloutDetail, RolloutHosts, RolloutRequest, RolloutState, RolloutSummary } from '@flotilla/shared/rollout-api';
import type { AgentMessage, RolloutTask, TrackerEvent } from '@flotilla/shared/tracker-api';
import { TrackerError } from '../errors.ts';
import { OriginLimit } from '../origin-limit.ts';
import { newRollout } from './new-rollout.ts';
import type { KnownHosts } from './known-hosts.ts';
import { Progress } from './progress.ts';
import { hostKey, parseHostKey, type HostRecord, type RolloutReason, type RolloutRecord, type StoredRecord } from './records.ts';
import { Rollout, type Presence } from './rollout.ts';
import { detailOf, hostsOf, summaryOf, type RolloutHostsFilter, type RolloutParts } from './view.ts';
import { WriteAhead } from './write-ahead.ts';

/** A started host without a connection for so long is not waited for: another one takes its place in the wave. */
export const AWAY_MS = 60_000;
const MAX_ROLLOUTS = 200;
const MAX_ACTIVE = 32;
const MAX_HOST_RECORDS = 400_000;
/** Without anything having happened; deadlines and hosts that are away need no more. */
const STEP_EVERY_MS = 1_000;
/** Of those that are done; hosts that come back are looked at when they do. */
const STEP_DONE_EVERY_MS = 10_000;
/** After a write that failed. */
const RETRY_WRITE_MS = 1_000;

const NO_LIMITS: readonly OriginLimit[] = [];
const STATES: readonly RolloutState[] = ['resolving', 'running', 'paused', 'done', 'cancelled', 'expired'];

export type RolloutMessage = Extract<AgentMessage, { type: 'rollout-progress' | 'rollout-result' }>;

/** A rollout has changed its state by itself. */
export interface Transition {
  readonly id: string;
  readonly image: string;
  readonly from: RolloutState;
  readonly to: RolloutState;
  readonly reason: RolloutReason | undefined;
}

export interface RolloutsComponents {
  /** As `readRollouts` gave them. */
  readonly records: ReadonlyMap<string, StoredRecord>;
  /** On return the records survive a power cut. */
  readonly write: (changes: ReadonlyMap<string, StoredRecord | undefined>) => Promise<void>;
  readonly hosts: Pick<KnownHosts, 'all'>;
  readonly isMember: (peerId: string) => boolean;
  readonly connected: (peerId: string) => boolean;
  readonly send: (peerId: string, event: TrackerEvent) => void;
  readonly writeFailed: (error: unknown) => void;
  readonly startedAtMs: number;
  /** @default AWAY_MS */
  readonly awayAfterMs?: number;
  /** @default random */
  readonly newId?: () => string;
}

interface Entry {
  readonly rollout: Rollout;
  readonly progress: Progress;
  /** On what leaves the origin of its blobs. */
  readonly limit: OriginLimit | undefined;
  /** Of one in which nothing moves, until something does. */
  summary: RolloutSummary | undefined;
}

export class Rollouts {
  readonly #with: RolloutsComponents;
  readonly #presence: Presence;
  readonly #writes: WriteAhead<StoredRecord>;
  /** Oldest first. */
  readonly #entries = new Map<string, Entry>();
  readonly #awaySinceMs = new Map<string, number>();
  readonly #dirty = new Set<string>();
  /** Limits of the rollouts at work, by the digests of their blobs; undefined: to be gathered anew. */
  #limits: ReadonlyMap<string, OriginLimit[]> | undefined;
  #outcomes = 0;
  readonly #listeners = new Set<(transition: Transition) => void>();
  #hostRecords = 0;
  #steppedAtMs = 0;
  #steppedDoneAtMs = 0;
  #writeAtMs = 0;

  constructor(components: RolloutsComponents) {
    this.#with = components;
    this.#presence = {
      connected: components.connected,
      away: (peerId, nowMs) => !components.connected(peerId) && nowMs - (this.#awaySinceMs.get(peerId) ?? components.startedAtMs) >= (components.awayAfterMs ?? AWAY_MS),
    };
    this.#writes = new WriteAhead({ read: (key) => this.#record(key), write: components.write, prepare: (whom) => this.#prepare(whom) });
    this.#load(components.records);
  }

  /** Another number whenever a host of any rollout has come to an end, or begins. */
  get outcomes(): number {
    return this.#outcomes;
  }

  // ---- what agents do

  connected(peerId: string, nowMs: number): void {
    this.#awaySinceMs.delete(peerId);
    for (const [id, entry] of this.#concerned(peerId)) {
      entry.rollout.connected(peerId, nowMs);
      entry.summary = undefined;
      this.#dirty.add(id);
    }
    this.#writes.tell(peerId);
  }

  disconnected(peerId: string, nowMs: number): void {
    this.#awaySinceMs.set(peerId, nowMs);
    for (const [id, entry] of this.#concerned(peerId)) {
      entry.summary = undefined;
      this.#dirty.add(id);
    }
  }

  /** Rollouts that are not over and have this host. */
  *#concerned(peerId: string): Generator<[id: string, entry: Entry]> {
    for (const [id, entry] of this.#entries) if (!entry.rollout.over && entry.rollout.hosts.has(peerId)) yield [id, entry];
  }

  take(peerId: string, message: RolloutMessage, nowMs: number): void {
    const entry = this.#entries.get(message.rolloutId);
    if (entry === undefined) return;
    const { rollout, progress } = entry;
    const mine = rollout.heard(peerId, message.attempt, nowMs);
    if (message.type === 'rollout-result') {
      rollout.result(peerId, message);
      this.#dirty.add(message.rolloutId);
    } else if (mine && progress.take(peerId, message, nowMs)) {
      rollout.record.manifests = Object.fromEntries(progress.manifests);
      this.#limits = undefined;
      this.#writes.changed(message.rolloutId);
    }
  }

  // ---- what operators do

  /** @returns once it is written @throws TrackerError IMAGE_INVALID, SELECTOR_INVALID, WAVES_INVALID, NO_HOSTS, DEADLINE_PASSED, ROLLOUTS_FULL */
  async create(request: RolloutRequest, operator: string, nowMs: number): Promise<RolloutDetail> {
    const id = (this.#with.newId ?? randomId)();
    const { record, hosts } = newRollout(request, { id, operator, nowMs, hosts: this.#with.hosts.all(), isMember: this.#with.isMember });
    this.#makeRoom(hosts.size);
    this.#add(record, hosts);
    this.#writes.changed(id);
    for (const peerId of hosts.keys()) this.#writes.changed(hostKey(id, peerId));
    this.#step(id, nowMs);
    await this.#flushed();
    return this.detail(id, nowMs);
  }

  /** @returns once it is written @throws TrackerError ROLLOUT_UNKNOWN, ROLLOUT_STATE */
  async command(id: string, command: RolloutCommand, operator: string, nowMs: number): Promise<RolloutDetail> {
    const { rollout } = this.#entry(id);
    if (!run(rollout, command, operator, nowMs)) throw new TrackerError('ROLLOUT_STATE', `${command}: ${id} is ${rollout.record.state}`);
    this.#step(id, nowMs);
    await this.#flushed();
    return this.detail(id, nowMs);
  }

  /** Newest first. */
  list(nowMs: number): RolloutSummary[] {
    return [...this.#entries.values()].toReversed().map((entry) => this.#summary(entry, nowMs));
  }

  /** @throws ROLLOUT_UNKNOWN */
  detail(id: string, nowMs: number): RolloutDetail {
    return detailOf(this.#parts(this.#entry(id), nowMs));
  }

  /** @throws ROLLOUT_UNKNOWN */
  hosts(id: string, nowMs: number, filter: RolloutHostsFilter = {}): RolloutHosts {
    return hostsOf(this.#parts(this.#entry(id), nowMs), filter);
  }

  /** @returns a function that ends it */
  onMoved(listener: (transition: Transition) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Every state, those that none is in as well. */
  countByState(): Map<RolloutState, number> {
    const counts = new Map<RolloutState, number>(STATES.map((state) => [state, 0]));
    for (const { rollout } of this.#entries.values()) counts.set(rollout.record.state, counts.get(rollout.record.state)! + 1);
    return counts;
  }

  /** What rollouts at work allow of a blob. */
  limitsOf(digest: string): readonly OriginLimit[] {
    this.#limits ??= this.#gatherLimits();
    return this.#limits.get(digest) ?? NO_LIMITS;
  }

  // ---- time

  /** Ten times a second or so. */
  tick(nowMs: number): void {
    const all = nowMs - this.#steppedAtMs >= STEP_EVERY_MS;
    const done = nowMs - this.#steppedDoneAtMs >= STEP_DONE_EVERY_MS;
    if (all) this.#steppedAtMs = nowMs;
    if (done) this.#steppedDoneAtMs = nowMs;
    for (const [id, { rollout }] of this.#entries) {
      if (this.#dirty.has(id) || (rollout.record.state === 'done' ? done : all)) this.#step(id, nowMs);
    }
    this.#dirty.clear();
    if (nowMs < this.#writeAtMs) return;
    this.#writes.flush().catch((error: unknown) => {
      this.#writeAtMs = nowMs + RETRY_WRITE_MS;
      this.#with.writeFailed(error);
    });
  }

  /** Resolves when all is written and told that has changed up to now. */
  settled(): Promise<void> {
    return this.#writes.flush();
  }

  #step(id: string, nowMs: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.rollout.over) return;
    const { record } = entry.rollout;
    const { state: from } = record;
    entry.rollout.step(nowMs);
    if (record.state === from) return;
    for (const listener of this.#listeners) listener({ id, image: record.image, from, to: record.state, reason: record.reason });
  }

  async #flushed(): Promise<void> {
    try {
      await this.#writes.flush();
    } catch (error) {
      this.#with.writeFailed(error);
      throw new TrackerError('STATE_FAILED', 'the rollout could not be written; it is tried again', { cause: error });
    }
  }

  // ---- records

  #load(records: ReadonlyMap<string, StoredRecord>): void {
    const hosts = new Map<string, Map<string, HostRecord>>();
    const own: RolloutRecord[] = [];
    for (const [key, record] of records) {
      const parsed = parseHostKey(key);
      if (parsed === undefined) {
        own.push(record as RolloutRecord);
        continue;
      }
      const list = hosts.get(parsed.id) ?? new Map<string, HostRecord>();
      hosts.set(parsed.id, list.set(parsed.peerId, record as HostRecord));
    }
    own.sort((a, b) => a.createdAtMs - b.createdAtMs);
    for (const record of own) this.#add(record, hosts.get(record.id) ?? new Map());
  }

  #add(record: RolloutRecord, hosts: Map<string, HostRecord>): void {
    const { id } = record;
    const rollout = new Rollout(record, hosts, (peerId) => createHash('sha256').update(`${id} ${peerId}`).digest('hex'), this.#presence, {
      changed: (peerId) => {
        if (peerId !== undefined) this.#outcomes++;
        this.#writes.changed(peerId === undefined ? id : hostKey(id, peerId));
        this.#entries.get(id)!.summary = undefined;
        this.#limits = undefined;
      },
      tell: (peerId) => this.#writes.tell(peerId),
      superseded: (peerId) => this.#superseded(record, peerId),
    });
    this.#entries.set(id, { rollout, progress: new Progress(record.manifests), limit: record.originLimit === undefined ? undefined : new OriginLimit(record.originLimit), summary: undefined });
    this.#limits = undefined;
    this.#hostRecords += hosts.size;
  }

  #record(key: string): StoredRecord | undefined {
    const parsed = parseHostKey(key);
    const rollout = this.#entries.get(parsed?.id ?? key)?.rollout;
    return parsed === undefined ? rollout?.record : rollout?.hosts.get(parsed.peerId);
  }

  /** @throws ROLLOUTS_FULL */
  #makeRoom(hosts: number): void {
    const active = [...this.#entries.values()].filter(({ rollout }) => !rollout.over && rollout.record.state !== 'done').length;
    if (active >= MAX_ACTIVE) throw new TrackerError('ROLLOUTS_FULL', `${active} rollouts are at work`);
    for (const [id, { rollout }] of this.#entries) {
      if (this.#entries.size < MAX_ROLLOUTS && this.#hostRecords + hosts <= MAX_HOST_RECORDS) return;
      if (rollout.over || rollout.record.state === 'done') this.#remove(id, rollout);
    }
  }

  #remove(id: string, rollout: Rollout): void {
    for (const [peerId, host] of rollout.hosts) {
      this.#writes.changed(hostKey(id, peerId));
      if (host.state === 'working') this.#writes.tell(peerId);
    }
    this.#writes.changed(id);
    this.#entries.delete(id);
    this.#limits = undefined;
    this.#hostRecords -= rollout.hosts.size;
  }

  /** Whether a rollout made after this one brings the host the same tag: the older pin must not come after the newer. */
  #superseded(record: RolloutRecord, peerId: string): boolean {
    if (record.tag === undefined) return false;
    for (const { rollout } of this.#entries.values()) {
      const other = rollout.record;
      const same = other.origin === record.origin && other.repository === record.repository && other.tag === record.tag;
      const newer = other.createdAtMs > record.createdAtMs && other.state !== 'cancelled' && other.state !== 'expired';
      if (same && newer && !other.verifyOnly && rollout.hosts.has(peerId)) return true;
    }
    return false;
  }

  #gatherLimits(): Map<string, OriginLimit[]> {
    const limits = new Map<string, OriginLimit[]>();
    for (const { rollout, progress, limit } of this.#entries.values()) {
      if (limit === undefined || !isAtWork(rollout)) continue;
      const digests = new Set([...progress.manifests.values()].flatMap((layers) => layers.map(([digest]) => digest)));
      for (const digest of digests) limits.set(digest, [...(limits.get(digest) ?? []), limit]);
    }
    return limits;
  }

  // ---- tasks

  #prepare(whom: ReadonlySet<string>): () => void {
    const lists = [...whom].map((peerId) => [peerId, this.#tasksOf(peerId)] as const);
    return () => {
      for (const [peerId, tasks] of lists) this.#with.send(peerId, { type: 'rollouts', tasks });
    };
  }

  #tasksOf(peerId: string): RolloutTask[] {
    const tasks: RolloutTask[] = [];
    for (const { rollout } of this.#entries.values()) {
      const task = rollout.over ? undefined : rollout.taskOf(peerId);
      if (task !== undefined) tasks.push(task);
    }
    return tasks;
  }

  // ---- views

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw new TrackerError('ROLLOUT_UNKNOWN', `no rollout is called ${id}`);
    return entry;
  }

  #parts({ rollout, progress }: Entry, nowMs: number): RolloutParts {
    return { rollout, progress, presence: this.#presence, nowMs };
  }

  #summary(entry: Entry, nowMs: number): RolloutSummary {
    if (entry.summary !== undefined) return entry.summary;
    const summary = summaryOf(this.#parts(entry, nowMs));
    if (entry.rollout.over || (summary.state === 'done' && summary.hosts.working === 0)) entry.summary = summary;
    return summary;
  }
}

/** Of one that is done, while a host catches up. */
function isAtWork({ record, hosts }: Rollout): boolean {
  if (record.state === 'running') return true;
  return record.state === 'done' && record.closed !== true && [...hosts.values()].some(({ state }) => state === 'working');
}

/** @returns false where the state does not allow it */
function run(rollout: Rollout, command: RolloutCommand, operator: string, nowMs: number): boolean {
  switch (command) {
    case 'pause':
      return rollout.pause({ code: 'OPERATOR', message: `paused by ${operator}` });
    case 'resume':
      return rollout.resume(nowMs);
    case 'cancel':
      return rollout.cancel(nowMs);
    case 'retry':
      return rollout.retry(nowMs) !== undefined;
  }
}

/** Short enough to be typed. */
function randomId(): string {
  const letters = 'abcdefghijkmnpqrstuvwxyz23456789';
  return `r-${[...randomBytes(8)].map((byte) => letters[byte % letters.length]).join('')}`;
}
