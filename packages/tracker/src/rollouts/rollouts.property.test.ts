// Rollouts under any order of events, with the tracker dying at any of its writes: whatever happens, no host begins early, nothing goes on after too many
// have failed, nobody is told what is not on disk, and in the end no host is lost.

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { hostKey, parseHostKey, type HostRecord, type RolloutRecord, type StoredRecord } from './records.ts';
import { AWAY_MS } from './rollouts.ts';
import { DIGEST, TestRollouts, type Crash, type TestHost } from './test-rollouts.ts';

const HOSTS = 7;

type Step =
  | { readonly kind: 'connect' | 'disconnect'; readonly host: number }
  | { readonly kind: 'say'; readonly host: number; readonly ok: boolean }
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'command'; readonly command: 'pause' | 'resume' | 'retry' }
  | { readonly kind: 'crash'; readonly at: Crash };

const host = fc.nat({ max: HOSTS - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('connect' as const), host }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('disconnect' as const), host }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('say' as const), host, ok: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.constantFrom(100, 2_000, AWAY_MS / 2, AWAY_MS + 1_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('command' as const), command: fc.constantFrom('pause' as const, 'resume' as const, 'retry' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const), at: fc.constantFrom<Crash>('before', 'after') }) },
);

/** Looks on from outside: by what is on disk and what hosts are told, never by what the tracker has in memory. */
class Watcher {
  readonly #fleet: TestRollouts;
  readonly #tasks = new Map<string, string>();
  /** Since when a host has had no connection, as this tracker has seen. */
  readonly #awaySinceMs = new Map<string, number>();
  #startedAtMs: number;

  constructor(fleet: TestRollouts) {
    this.#fleet = fleet;
    this.#startedAtMs = fleet.nowMs;
    fleet.onWrite = (before) => this.#written(before);
    fleet.onTold = (peerId, tasks) => {
      for (const task of tasks) this.#told(peerId, task);
    };
  }

  connected(peerId: string): void {
    this.#awaySinceMs.delete(peerId);
  }

  disconnected(peerId: string): void {
    this.#awaySinceMs.set(peerId, this.#fleet.nowMs);
  }

  restarted(): void {
    this.#awaySinceMs.clear();
    this.#startedAtMs = this.#fleet.nowMs;
  }

  #away(peerId: string): boolean {
    if (this.#fleet.hosts.get(peerId)!.connected) return false;
    return this.#fleet.nowMs - (this.#awaySinceMs.get(peerId) ?? this.#startedAtMs) >= AWAY_MS;
  }

  #written(before: ReadonlyMap<string, StoredRecord>): void {
    for (const [key, now] of this.#fleet.disk) {
      const parsed = parseHostKey(key);
      const was = before.get(key) as HostRecord | undefined;
      if (parsed === undefined) this.#opened(key, (before.get(key) as RolloutRecord | undefined)?.wave ?? 0);
      if (parsed === undefined || was === undefined) continue;
      const { state, wave, attempt } = now as HostRecord;
      expect(attempt).toBeGreaterThanOrEqual(was.attempt);
      if (was.state === 'waiting' && state !== 'waiting') this.#began(parsed.id, wave!);
    }
  }

  /** Waves from `last + 1` on have opened, if any. */
  #opened(id: string, last: number): void {
    const { wave, pauseOnFailure, forgiven, waves } = this.#fleet.record(id);
    if (wave === last) return;
    const hosts = this.#fleet.hostsOf(id);
    for (const [peerId, each] of hosts) {
      if (each.wave === undefined || each.wave >= wave) continue;
      expect(each.state !== 'working' || this.#away(peerId), `wave ${wave} opens while ${peerId} of wave ${each.wave} is at work`).toBe(true);
    }
    const failed = [...hosts.values()].filter(({ state }) => state === 'failed').length;
    expect(failed - forgiven, 'a wave opens although too many have failed in the one before').toBeLessThanOrEqual(pauseOnFailure * waves[wave - 1]!.target + 1e-9);
    const ended = [...hosts.values()].filter(({ state }) => state === 'done' || state === 'failed').length;
    expect(ended, 'a wave opens without a single result').toBeGreaterThan(0);
  }

  #began(id: string, wave: number): void {
    const record = this.#fleet.record(id);
    const hosts = this.#fleet.hostsOf(id);
    expect(record.digest, 'nobody begins before the tag is resolved').toBe(DIGEST);
    expect(wave, 'begins in a wave that is not open').toBe(record.wave);
    const { target } = record.waves[wave]!;
    const begun = [...hosts].filter(([other, each]) => each.state !== 'waiting' && !(each.state === 'working' && this.#away(other)));
    expect(begun.length, `wave ${wave} reaches to ${target} hosts`).toBeLessThanOrEqual(Math.max(target, begun.filter(([, each]) => each.wave! < wave).length));
    const failed = begun.filter(([, each]) => each.state === 'failed').length;
    expect(failed - record.forgiven, 'begins although too many have failed').toBeLessThanOrEqual(record.pauseOnFailure * target + 1e-9);
  }

  #told(peerId: string, task: { rolloutId: string; attempt: number; task: string }): void {
    const record = this.#fleet.disk.get(task.rolloutId) as RolloutRecord | undefined;
    const own = this.#fleet.disk.get(hostKey(task.rolloutId, peerId)) as HostRecord | undefined;
    expect(record, 'told of a rollout that is not on disk').toBeDefined();
    expect(own!.attempt, 'told of an attempt that is not on disk').toBeGreaterThanOrEqual(task.attempt);
    if (task.task !== 'resolve') {
      expect(record!.digest).toBeDefined();
      expect(own!.wave).toBeDefined();
    }
    const key = `${peerId} ${task.rolloutId} ${task.attempt}`;
    const text = JSON.stringify(task);
    expect(this.#tasks.get(key) ?? text, 'one attempt is one task').toBe(text);
    this.#tasks.set(key, text);
  }
}

