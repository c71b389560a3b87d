// Does what the tracker lists for this host: takes the list, works on it, tells how far it is and how it ended.
//
//   listed --a place is free--> at work --done or failed--> in the journal --> told            (told again whenever it is listed again)
//                                  +--not listed any more--> stopped: paused, cancelled, or another host's turn
//
// Invariants: one (rollout, attempt) is at work once; nothing is told that was not listed; a result is on disk before it is told. The list outlives the session:
// while the tracker is away work goes on. Bounds: PARALLEL_TASKS at work, the list as long as the tracker's schema lets it be.

import type { Digest } from '@flotilla/shared/digest';
import { MAX_ROLLOUT_LAYERS, type HookOutcome, type RolloutTask } from '@flotilla/shared/tracker-api';
import { parsePlatform, type Platform } from '../content/platform.ts';
import { AgentError, toAgentError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { HookFacts } from './hook.ts';
import { ImageTask, type Layout } from './image-task.ts';
import { taskKey, type Journal } from './journal.ts';
import type { FetchedBytes, OwnImages, Repository, RolloutProgress, RolloutResult } from './ports.ts';

const PARALLEL_TASKS = 2;
const TELL_EVERY_MS = 1_000;
/** Also where nothing moves: the tracker takes a host that says nothing for dead. */
const TELL_AT_LEAST_EVERY_MS = 10_000;
/** Tries within one attempt, where waiting may help. */
const RETRY_AFTER_MS = [1_000, 5_000, 15_000];
const MAX_WAIT_MS = 60_000;
const MAX_MESSAGE = 1_000;

export interface ExecutorComponents {
  readonly images: OwnImages;
  readonly journal: Journal;
  readonly report: (message: RolloutProgress | RolloutResult) => void;
  readonly host: Platform;
  /** Absent: there is no hook. */
  readonly hook?: (facts: HookFacts, signal: AbortSignal) => Promise<HookOutcome>;
  /** `host:port` under which a client of this host reaches the agent. */
  readonly endpoint: () => string;
  readonly log: Logger;
  readonly now: () => number;
  /** Rejects when the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<unknown>;
  /** @returns a function that ends it */
  readonly every: (intervalMs: number, act: () => void) => () => void;
}

/** For `flotilla status`. */
export interface RolloutStatus {
  readonly rolloutId: string;
  readonly attempt: number;
  readonly task: string;
  readonly image: string;
  readonly phase: string;
  readonly held: number;
  readonly size: number | undefined;
}

interface Work {
  readonly task: RolloutTask;
  readonly abort: AbortController;
  phase: string;
  layout: Layout | undefined;
  /** Bytes here of each blob, as far as is known. */
  readonly held: Map<Digest, number>;
  /** Where those came from that were fetched for this attempt. */
  readonly fetched: Map<Digest, FetchedBytes>;
  /** The layers have been told in this session. */
  layersTold: boolean;
  toldAtMs: number;
  told: string;
  ended: Promise<void>;
}

export class RolloutExecutor {
  readonly #with: ExecutorComponents;
  readonly #working = new Map<string, Work>();
  /** When those without a place were last told of; at most as many as are listed. */
  readonly #waitingToldAtMs = new Map<string, number>();
  #listed: readonly RolloutTask[] = [];
  readonly #stopTelling: () => void;
  #closed = false;

  constructor(components: ExecutorComponents) {
    this.#with = components;
    this.#stopTelling = components.every(TELL_EVERY_MS, () => void this.#tellAll());
  }

  /** The tracker's list, in place of the last one. */
  tasks(tasks: readonly RolloutTask[]): void {
    this.#listed = tasks;
    // The list may be of another session: all is told again.
    this.#waitingToldAtMs.clear();
    const listed = new Set(tasks.map(taskKey));
    for (const [key, work] of this.#working) {
      if (!listed.has(key)) work.abort.abort(new AgentError('ROLLOUT_STOPPED', 'the rollout was stopped'));
    }
    for (const task of tasks) {
      const result = this.#with.journal.get(task);
      const work = this.#working.get(taskKey(task));
      if (result !== undefined) this.#with.report(result);
      else if (work !== undefined) Object.assign(work, { layersTold: false, told: '' });
    }
    this.#startNext();
    void this.#tellAll();
  }

  status(): RolloutStatus[] {
    return [...this.#working.values()].map(({ task, phase, layout, held }) => ({
      rolloutId: task.rolloutId,
      attempt: task.attempt,
      task: task.task,
      image: imageOf(task),
      phase,
      held: sum(held.values()),
      size: layout && sum(layout.blobs.map(({ size }) => size)),
    }));
  }

  /** Stops what is at work and waits for it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopTelling();
    const working = [...this.#working.values()];
    for (const work of working) work.abort.abort(new AgentError('DRAINING', 'the agent is stopping'));
    await Promise.all(working.map(({ ended }) => ended));
    await this.#with.journal.settled();
  }

  // ---- work

  #startNext(): void {
    for (const task of this.#listed) {
      if (this.#closed || this.#working.size >= PARALLEL_TASKS) return;
      if (this.#working.has(taskKey(task)) || this.#with.journal.get(task) !== undefined) continue;
      this.#start(task);
    }
  }

  #start(task: RolloutTask): void {
    const work: Work = { task, abort: new AbortController(), phase: 'waiting', layout: undefined, held: new Map(), fetched: new Map(), layersTold: false, toldAtMs: 0, told: '', ended: Promise.resolve() };
    this.#working.set(taskKey(task), work);
    work.ended = this.#work(work).finally(() => {
      this.#working.delete(taskKey(task));
      this.#startNext();
    });
  }

  /** Never rejects. */
  async #work(work: Work): Promise<void> {
    const { task, abort } = work;
    const { log, journal, now } = this.#with;
    const startedMs = now();
    const result = await this.#try(work).catch((error: unknown) => failure(error));
    // Stopped: it is not ended, and may be listed again.
    if (abort.signal.aborted) return;
    const { rolloutId, attempt } = task;
    const whole: RolloutResult = { type: 'rollout-result', rolloutId, attempt, ms: now() - startedMs, ...result };
    log[whole.ok ? 'info' : 'warn']({ rollout: rolloutId, attempt, task: task.task, image: imageOf(task), ms: whole.ms, code: whole.error?.code, hookExit: whole.hook?.exitCode }, 'rollout task ended');
    await journal.add(whole).catch((error: unknown) => log.error({ err: error }, 'the result of a rollout could not be kept'));
    if (this.#isListed(task)) this.#with.report(whole);
  }

  /** Tries again what waiting may mend. */
  async #try(work: Work): Promise<Outcome> {
    for (const backoffMs of [...RETRY_AFTER_MS, undefined]) {
      try {
        return await this.#once(work);
      } catch (error) {
        const fault = toAgentError(error);
        // What is wrong on disk is what `verify` is to find out.
        const mendable = work.task.task !== 'verify' && fault.row.retryable && fault.code !== 'DISK_FULL' && fault.code !== 'DRAINING' && fault.code !== 'INTERNAL';
        if (!mendable || backoffMs === undefined || work.abort.signal.aborted) throw error;
        this.#with.log.info({ rollout: work.task.rolloutId, code: fault.code, err: fault, retryMs: backoffMs }, 'rollout task is tried again');
        await this.#with.wait(Math.min(MAX_WAIT_MS, Math.max(backoffMs, fault.retryAfterMs ?? 0)), work.abort.signal);
      }
    }
    throw new AgentError('INTERNAL', 'tried without end');
  }

  #once(work: Work): Promise<Outcome> {
    switch (work.task.task) {
      case 'resolve':
        return this.#resolve(work);
      case 'pull':
        return this.#pull(work);
      case 'verify':
        return this.#verify(work);
      default:
        throw new AgentError('ROLLOUT_TASK_UNKNOWN', `this agent does not know the task "${work.task.task}"`);
    }
  }

  async #resolve(work: Work): Promise<Outcome> {
    this.#phase(work, 'resolving');
    const { origin, repository, tag } = work.task;
    if (tag === undefined) throw new AgentError('ROLLOUT_TASK_UNKNOWN', 'there is no tag to resolve');
    const { digest, size, mediaType } = await this.#with.images.resolve({ origin, repository }, tag, work.abort.signal);
    return { ok: true, resolved: { digest, size, mediaType } };
  }

  async #pull(work: Work): Promise<Outcome> {
    const { signal } = work.abort;
    const { task } = work;
    const image = this.#imageTask(task);
    this.#phase(work, 'pulling');
    work.layout = await image.layout(signal);
    // Before the blobs are asked for, so that the tracker knows of which image they are.
    await this.#tell(work);
    const { layout } = work;
    const done = (digest: Digest, fetched: FetchedBytes): void => {
      work.held.set(digest, layout.blobs.find((blob) => blob.digest === digest)!.size);
      work.fetched.set(digest, fetched);
    };
    const fetched = await image.pull(layout, done, signal);
    const { origin, repository, tag } = task;
    if (tag !== undefined) await this.#pin({ origin, repository }, tag, layout);
    const outcome = { ok: true, manifest: layout.manifest, bytes: { size: sizeOf(layout), ...fetched } };
    return this.#with.hook === undefined ? outcome : this.#hook(work, layout, outcome);
  }

  /** A disk that takes no notes is no reason to fail: the tag then needs its origin. */
  async #pin(repository: Repository, tag: string, { pinned }: Layout): Promise<void> {
    await this.#with.images.pin(repository, tag, pinned).catch((error: unknown) => this.#with.log.warn({ ...repository, tag, err: error }, 'what a rollout says of a tag could not be kept'));
  }

  async #hook(work: Work, layout: Layout, outcome: Outcome): Promise<Outcome> {
    this.#phase(work, 'hook');
    const { origin, repository, digest, platform } = work.task;
    // By a digest that a client of another platform understands as well.
    const named = platform === undefined ? digest! : layout.manifest;
    const facts = { reference: `${this.#with.endpoint()}/${origin}/${repository}@${named}`, image: imageOf(work.task), digest: digest! };
    const hook = await this.#with.hook!(facts, work.abort.signal);
    if (hook.exitCode === 0) return { ...outcome, hook };
    const message = hook.exitCode === undefined ? 'the hook did not end by itself' : `the hook ended with exit code ${hook.exitCode}`;
    return { ...outcome, ok: false, error: { code: 'HOOK_FAILED', message }, hook };
  }

  async #verify(work: Work): Promise<Outcome> {
    const image = this.#imageTask(work.task);
    this.#phase(work, 'verifying');
    work.layout = await image.layoutStored(work.abort.signal);
    await this.#tell(work);
    await image.verify(work.layout, (digest, bytes) => work.held.set(digest, bytes), work.abort.signal);
    return { ok: true, manifest: work.layout.manifest, bytes: { size: sizeOf(work.layout), peer: 0, origin: 0 } };
  }

  #imageTask({ origin, repository, digest, platform }: RolloutTask): ImageTask {
    if (digest === undefined) throw new AgentError('ROLLOUT_TASK_UNKNOWN', 'there is no digest to fetch');
    const wanted = platform === undefined ? this.#with.host : parsePlatform(platform);
    if (wanted === undefined) throw new AgentError('PLATFORM_UNKNOWN', `"${platform}" is no platform`);
    return new ImageTask(this.#with.images, { repository: { origin, repository }, digest: digest as Digest, platform: wanted, named: platform !== undefined });
  }

  // ---- telling

  #phase(work: Work, phase: string): void {
    work.phase = phase;
    void this.#tell(work);
  }

  async #tellAll(): Promise<void> {
    for (const task of this.#listed) {
      const work = this.#working.get(taskKey(task));
      if (work !== undefined) await this.#tell(work);
      else if (this.#with.journal.get(task) === undefined) this.#tellWaiting(task);
    }
  }

  /** It has no place yet. */
  #tellWaiting({ rolloutId, attempt }: RolloutTask): void {
    const nowMs = this.#with.now();
    const key = taskKey({ rolloutId, attempt });
    if (nowMs - (this.#waitingToldAtMs.get(key) ?? Number.NEGATIVE_INFINITY) < TELL_AT_LEAST_EVERY_MS) return;
    this.#waitingToldAtMs.set(key, nowMs);
    this.#with.report({ type: 'rollout-progress', rolloutId, attempt, phase: 'waiting' });
  }

  async #tell(work: Work): Promise<void> {
    const { task, layout, held, phase } = work;
    const blobs = layout?.blobs.slice(0, MAX_ROLLOUT_LAYERS) ?? [];
    if (phase === 'pulling') {
      for (const blob of blobs) if (held.get(blob.digest) !== blob.size) held.set(blob.digest, await this.#with.images.held(blob));
    }
    if (!this.#isListed(task) || this.#working.get(taskKey(task)) !== work) return;
    const bytes = blobs.map(({ digest }) => held.get(digest) ?? 0);
    const fetched = { peer: 0, origin: 0 };
    for (const blob of blobs) {
      const { peer, origin } = work.fetched.get(blob.digest) ?? this.#with.images.underWay(blob) ?? NOTHING;
      fetched.peer += peer;
      fetched.origin += origin;
    }
    const told = `${phase} ${bytes.join()} ${fetched.peer} ${fetched.origin}`;
    const nowMs = this.#with.now();
    if (told === work.told && nowMs - work.toldAtMs < TELL_AT_LEAST_EVERY_MS) return;
    const { rolloutId, attempt } = task;
    const first = layout !== undefined && !work.layersTold && { manifest: layout.manifest, layers: blobs.map(({ digest, size }) => ({ digest, size })) };
    Object.assign(work, { told, toldAtMs: nowMs, layersTold: work.layersTold || layout !== undefined });
    this.#with.report({ type: 'rollout-progress', rolloutId, attempt, phase, ...first, ...(layout !== undefined && { held: bytes }), ...(phase === 'pulling' && layout !== undefined && { fetched }) });
  }

  #isListed(task: RolloutTask): boolean {
    return this.#listed.some((each) => taskKey(each) === taskKey(task));
  }
}

const NOTHING: FetchedBytes = { peer: 0, origin: 0 };

type Outcome = Omit<RolloutResult, 'type' | 'rolloutId' | 'attempt' | 'ms'>;

function failure(error: unknown): Outcome {
  const fault = toAgentError(error);
  return { ok: false, error: { code: fault.code, message: fault.message.slice(0, MAX_MESSAGE) } };
}

function imageOf({ origin, repository, tag, digest }: RolloutTask): string {
  return `${origin}/${repository}${tag === undefined ? `@${digest}` : `:${tag}`}`;
}

function sizeOf({ blobs }: Layout): number {
  return sum(blobs.map(({ size }) => size));
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
