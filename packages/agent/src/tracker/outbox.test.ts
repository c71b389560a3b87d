import { FULL_LOOP } from '@flotilla/shared/agent-report';
import { MAX_BATCH_BYTES, MessageBatch, type AgentMessage } from '@flotilla/shared/tracker-api';
import * as fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { describe, expect, test } from 'vitest';
import { COALESCE_MS, MANY_DONE_BYTES, MAX_QUEUED, Outbox, STATS_MS, type OutboxBatch } from './outbox.ts';

const blobs = ['a', 'b'].map((hex) => ({ digest: `sha256:${hex.repeat(64)}`, size: 1_000_000 }));
const [blobA, blobB] = blobs as [(typeof blobs)[0], (typeof blobs)[0]];
const have = (blob: typeof blobA, ...ranges: [number, number][]): AgentMessage => ({ type: 'have', blob, ranges });
const done = (blob: typeof blobA, first: number): AgentMessage => ({ type: 'done', leaseId: 'l', blob, first, digests: '' });
const need = (blob: typeof blobA): AgentMessage => ({ type: 'need', blob, runs: 1, originRate: 0 });
const progress = (leaseId: string, bytes: number): AgentMessage => ({ type: 'progress', leaseId, bytes });
const stats = (done: number): AgentMessage => ({
  type: 'stats',
  bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 },
  pulls: { active: 0, done, failed: 0 },
  store: { bytes: 0, limit: 0, blobs: 0 },
});

const checkBatch = Compile(MessageBatch);
function messagesOf(batch: OutboxBatch | undefined): AgentMessage[] {
  const parsed: unknown = JSON.parse(batch?.body ?? '{"messages":[]}');
  if (!checkBatch.Check(parsed)) throw new Error('no valid batch');
  return parsed.messages;
}

describe('when a post is due', () => {
  test('ordinary messages wait 400 ms after the first of them', () => {
    const outbox = new Outbox();
    expect(outbox.dueMs).toBe(Number.POSITIVE_INFINITY);
    outbox.push(have(blobA, [0, 1]), 1_000);
    outbox.push(have(blobB, [0, 1]), 1_090);
    expect(outbox.dueMs).toBe(1_000 + COALESCE_MS);
  });

  test.each([need(blobA), { type: 'mismatch', blob: blobA } as const, { type: 'release', leaseId: 'l', reason: 'failed' } as const])(
    'urgent ones ($type) go at once, and take along what waits before them',
    (urgent) => {
      const outbox = new Outbox();
      outbox.push(have(blobA, [0, 1]), 1_000);
      outbox.push(urgent, 1_020);
      expect(outbox.dueMs).toBe(1_020);
      expect(messagesOf(outbox.take(1_020)).map(({ type }) => type)).toEqual(['have', urgent.type]);
      expect(outbox.take(1_020)).toBeUndefined();
      expect(outbox.dueMs).toBe(Number.POSITIVE_INFINITY);
    },
  );

  test('chunks that were read wait as well, but not many of them', () => {
    const many = MANY_DONE_BYTES / (64 * 1024);
    const outbox = new Outbox();
    for (let post = 0; post < 2; post++) {
      for (let index = 1; index < many; index++) outbox.push(done(blobA, index), 1_000);
      outbox.push(have(blobA, [0, 1]), 1_000);
      expect(outbox.dueMs).toBe(1_000 + COALESCE_MS);
      outbox.push(done(blobB, 0), 1_010);
      expect(outbox.dueMs).toBe(1_010);
      expect(messagesOf(outbox.take(1_010))).toHaveLength(many + 1);
    }
  });
});

test('figures wait less, but not those of a host whose thread is full', () => {
  const outbox = new Outbox();
  const vitals = { atMs: 0, peerRate: 0, originRate: 0, uploadRate: 0, loop: FULL_LOOP - 0.01, cpu: 0, diskWriteMs: 0, diskBusy: 0, peers: 0, sources: 0, missingBytes: 0, freeBytes: 0, memoryBytes: 0 };
  outbox.push({ ...stats(1), vitals } as AgentMessage, 1_000);
  expect(outbox.dueMs).toBe(1_000 + STATS_MS);
  outbox.push({ ...stats(2), vitals: { ...vitals, loop: FULL_LOOP } } as AgentMessage, 1_010);
  expect(outbox.dueMs).toBe(1_010);
});

