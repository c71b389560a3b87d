// Properties of leasing under any order of joins, leaves, reads, failures, losses and time: nothing is leased twice while its
// lease and its holder live, and everything is leased in the end.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Grant } from '@flotilla/shared/tracker-api';
import { blobOf, need, TestFleet, want } from './test-swarms.ts';

const PEERS = ['a', 'b', 'c', 'd'];
const CHUNKS = 24;

const peer = fc.constantFrom(...PEERS);
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('join' as const), peer, canRead: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), peer }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('part' as const), peer, kept: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('need' as const), peer, runs: fc.nat(4), windowed: fc.boolean(), at: fc.nat(CHUNKS - 4) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('read' as const), peer, which: fc.nat(3), chunks: fc.integer({ min: 1, max: 16 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), peer, which: fc.nat(3), reason: fc.constantFrom('unneeded', 'failed', 'throttled', 'no-ranges') }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('lost' as const), peer, at: fc.nat(CHUNKS - 2), count: fc.integer({ min: 1, max: 2 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('hedge' as const), peer, at: fc.nat(CHUNKS - 1) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 10, max: 3000 }) }) },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** What a lease still covers, as an observer of all messages knows it. */
interface Live {
  readonly peer: string;
  readonly grant: Grant;
  readonly unread: Set<number>;
  deadlineMs: number;
}

/** Sees all that is said and told, and checks each grant against it. */
class Observer {
  readonly fleet = new TestFleet();
  readonly blob = blobOf(CHUNKS);
  readonly held = new Map<string, Set<number>>();
  readonly live = new Map<string, Live>();
  readonly joined = new Set<string>();
  #seen = 0;

