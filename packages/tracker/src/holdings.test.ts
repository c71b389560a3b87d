import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Holdings } from './holdings.ts';

const CHUNKS = 6;
const PEERS = ['a', 'b', 'c'];

test('a chunk is held exactly while somebody who counts announces it, however trust comes and goes', () => {
  const step = fc.record({ act: fc.constantFrom('add', 'drop', 'seed', 'remove', 'distrust', 'trust'), peer: fc.constantFrom(...PEERS), first: fc.nat(CHUNKS - 1), count: fc.integer({ min: 1, max: CHUNKS }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const holdings = new Holdings(CHUNKS);
      const held = new Map<string, Set<number>>();
      const seeds = new Set<string>();
      const uncounted = new Set<string>();
      for (const { act, peer, first, count } of steps) {
        const range = Array.from({ length: Math.min(count, CHUNKS - first) }, (_, at) => first + at);
        const own = held.get(peer) ?? new Set<number>();
        switch (act) {
          case 'add':
            holdings.add(peer, [first, range.length]);
            held.set(peer, own.union(new Set(range)));
            break;
          case 'drop':
            holdings.drop(peer, [first, range.length]);
            if (seeds.delete(peer)) for (let index = 0; index < CHUNKS; index++) own.add(index);
            held.set(peer, own.difference(new Set(range)));
            break;
          case 'seed':
            holdings.seed(peer);
            seeds.add(peer);
            held.set(peer, new Set(Array.from({ length: CHUNKS }, (_, index) => index)));
            break;
          case 'remove':
            holdings.remove(peer);
            held.delete(peer);
            seeds.delete(peer);
            uncounted.delete(peer);
            break;
          case 'distrust':
            holdings.distrust(peer);
            uncounted.add(peer);
            break;
          case 'trust':
            holdings.trust(peer);
            uncounted.delete(peer);
        }
        const counting = PEERS.filter((each) => !uncounted.has(each));
        for (let index = 0; index < CHUNKS; index++) {
          const holders = counting.filter((each) => held.get(each)?.has(index) === true).length;
          expect(holdings.held(index)).toBe(holders > 0);
          expect(holdings.holders(index)).toBe(holders);
          for (const each of PEERS) expect(holdings.has(each, index)).toBe(held.get(each)?.has(index) ?? false);
        }
        expect(holdings.available()).toBe(Array.from({ length: CHUNKS }, (_, index) => index).filter((index) => counting.some((each) => held.get(each)?.has(index) === true)).length);
      }
    }),
    { numRuns: 500 },
  );
});