describe('merging', () => {
  test('consecutive haves of one blob become one, also with another blob in between', () => {
    const outbox = new Outbox();
    for (const message of [have(blobA, [0, 2]), have(blobB, [5, 1]), have(blobA, [2, 1]), have(blobA, [9, 1])]) outbox.push(message, 0);
    expect(messagesOf(outbox.take(0))).toEqual([have(blobA, [0, 3], [9, 1]), have(blobB, [5, 1])]);
  });

  test('what was read under leases meanwhile is no reason to begin another', () => {
    const outbox = new Outbox();
    for (const message of [have(blobA, [0, 1]), done(blobA, 0), have(blobA, [1, 1]), done(blobA, 1), have(blobA, [5, 1])]) outbox.push(message, 0);
    expect(messagesOf(outbox.take(0))).toEqual([have(blobA, [0, 2], [5, 1]), done(blobA, 0), done(blobA, 1)]);
  });

  test('what lies between two haves of one blob keeps its place', () => {
    const outbox = new Outbox();
    const lost: AgentMessage = { type: 'lost', blob: blobA, ranges: [[0, 1]] };
    for (const message of [have(blobA, [0, 1]), lost, have(blobA, [0, 1])]) outbox.push(message, 0);
    expect(messagesOf(outbox.take(0))).toEqual([have(blobA, [0, 1]), lost, have(blobA, [0, 1])]);
  });

  test('what was had before something was found wrong, and after it, stay two', () => {
    const outbox = new Outbox();
    outbox.push({ ...have(blobA, [0, 1]), round: 0 } as AgentMessage, 0);
    outbox.push({ ...have(blobA, [1, 1]), round: 1 } as AgentMessage, 0);
    outbox.push({ ...have(blobA, [2, 1]), round: 1 } as AgentMessage, 0);
    expect(messagesOf(outbox.take(0))).toMatchObject([{ ranges: [[0, 1]], round: 0 }, { ranges: [[1, 2]], round: 1 }]);
  });

  test('a have after a post does not change the one that left', () => {
    const outbox = new Outbox();
    outbox.push(have(blobA, [0, 1]), 0);
    const first = outbox.take(0);
    outbox.push(have(blobA, [1, 1]), 0);
    expect(messagesOf(first)).toEqual([have(blobA, [0, 1])]);
    expect(messagesOf(outbox.take(0))).toEqual([have(blobA, [1, 1])]);
  });

  test('newer progress of a lease and newer stats replace older ones', () => {
    const outbox = new Outbox();
    for (const message of [progress('l', 5), stats(1), progress('m', 6), progress('l', 7), stats(2)]) outbox.push(message, 0);
    expect(messagesOf(outbox.take(0))).toEqual([progress('l', 7), stats(2), progress('m', 6)]);
  });

  test('stats that say what is told once are not replaced', () => {
    const outbox = new Outbox();
    const telling = { ...stats(1), manifests: [{ ...blobA, mediaType: 'm', blobs: [] }] } as AgentMessage;
    for (const message of [stats(0), telling, stats(2), stats(3)]) outbox.push(message, 0);
    expect(messagesOf(outbox.take(0))).toEqual([telling, stats(3)]);
  });

  test('for any sequence, replaying what is posted gives what was meant', () => {
    const message = fc.record({ blob: fc.constantFrom(blobA, blobB), first: fc.integer({ min: 0, max: 30 }), count: fc.integer({ min: 1, max: 5 }), lost: fc.boolean(), post: fc.boolean() });
    const replay = (messages: AgentMessage[]): string[] => {
      const held = new Set<string>();
      for (const one of messages) {
        if (one.type !== 'have' && one.type !== 'lost') continue;
        for (const [first, count] of one.ranges) for (let i = first; i < first + count; i++) held[one.type === 'have' ? 'add' : 'delete'](`${one.blob.digest} ${i}`);
      }
      return [...held].sort();
    };
    fc.assert(fc.property(fc.array(message), (steps) => {
      const outbox = new Outbox();
      const meant: AgentMessage[] = [];
      const posted: AgentMessage[] = [];
      for (const { blob, first, count, lost, post } of steps) {
        const one: AgentMessage = { type: lost ? 'lost' : 'have', blob, ranges: [[first, count]] };
        meant.push(one);
        outbox.push(one, 0);
        if (post) posted.push(...messagesOf(outbox.take(0)));
      }
      posted.push(...messagesOf(outbox.take(0)));
      expect(replay(posted)).toEqual(replay(meant));
    }));
  });
});

describe('bounds', () => {
  test('a post stays within bytes and messages, the rest is due at once and in order', () => {
    const outbox = new Outbox();
    for (let i = 0; i < 6_000; i++) outbox.push(done(blobA, i), 0);
    const first = outbox.take(50);
    expect(first!.messages).toBe(4_096);
    expect(outbox.dueMs).toBe(50);
    const firsts = [...messagesOf(first), ...messagesOf(outbox.take(50))].map((message) => (message.type === 'done' ? message.first : -1));
    expect(firsts).toEqual(Array.from({ length: 6_000 }, (_, i) => i));
  });

  test('large messages are spread over posts, one that fits none is dropped and counted', () => {
    const outbox = new Outbox();
    const large = (first: number, length: number): AgentMessage => ({ type: 'done', leaseId: 'l', blob: blobA, first, digests: 'A'.repeat(length) });
    outbox.push(large(1, 600_000), 0);
    outbox.push(large(2, 2_000_000), 0);
    outbox.push(large(3, 600_000), 0);
    const posts = [outbox.take(0), outbox.take(0)];
    for (const post of posts) expect(Buffer.byteLength(post!.body)).toBeLessThanOrEqual(MAX_BATCH_BYTES);
    expect(posts.flatMap(messagesOf)).toEqual([large(1, 600_000), large(3, 600_000)]);
    expect(outbox.dropped).toBe(1);
    expect(outbox.take(0)).toBeUndefined();
  });

  test('with no room left progress and stats go first', () => {
    const outbox = new Outbox();
    outbox.push(progress('l', 1), 0);
    outbox.push(stats(1), 0);
    for (let i = 0; i < MAX_QUEUED; i++) outbox.push(done(blobA, i), 0);
    expect(outbox.queued).toBe(MAX_QUEUED);
    expect(outbox.dropped).toBe(2);
    expect(outbox.overfull).toBe(false);
    outbox.push(progress('l', 2), 0);
    expect(outbox.dropped).toBe(3);
    expect(outbox.overfull, 'for want of a progress no session ends').toBe(false);
    outbox.push(done(blobA, MAX_QUEUED), 0);
    expect(outbox.overfull).toBe(true);
    outbox.clear();
    expect(outbox.overfull).toBe(false);
    expect(outbox.queued).toBe(0);
    expect(outbox.dropped).toBe(4 + MAX_QUEUED);
  });
});
