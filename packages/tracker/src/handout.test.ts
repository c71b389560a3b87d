import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DEGREES, Mesh } from './handout.ts';
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
