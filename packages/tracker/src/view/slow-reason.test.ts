import fc from 'fast-check';
import { SLOW_REASONS } from '@flotilla/shared/live-api';
import { describe, expect, test } from 'vitest';
import { bytes, slowReason, type HostPull, type Surroundings } from './slow-reason.ts';

const MB = 1_000_000;
const HEALTHY: HostPull = { peerRate: 50 * MB, originRate: 0, pulling: true, settled: true, loop: 0.3, diskBusy: 0.2, diskWriteMs: 4, peers: 14, sources: 8, limits: {}, brakes: [], faults: [] };
const AROUND: Surroundings = { medianRate: 50 * MB, heldElsewhere: true, originFault: undefined };

test('a host that gets what others get is not slow, whatever else is said of it', () => {
  const odd = { ...HEALTHY, loop: 1, diskBusy: 1, diskWriteMs: 900, faults: [{ origin: 'lab', kind: 'throttled' as const }] };
  expect(slowReason(odd, AROUND)).toEqual({ slow: false, reason: '', evidence: '' });
});

test('one that has just begun is not slow yet; one that is refused is at once', () => {
  expect(slowReason({ ...HEALTHY, peerRate: 0, settled: false }, AROUND).slow).toBe(false);
  expect(slowReason({ ...HEALTHY, peerRate: 0, settled: false, faults: [{ origin: 'lab', kind: 'dns' }] }, AROUND)).toMatchObject({ slow: true, reason: 'dns' });
});

describe('what looks like several things', () => {
  const slow = { ...HEALTHY, peerRate: MB };
  test.each([
    ['a full thread makes writes look slow', { ...slow, loop: 0.97, diskBusy: 0.9, diskWriteMs: 200 }, AROUND, 'cpu'],
    ['a full thread is seen in itself, and the rate only confirms it', { ...HEALTHY, peerRate: 37 * MB, loop: 0.97 }, AROUND, 'cpu'],
    ['a rate that is low with nothing full', { ...HEALTHY, peerRate: 37 * MB, loop: 0.5 }, AROUND, ''],
    ['a limit explains a low rate, however busy the disk is', { ...slow, limits: { download: 1.1 * MB }, diskBusy: 0.9, diskWriteMs: 200 }, AROUND, 'throttled'],
    ['a limit far above the rate explains nothing', { ...slow, limits: { download: 100 * MB } }, AROUND, 'link'],
    ['an origin limit explains a rate that comes from there', { ...slow, peerRate: 0, originRate: MB, limits: { origin: MB } }, AROUND, 'throttled'],
    ['and no other', { ...slow, peerRate: MB, originRate: 0.01 * MB, limits: { origin: 0.01 * MB } }, AROUND, 'link'],
    ['a brake that allows the origin alone', { ...slow, brakes: [{ originOnly: true }] }, AROUND, 'throttled'],
    ['a fault of an origin that gives bytes is over', { ...slow, originRate: MB, faults: [{ origin: 'lab', kind: 'throttled' }] }, AROUND, 'link'],
    ['nobody holds it, and others are refused', { ...slow, peerRate: 0, sources: 0 }, { ...AROUND, heldElsewhere: false, originFault: { origin: 'lab', kind: 'throttled', hosts: 3 } }, '429'],
    ['nobody holds it, nobody is refused', { ...slow, peerRate: 0, sources: 0 }, { ...AROUND, heldElsewhere: false }, ''],
    ['an older agent says nothing of itself', { ...slow, sources: undefined, peers: undefined }, AROUND, ''],
    ['nobody to compare with', slow, { ...AROUND, medianRate: undefined }, ''],
    ['a limit, with nobody to compare with', { ...slow, limits: { download: 1.1 * MB } }, { ...AROUND, medianRate: undefined }, 'throttled'],
  ] as const)('%s', (_, host, around, reason) => {
    expect(slowReason(host, around).reason).toBe(reason);
  });
});

test('a disk that takes less than arrives is told before memory is full, unless the thread is', () => {
  const drowning = { ...HEALTHY, diskBusy: 1, diskWriteMs: 1_400 };
  expect(slowReason(drowning, AROUND)).toEqual({ slow: true, reason: 'disk', evidence: 'a write takes 1400 ms, the disk is busy 100 % of the time' });
  expect(slowReason({ ...drowning, loop: 0.95 }, AROUND).slow).toBe(false);
  expect(slowReason({ ...drowning, settled: false }, AROUND).slow).toBe(false);
});

test('a canary has no neighbours: what is full on it is told, and nobody says that it is slow', () => {
  const alone = { ...AROUND, medianRate: undefined };
  const slowDisk = { diskBusy: 0.93, diskWriteMs: 240.4 };
  expect(slowReason({ ...HEALTHY, ...slowDisk }, alone)).toEqual({ slow: false, reason: 'disk', evidence: 'a write takes 240 ms, the disk is busy 93 % of the time' });
  expect(slowReason({ ...HEALTHY, loop: 0.97 }, alone)).toMatchObject({ slow: false, reason: 'cpu' });
  expect(slowReason({ ...HEALTHY, ...slowDisk, settled: false }, alone).reason).toBe('');
  expect(slowReason(HEALTHY, alone).reason).toBe('');
});

test('evidence names the figures', () => {
  expect(slowReason({ ...HEALTHY, peerRate: MB, diskBusy: 0.93, diskWriteMs: 240.4 }, AROUND).evidence).toBe('a write takes 240 ms, the disk is busy 93 % of the time');
  expect(slowReason({ ...HEALTHY, peerRate: MB }, AROUND).evidence).toBe('1.0 MB/s from 8 peers where others get 50.0 MB/s');
  expect(slowReason({ ...HEALTHY, peerRate: 0, sources: 0, peers: 0 }, AROUND).evidence).toBe('it is connected to no peer');
});

test('whatever is told, there is an answer, and a reason only where it is slow or has nobody to compare with', () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  const rate = fc.nat(1e9);
  const host = fc.record({
    peerRate: rate, originRate: rate, pulling: fc.boolean(), settled: fc.boolean(), loop: share, diskBusy: share, diskWriteMs: fc.nat(5000), peers: fc.option(fc.nat(20), { nil: undefined }), sources: fc.option(fc.nat(20), { nil: undefined }),
    limits: fc.record({ download: rate, origin: rate }, { requiredKeys: [] }),
    brakes: fc.array(fc.record({ originOnly: fc.boolean() }), { maxLength: 2 }),
    faults: fc.array(fc.record({ origin: fc.string(), kind: fc.constantFrom('dns', 'throttled', 'credentials', 'unreachable', 'other') }), { maxLength: 3 }),
  });
  const around = fc.record({ medianRate: fc.option(rate, { nil: undefined }), heldElsewhere: fc.boolean(), originFault: fc.constant(undefined) });
  fc.assert(
    fc.property(host, around, (pull, surroundings) => {
      const { slow, reason, evidence } = slowReason(pull, surroundings);
      expect(SLOW_REASONS).toContain(reason);
      if (!slow && (surroundings.medianRate !== undefined || reason === '')) expect([reason, evidence]).toEqual(['', '']);
      if (!slow) expect(['', 'cpu', 'disk']).toContain(reason);
      if (!pull.pulling) expect(slow).toBe(false);
    }),
  );
});

test.each([[0, '0 B'], [999, '999 B'], [1000, '1.0 kB'], [123_456, '123 kB'], [4_100_000_000, '4.1 GB'], [9.9e15, '9900 TB']])('%d is %s', (count, text) => {
  expect(bytes(count)).toBe(text);
});
