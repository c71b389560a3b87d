// For tests: rollouts on a clock of the test's own, a disk that can be lost at any write, and hosts that do as they are told, or do not.

import type { RolloutRequest } from '@flotilla/shared/rollout-api';
import type { RolloutTask } from '@flotilla/shared/tracker-api';
import { hostKey, parseHostKey, type HostRecord, type RolloutRecord, type StoredRecord } from './records.ts';
import { Rollouts, type RolloutMessage, type Transition } from './rollouts.ts';
import type { HostFacts } from './selector.ts';

export const DIGEST = `sha256:${'d'.repeat(64)}`;
export const IMAGE = 'docker.io/library/nginx:1.27';
const RESOLVED = { digest: DIGEST, size: 500, mediaType: 'application/vnd.oci.image.index.v1+json' };

/** Thrown away at a write: `before` it is on disk, or `after`, when nobody has been told yet. */
export type Crash = 'before' | 'after';

/** One host: connected or not, and the list it was told last. */
export interface TestHost {
  connected: boolean;
  tasks: readonly RolloutTask[];
  /** Results by rollout and attempt: said again whenever the task is listed again. */
  readonly results: Map<string, RolloutMessage>;
}

export class TestRollouts {
  rollouts: Rollouts;
  readonly disk = new Map<string, StoredRecord>();
  readonly hosts = new Map<string, TestHost>();
  readonly moved: Transition[] = [];
  /** Looked at after every write, with what was on disk before it. */
  onWrite: (before: ReadonlyMap<string, StoredRecord>) => void = () => undefined;
  /** Looked at whenever a host is told. */
  onTold: (peerId: string, tasks: readonly RolloutTask[]) => void = () => undefined;
  /** How the tracker dies at its next write. */
  crash: Crash | undefined;
  failWrites = false;
  nowMs = 1_800_000_000_000;
  restarts = 0;
  /** A host's answer to a task that it was told; undefined: none yet. @default none */
  answer: (peerId: string, task: RolloutTask) => Partial<RolloutMessage> | undefined = () => undefined;
  readonly #facts: Map<string, HostFacts>;
  #generation = 0;
  #ids = 0;
  #seen: { readonly error: unknown } | undefined;

  constructor(facts: Record<string, Partial<HostFacts>>) {
    this.#facts = new Map(Object.entries(facts).map(([peerId, each]) => [peerId, { name: peerId, labels: {}, ...each }]));
    for (const peerId of this.#facts.keys()) this.hosts.set(peerId, { connected: false, tasks: [], results: new Map() });
    this.rollouts = this.#start();
  }

  /** So many hosts, all alike, called h0, h1 … */
  static of(count: number): TestRollouts {
    return new TestRollouts(Object.fromEntries(Array.from({ length: count }, (_, index) => [`h${index}`, {}])));
  }

  async create(request: Partial<RolloutRequest> = {}): Promise<string> {
    const { id } = await this.rollouts.create({ image: IMAGE, ...request }, 'op', this.nowMs);
    await this.settle();
    return id;
  }

  async connect(...peerIds: string[]): Promise<void> {
    for (const peerId of peerIds) {
      this.hosts.get(peerId)!.connected = true;
      this.rollouts.connected(peerId, this.nowMs);
    }
    await this.pass(0);
  }

  async connectAll(): Promise<void> {
    await this.connect(...this.hosts.keys());
  }

  async disconnect(...peerIds: string[]): Promise<void> {
    for (const peerId of peerIds) {
      const host = this.hosts.get(peerId)!;
      Object.assign(host, { connected: false, tasks: [] });
      this.rollouts.disconnected(peerId, this.nowMs);
    }
    await this.pass(0);
  }

  /** Time passes, at most a second at once, and everything settles. */
  async pass(ms: number): Promise<void> {
    const end = this.nowMs + ms;
    do {
      this.nowMs = Math.min(end, this.nowMs + 1_000);
      this.rollouts.tick(this.nowMs);
      await this.settle();
    } while (this.nowMs < end);
  }

  /** The host says how its task ended, or how far it is. @returns whether it has such a task and a connection */
  async say(peerId: string, id: string, message: Partial<RolloutMessage> & { ok?: boolean } = { ok: true }): Promise<boolean> {
    const host = this.hosts.get(peerId)!;
    const task = host.tasks.find(({ rolloutId }) => rolloutId === id);
    if (!host.connected || task === undefined) return false;
    this.#say(peerId, task, message);
    await this.pass(0);
    return true;
  }

  /** The tracker dies and starts from what is on disk; nobody is connected then. */
  async restart(): Promise<void> {
    this.restarts++;
    for (const host of this.hosts.values()) Object.assign(host, { connected: false, tasks: [] });
    this.crash = undefined;
    this.rollouts = this.#start();
    await this.settle();
  }

  /** What has begun to be written is written, and told. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 6; turn++) await new Promise(setImmediate);
    if (this.#seen !== undefined) throw this.#seen.error;
  }

  /** What a watcher finds wrong is the test's to fail by, not the tracker's to deal with. */
  #look(watch: () => void): void {
    try {
      watch();
    } catch (error) {
      this.#seen ??= { error };
    }
  }

