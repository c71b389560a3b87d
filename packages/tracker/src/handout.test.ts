import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DEGREES, Mesh } from './handout.ts';
import { GATHERING_MS, Introductions, MAX_EXTRA } from './introductions.ts';
import { seededRandom } from './test-swarms.ts';

const names = (count: number): string[] => Array.from({ length: count }, (_, at) => `p${at}`);

/** Symmetric, bounded, connected; everybody knows everybody while that is possible. */
function check(mesh: Mesh, members: readonly string[], { min, max } = DEGREES): void {
  expect(mesh.size).toBe(members.length);
  for (const member of members) {
    const neighbours = mesh.neighbours(member);
    expect(neighbours.has(member)).toBe(false);
    for (const other of neighbours) expect(mesh.neighbours(other).has(member), `${other} knows ${member}`).toBe(true);
    expect(neighbours.size).toBeLessThanOrEqual(max);
    if (members.length <= max + 1) expect(neighbours.size).toBe(members.length - 1);
    else expect(neighbours.size).toBeGreaterThanOrEqual(min);
  }
  const reached = new Set(members.slice(0, 1));
  for (const member of reached) for (const other of mesh.neighbours(member)) reached.add(other);
  expect(reached.size).toBe(members.length);
}

describe('mesh', () => {
  // With few neighbours leaves cut the mesh into parts all the time.
  test.each([DEGREES, { min: 2, target: 3, max: 4 }])('holds its promises under any joins and leaves, in zones or not: %o', (degrees) => {
    fc.assert(
      fc.property(fc.array(fc.record({ join: fc.boolean(), who: fc.uniqueArray(fc.nat(59), { maxLength: 45 }), zones: fc.nat(4) }), { maxLength: 12 }), fc.integer(), (steps, seed) => {
        const mesh = new Mesh(seededRandom(seed), degrees);
        const members = new Set<string>();
        for (const { join, who, zones } of steps) {
          for (const [at, peer] of who.map((at): [number, string] => [at, `p${at}`])) {
            if (join) {
              mesh.add(peer, zones === 0 ? undefined : `zone ${at % zones}`);
              members.add(peer);
            } else {
              mesh.remove(peer);
              members.delete(peer);
            }
          }
          mesh.settle();
          check(mesh, [...members], degrees);
        }
        mesh.settle();
        check(mesh, [...members], degrees);
      }),
      { numRuns: 300 },
    );
  });

  test('a fleet of 2,000 that loses half at once is whole again', () => {
    const mesh = new Mesh(seededRandom(7));
    for (const peer of names(2000)) mesh.add(peer);
    mesh.settle();
    check(mesh, names(2000));
    for (const peer of names(1000)) mesh.remove(peer);
    mesh.settle();
    check(mesh, names(2000).slice(1000));
  });

  test('a zone of a large fleet hangs together by itself, and everybody in it has a way out', () => {
    const mesh = new Mesh(seededRandom(9));
    const zoneOf = (peer: string): string => `zone ${Number(peer.slice(1)) % 10}`;
    for (const peer of names(600)) mesh.add(peer, zoneOf(peer));
    mesh.settle();
    check(mesh, names(600));
    for (const peer of names(10)) {
      const reached = new Set([peer]);
      for (const member of reached) for (const other of mesh.neighbours(member)) if (zoneOf(other) === zoneOf(peer)) reached.add(other);
      expect(reached.size).toBe(60);
    }
    const outside = names(600).map((peer) => [...mesh.neighbours(peer)].filter((other) => zoneOf(other) !== zoneOf(peer)).length);
    expect(Math.min(...outside)).toBeGreaterThan(0);
  });

  test('tells only those whose neighbours changed, and few of them', () => {
    const mesh = new Mesh(seededRandom(3));
    for (const peer of names(500)) mesh.add(peer);
    mesh.settle();
    expect(mesh.settle()).toEqual([]);
    mesh.add('late');
    const changed = mesh.settle();
    expect(changed).toContain('late');
    expect(changed.length).toBeLessThanOrEqual(1 + 2 * DEGREES.max);
    mesh.remove('late');
    expect(mesh.settle().length).toBeLessThanOrEqual(3 * DEGREES.max);
  });

  test('an agent that comes back with other addresses is told to its neighbours', () => {
    const mesh = new Mesh(seededRandom(3));
    for (const peer of names(5)) mesh.add(peer);
    mesh.settle();
    mesh.add('p2');
    expect(mesh.settle().toSorted()).toEqual(names(5));
  });

});

