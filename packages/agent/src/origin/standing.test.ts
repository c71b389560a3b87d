import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { ExpiringMap } from './expiring-map.ts';
import type { OriginEntry } from './origins.ts';
import { OriginStanding, retryAfterMs } from './standing.ts';

const [a, b] = [new URL('https://a.example'), new URL('https://b.example')];
const entry: OriginEntry = { name: 'lab', urls: [a, b], realms: [], tls: {}, credentials: undefined, privateAllowed: true };
function standingAt(start: number) {
  const clock = { nowMs: start };
  return { clock, standing: new OriginStanding(entry, () => clock.nowMs) };
}

test('a URL that failed is tried last for a while', () => {
  const { clock, standing } = standingAt(1000);
  expect(standing.order()).toEqual([a, b]);
  standing.urlFailed(a);
  expect(standing.order()).toEqual([b, a]);
  standing.urlAnswered(a);
  expect(standing.order()).toEqual([a, b]);
  standing.urlFailed(a);
  clock.nowMs += 10_000;
  expect(standing.order()).toEqual([a, b]);
});

test('a 429 silences one URL for as long as it asked, within bounds', () => {
  const { clock, standing } = standingAt(5000);
  expect(standing.throttle(a, 2000)).toBe(2000);
  expect(() => standing.checkThrottle(a)).toThrow(expect.objectContaining({ code: 'ORIGIN_THROTTLED', retryAfterMs: 2000 }));
  standing.checkThrottle(b);
  expect(standing.status().throttledUntilMs).toBe(7000);
  clock.nowMs = 6999;
  expect(() => standing.checkThrottle(a)).toThrow(expect.objectContaining({ retryAfterMs: 1 }));
  clock.nowMs = 7000;
  standing.checkThrottle(a);
  expect(standing.status().throttledUntilMs).toBeUndefined();
  expect(standing.throttle(a, undefined)).toBe(30_000);
  expect(standing.throttle(b, 1e9)).toBe(900_000);
  // A shorter wait does not end a longer one.
  standing.throttle(b, 1);
  expect(standing.status().throttledUntilMs).toBe(907_000);
});

test('the status counts, and keeps the last failure of the origin only', () => {
  const { standing } = standingAt(7);
  standing.requested();
  standing.received(10);
  standing.received(5);
  standing.failed(new AgentError('ORIGIN_TLS', 'bad certificate'));
  standing.failed(new AgentError('MANIFEST_UNKNOWN', 'no such tag'));
  standing.failed(new AgentError('TAG_INVALID', 'asked wrongly'));
  expect(standing.status()).toEqual({
    name: 'lab', urls: ['https://a.example', 'https://b.example'], requests: 1, bytes: 15, throttledUntilMs: undefined, credentials: undefined,
    faults: [{ code: 'ORIGIN_TLS', message: 'bad certificate', host: undefined, count: 1, firstAtMs: 7, lastAtMs: 7 }],
  });
});

test.each<[string | undefined, number | undefined]>([
  ['120', 120_000], [' 0 ', 0], ['Thu, 01 Jan 1970 00:01:00 GMT', 59_000], ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  [undefined, undefined], ['', undefined], ['-1', undefined], ['1.5', undefined], ['soon', undefined], ['99999999999', undefined],
])('Retry-After: %s is %s ms', (header, expected) => {
  expect(retryAfterMs(header, 1000)).toBe(expected);
});

test('property: Retry-After never gives a negative or broken wait', () => {
  fc.assert(fc.property(fc.string(), (header) => (retryAfterMs(header, 1000) ?? 0) >= 0));
});

test('an expiring map forgets the oldest beyond its bound, and what is too old', () => {
  let nowMs = 0;
  const map = new ExpiringMap<number>(2, () => nowMs);
  map.set('a', 1, 100);
  map.set('b', 2, 50);
  expect(map.get('a')).toBe(1);
  map.set('c', 3, 100);
  expect([map.get('a'), map.get('b'), map.get('c'), map.size]).toEqual([1, undefined, 3, 2]);
  nowMs = 100;
  expect([map.get('a'), map.get('c'), map.size]).toEqual([undefined, undefined, 0]);
});