  apply(step: Step): void {
    switch (step.do) {
      case 'join':
        if (!this.held.has(step.peer)) {
          this.fleet.join(step.peer);
          this.held.set(step.peer, new Set());
        }
        this.joined.add(step.peer);
        this.held.get(step.peer)!.clear();
        this.fleet.say(step.peer, want(this.blob, { canRead: step.canRead }), need(this.blob, 2));
        break;
      case 'leave':
        this.held.delete(step.peer);
        this.joined.delete(step.peer);
        this.#endAll(step.peer);
        this.fleet.swarms.leave(step.peer);
        this.fleet.swarms.settle(this.fleet.nowMs);
        break;
      case 'part':
        if (!this.joined.delete(step.peer)) break;
        if (!step.kept) this.held.get(step.peer)!.clear();
        this.#endAll(step.peer);
        this.fleet.say(step.peer, { type: 'leave', blob: this.blob, kept: step.kept });
        break;
      case 'need':
        if (this.joined.has(step.peer)) this.fleet.say(step.peer, need(this.blob, step.runs, 0, step.windowed ? [step.at, 4] : undefined));
        break;
      case 'read':
        this.read(this.#leasesOf(step.peer)[step.which], step.chunks);
        break;
      case 'release': {
        const lease = this.#leasesOf(step.peer)[step.which];
        if (lease === undefined) break;
        this.live.delete(lease.grant.leaseId);
        this.fleet.say(step.peer, { type: 'release', leaseId: lease.grant.leaseId, reason: step.reason as 'failed' });
        break;
      }
      case 'lost':
        for (let index = step.at; index < step.at + step.count; index++) this.held.get(step.peer)?.delete(index);
        if (this.held.has(step.peer)) this.fleet.say(step.peer, { type: 'lost', blob: this.blob, ranges: [[step.at, step.count]] });
        break;
      case 'hedge':
        if (this.joined.has(step.peer)) this.fleet.say(step.peer, { type: 'hedge', blob: this.blob, index: step.at });
        break;
      case 'pass':
        for (let left = step.ms; left > 0; left -= 50) {
          this.fleet.pass(Math.min(50, left));
          this.look();
        }
        break;
    }
    this.look();
  }

  /** Reads the next chunks of a lease. */
  read(lease: Live | undefined, count: number): void {
    if (lease === undefined) return;
    const [first] = lease.unread;
    if (first === undefined) return;
    const read = [...lease.unread].filter((index) => index < first + count);
    const run = read.findIndex((index, at) => index !== first + at);
    const chunks = run < 0 ? read : read.slice(0, run);
    for (const index of chunks) {
      this.held.get(lease.peer)!.add(index);
      for (const other of this.#leasesOf(lease.peer)) other.unread.delete(index);
    }
    this.#extend(lease);
    if (lease.unread.size === 0) this.live.delete(lease.grant.leaseId);
    this.fleet.done(lease.peer, { ...lease.grant, first, count: chunks.length });
  }

  /** Takes in what was told since, and checks it. */
  look(): void {
    for (; this.#seen < this.fleet.log.length; this.#seen++) {
      const { peer, event } = this.fleet.log[this.#seen]!;
      if (event.type === 'revoke') this.#revoked(event.leaseId, event.keep);
      if (event.type === 'grant') this.#granted(peer, event);
    }
  }

  #granted(peer: string, grant: Grant): void {
    const indexes = Array.from({ length: grant.count }, (_, offset) => grant.first + offset);
    const others = [...this.live.values()].filter((lease) => lease.grant.mode !== 'audit');
    const covered = (index: number): Live[] => others.filter(({ unread }) => unread.has(index));
    const holders = (index: number): string[] => [...this.held].filter(([, held]) => held.has(index)).map(([name]) => name);
    for (const index of indexes) {
      if (grant.mode === 'hedge') {
        expect(covered(index).filter((lease) => lease.grant.mode === 'hedge'), `a second hedge for ${index}`).toEqual([]);
      } else if (grant.mode === 'run') {
        expect(covered(index).map((lease) => lease.grant.leaseId), `chunk ${index} is under a live lease`).toEqual([]);
        expect(holders(index), `chunk ${index} is held`).toEqual([]);
      }
    }
    if (grant.mode === 'run') expect(others.filter((lease) => lease.peer === peer && lease.grant.mode === 'run').length).toBeLessThan(2);
    const unread = grant.mode === 'stream' ? indexes.filter((index) => covered(index).length === 0 && holders(index).length === 0) : indexes;
    this.live.set(grant.leaseId, { peer, grant, unread: new Set(unread), deadlineMs: this.fleet.nowMs + grant.deadlineMs });
  }

  /** A revoke takes effect when it is told here: an agent that answers at once. */
  #revoked(leaseId: string, keep: number): void {
    const lease = this.live.get(leaseId);
    if (lease === undefined) return;
    if (lease.deadlineMs <= this.fleet.nowMs) this.live.delete(leaseId);
    else for (const index of lease.unread) if (index >= lease.grant.first + keep) lease.unread.delete(index);
    if (lease.unread.size === 0) this.live.delete(leaseId);
  }

  #extend(lease: Live): void {
    const mine = this.#leasesOf(lease.peer);
    for (const later of mine.slice(mine.indexOf(lease))) later.deadlineMs = Math.max(later.deadlineMs, this.fleet.nowMs + later.grant.deadlineMs);
  }

  #leasesOf(peer: string): Live[] {
    return [...this.live.values()].filter((lease) => lease.peer === peer);
  }

  #endAll(peer: string): void {
    for (const lease of this.#leasesOf(peer)) this.live.delete(lease.grant.leaseId);
  }
}

test('no chunk is leased twice while its lease or its holder lives', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 80 }), (steps) => {
      const observer = new Observer();
      for (const one of steps) observer.apply(one);
    }),
    { numRuns: 400 },
  );
});

test('whatever went before, a reader that does its work ends up with every chunk', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const observer = new Observer();
      for (const one of steps) observer.apply(one);
      // Everybody leaves or sits still; one reader comes and works.
      for (const name of PEERS.slice(1)) observer.apply({ do: 'leave', peer: name });
      observer.apply({ do: 'join', peer: 'a', canRead: true });
      for (let turn = 0; turn < 400 && (observer.held.get('a')?.size ?? 0) < CHUNKS; turn++) {
        observer.apply({ do: 'need', peer: 'a', runs: 2, windowed: false, at: 0 });
        for (const lease of observer.live.values()) observer.read(lease, 16);
        observer.apply({ do: 'pass', ms: 500 });
      }
      expect(observer.held.get('a')!.size).toBe(CHUNKS);
    }),
    { numRuns: 150 },
  );
});
