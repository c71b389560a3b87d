// One rollout: which of its hosts have to do what, and when the next wave begins. The state machine.
//
//   resolving --digest--> running --nobody connected is left--> done --a host comes back--> done (it catches up)
//       |                  |   ^                                 |
//       +---> paused <-----+---|--- failures over the share -----+        cancelled, expired: from every state but done
//              resume, retry --+
//
// Invariants: no host of a wave begins before every host of the earlier waves has come to an end or has been away for long; nothing begins while more than
// the share has failed; a host is in exactly one state. Pure: time and who is connected come in; what has changed and whom to tell goes out.
// Everything that a decision needs after a restart is in the records; the rest (#soft) is told anew by the hosts.
// Non-goals: writing and telling, in that order (rollouts.ts); how far a host is (progress.ts).

import type { AgentMessage, RolloutTask } from '@flotilla/shared/tracker-api';
import type { HostRecord, RolloutReason, RolloutRecord } from './records.ts';

/** A connected host that says nothing of its task for so long has failed: it is too old to know rollouts, or hangs. */
export const SILENT_MS = 60_000;
/** Hosts that are asked what the tag is before the rollout pauses. */
const MAX_RESOLVERS = 3;
/** Hosts that come back after the end still get the image for so long. */
export const CATCH_UP_MS = 7 * 24 * 60 * 60_000;

export type RolloutResult = Extract<AgentMessage, { type: 'rollout-result' }>;

/** Who is connected, as the tracker knows it now. */
export interface Presence {
  connected(peerId: string): boolean;
  /** Whether a host has been without a connection for so long, as far as this tracker has seen, that nobody waits for it. */
  away(peerId: string, nowMs: number): boolean;
}

export interface RolloutOutput {
  /** To be written before anybody is told of it. undefined: the rollout's own record. */
  changed(peerId: string | undefined): void;
  /** What this host has to do is another thing now. */
  tell(peerId: string): void;
  /** A newer rollout brings this host the same tag. */
  superseded(peerId: string): boolean;
}

interface Resolver {
  readonly peerId: string;
  readonly attempt: number;
}

export class Rollout {
  readonly record: RolloutRecord;
  readonly hosts: ReadonlyMap<string, HostRecord>;
  readonly #presence: Presence;
  readonly #out: RolloutOutput;
  readonly #rank: (peerId: string) => string;
  #ranked: readonly string[] | undefined;
  #resolver: Resolver | undefined;
  readonly #unresolved = new Map<string, RolloutReason>();
  /** When a working host last said something of its task, or was told of it. */
  readonly #heardAtMs = new Map<string, number>();

  /** @param rank where a host stands among those that begin: the same number for the same host, always */
  constructor(record: RolloutRecord, hosts: ReadonlyMap<string, HostRecord>, rank: (peerId: string) => string, presence: Presence, out: RolloutOutput) {
    this.record = record;
    this.hosts = hosts;
    this.#presence = presence;
    this.#out = out;
    this.#rank = rank;
  }

  /** Nothing more will come of it. */
  get over(): boolean {
    const { state, closed } = this.record;
    return state === 'cancelled' || state === 'expired' || (state === 'done' && closed === true);
  }