  record(id: string): RolloutRecord {
    return this.disk.get(id) as RolloutRecord;
  }

  host(id: string, peerId: string): HostRecord {
    return this.disk.get(hostKey(id, peerId)) as HostRecord;
  }

  hostsOf(id: string, disk: ReadonlyMap<string, StoredRecord> = this.disk): Map<string, HostRecord> {
    const found = new Map<string, HostRecord>();
    for (const [key, record] of disk) {
      const parsed = parseHostKey(key);
      if (parsed?.id === id) found.set(parsed.peerId, record as HostRecord);
    }
    return found;
  }

  /** Those that were told to pull, by name. */
  pulling(id: string): string[] {
    return [...this.hosts].filter(([, { tasks }]) => tasks.some((task) => task.rolloutId === id && task.task !== 'resolve')).map(([peerId]) => peerId);
  }

  counts(id: string): Record<HostRecord['state'], number> {
    const counts = { waiting: 0, working: 0, done: 0, failed: 0 };
    for (const host of this.hostsOf(id).values()) counts[host.state]++;
    return counts;
  }

  #say(peerId: string, task: RolloutTask, message: Partial<RolloutMessage> & { ok?: boolean }): void {
    const { rolloutId, attempt } = task;
    const failed = 'ok' in message && message.ok === false && { error: { code: 'PULL_STALLED', message: 'nothing came' } };
    const resolved = task.task === 'resolve' && message.ok === true && { resolved: RESOLVED };
    const type = 'ok' in message ? 'rollout-result' : 'rollout-progress';
    const whole = { type, rolloutId, attempt, ...failed, ...resolved, ...message } as RolloutMessage;
    if (type === 'rollout-result') this.hosts.get(peerId)!.results.set(`${rolloutId} ${attempt}`, whole);
    this.rollouts.take(peerId, whole, this.nowMs);
  }

  #start(): Rollouts {
    const generation = ++this.#generation;
    const alive = (): boolean => generation === this.#generation;
    return new Rollouts({
      records: structuredClone(this.disk),
      write: async (changes) => {
        await Promise.resolve();
        if (!alive()) return new Promise(() => undefined);
        if (this.failWrites) throw new Error('no space');
        if (this.crash === 'before') return this.#die();
        const before = new Map(this.disk);
        for (const [key, record] of changes) {
          if (record === undefined) this.disk.delete(key);
          else this.disk.set(key, structuredClone(record));
        }
        this.#look(() => this.onWrite(before));
        return this.crash === 'after' ? this.#die() : undefined;
      },
      hosts: { all: () => this.#facts },
      isMember: () => true,
      connected: (peerId) => alive() && this.hosts.get(peerId)?.connected === true,
      send: (peerId, event) => {
        if (alive() && event.type === 'rollouts') this.#told(peerId, event.tasks);
      },
      writeFailed: () => undefined,
      startedAtMs: this.nowMs,
      newId: () => `r-${++this.#ids}`,
    });
  }

  /** Its promise never settles, as the process is gone. The test starts a new one. */
  #die(): Promise<never> {
    this.#generation++;
    for (const host of this.hosts.values()) Object.assign(host, { connected: false, tasks: [] });
    return new Promise(() => undefined);
  }

  /** Whether the tracker has died at a write since its start. */
  get dead(): boolean {
    return this.crash !== undefined && [...this.hosts.values()].every(({ connected }) => !connected);
  }

  #told(peerId: string, tasks: readonly RolloutTask[]): void {
    const host = this.hosts.get(peerId)!;
    if (!host.connected) return;
    host.tasks = tasks;
    this.#look(() => this.onTold(peerId, tasks));
    for (const task of tasks) {
      const said = host.results.get(`${task.rolloutId} ${task.attempt}`);
      const message = said ?? this.answer(peerId, task);
      if (message !== undefined) setImmediate(() => host.tasks.includes(task) && this.#say(peerId, task, message));
    }
  }
}
