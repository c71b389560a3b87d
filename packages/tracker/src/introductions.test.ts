// Who is introduced to whom for one blob, and how long that is remembered.

import { describe, expect, test } from 'vitest';
import { Acquaintances } from './acquaintances.ts';
import { ENOUGH, GATHERING_MS, Introductions, QUIET_MS } from './introductions.ts';
import { seededRandom } from './test-swarms.ts';

const names = (count: number): string[] => Array.from({ length: count }, (_, at) => `p${at}`);
const NO_SEEDS: ReadonlySet<string> = new Set();
/** Joined so long ago that the crowd has gathered. */
const LONG_AGO = -GATHERING_MS;

class View {
  nowMs = 0;
  readonly acquaintances = new Acquaintances(() => this.nowMs);
  readonly mesh = new Map<string, Set<string>>();
  readonly zones = new Map<string, string>();
  readonly holds = new Map<string, number>();
  readonly slowOnes = new Set<string>();
  neighbours = (peer: string): ReadonlySet<string> => this.mesh.get(peer) ?? new Set();
  zone = (peer: string): string | undefined => this.zones.get(peer);
  slow = (peer: string): boolean => this.slowOnes.has(peer);
  held = (peer: string): number => this.holds.get(peer) ?? 0;
  load = (peer: string): number => this.acquaintances.load(peer);
  acquainted = (a: string, b: string): boolean => this.acquaintances.have(a, b);
  link = (a: string, b: string): void => this.acquaintances.link(a, b);
  unlink = (a: string, b: string): void => this.acquaintances.unlink(a, b);
  /** Introduced for other blobs. */
  burden(peer: string, count: number): void {
    for (let at = 0; at < count; at++) this.acquaintances.link(peer, `other of ${peer} ${at}`);
  }
}

function setUp(seed = 1) {
  const view = new View();
  return { view, introductions: new Introductions(view, seededRandom(seed)) };
}

describe('once a crowd has gathered', () => {
  test('as many as are enough, nobody of the mesh, nobody twice, the least loaded first', () => {
    const { view, introductions } = setUp();
    view.mesh.set('me', new Set(['p0', 'p1', 'stranger']));
    view.burden('p2', 3);
    introductions.join('me', LONG_AGO);
    const pool = ['me', ...names(10)];
    expect(introductions.due(0)).toBe(true);
    const [first] = introductions.settle(pool, NO_SEEDS, 0);
    // Two are known by the mesh: six more. p2 is loaded, so it is not among them.
    expect(first!.peers.toSorted()).toEqual(['p3', 'p4', 'p5', 'p6', 'p7', 'p8']);
    expect(introductions.due(0)).toBe(false);
    introductions.poolGrew();
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([]);
    introductions.remove('p3');
    expect(view.load('p3')).toBe(0);
    expect(introductions.settle(pool.filter((peer) => peer !== 'p3'), NO_SEEDS, 0)).toEqual([{ peer: 'me', peers: ['p9'] }]);
  });

  test('half are of the own zone while there are such, however loaded', () => {
    const { view, introductions } = setUp();
    for (const peer of ['me', 'p3', 'p5', 'p7', 'p9', 'p11', 'p13']) view.zones.set(peer, 'here');
    for (const peer of ['p3', 'p5', 'p7', 'p9', 'p11', 'p13']) view.burden(peer, 3);
    introductions.join('me', LONG_AGO);
    const [first] = introductions.settle(['me', ...names(14)], NO_SEEDS, 0);
    expect(first!.peers.filter((peer) => view.zone(peer) === 'here')).toHaveLength(ENOUGH / 2);
  });

  test('holders of more go first among equals', () => {
    const { view, introductions } = setUp();
    view.holds.set('seed', 100);
    introductions.join('me', LONG_AGO);
    expect(introductions.settle(['me', ...names(20), 'seed'], NO_SEEDS, 0)[0]!.peers).toContain('seed');
  });

  test('a swarm outside of all meshes is connected, and no member is loaded with all of it', () => {
    const { view, introductions } = setUp(5);
    const pool: string[] = [];
    const links = new Map<string, string[]>();
    for (const peer of names(300)) {
      pool.push(peer);
      introductions.join(peer, LONG_AGO);
      for (const { peer: who, peers } of introductions.settle(pool, NO_SEEDS, 0)) links.set(who, [...(links.get(who) ?? []), ...peers]);
    }
    const both = new Map(pool.map((peer) => [peer, new Set<string>()]));
    for (const [peer, others] of links) {
      for (const other of others) {
        both.get(peer)!.add(other);
        both.get(other)!.add(peer);
      }
    }
    const reached = new Set(['p0']);
    for (const peer of reached) for (const other of both.get(peer)!) reached.add(other);
    expect(reached.size).toBe(300);
    expect(Math.max(...pool.map((peer) => view.load(peer)))).toBeLessThanOrEqual(4 * ENOUGH);
  });

  test('who is slow is no source to count on, but better than too few', () => {
    const { view, introductions } = setUp();
    view.mesh.set('me', new Set(names(ENOUGH)));
    introductions.join('me', LONG_AGO);
    const pool = ['me', ...names(ENOUGH + 4)];
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([]);
    for (const peer of ['p0', 'p1', 'p8', 'p9']) view.slowOnes.add(peer);
    introductions.paceChanged();
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([{ peer: 'me', peers: ['p10', 'p11'] }]);
    introductions.satisfied('me');
    introductions.join('other', LONG_AGO);
    view.mesh.set('other', new Set(names(8).slice(2)));
    const [second] = introductions.settle(['other', 'p8', 'p9', ...names(8).slice(2)], NO_SEEDS, 0);
    expect(second!.peers.toSorted()).toEqual(['p8', 'p9']);
  });

  test('whoever loses neighbours gets others instead', () => {
    const { view, introductions } = setUp();
    view.mesh.set('me', new Set(names(ENOUGH)));
    view.mesh.set('p0', new Set(['me']));
    introductions.join('me', LONG_AGO);
    const pool = ['me', ...names(ENOUGH + 2)];
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([]);
    introductions.remove('p0');
    view.mesh.set('me', new Set(names(ENOUGH).slice(1)));
    expect(introductions.settle(pool.filter((peer) => peer !== 'p0'), NO_SEEDS, 0)).toEqual([{ peer: 'me', peers: ['p8'] }]);
    view.mesh.set('me', new Set(names(ENOUGH).slice(2)));
    introductions.neighboursChanged('me');
    expect(introductions.settle(pool.filter((peer) => peer !== 'p0'), NO_SEEDS, 0).map(({ peers }) => peers.length)).toEqual([1]);
  });
});

