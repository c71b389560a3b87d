import { Bitfield, toRanges, type IndexRange } from '@flotilla/shared/bitfield';
import { chunkCount, chunkSize } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RANK_WAIT_MS, Rendezvous, runChunks, type RunGrant } from './rendezvous.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const digest = parseDigest(`sha256:${'ab'.repeat(32)}`);

/** A host of a simulated fleet: reads what it is granted, one chunk per step, and everybody hears at once. */
class Host {
  readonly id: string;
  readonly have: Bitfield;
  readonly pending: RunGrant[] = [];
  readonly #rendezvous: Rendezvous;
  alive = true;

  constructor(id: string, size: number) {
    this.id = id;
    this.have = new Bitfield(chunkCount(size));
    this.#rendezvous = new Rendezvous({ digest, size }, id);
  }

  reading(): IndexRange[] {
    return toRanges(this.pending.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i)).filter((index) => !this.have.has(index)));
  }

  decide(nowMs: number, others: readonly Host[], runs: number): RunGrant[] {
    const peers = others.filter((host) => host !== this && host.alive);
    const read = new Set(peers.flatMap((peer) => peer.reading().flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i))));
    const roster = {
      peers: peers.map(({ id }) => id),
      heldByPeer: (index: number) => peers.some(({ have }) => have.has(index)),
      readByPeer: (index: number) => read.has(index),
    };
    const grants = this.#rendezvous.decide({ nowMs, have: this.have, reading: this.reading(), roster, within: undefined }, runs);
    this.pending.push(...grants);
    return grants;
  }

  readOne(): void {
    const next = this.reading()[0];
    if (next === undefined) return;
    this.have.set(next[0]);
    while (this.pending[0] !== undefined && this.have.has(this.pending[0].first + this.pending[0].count - 1)) this.pending.shift();
  }
}

describe('run length', () => {
  test.each([
    [100 * KIB, 16],
    [100 * MIB, 16],
    [2048 * MIB, 16],
    [4096 * MIB, 8],
    [20_000 * MIB, 4],
  ])('of a blob of %d bytes is %d chunks', (size, chunks) => expect(runChunks(size)).toBe(chunks));

  test('is 1 MiB to 16 MiB for every size', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 2 ** 36 }), (size) => {
      const bytes = runChunks(size) * chunkSize(size);
      expect(bytes).toBeGreaterThanOrEqual(MIB);
      expect(bytes).toBeLessThanOrEqual(16 * MIB);
    }));
  });
});

test('golden: who reads which run first, of five agents; a change here is another exchange protocol', () => {
  const key = { digest, size: 100 * MIB };
  const agents = ['12D3KooWA', '12D3KooWB', '12D3KooWC', '12D3KooWD', '12D3KooWE'];
  const ranks = (run: number): number[] => agents.map((agent) => new Rendezvous(key, agent).rank(16 * run, agents));
  expect(ranks(7)).toEqual([3, 0, 2, 1, 4]);
  expect([0, 1, 2, 3, 4, 50, 99].map((run) => ranks(run)[0])).toEqual([3, 0, 4, 0, 0, 3, 1]);
  expect(RANK_WAIT_MS).toBe(2000);
});

describe('alone', () => {
  test('gets long runs at once, one after the other', () => {
    const host = new Host('a', 100 * MIB);
    expect(host.decide(0, [], 2)).toEqual([
      { first: 0, count: 64, mode: 'run' },
      { first: 64, count: 64, mode: 'run' },
    ]);
    expect(host.decide(0, [], 1)).toEqual([{ first: 128, count: 64, mode: 'run' }]);
  });

  test('a run is at most 16 MiB', () => {
    const size = 20_000 * MIB;
    expect(new Host('a', size).decide(0, [], 1)).toEqual([{ first: 0, count: 16 * MIB / chunkSize(size), mode: 'run' }]);
  });

  test('gets what it lacks, and nothing once it has all', () => {
    const host = new Host('a', 4 * MIB);
    host.have.setRange([0, 60]);
    expect(host.decide(0, [], 5)).toEqual([{ first: 60, count: 4, mode: 'run' }]);
    host.have.setRange([60, 4]);
    expect(host.decide(0, [], 5)).toEqual([]);
  });

  test('reads inside its window only', () => {
    const rendezvous = new Rendezvous({ digest, size: 8 * MIB }, 'a');
    const roster = { peers: [], heldByPeer: () => false, readByPeer: () => false };
    const view = { nowMs: 0, have: new Bitfield(128), reading: [], roster, within: [[10, 20]] as const };
    expect(rendezvous.decide(view, 3)).toEqual([{ first: 10, count: 20, mode: 'run' }]);
  });

  test('reads the stretches that are needed, and nothing between them', () => {
    const rendezvous = new Rendezvous({ digest, size: 8 * MIB }, 'a');
    const roster = { peers: [], heldByPeer: () => false, readByPeer: () => false };
    const view = { nowMs: 0, have: new Bitfield(128), reading: [[10, 1]] as const, roster, within: [[10, 1], [30, 2], [50, 1]] as const };
    expect(rendezvous.decide(view, 3).map(({ first, count }) => [first, count])).toEqual([[30, 2], [50, 1]]);
  });

  test('an empty blob has no runs', () => expect(new Host('a', 0).decide(0, [], 3)).toEqual([]));
});

