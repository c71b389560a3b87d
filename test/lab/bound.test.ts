import fc from 'fast-check';
import { expect, test } from 'vitest';
import { crowdS, fastHostsS, staggeredS, transferS, wavesS, zonesS } from './bound.ts';

const MIB = 1024 ** 2;
const crowd = (hosts: number, bps: number): { originBps: number; hostsBps: number[] } => ({ originBps: bps, hostsBps: Array.from({ length: hosts }, () => bps) });

test('with equal links the bound of a crowd is one transfer, however many hosts', () => {
  expect(transferS(96 * MIB, 20e6)).toBeCloseTo(42.12, 2);
  for (const hosts of [1, 15, 1000]) expect(crowdS(96 * MIB, crowd(hosts, 20e6))).toBeCloseTo(42.12, 2);
});

test('a narrow origin, a narrow host and few senders each set the bound', () => {
  const hostsBps = [20e6, 20e6, 20e6];
  expect(crowdS(MIB, { originBps: 5e6, hostsBps })).toBe(transferS(MIB, 5e6));
  expect(crowdS(MIB, { originBps: 20e6, hostsBps: [20e6, 4e6, 20e6] })).toBe(transferS(MIB, 4e6));
  expect(crowdS(MIB, { originBps: 20e6, hostsBps: [20e6, 1e6, 1e6, 1e6] })).toBe(transferS(MIB, 1e6));
  expect(fastHostsS(MIB, { originBps: 20e6, hostsBps: [20e6, 1e6, 1e6, 1e6] }, [20e6])).toBe(transferS(4 * MIB, 43e6));
});

test('who starts at the end of the others takes a transfer more', () => {
  const links = crowd(3, 20e6);
  const one = crowdS(MIB, links);
  expect(staggeredS(MIB, links, [0, one / 2, one])).toBeCloseTo(2 * one, 9);
});

test('a wave of equal hosts takes one transfer once others hold the blob', () => {
  expect(wavesS(MIB, 20e6, 20e6, [3, 3, 3])).toBeCloseTo(3 * transferS(MIB, 20e6), 9);
});

test('zones: narrow links between them set the bound, else the hosts or the way out of the origin do', () => {
  const zone = (linkBps: number, ...hostsBps: number[]): { linkBps: number; hostsBps: number[] } => ({ linkBps, hostsBps });
  expect(zonesS(MIB, 20e6, [zone(5e6, 20e6, 20e6), zone(10e6, 20e6)])).toBe(transferS(MIB, 5e6));
  expect(zonesS(MIB, 20e6, [zone(1e9, 20e6, 4e6), zone(1e9, 20e6)])).toBe(transferS(MIB, 4e6));
  expect(zonesS(MIB, 2e6, [zone(5e6, 20e6), zone(5e6, 20e6)])).toBe(transferS(MIB, 2e6));
  // What five hosts of a zone must pass on among themselves.
  expect(zonesS(MIB, 1e9, [zone(10e6, 10e6, 2e6, 2e6, 2e6, 2e6), zone(1e9, 1e9)])).toBe(transferS(MIB, 2e6));
});

test('no bound is below what any single link allows', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e9 }), fc.integer({ min: 1e5, max: 1e9 }), fc.array(fc.integer({ min: 1e5, max: 1e9 }), { minLength: 1, maxLength: 50 }), (bytes, originBps, hostsBps) => {
      const bound = crowdS(bytes, { originBps, hostsBps });
      for (const bps of [originBps, ...hostsBps]) expect(bound).toBeGreaterThanOrEqual(transferS(bytes, bps));
    }),
  );
});
