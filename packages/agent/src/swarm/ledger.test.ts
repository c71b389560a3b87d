import { expect, test } from 'vitest';
import { Account, Ledger, RateMeter } from './ledger.ts';
import { TokenBucket } from './limits.ts';

test('a steady stream is measured as what it is, and fades', () => {
  const meter = new RateMeter();
  for (let ms = 0; ms < 20_000; ms += 10) meter.add(10_000, ms);
  expect(meter.rate(20_000)).toBeGreaterThan(0.98e6);
  expect(meter.rate(20_000)).toBeLessThan(1.02e6);
  expect(meter.rate(40_000)).toBeLessThan(100);
});

test('a clock that goes back does not make a rate grow', () => {
  const meter = new RateMeter();
  meter.add(1000, 5000);
  const rate = meter.rate(5000);
  expect(meter.rate(1000)).toBe(rate);
});

test('what is expected of a peer: unknown at 256 KiB/s, then what it did, scaled to the chunk', () => {
  const account = new Account();
  expect(account.expectedMs(512 * 1024)).toBe(2000);
  for (let i = 0; i < 50; i++) account.delivered(64 * 1024, 100);
  expect(account.expectedMs(64 * 1024)).toBeCloseTo(100);
  expect(account.expectedMs(128 * 1024)).toBeCloseTo(200);
  expect(account.expectedMs(1)).toBeCloseTo(100);
});

test('bans end, and are not shortened by another', () => {
  const ledger = new Ledger();
  ledger.ban('a', 1000);
  ledger.ban('a', 500);
  expect([ledger.isBanned('a', 999), ledger.isBanned('a', 1000), ledger.isBanned('b', 0)]).toEqual([true, false, false]);
  expect(ledger.bans(0)).toEqual([{ peerId: 'a', untilMs: 1000 }]);
});

test('accounts are bounded, and a ban outlives those who come and go', () => {
  const ledger = new Ledger();
  ledger.ban('liar', 1e9);
  const kept = ledger.of('busy');
  for (let i = 0; i < 5000; i++) {
    ledger.of(`visitor${i}`).received(1, i);
    kept.received(1, i);
  }
  expect(ledger.isBanned('liar', 0)).toBe(true);
  expect(ledger.of('busy')).toBe(kept);
  expect(ledger.of('visitor0').bytesDown).toBe(0);
});

test('a token bucket lets the rate through, with a short burst, and can be changed', () => {
  const bucket = new TokenBucket(1_000_000);
  let sent = 0;
  for (let ms = 0; ms <= 10_000; ms++) {
    while (bucket.waitMs(64 * 1024, ms) === 0) {
      bucket.take(64 * 1024, ms);
      sent += 64 * 1024;
    }
  }
  expect(sent).toBeGreaterThan(9.9e6);
  expect(sent).toBeLessThan(10.4e6);
  expect(bucket.waitMs(64 * 1024, 10_000)).toBeGreaterThan(0);
  bucket.set(undefined);
  expect(bucket.waitMs(1e9, 10_000)).toBe(0);
});

test('a piece larger than the bucket goes when it is full, and leaves a debt', () => {
  const bucket = new TokenBucket(1000);
  expect(bucket.waitMs(1e6, 0)).toBe(0);
  bucket.take(1e6, 0);
  expect(bucket.waitMs(1, 900_000)).toBeGreaterThan(0);
  expect(bucket.waitMs(1, 1_000_000)).toBe(0);
});