describe('with peers', () => {
  test('two share the runs between them, and each takes the rest after its wait', () => {
    const size = 10 * MIB;
    const [a, b] = [new Host('a', size), new Host('b', size)];
    a.decide(0, [a, b], 16);
    b.decide(0, [a, b], 16);
    expect(a.pending.length + b.pending.length).toBe(10);
    expect(a.pending.length).toBeGreaterThan(0);
    expect(b.pending.length).toBeGreaterThan(0);
    b.alive = false;
    const early = a.decide(100, [a, b], 16);
    expect(early.length, 'alone again: no wait').toBeGreaterThan(0);
  });

  test('with three, a run whose first two are idle comes to the third after four seconds', () => {
    const size = 512 * KIB;
    const hosts = ['a', 'b', 'c'].map((id) => new Host(id, size));
    const ranks = hosts.map(({ id }) => new Rendezvous({ digest, size }, id).rank(0, ['a', 'b', 'c']));
    expect(ranks.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
    const last = hosts[ranks.indexOf(2)]!;
    expect(last.decide(0, hosts, 1)).toEqual([]);
    expect(last.decide(2 * RANK_WAIT_MS - 1, hosts, 1)).toEqual([]);
    expect(last.decide(2 * RANK_WAIT_MS, hosts, 1)).toEqual([{ first: 0, count: 8, mode: 'run' }]);
  });

  test('the wait begins anew when a reader was there in between', () => {
    const size = 512 * KIB;
    const [a, b] = [new Host('a', size), new Host('b', size)];
    const [reader, waiting] = new Rendezvous({ digest, size }, 'a').rank(0, ['b']) === 0 ? [a, b] : [b, a];
    expect(waiting.decide(0, [a, b], 1)).toEqual([]);
    reader.decide(1_000, [a, b], 1);
    expect(waiting.decide(1_500, [a, b], 1)).toEqual([]);
    reader.pending.length = 0;
    expect(waiting.decide(2_500, [a, b], 1)).toEqual([]);
    expect(waiting.decide(4_499, [a, b], 1)).toEqual([]);
    expect(waiting.decide(4_500, [a, b], 1)).toHaveLength(1);
  });

  test('what a live peer holds is not read, unless it does not come: then by the rank for it', () => {
    const size = 512 * KIB;
    const [a, b] = [new Host('a', size), new Host('b', size)];
    b.have.setRange([0, 8]);
    expect(a.decide(0, [a, b], 4)).toEqual([]);
    const rendezvous = new Rendezvous({ digest, size }, 'a');
    const roster = { peers: ['b'], heldByPeer: () => true, readByPeer: () => false };
    const at = (nowMs: number): RunGrant[] => rendezvous.decide({ nowMs, have: a.have, reading: [], roster, within: undefined }, 0);
    rendezvous.hedge(3, 0);
    const waitMs = rendezvous.rank(3, ['b']) * RANK_WAIT_MS;
    expect(at(waitMs)).toEqual([{ first: 3, count: 1, mode: 'hedge' }]);
    rendezvous.hedge(3, waitMs + 5_000);
    expect(at(waitMs + 20_000), 'once').toEqual([]);
    rendezvous.hedge(3, waitMs + 10_000);
    expect(at(waitMs + 30_000), 'and again after ten seconds').toHaveLength(1);
  });

  test('without Range one agent streams the whole, the others follow', () => {
    const size = 4 * MIB;
    const rendezvous = ['a', 'b'].map((id) => new Rendezvous({ digest, size }, id));
    for (const one of rendezvous) one.stream();
    const first = rendezvous[0]!.rank(0, ['b']);
    const view = (nowMs: number, peer: string, reads: boolean): Parameters<Rendezvous['decide']>[0] => ({
      nowMs,
      have: new Bitfield(64),
      reading: [],
      roster: { peers: [peer], heldByPeer: () => false, readByPeer: (index) => reads && index > 20 },
      within: undefined,
    });
    expect(rendezvous[first]!.decide(view(0, 'ba'[first]!, false), 2)).toEqual([{ first: 0, count: 64, mode: 'stream' }]);
    expect(rendezvous[1 - first]!.decide(view(0, 'ab'[first]!, false), 2)).toEqual([]);
    expect(rendezvous[1 - first]!.decide(view(60_000, 'ab'[first]!, true), 2), 'while somebody streams').toEqual([]);
  });
});

describe('for any fleet', () => {
  const fleets = fc.record({ hosts: fc.integer({ min: 2, max: 6 }), size: fc.integer({ min: 1, max: 40 * MIB }), runs: fc.integer({ min: 1, max: 4 }) });

  test('with equal rosters no chunk is granted twice within the first two seconds', () => {
    fc.assert(fc.property(fleets, fc.array(fc.integer({ min: 0, max: RANK_WAIT_MS - 1 }), { minLength: 1, maxLength: 8 }), ({ hosts, size, runs }, times) => {
      const fleet = Array.from({ length: hosts }, (_, i) => new Host(`host-${i}`, size));
      // Nobody hears of anybody's reading: the hash alone keeps them apart.
      const roster = (self: Host): { peers: string[]; heldByPeer: () => boolean; readByPeer: () => boolean } => ({
        peers: fleet.filter((host) => host !== self).map(({ id }) => id),
        heldByPeer: () => false,
        readByPeer: () => false,
      });
      const deciders = fleet.map((host) => ({ host, rendezvous: new Rendezvous({ digest, size }, host.id) }));
      const granted = new Set<number>();
      for (const nowMs of [0, ...times.sort((a, b) => a - b)]) {
        for (const { host, rendezvous } of deciders) {
          for (const grant of rendezvous.decide({ nowMs, have: host.have, reading: host.reading(), roster: roster(host), within: undefined }, runs)) {
            host.pending.push(grant);
            for (let index = grant.first; index < grant.first + grant.count; index++) {
              expect(granted.has(index)).toBe(false);
              granted.add(index);
            }
          }
        }
      }
    }));
  });

  test('every chunk is read by somebody, whoever dies and whatever died with it', () => {
    const small = fc.record({ hosts: fc.integer({ min: 2, max: 5 }), size: fc.integer({ min: 1, max: 5 * MIB }), runs: fc.integer({ min: 1, max: 3 }) });
    const deaths = fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 40 })), { maxLength: 4 });
    fc.assert(fc.property(small, deaths, fc.integer({ min: 0, max: 4 }), ({ hosts, size, runs }, plan, survivor) => {
      const fleet = Array.from({ length: hosts }, (_, i) => new Host(`host-${i}`, size));
      const chunks = chunkCount(size);
      const heldByLiving = (): number => {
        const all = new Bitfield(chunks);
        for (const host of fleet.filter(({ alive }) => alive)) for (const range of host.have.ranges()) all.setRange(range);
        return all.count;
      };
      // A step is 100 ms and one chunk per host. The worst case: one host is left with all chunks, and waits for each run.
      const steps = 40 + chunks + hosts * (RANK_WAIT_MS / 100) * Math.ceil(chunks / 16);
      for (let step = 0; step < steps && (step <= 40 || heldByLiving() < chunks); step++) {
        for (const [host, at] of plan) if (at === step && host % hosts !== survivor % hosts) fleet[host % hosts]!.alive = false;
        for (const host of fleet.filter(({ alive }) => alive)) {
          host.decide(step * 100, fleet, Math.max(0, runs - host.pending.length));
          host.readOne();
        }
      }
      expect(heldByLiving()).toBe(chunks);
    }), { numRuns: 40 });
  });
});