describe('introductions', () => {
  const NO_SEEDS: ReadonlySet<string> = new Set();

  class View {
    readonly loads = new Map<string, number>();
    readonly mesh = new Map<string, Set<string>>();
    readonly zones = new Map<string, string>();
    readonly holds = new Map<string, number>();
    readonly slowOnes = new Set<string>();
    neighbours = (peer: string): ReadonlySet<string> => this.mesh.get(peer) ?? new Set();
    load = (peer: string): number => this.loads.get(peer) ?? 0;
    zone = (peer: string): string | undefined => this.zones.get(peer);
    slow = (peer: string): boolean => this.slowOnes.has(peer);
    held = (peer: string): number => this.holds.get(peer) ?? 0;
    changeLoad = (peer: string, by: number): void => {
      this.loads.set(peer, this.load(peer) + by);
    };
  }

  test('at most eight, nobody of the mesh, nobody twice, the least loaded first', () => {
    const view = new View();
    view.mesh.set('me', new Set(['p0', 'p1', 'stranger']));
    view.loads.set('p2', 3);
    const introductions = new Introductions(view, seededRandom(1));
    introductions.join('me', -GATHERING_MS);
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
    const view = new View();
    for (const peer of ['me', 'p3', 'p5', 'p7', 'p9', 'p11', 'p13']) view.zones.set(peer, 'here');
    for (const peer of ['p3', 'p5', 'p7', 'p9', 'p11', 'p13']) view.loads.set(peer, 3);
    const introductions = new Introductions(view, seededRandom(1));
    introductions.join('me', -GATHERING_MS);
    const [first] = introductions.settle(['me', ...names(14)], NO_SEEDS, 0);
    expect(first!.peers.filter((peer) => view.zone(peer) === 'here')).toHaveLength(MAX_EXTRA / 2);
  });

  test('holders of more go first among equals', () => {
    const view = new View();
    view.holds.set('seed', 100);
    const introductions = new Introductions(view, seededRandom(1));
    introductions.join('me', -GATHERING_MS);
    expect(introductions.settle(['me', ...names(20), 'seed'], NO_SEEDS, 0)[0]!.peers).toContain('seed');
  });

  test('a swarm outside of all meshes is connected, and no member is loaded with all of it', () => {
    const view = new View();
    const introductions = new Introductions(view, seededRandom(5));
    const pool: string[] = [];
    const links = new Map<string, string[]>();
    for (const peer of names(300)) {
      pool.push(peer);
      introductions.join(peer, -GATHERING_MS);
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
    expect(Math.max(...pool.map((peer) => view.load(peer)))).toBeLessThanOrEqual(4 * MAX_EXTRA);
  });

  test('while a crowd gathers only whoever knows no seed is introduced, to seeds that have room', () => {
    const view = new View();
    const introductions = new Introductions(view, seededRandom(1));
    const pool = ['me', 'near', ...names(10)];
    introductions.join('me', 0);
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([]);
    expect([introductions.due(GATHERING_MS - 1), introductions.waiting, introductions.due(GATHERING_MS)]).toEqual([false, true, true]);
    view.loads.set('p2', MAX_EXTRA);
    expect(introductions.settle(pool, new Set(['p1', 'p2']), 10)).toEqual([{ peer: 'me', peers: ['p1'] }]);
    expect(introductions.settle(pool, new Set(['p1', 'p2', 'p3']), 20)).toEqual([]);
    view.mesh.set('near', new Set(['p2']));
    introductions.join('near', 20);
    expect(introductions.settle(pool, new Set(['p1', 'p2', 'p3']), 30)).toEqual([]);
    // Beside p2 it knows who was just introduced to it.
    const later = introductions.settle(pool, new Set(['p1', 'p2', 'p3']), 20 + GATHERING_MS);
    expect(later.map(({ peer, peers }) => [peer, peers.length])).toEqual([['me', MAX_EXTRA - 1], ['near', MAX_EXTRA - 2]]);
  });

  test('who is slow is no source to count on, but better than too few', () => {
    const view = new View();
    view.mesh.set('me', new Set(names(MAX_EXTRA)));
    const introductions = new Introductions(view, seededRandom(1));
    introductions.join('me', -GATHERING_MS);
    const pool = ['me', ...names(MAX_EXTRA + 4)];
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([]);
    for (const peer of ['p0', 'p1', 'p8', 'p9']) view.slowOnes.add(peer);
    introductions.paceChanged();
    expect(introductions.settle(pool, NO_SEEDS, 0)).toEqual([{ peer: 'me', peers: ['p10', 'p11'] }]);
    introductions.satisfied('me');
    introductions.join('other', -GATHERING_MS);
    view.mesh.set('other', new Set(names(8).slice(2)));
    const [second] = introductions.settle(['other', 'p8', 'p9', ...names(8).slice(2)], NO_SEEDS, 0);
    expect(second!.peers.toSorted()).toEqual(['p8', 'p9']);
  });

  test('who has finished is not introduced any more', () => {
    const introductions = new Introductions(new View(), seededRandom(1));
    introductions.join('me', -GATHERING_MS);
    introductions.satisfied('me');
    introductions.poolGrew();
    expect(introductions.settle(['me', 'p1'], NO_SEEDS, 0)).toEqual([]);
  });
});
