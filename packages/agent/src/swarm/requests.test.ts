import { afterEach, expect, test, vi } from 'vitest';
import type { BlobLink, BlobSwarm } from './blob-swarm.ts';
import { TokenBucket } from './limits.ts';
import { Requests } from './requests.ts';
import { systemTimers } from './timers.ts';

const CHUNK = 64 * 1024;

/** A peer that answers at once. */
function peer(): BlobLink {
  return {
    session: { closed: false },
    backoffUntilMs: 0,
    turn: 0,
    account: { latencyMs: undefined },
    intake: { size: 0, expect: () => undefined },
    outbox: { send: () => undefined },
  } as unknown as BlobLink;
}

afterEach(() => void vi.useRealTimers());

test('who waits for the shorter limit is asked when that ends, not when the longer one does', () => {
  vi.useFakeTimers({ now: 0 });
  const [near, foreign] = [peer(), peer()];
  const limits = new Map([
    [foreign, new TokenBucket(CHUNK)],
    [near, new TokenBucket(100 * CHUNK)],
  ]);
  // What may go at once has gone: the next chunk in 250 ms, and in 10 ms.
  limits.get(foreign)!.take(CHUNK, 0);
  limits.get(near)!.take(25 * CHUNK, 0);
  const asked: [BlobLink, number][] = [];
  const blob = {
    sourceCount: 1,
    isPaired: () => asked.length === 0,
    bytesOf: () => CHUNK,
    pick: (link: BlobLink) => {
      asked.push([link, Date.now()]);
      return { channel: 0, index: 0, bytes: CHUNK };
    },
  } as unknown as BlobSwarm;
  const requests = new Requests({
    counters: { add: () => undefined }, nowMs: Date.now, timers: systemTimers, isForeign: (link) => link === foreign, limits: (link) => [limits.get(link)!],
    fetching: () => [blob], links: () => [foreign, near],
  });
  requests.wake(foreign);
  requests.wake(near);
  vi.advanceTimersByTime(100);
  expect(asked.map(([link]) => link)).toEqual([near]);
  requests.close();
});