  /** What the host has to do for it now. */
  taskOf(peerId: string): RolloutTask | undefined {
    const host = this.hosts.get(peerId);
    const { id: rolloutId, state, closed, origin, repository, tag, digest, platform, verifyOnly } = this.record;
    if (host === undefined) return undefined;
    const common = { rolloutId, attempt: host.attempt, origin, repository, ...(tag !== undefined && { tag }) };
    if (state === 'resolving') return this.#resolver?.peerId === peerId ? { ...common, task: 'resolve' } : undefined;
    if (host.state !== 'working' || digest === undefined) return undefined;
    if (state !== 'running' && (state !== 'done' || closed === true || this.#out.superseded(peerId))) return undefined;
    return { ...common, task: verifyOnly ? 'verify' : 'pull', digest, ...(platform !== undefined && { platform }) };
  }

  // ---- what hosts say

  /** The host told of progress. @returns false where that is not its task */
  heard(peerId: string, attempt: number, nowMs: number): boolean {
    const host = this.hosts.get(peerId);
    if (host === undefined || host.attempt !== attempt) return false;
    this.#heardAtMs.set(peerId, nowMs);
    return host.state === 'working';
  }

  connected(peerId: string, nowMs: number): void {
    this.#heardAtMs.set(peerId, nowMs);
  }

  result(peerId: string, result: RolloutResult): void {
    const host = this.hosts.get(peerId);
    if (host === undefined || this.over) return;
    if (result.resolved !== undefined || this.record.state === 'resolving') this.#resolveResult(peerId, host, result);
    else this.#pullResult(peerId, host, result);
  }

  // ---- what operators say; each is nothing when it is so already

  /** @returns false where the state does not allow it */
  pause(reason: RolloutReason): boolean {
    if (this.record.state === 'paused') return true;
    if (this.record.state !== 'resolving' && this.record.state !== 'running') return false;
    this.#pause(reason);
    return true;
  }

  resume(nowMs: number): boolean {
    const { record } = this;
    if (record.state === 'resolving' || record.state === 'running') return true;
    if (record.state !== 'paused') return false;
    record.forgiven = this.#count('failed');
    this.#goOn(nowMs);
    return true;
  }

  /** Of one that is done, hosts that come back do not get it any more. */
  cancel(nowMs: number): boolean {
    if (this.record.state === 'cancelled') return true;
    if (this.record.state === 'expired') return false;
    if (this.record.state === 'done') this.#close();
    else this.#end('cancelled', nowMs);
    return true;
  }

  /** Those that failed begin anew; a rollout that had paused because of them goes on. @returns undefined where the state does not allow it, else how many */
  retry(nowMs: number): number | undefined {
    const { record } = this;
    if (record.state === 'cancelled' || record.state === 'expired') return undefined;
    let retried = 0;
    for (const [peerId, host] of this.hosts) {
      if (host.state !== 'failed') continue;
      retried++;
      host.state = 'working';
      host.attempt++;
      delete host.error;
      this.#heardAtMs.set(peerId, nowMs);
      this.#out.changed(peerId);
      this.#out.tell(peerId);
    }
    if (retried === 0) return 0;
    record.forgiven = 0;
    const open = record.waves[record.wave]!;
    open.resultsAtOpen = Math.min(open.resultsAtOpen ?? 0, this.#results());
    delete record.closed;
    delete record.endedAtMs;
    delete record.catchUpUntilMs;
    this.#goOn(nowMs);
    return retried;
  }

  // ---- time

  /** Takes every step that can be taken now. To be called after anything has changed, and every second. */
  step(nowMs: number): void {
    const { record } = this;
    if (this.over) return;
    if (record.state === 'done') {
      this.#catchUp(nowMs);
      return;
    }
    if (record.deadlineMs !== undefined && nowMs >= record.deadlineMs) {
      this.#end('expired', nowMs);
      return;
    }
    if (record.state === 'resolving') this.#resolve(nowMs);
    else if (record.state === 'running' && this.#steady(nowMs)) this.#advance(nowMs);
  }

  // ---- resolving

  #resolve(nowMs: number): void {
    if (this.record.digest !== undefined) {
      this.#run(nowMs);
      return;
    }
    const asked = this.#resolver;
    if (asked !== undefined && this.#presence.connected(asked.peerId)) {
      if (nowMs - (this.#heardAtMs.get(asked.peerId) ?? nowMs) < SILENT_MS) return;
      this.#failedToResolve(asked.peerId, { code: 'AGENT_SILENT', message: 'the agent did not answer' });
    }
    this.#resolver = undefined;
    const peerId = this.#order.find((each) => !this.#unresolved.has(each) && this.#presence.connected(each));
    const gaveUp = this.#unresolved.size >= MAX_RESOLVERS || (peerId === undefined && this.#unresolved.size > 0);
    if (gaveUp) this.#pause([...this.#unresolved.values()].at(-1)!);
    else if (peerId !== undefined) this.#ask(peerId, nowMs);
  }

  #ask(peerId: string, nowMs: number): void {
    const host = this.hosts.get(peerId)!;
    host.attempt++;
    this.#resolver = { peerId, attempt: host.attempt };
    this.#heardAtMs.set(peerId, nowMs);
    this.#out.changed(peerId);
    this.#out.tell(peerId);
  }

  #resolveResult(peerId: string, host: HostRecord, { ok, attempt, resolved, error }: RolloutResult): void {
    const { record } = this;
    if (record.digest !== undefined || (record.state !== 'resolving' && record.state !== 'paused')) return;
    if (ok && resolved !== undefined) {
      record.digest = resolved.digest;
      record.resolvedBy = peerId;
      this.#resolver = undefined;
      this.#unresolved.clear();
      this.#ranked = undefined;
      this.#out.changed(undefined);
      this.#out.tell(peerId);
    } else if (this.#resolver?.peerId === peerId && host.attempt === attempt) {
      this.#failedToResolve(peerId, error ?? { code: 'INTERNAL', message: 'the agent gave no reason' });
    }
  }

  #failedToResolve(peerId: string, { code, message }: { code: string; message: string }): void {
    this.#unresolved.set(peerId, { code, message, host: this.hosts.get(peerId)!.name });
    this.#resolver = undefined;
    this.#out.tell(peerId);
  }

  // ---- running

  #run(nowMs: number): void {
    const { record } = this;
    record.state = 'running';
    record.waves[record.wave]!.openedAtMs ??= nowMs;
    record.waves[record.wave]!.resultsAtOpen ??= this.#results();
    this.#out.changed(undefined);
    if (this.#steady(nowMs)) this.#advance(nowMs);
  }

  #pullResult(peerId: string, host: HostRecord, { ok, attempt, error, ms, manifest, bytes, hook }: RolloutResult): void {
    if (attempt > host.attempt || host.state === 'done') return;
    // That the image is there is so whichever attempt brought it; that it failed counts for the attempt at work only.
    if (!ok && (host.state !== 'working' || attempt !== host.attempt)) return;
    if (ok && host.wave === undefined) return;
    host.state = ok ? 'done' : 'failed';
    if (ok) delete host.error;
    else host.error = error ?? { code: 'INTERNAL', message: 'the agent gave no reason' };
    Object.assign(host, { ...(ms !== undefined && { ms }), ...(manifest !== undefined && { manifest }), ...(bytes !== undefined && { bytes }), ...(hook !== undefined && { hook }) });
    this.#out.changed(peerId);
    this.#out.tell(peerId);
  }

  /** Finds the silent, and pauses where too many have failed. @returns whether it goes on */
  #steady(nowMs: number): boolean {
    for (const [peerId, host] of this.hosts) {
      if (host.state !== 'working' || !this.#presence.connected(peerId)) continue;
      if (nowMs - (this.#heardAtMs.get(peerId) ?? nowMs) < SILENT_MS) continue;
      host.state = 'failed';
      host.error = { code: 'AGENT_SILENT', message: 'the agent is connected but does not answer; it may be of a release without rollouts' };
      this.#out.changed(peerId);
      this.#out.tell(peerId);
    }
    const failed = this.#count('failed') - this.record.forgiven;
    const { target } = this.record.waves[this.record.wave]!;
    if (failed <= this.record.pauseOnFailure * target + 1e-9) return true;
    const [peerId, last] = [...this.hosts].findLast(([, host]) => host.state === 'failed')!;
    const message = `${failed} of ${target} hosts failed, more than ${Number((this.record.pauseOnFailure * 100).toFixed(2))} %: ${last.error?.code ?? 'INTERNAL'} on ${last.name}`;
    this.#pause({ code: 'FAILURES', message, host: this.hosts.get(peerId)!.name });
    return false;
  }

  #advance(nowMs: number): void {
    const { record } = this;
    for (;;) {
      const waiting = this.#fill(nowMs);
      if (!this.#waveOver(waiting, nowMs)) return;
      const wave = record.waves[record.wave]!;
      wave.endedAtMs ??= nowMs;
      this.#out.changed(undefined);
      if (record.wave === record.waves.length - 1) {
        record.state = 'done';
        record.endedAtMs = nowMs;
        record.catchUpUntilMs = Math.min(nowMs + CATCH_UP_MS, record.deadlineMs ?? Number.POSITIVE_INFINITY);
        return;
      }
      record.wave++;
      Object.assign(record.waves[record.wave]!, { openedAtMs: nowMs, resultsAtOpen: this.#results() });
    }
  }

  /** Starts what the open wave allows. @returns those that it would start, were they connected */
  #fill(nowMs: number): string[] {
    const { target } = this.record.waves[this.record.wave]!;
    let live = this.#live(nowMs);
    const waiting: string[] = [];
    for (const peerId of this.#order) {
      if (live >= target) return waiting;
      if (this.hosts.get(peerId)!.state !== 'waiting') continue;
      if (!this.#presence.connected(peerId)) waiting.push(peerId);
      else {
        this.#start(peerId, nowMs);
        live++;
      }
    }
    return waiting;
  }

  #waveOver(waiting: readonly string[], nowMs: number): boolean {
    for (const [peerId, host] of this.hosts) if (host.state === 'working' && !this.#excused(peerId, nowMs)) return false;
    const { target, resultsAtOpen = 0 } = this.record.waves[this.record.wave]!;
    if (this.#live(nowMs) >= target) return true;
    if (waiting.some((peerId) => !this.#excused(peerId, nowMs))) return false;
    // Whoever could begin has: but without a single result there is nothing to go on by.
    const last = this.record.wave === this.record.waves.length - 1;
    return this.#results() > (last ? 0 : resultsAtOpen);
  }

  #start(peerId: string, nowMs: number): void {
    const host = this.hosts.get(peerId)!;
    host.state = 'working';
    host.attempt++;
    host.wave = this.record.wave;
    this.#heardAtMs.set(peerId, nowMs);
    this.#out.changed(peerId);
    this.#out.tell(peerId);
  }

  /** Hosts that have begun, less those that are not waited for. */
  #live(nowMs: number): number {
    let live = 0;
    for (const [peerId, host] of this.hosts) if (host.state !== 'waiting' && (host.state !== 'working' || !this.#excused(peerId, nowMs))) live++;
    return live;
  }

  #excused(peerId: string, nowMs: number): boolean {
    return this.#presence.away(peerId, nowMs);
  }

  #catchUp(nowMs: number): void {
    const { record } = this;
    if (nowMs >= record.catchUpUntilMs!) {
      this.#close();
      return;
    }
    if (!this.#steady(nowMs)) return;
    for (const peerId of this.#order) {
      if (this.hosts.get(peerId)!.state === 'waiting' && this.#presence.connected(peerId) && !this.#out.superseded(peerId)) this.#start(peerId, nowMs);
    }
  }

  // ---- ends and pauses

  #pause(reason: RolloutReason): void {
    this.#tellWorking();
    this.record.state = 'paused';
    this.record.reason = reason;
    this.#out.changed(undefined);
  }

  #goOn(nowMs: number): void {
    const { record } = this;
    delete record.reason;
    delete record.waves[record.wave]!.endedAtMs;
    this.#unresolved.clear();
    record.state = record.digest === undefined ? 'resolving' : 'running';
    for (const [peerId, host] of this.hosts) if (host.state === 'working') this.#heardAtMs.set(peerId, nowMs);
    this.#out.changed(undefined);
    this.#tellWorking();
    if (record.state === 'running') this.#run(nowMs);
  }

  #end(state: 'cancelled' | 'expired', nowMs: number): void {
    this.#tellWorking();
    const { record } = this;
    record.state = state;
    record.endedAtMs = nowMs;
    delete record.catchUpUntilMs;
    this.#out.changed(undefined);
  }

  #close(): void {
    if (this.record.closed === true) return;
    this.#tellWorking();
    this.record.closed = true;
    this.#out.changed(undefined);
  }

  #tellWorking(): void {
    if (this.#resolver !== undefined) this.#out.tell(this.#resolver.peerId);
    this.#resolver = undefined;
    for (const [peerId, host] of this.hosts) if (host.state === 'working') this.#out.tell(peerId);
  }

  /** In which hosts begin: who resolved the tag, then by rank. Made when it is first needed: most rollouts are over. */
  get #order(): readonly string[] {
    if (this.#ranked !== undefined) return this.#ranked;
    const { resolvedBy } = this.record;
    const ranked = [...this.hosts.keys()].map((peerId) => [peerId === resolvedBy ? '' : this.#rank(peerId), peerId] as const);
    this.#ranked = ranked.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, peerId]) => peerId);
    return this.#ranked;
  }

  #results(): number {
    return this.#count('done') + this.#count('failed');
  }

  #count(state: HostRecord['state']): number {
    let count = 0;
    for (const host of this.hosts.values()) if (host.state === state) count++;
    return count;
  }
}
