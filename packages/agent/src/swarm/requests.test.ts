import { expect, test } from 'vitest';
import type { BlobLink, BlobSwarm } from './blob-swarm.ts';
import { TokenBucket } from './limits.ts';
import { Requests } from './requests.ts';
import type { Timers } from './timers.ts';

const CHUNK = 64 * 1024;

/** Time that a test moves on. */
function clockwork(): { now: () => number; timers: Timers; pass: (ms: number) => void } {
  let nowMs = 0;
  let order = 0;
  const due = new Map<number, { atMs: number; run: () => void }>();
  const after = (ms: number, run: () => void) => {
    const id = order++;
    due.set(id, { atMs: nowMs + ms, run });
    return () => void due.delete(id);
  };
  const pass = (ms: number) => {
    const endMs = nowMs + ms;
    for (;;) {
      const [next] = [...due].filter(([, { atMs }]) => atMs <= endMs).sort(([a, x], [b, y]) => x.atMs - y.atMs || a - b);
      if (next === undefined) break;
      due.delete(next[0]);
      nowMs = next[1].atMs;
      next[1].run();
    }
    nowMs = endMs;
  };
  return { now: () => nowMs, timers: { after, soon: (run: () => void) => after(0, run) } as Timers, pass };
}

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

test('who waits for the shorter limit is asked when that ends, not when the longer one does', () => {
  const { now, timers, pass } = clockwork();
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
      asked.push([link, now()]);
      return { channel: 0, index: 0, bytes: CHUNK };
    },
  } as unknown as BlobSwarm;
  const requests = new Requests({
    counters: { add: () => undefined }, nowMs: now, timers, isForeign: (link) => link === foreign, limits: (link) => [limits.get(link)!],
    fetching: () => [blob], links: () => [foreign, near],
  });
  requests.wake(foreign);
  requests.wake(near);
  pass(100);
  expect(asked.map(([link]) => link)).toEqual([near]);
  requests.close();
});