describe('while a crowd gathers', () => {
  test('nobody is introduced until nobody has joined for a while, or the first has waited for long', () => {
    const { introductions } = setUp();
    const pool = ['me', ...names(10)];
    introductions.join('me', 0);
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([]);
    expect([introductions.due(QUIET_MS - 1), introductions.waiting, introductions.due(QUIET_MS)]).toEqual([false, true, true]);
    for (let atMs = 200; atMs < GATHERING_MS; atMs += 200) {
      introductions.join(`p${atMs / 200}`, atMs);
      expect(introductions.settle(pool, NO_SEEDS, atMs)).toEqual([]);
    }
    expect(introductions.settle(pool, NO_SEEDS, GATHERING_MS).map(({ peer }) => peer)).toEqual(['me']);
  });

  test('whoever knows no seed is introduced to one or two, each of which takes only some of the crowd', () => {
    const { view, introductions } = setUp();
    view.mesh.set('near', new Set(['seed']));
    const pool = ['near', 'seed', 'second', ...names(30)];
    for (const peer of ['near', ...names(30)]) introductions.join(peer, 0);
    const first = introductions.settle(pool, new Set(['seed']), 10);
    expect(first.map(({ peers }) => peers)).toEqual(Array.from({ length: 8 }, () => ['seed']));
    expect(first.map(({ peer }) => peer)).not.toContain('near');
    expect(introductions.settle(pool, new Set(['seed', 'second']), 20)).toHaveLength(8);
    expect([view.load('seed'), view.load('second')]).toEqual([8, 8]);
  });
});

describe('how long it lasts', () => {
  test('who has finished is not introduced any more', () => {
    const { introductions } = setUp();
    introductions.join('me', LONG_AGO);
    introductions.satisfied('me');
    introductions.poolGrew();
    expect(introductions.settle(['me', 'p1'], NO_SEEDS, 0)).toEqual([]);
  });

  test('an introduction counts while either of the two fetches', () => {
    const { view, introductions } = setUp();
    introductions.join('a', LONG_AGO);
    introductions.join('b', LONG_AGO);
    introductions.settle(['a', 'b'], NO_SEEDS, 0);
    introductions.satisfied('a');
    expect(view.load('a')).toBe(1);
    introductions.satisfied('b');
    expect([view.load('a'), view.load('b')]).toEqual([0, 0]);
  });

  test('whoever fetches the blob once more is introduced once more, and so is who was introduced to it', () => {
    const { introductions } = setUp();
    introductions.join('a', LONG_AGO);
    introductions.join('b', LONG_AGO);
    expect(introductions.settle(['a', 'b'], NO_SEEDS, 0)).toEqual([{ peer: 'a', peers: ['b'] }]);
    introductions.satisfied('a');
    introductions.join('a', LONG_AGO);
    expect(introductions.settle(['a', 'b'], NO_SEEDS, 0)).toHaveLength(1);
  });

  test('for another blob those go first who are connected still, for a minute', () => {
    const { view, introductions } = setUp();
    const pool = ['me', ...names(20)];
    introductions.join('me', LONG_AGO);
    const [first] = introductions.settle(pool, NO_SEEDS, 0);
    introductions.satisfied('me');
    const again = (seed: number): string[] => {
      const next = new Introductions(view, seededRandom(seed));
      next.join('me', view.nowMs + LONG_AGO);
      const [told] = next.settle(pool.toReversed(), NO_SEEDS, view.nowMs);
      next.satisfied('me');
      return told!.peers.toSorted();
    };
    view.nowMs = 59_000;
    expect(again(2)).toEqual(first!.peers.toSorted());
    view.nowMs += 60_000;
    expect(again(3)).not.toEqual(first!.peers.toSorted());
  });

  test('nothing is known of whose session has ended', () => {
    const acquaintances = new Acquaintances(() => 0);
    acquaintances.link('a', 'b');
    acquaintances.unlink('a', 'b');
    expect(acquaintances.have('b', 'a')).toBe(true);
    acquaintances.remove('a');
    expect(acquaintances.have('b', 'a')).toBe(false);
  });
});