async function crashed(fleet: TestRollouts, watcher: Watcher): Promise<void> {
  if (!fleet.dead) return;
  await fleet.restart();
  watcher.restarted();
}

/** One of these hosts, whichever the number leads to: most steps should find somebody to happen to. */
function chosen(fleet: TestRollouts, number: number, fits: (host: TestHost) => boolean): string | undefined {
  const fitting = [...fleet.hosts].filter(([, each]) => fits(each)).map(([peerId]) => peerId);
  return fitting[number % fitting.length];
}

async function take(fleet: TestRollouts, watcher: Watcher, id: string, event: Step): Promise<void> {
  switch (event.kind) {
    case 'connect': {
      const peerId = chosen(fleet, event.host, ({ connected }) => !connected);
      if (peerId === undefined) break;
      watcher.connected(peerId);
      await fleet.connect(peerId);
      break;
    }
    case 'disconnect': {
      const peerId = chosen(fleet, event.host, ({ connected }) => connected);
      if (peerId === undefined) break;
      watcher.disconnected(peerId);
      await fleet.disconnect(peerId);
      break;
    }
    case 'say': {
      const peerId = chosen(fleet, event.host, ({ tasks }) => tasks.length > 0);
      if (peerId !== undefined) await fleet.say(peerId, id, { ok: event.ok });
      break;
    }
    case 'pass':
      await fleet.pass(event.ms);
      break;
    case 'command':
      // One that dies under the command never answers.
      await Promise.race([fleet.rollouts.command(id, event.command, 'op', fleet.nowMs).catch((error: unknown) => expect(error).toMatchObject({ code: 'ROLLOUT_STATE' })), fleet.settle()]);
      await fleet.pass(0);
      break;
    case 'crash':
      fleet.crash = event.at;
      await fleet.pass(100);
  }
  await crashed(fleet, watcher);
}

/** All are connected and do as they are told, and an operator tries again what failed, until nothing is left. */
async function finish(fleet: TestRollouts, watcher: Watcher, id: string): Promise<void> {
  fleet.crash = undefined;
  await crashed(fleet, watcher);
  fleet.answer = () => ({ ok: true });
  for (const peerId of fleet.hosts.keys()) watcher.connected(peerId);
  for (let turn = 0; turn < 40; turn++) {
    await fleet.connectAll();
    await fleet.pass(3_000);
    if (fleet.counts(id).done === HOSTS && fleet.record(id).state === 'done') return;
    await fleet.rollouts.command(id, fleet.counts(id).failed > 0 ? 'retry' : 'resume', 'op', fleet.nowMs).catch((error: unknown) => expect(error).toMatchObject({ code: 'ROLLOUT_STATE' }));
  }
  expect({ state: fleet.record(id).state, ...fleet.counts(id) }, 'hosts are lost').toEqual({ state: 'done', waiting: 0, working: 0, done: HOSTS, failed: 0 });
}

test('any order of events, dying at any write', async () => {
  const settings = fc.record({ waves: fc.constantFrom('100%', '1,100%', '1,40%,100%', '2,3,5,100%'), pauseOnFailure: fc.constantFrom(0, 0.2, 0.5, 1) });
  await fc.assert(
    fc.asyncProperty(settings, fc.array(step, { maxLength: 50, size: 'max' }), async (request, steps) => {
      const fleet = TestRollouts.of(HOSTS);
      const watcher = new Watcher(fleet);
      const id = await fleet.create(request);
      for (const event of steps) await take(fleet, watcher, id, event);
      await finish(fleet, watcher, id);
    }),
    { numRuns: 500 },
  );
}, 120_000);

/** Whatever is written in the course of an ordinary rollout: the tracker dies there, before and after. */
test.each(['before', 'after'] as const)('an ordinary rollout outlives a death %s each of its writes', async (at) => {
  for (let write = 1; ; write++) {
    const fleet = TestRollouts.of(HOSTS);
    const watcher = new Watcher(fleet);
    const id = await fleet.create({ waves: '1,40%,100%' });
    fleet.answer = (_peer, { task }) => (task === 'resolve' ? { ok: true } : undefined);
    let writes = 0;
    const watch = fleet.onWrite;
    fleet.onWrite = (before) => {
      watch(before);
      writes++;
      // The next one is its last, or this one is.
      if (writes === (at === 'before' ? write - 1 : write)) fleet.crash = at;
    };
    if (at === 'before' && write === 1) fleet.crash = at;
    for (let turn = 0; turn < 16; turn++) {
      await fleet.connectAll();
      await fleet.pass(1_000);
      const [first] = fleet.pulling(id);
      if (first !== undefined) await fleet.say(first, id);
      await crashed(fleet, watcher);
    }
    await finish(fleet, watcher, id);
    if (fleet.restarts === 0) {
      expect(write).toBeGreaterThan(8);
      return;
    }
  }
}, 60_000);
