import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { OriginRests } from './origin-rests.ts';

test('one member rests alone, for fifteen minutes at most', () => {
  const rests = new OriginRests();
  rests.limited('docker.io', 'a', 3_600_000, 1_000);
  expect([rests.untilMs('docker.io', 'a'), rests.untilMs('docker.io', 'b'), rests.untilMs('quay.io', 'a')]).toEqual([901_000, 0, 0]);
  expect(rests.all(1_000)).toEqual([]);
});

test('it may say so twice, and with a shorter time: that stops nobody else, and shortens nothing', () => {
  const rests = new OriginRests();
  rests.limited('docker.io', 'a', 30_000, 0);
  rests.limited('docker.io', 'a', 1_000, 100);
  expect([rests.untilMs('docker.io', 'a'), rests.untilMs('docker.io', 'b')]).toEqual([30_000, 0]);
});

test('a second one while the first rests: all rest as long as the second was told, for a minute at most', () => {
  const rests = new OriginRests();
  rests.limited('docker.io', 'a', 600_000, 0);
  rests.limited('docker.io', 'b', 2_000, 1_000);
  expect([rests.untilMs('docker.io', 'c'), rests.all(2_999), rests.all(3_000)]).toEqual([3_000, ['docker.io'], []]);
  rests.limited('docker.io', 'c', 600_000, 4_000);
  expect([rests.untilMs('docker.io', 'd'), rests.untilMs('docker.io', 'a'), rests.untilMs('docker.io', 'c')]).toEqual([64_000, 600_000, 604_000]);
});

test('a second one when the first has rested enough is alone again', () => {
  const rests = new OriginRests();
  rests.limited('docker.io', 'a', 1_000, 0);
  rests.limited('docker.io', 'b', 1_000, 1_000);
  expect([rests.untilMs('docker.io', 'c'), rests.all(1_000)]).toEqual([0, []]);
});

test('whatever is told, nobody waits longer than was said, who was told waits, and others wait only while two were told', () => {
  const told = fc.record({ peer: fc.constantFrom('a', 'b', 'c'), retryAfterMs: fc.integer({ min: 1, max: 2_000_000 }), afterMs: fc.integer({ min: 0, max: 100_000 }) });
  fc.assert(
    fc.property(fc.array(told, { maxLength: 30 }), (all) => {
      const rests = new OriginRests();
      let nowMs = 0;
      const until = new Map<string, number>();
      for (const { peer, retryAfterMs, afterMs } of all) {
        nowMs += afterMs;
        rests.limited('o', peer, retryAfterMs, nowMs);
        until.set(peer, Math.max(until.get(peer) ?? 0, nowMs + Math.min(retryAfterMs, 900_000)));
        expect(rests.untilMs('o', peer)).toBeGreaterThanOrEqual(until.get(peer)!);
        const others = [...until].filter(([other, untilMs]) => other !== peer && untilMs > nowMs);
        const bystander = rests.untilMs('o', 'nobody');
        if (others.length > 0) expect(bystander).toBeGreaterThanOrEqual(nowMs + Math.min(60_000, retryAfterMs));
        expect(bystander).toBeLessThanOrEqual(nowMs + 60_000);
        if (new Set(all.map((each) => each.peer)).size === 1) expect(bystander).toBe(0);
      }
    }),
  );
});

test('origins without number are forgotten, those limited longest ago first', () => {
  const rests = new OriginRests();
  for (let origin = 0; origin < 1_001; origin++) rests.limited(`o${origin}`, 'a', 1_000_000, 0);
  expect([rests.untilMs('o0', 'a'), rests.untilMs('o1', 'a')]).toEqual([0, 900_000]);
});
