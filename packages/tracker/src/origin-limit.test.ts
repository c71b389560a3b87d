import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OriginLimit } from './origin-limit.ts';
import { blobOf, need, TestFleet, want } from './test-swarms.ts';

const KIB = 1024;
const CHUNK = 64 * KIB;

describe('the bucket', () => {
  test('without a rate it is always open', () => {
    const limit = new OriginLimit(undefined);
    limit.take(1e12);
    expect([limit.open(0), limit.scarce(0), limit.mostBytes]).toEqual([true, false, Number.POSITIVE_INFINITY]);
  });

  test('a debt is paid back before it opens again; what was not read flows back', () => {
    const limit = new OriginLimit(1000);
    expect(limit.open(0)).toBe(true);
    limit.take(1250);
    expect(limit.open(0)).toBe(false);
    expect(limit.open(1000)).toBe(false);
    expect(limit.open(1001)).toBe(true);
    limit.take(500);
    limit.give(600);
    expect(limit.open(1001)).toBe(true);
  });

  test('a pause saves up a quarter of a second, no more', () => {
    const limit = new OriginLimit(1000);
    limit.open(0);
    limit.open(60_000);
    limit.take(251);
    expect(limit.open(60_000)).toBe(false);
  });

  test('another rate counts at once', () => {
    const limit = new OriginLimit(1000);
    limit.open(0);
    limit.take(10_000);
    limit.set(undefined);
    expect(limit.open(0)).toBe(true);
    limit.set(100_000);
    expect(limit.open(0)).toBe(false);
    expect(limit.open(200)).toBe(true);
  });

  test('over any time no more goes out than the rate, the burst and one last lease', () => {
    const step = fc.record({ ms: fc.integer({ min: 0, max: 2_000 }), bytes: fc.integer({ min: 1, max: 5_000 }), back: fc.double({ min: 0, max: 1, noNaN: true }) });
    fc.assert(
      fc.property(fc.integer({ min: 1_000, max: 100_000 }), fc.array(step, { maxLength: 100 }), (rate, steps) => {
        const limit = new OriginLimit(rate);
        let [nowMs, granted] = [0, 0];
        for (const { ms, bytes, back } of steps) {
          nowMs += ms;
          if (!limit.open(nowMs)) continue;
          limit.take(bytes);
          const unread = Math.floor(bytes * back);
          limit.give(unread);
          granted += bytes - unread;
        }
        expect(granted).toBeLessThanOrEqual((rate * nowMs) / 1000 + rate / 4 + 5_000);
      }),
    );
  });
});

describe('leases', () => {
  const RATE = 1024 * KIB;

  function fleet(limit: OriginLimit): TestFleet {
    return new TestFleet({ limitsOf: () => [limit] });
  }

  /** All that may be read at the origin, by the grants that agents were told. */
  function granted(test: TestFleet): number {
    return test.log.reduce((sum, { event }) => sum + (event.type === 'grant' ? event.count * CHUNK : 0), 0);
  }

  /** Readers that read at once whatever they are granted, and always want more. */
  function work(test: TestFleet, blobs: readonly ReturnType<typeof blobOf>[], peers: readonly string[], ms: number): void {
    const dealt = new Set<string>();
    for (let passed = 0; passed < ms; passed += 50) {
      test.pass(50);
      for (const { peer, event } of test.log.slice()) {
        if (event.type !== 'grant' || dealt.has(event.leaseId)) continue;
        dealt.add(event.leaseId);
        test.done(peer, event);
      }
      for (const peer of peers) for (const blob of blobs) test.say(peer, need(blob, 2));
    }
  }

  test('are granted no faster than the limit, however many ask', () => {
    const test = fleet(new OriginLimit(RATE));
    const blob = blobOf(2_000);
    const peers = Array.from({ length: 20 }, (_, index) => `p${index}`);
    for (const peer of peers) test.reader(peer, blob, { rate: 50e6 });
    work(test, [blob], peers, 10_000);
    expect(granted(test)).toBeLessThanOrEqual(RATE * 10.25 + 16 * CHUNK);
    expect(granted(test)).toBeGreaterThan(RATE * 9);
  });

  test('one that is alone does not take the burst of a minute at once', () => {
    const test = fleet(new OriginLimit(RATE));
    const blob = blobOf(2_000);
    test.reader('alone', blob, { rate: 50e6 });
    test.pass(1_000);
    test.say('alone', need(blob, 2));
    test.pass(1_000);
    expect(Math.max(...test.grants('alone').map(({ count }) => count * CHUNK))).toBeLessThanOrEqual(RATE / 4);
  });

  test('blobs share what the limit leaves', () => {
    const test = fleet(new OriginLimit(RATE));
    const blobs = ['a', 'b', 'c', 'd'].map((name) => blobOf(2_000, name));
    const peers = ['p0', 'p1', 'p2'];
    test.join(...peers);
    for (const blob of blobs) for (const peer of peers) test.say(peer, want(blob), need(blob, 2, 50e6));
    work(test, blobs, peers, 10_000);
    const shares = blobs.map(({ digest }) => test.log.reduce((sum, { event }) => sum + (event.type === 'grant' && event.blob.digest === digest ? event.count * CHUNK : 0), 0));
    expect(Math.min(...shares)).toBeGreaterThan(0.6 * (granted(test) / blobs.length));
  });

  test('a hedge is none of a limit that is used up', () => {
    const limit = new OriginLimit(RATE);
    const test = fleet(limit);
    const blob = blobOf(2_000);
    test.reader('p0', blob);
    test.pass(500);
    limit.take(100 * RATE);
    test.say('p0', { type: 'hedge', blob, index: 1_900 });
    expect(test.grants('p0', 'hedge')).toEqual([]);
    test.pass(110_000);
    test.say('p0', { type: 'hedge', blob, index: 1_900 });
    expect(test.grants('p0', 'hedge')).toHaveLength(1);
  });

  test('what a reader that goes has not read may be read by others', () => {
    const limit = new OriginLimit(RATE);
    const test = fleet(limit);
    const blob = blobOf(2_000);
    test.reader('p0', blob);
    test.pass(200);
    expect(granted(test)).toBeGreaterThan(0);
    test.swarms.leave('p0');
    expect(limit.scarce(test.nowMs)).toBe(false);
  });
});
