import { describe, expect, test } from 'vitest';
import { blobOf, chunksOf, need, TestFleet, trueDigest, want } from './test-swarms.ts';
import { packDigests, type Grant } from '@flotilla/shared/tracker-api';
import { RUN_SIZES } from './lease.ts';

const peers = (count: number): string[] => Array.from({ length: count }, (_, at) => `peer-${String(at).padStart(4, '0')}`);

describe('runs', () => {
  test('ascend, one being read and one spare, of 256 KiB at first', () => {
    const fleet = new TestFleet();
    const blob = blobOf(100);
    fleet.reader('a', blob, { runs: 8 });
    fleet.pass(1000);
    expect(fleet.grants('a').map(({ first, count }) => [first, count])).toEqual([[0, 4], [4, 4]]);
    expect(fleet.grants('a')[0]).toMatchObject({ epoch: 3, blob, mode: 'run', deadlineMs: 20_000 });
  });

  test('are about 100 ms of a faster origin, up to 16 chunks', () => {
    const fleet = new TestFleet();
    const blob = blobOf(100);
    fleet.reader('a', blob, { rate: 5 * 1024 * 1024, runs: 1 });
    fleet.reader('b', blob, { rate: 1e9, runs: 1 });
    expect(fleet.grants('a')[0]).toMatchObject({ first: 0, count: 8 });
    expect(fleet.grants('b')[0]).toMatchObject({ first: 8, count: 16 });
  });

  test('a spare follows at once when a run is done, and only as many as were asked for', () => {
    const fleet = new TestFleet();
    const blob = blobOf(100);
    fleet.reader('a', blob, { runs: 2 });
    fleet.say('a', need(blob, 1));
    fleet.done('a', fleet.grants('a')[0]!);
    expect(fleet.grants('a')).toHaveLength(3);
    fleet.done('a', fleet.grants('a')[1]!);
    expect(fleet.grants('a')).toHaveLength(3);
  });

  test('go to the member that was granted least', () => {
    const fleet = new TestFleet();
    const blob = blobOf(400);
    fleet.reader('a', blob, { runs: 16 });
    for (let run = 0; run < 5; run++) fleet.done('a', fleet.grants('a')[run]!);
    fleet.say('a', need(blob, 0));
    fleet.reader('b', blob, { runs: 0 });
    fleet.say('a', need(blob, 2));
    fleet.done('a', fleet.grants('a')[5]!);
    const before = fleet.grants('a').length;
    // Both ask in the same batch: b, which has nothing yet, is served first.
    fleet.swarms.apply('a', need(blob, 2), fleet.nowMs);
    fleet.swarms.apply('b', need(blob, 2), fleet.nowMs);
    fleet.swarms.settle(fleet.nowMs);
    expect(fleet.grants('b').length).toBeGreaterThan(0);
    expect(fleet.grants('b')[0]!.first).toBeLessThan(fleet.grants('a')[before]?.first ?? Number.POSITIVE_INFINITY);
  });

  test('are left to others by who reads at less than a third of what is usual, as long as others read them', () => {
    const fleet = new TestFleet();
    const blob = blobOf(400);
    const names = ['a', 'b', 'c', 'slow'];
    for (const peer of names) fleet.reader(peer, blob);
    fleet.pass(1000);
    const rate = (peer: string): number => (peer === 'slow' ? 30_000 : 100_000);
    for (const peer of names) for (const grant of fleet.grants(peer)) fleet.done(peer, grant);
    for (const peer of names) fleet.say(peer, need(blob, 0, rate(peer)));
    fleet.forget();
    for (const peer of names) fleet.say(peer, need(blob, 2, rate(peer)));
    fleet.pass(200);
    for (let turn = 0; turn < 5; turn++) {
      for (const peer of ['a', 'b', 'c']) for (const grant of fleet.grants(peer).slice(2 * turn)) fleet.done(peer, grant);
      for (const peer of names) fleet.say(peer, need(blob, 2, rate(peer)));
      fleet.pass(100);
    }
    expect(fleet.grants('slow').length, 'asked before the first tick that knew the rates').toBeLessThanOrEqual(2);
    expect(['a', 'b', 'c'].every((peer) => fleet.grants(peer).length > 5)).toBe(true);

    // The others need only a stretch: the rest is the slow one's, in runs.
    for (const grant of fleet.grants('slow')) fleet.done('slow', grant);
    fleet.forget();
    for (const peer of ['a', 'b', 'c']) fleet.say(peer, need(blob, 2, rate(peer), [300, 100]));
    fleet.pass(100);
    fleet.say('slow', need(blob, 2, rate('slow')));
    fleet.pass(200);
    const runs = fleet.grants('slow');
    expect(runs.length).toBeGreaterThan(0);
    expect(runs.every(({ first, count }) => first + count <= 300)).toBe(true);

    // Nobody else reads: everything is.
    fleet.say('slow', need(blob, 0, rate('slow')));
    for (const grant of fleet.grants('slow')) fleet.done('slow', grant);
    fleet.forget();
    for (const peer of ['a', 'b', 'c']) fleet.say(peer, { type: 'leave', blob, kept: false });
    for (let turn = 0; turn < 200; turn++) {
      for (const grant of fleet.grants('slow').slice(turn)) fleet.done('slow', grant);
      fleet.say('slow', need(blob, 2, rate('slow')));
      fleet.pass(100);
    }
    expect(fleet.grants('slow').some(({ first }) => first >= 300)).toBe(true);
  });

  test('are left to others by who gains chunks at less than a third of what is usual, and its spare is asked back, until it gains as others do', () => {
    const fleet = new TestFleet();
    const blob = blobOf(1000);
    const names = ['a', 'b', 'c', 'slow'];
    for (const peer of names) fleet.reader(peer, blob);
    let held = 700;
    /** A second in which peers bring chunks, these many to the slow one. */
    const second = (slow: number): void => {
      for (let turn = 0; turn < 5; turn++) {
        for (const peer of ['a', 'b', 'c']) fleet.say(peer, { type: 'have', blob, ranges: [[held, 4]] });
        if (turn === 0 && slow > 0) fleet.say('slow', { type: 'have', blob, ranges: [[held, slow]] });
        held += 4;
        fleet.pass(200);
      }
    };
    second(3);
    const [current, spare] = fleet.grants('slow');
    expect(fleet.told('slow', 'revoke')).toEqual([]);
    second(3);
    expect(fleet.told('slow', 'revoke'), 'what it reads, it reads to its end').toEqual([{ type: 'revoke', leaseId: spare!.leaseId, keep: 0, spare: true }]);
    fleet.say('slow', { type: 'release', leaseId: spare!.leaseId, reason: 'unneeded' }, need(blob, 1));
    fleet.done('slow', current!);
    // It reads at its origin as fast as all others: their uplink is the same.
    fleet.say('slow', need(blob, 2, 100_000));
    for (const peer of ['a', 'b', 'c']) {
      for (const grant of fleet.grants(peer)) fleet.done(peer, grant);
      fleet.say(peer, need(blob, 2, 100_000));
    }
    fleet.pass(100);
    expect(fleet.grants('slow')).toHaveLength(2);
    const others = ['a', 'b', 'c'].flatMap((peer) => fleet.grants(peer));
    expect(others.map(({ first }) => first), 'what it gave back is read by others').toContain(spare!.first);
    // What many peers have sent at a time comes in all at once now and then; over some seconds it is half of what is usual.
    for (const chunks of [4, 22, 4]) second(chunks);
    expect(fleet.grants('slow')).toHaveLength(2);
    for (let seconds = 0; seconds < 3; seconds++) second(20);
    second(0);
    expect(fleet.grants('slow')).toHaveLength(4);
  });

  test('are given to a slow reader while the origin of all others has them wait', () => {
    const fleet = new TestFleet();
    const blob = blobOf(400);
    const names = ['a', 'b', 'c', 'slow'];
    const rate = (peer: string): number => (peer === 'slow' ? 30_000 : 100_000);
    for (const peer of names) fleet.reader(peer, blob, { origin: 'docker.io', rate: rate(peer) });
    fleet.pass(1000);
    expect(fleet.grants('slow')).toEqual([]);
    // Each for ten minutes, and so all for one; then the others still rest.
    for (const peer of ['a', 'b', 'c']) {
      for (const { leaseId } of fleet.grants(peer)) fleet.say(peer, { type: 'release', leaseId, reason: 'throttled', retryAfterMs: 600_000 });
      fleet.say(peer, need(blob, 2, rate(peer)));
    }
    fleet.pass(59_900);
    expect(fleet.grants('slow')).toEqual([]);
    fleet.pass(400);
    expect(fleet.grants('slow')).toHaveLength(2);
  });

  test('start with three and reach two for every ready member within half a second, or twelve of a large crowd', () => {
    const fleet = new TestFleet();
    const blob = blobOf(1000);
    const names = peers(6);
    for (const peer of names) fleet.reader(peer, blob);
    const live = (): number => names.reduce((sum, peer) => sum + fleet.grants(peer).length, 0);
    expect(live()).toBe(3);
    fleet.pass(500);
    expect(names.map((peer) => fleet.grants(peer).length)).toEqual(names.map(() => 2));
    const crowd = new TestFleet();
    for (const peer of peers(50)) crowd.reader(peer, blob);
    crowd.pass(800);
    expect(peers(50).reduce((sum, peer) => sum + crowd.grants(peer).length, 0)).toBe(12);
  });

  test('are of 512 KiB once the rate is known, and shrink towards the end to what is left for each', () => {
    const fleet = new TestFleet({ runSizes: RUN_SIZES });
    const blob = blobOf(64);
    const names = peers(4);
    for (const peer of names) fleet.reader(peer, blob, { runs: 1, rate: 100_000 });
    const unknown = new TestFleet({ runSizes: RUN_SIZES });
    unknown.reader('new', blob, { runs: 1 });
    expect(unknown.grants('new')[0]).toMatchObject({ first: 0, count: 4 });
    for (let round = 0; round < 20; round++) {
      for (const peer of names) {
        const grant = fleet.grants(peer).at(-1);
        if (grant !== undefined) fleet.done(peer, grant);
        fleet.say(peer, need(blob, 1, 100_000));
      }
      fleet.pass(100);
    }
    const counts = names.flatMap((peer) => fleet.grants(peer)).sort((a, b) => a.first - b.first).map(({ count }) => count);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(64);
    expect(counts.slice(0, 4)).toEqual([8, 8, 8, 8]);
    // Of the last one there is only so much left.
    expect(Math.min(...counts.slice(0, -1))).toBe(5);
    expect(counts.every((count, at) => at === 0 || count <= counts[at - 1]!)).toBe(true);
  });

  test('stay within the window of a member that keeps no more', () => {
    const fleet = new TestFleet();
    const blob = blobOf(100);
    fleet.join('a');
    fleet.say('a', want(blob), need(blob, 2, 0, [10, 6]));
    fleet.pass(1000);
    expect(chunksOf(fleet.grants('a'))).toEqual([10, 11, 12, 13, 14, 15]);
  });

  test('stay within the stretches that a member needs, more of them at once where these lie far apart', () => {
    const fleet = new TestFleet();
    const blob = blobOf(100);
    fleet.join('a');
    fleet.say('a', want(blob), { type: 'need', blob, runs: 16, originRate: 0, within: [10, 71], stretches: [[10, 1], [30, 2], [50, 1], [70, 1], [80, 1]] });
    fleet.pass(1000);
    expect(fleet.grants('a').map(({ first, count }) => [first, count])).toEqual([[10, 1], [30, 2], [50, 1]]);
    for (const { leaseId, first, count } of fleet.grants('a')) fleet.say('a', { type: 'have', blob, ranges: [[first, count]] }, { type: 'release', leaseId, reason: 'unneeded' });
    fleet.pass(1000);
    expect(fleet.grants('a').slice(3).map(({ first, count }) => [first, count])).toEqual([[70, 1], [80, 1]]);
  });

  test('of one stretch are no more than ever', () => {
    const fleet = new TestFleet();
    const blob = blobOf(100);
    fleet.join('a');
    fleet.say('a', want(blob), { type: 'need', blob, runs: 16, originRate: 0, within: [10, 70] });
    fleet.pass(100);
    expect(fleet.grants('a')).toHaveLength(2);
  });

  test('are not given to who cannot read, or was denied', () => {
    const fleet = new TestFleet();
    const blob = blobOf(20);
    fleet.reader('blind', blob, { canRead: false });
    fleet.reader('a', blob);
    const [first] = fleet.grants('a');
    fleet.say('a', { type: 'release', leaseId: first!.leaseId, reason: 'denied' });
    fleet.reader('b', blob);
    fleet.pass(3000);
    expect(fleet.grants('blind')).toEqual([]);
    expect(fleet.grants('a')).toHaveLength(2);
    expect(fleet.grants('b')[0]!.first).toBe(0);
  });
});

describe('what somebody has or reads', () => {
  test('is not leased: announced, seeded, read by lease or from before', () => {
    const fleet = new TestFleet();
    const blob = blobOf(12);
    fleet.join('holder', 'old');
    fleet.say('holder', { type: 'have', blob, ranges: [[0, 2]] });
    fleet.say('old', want(blob, { reading: [[2, 3]], canRead: true }));
    fleet.reader('a', blob);
    fleet.pass(1000);
    expect(chunksOf(fleet.grants('a'))).toEqual([5, 6, 7, 8, 9, 10, 11]);
    fleet.join('seed', 'b');
    fleet.say('seed', { type: 'inventory', seeds: [blob], complete: true });
    fleet.swarms.leave('a');
    fleet.say('b', want(blob), need(blob, 2));
    fleet.pass(5000);
    expect(fleet.grants('b')).toEqual([]);
  });

  test('is leased again when its only holder leaves, loses it, or its seed is gone', () => {
    const fleet = new TestFleet();
    const blob = blobOf(6);
    fleet.join('seed', 'holder');
    fleet.say('seed', { type: 'inventory', seeds: [blob], complete: true });
    fleet.say('holder', { type: 'have', blob, ranges: [[0, 4]] });
    fleet.reader('a', blob);
    expect(fleet.grants('a')).toEqual([]);
    fleet.swarms.leave('seed');
    fleet.swarms.settle(fleet.nowMs);
    expect(chunksOf(fleet.grants('a'))).toEqual([4, 5]);
    fleet.say('holder', { type: 'lost', blob, ranges: [[1, 1]] });
    expect(chunksOf(fleet.grants('a'))).toEqual([1, 4, 5]);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.say('a', need(blob, 2));
    fleet.swarms.leave('holder');
    fleet.pass(100);
    fleet.done('a', fleet.grants('a').at(-1)!);
    expect(chunksOf(fleet.grants('a'))).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('an unread lease of a member that left goes to the next', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.reader('b', blob);
    expect(fleet.grants('b')).toEqual([]);
    fleet.swarms.leave('a');
    fleet.swarms.settle(fleet.nowMs);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('a member that left but keeps what it announced still holds it', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('a', blob);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.say('a', { type: 'leave', blob, kept: true });
    fleet.reader('b', blob);
    fleet.pass(500);
    expect(chunksOf(fleet.grants('b'))).toEqual([4, 5, 6, 7]);
  });
});

describe('deadlines', () => {
  test('a silent lease is leased to another, what was read of it is not', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    const [grant] = fleet.grants('a') as [Grant];
    fleet.reader('b', blob);
    fleet.pass(grant.deadlineMs - 100);
    fleet.done('a', { ...grant, count: 1 });
    fleet.pass(grant.deadlineMs - 100);
    expect(fleet.grants('b')).toEqual([]);
    fleet.pass(200);
    expect(chunksOf(fleet.grants('b'))).toEqual([1, 2, 3]);
    expect(fleet.told('a', 'revoke')).toEqual([{ type: 'revoke', leaseId: grant.leaseId, keep: 1 }]);
  });

  test('progress extends it', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.reader('b', blob);
    const { leaseId, deadlineMs } = fleet.grants('a')[0]!;
    for (let bytes = 1; bytes <= 5; bytes++) {
      fleet.pass(deadlineMs - 100);
      fleet.say('a', { type: 'progress', leaseId, bytes });
    }
    expect(fleet.grants('b')).toEqual([]);
    fleet.pass(deadlineMs + 100);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('a reader that lives and waits for a slow origin keeps it, but not for ever', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.reader('b', blob);
    const { leaseId } = fleet.grants('a')[0]!;
    const waitAlive = (ms: number): void => {
      for (let passedMs = 0; passedMs < ms; passedMs += 1000) {
        fleet.pass(1000);
        fleet.say('a', { type: 'progress', leaseId, bytes: 5 });
      }
    };
    waitAlive(40_000);
    fleet.say('a', { type: 'progress', leaseId, bytes: 6 });
    waitAlive(40_000);
    expect(fleet.grants('b')).toEqual([]);
    waitAlive(28_000);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('a spare is not held against who still reads the run before it; a stuck run is not saved by a later one', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('a', blob);
    const [run, spare] = fleet.grants('a') as [Grant, Grant];
    fleet.reader('b', blob);
    for (let bytes = 1; bytes <= 4; bytes++) {
      fleet.pass(run.deadlineMs - 1000);
      fleet.say('a', { type: 'progress', leaseId: run.leaseId, bytes });
    }
    expect(fleet.grants('b')).toEqual([]);
    for (let bytes = 1; bytes <= 4; bytes++) {
      fleet.pass(8000);
      fleet.say('a', { type: 'progress', leaseId: spare.leaseId, bytes });
    }
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('late results are accepted', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    const [grant] = fleet.grants('a') as [Grant];
    fleet.pass(grant.deadlineMs + 100);
    fleet.done('a', grant);
    fleet.reader('b', blob);
    fleet.pass(20_000);
    expect(fleet.grants('b')).toEqual([]);
    expect(fleet.told('b', 'digests')).toHaveLength(1);
  });
});

describe('leases given back', () => {
  test('failed: others go first, then it is tried again', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.say('a', { type: 'release', leaseId: fleet.grants('a')[0]!.leaseId, reason: 'failed' }, need(blob, 2));
    expect(fleet.grants('a')).toHaveLength(1);
    fleet.pass(550);
    expect(fleet.grants('a')).toHaveLength(2);
    fleet.say('a', { type: 'release', leaseId: fleet.grants('a')[1]!.leaseId, reason: 'failed' }, need(blob, 2));
    fleet.reader('b', blob);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('throttled, one member alone: it rests as long as its origin said, at that origin and in no other way; others read on', () => {
    const fleet = new TestFleet();
    const [blob, other] = [blobOf(4), blobOf(4, 'other')];
    fleet.reader('a', blob, { origin: 'docker.io' });
    fleet.say('a', { type: 'release', leaseId: fleet.grants('a')[0]!.leaseId, reason: 'throttled', retryAfterMs: 90_000 }, need(blob, 2));
    fleet.say('a', want(other, { origin: 'docker.io' }), need(other, 2));
    fleet.pass(89_900);
    expect(fleet.grants('a')).toHaveLength(1);
    fleet.reader('b', blob, { origin: 'docker.io' });
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
    fleet.pass(200);
    expect(fleet.grants('a').map(({ blob: { digest } }) => digest)).toEqual([blob.digest, other.digest]);
  });

  test('throttled, a second member too: nobody of this origin gets a lease before its time, of any blob; another origin is another matter', () => {
    const fleet = new TestFleet();
    const [blob, other] = [blobOf(4), blobOf(4, 'other')];
    for (const peer of ['a', 'b']) {
      fleet.reader(peer, blob, { origin: 'docker.io' });
      fleet.say(peer, { type: 'release', leaseId: fleet.grants(peer)[0]!.leaseId, reason: 'throttled', retryAfterMs: 5000 }, need(blob, 2));
    }
    fleet.reader('c', other, { origin: 'docker.io' });
    fleet.reader('d', blob, { origin: 'docker.io' });
    fleet.reader('m', blob, { origin: 'mirror' });
    expect(chunksOf(fleet.grants('m'))).toEqual([0, 1, 2, 3]);
    fleet.pass(4900);
    expect([fleet.grants('a').length, fleet.grants('b').length, fleet.grants('c').length, fleet.grants('d').length]).toEqual([1, 1, 0, 0]);
    fleet.pass(200);
    expect(chunksOf(fleet.grants('c'))).toEqual([0, 1, 2, 3]);
  });

  test('no ranges: one member streams all the rest, and another does when it is gone', () => {
    const fleet = new TestFleet();
    const blob = blobOf(40);
    fleet.reader('a', blob);
    fleet.reader('b', blob);
    fleet.pass(500);
    for (const peer of ['a', 'b']) {
      for (const { leaseId } of fleet.grants(peer)) fleet.say(peer, { type: 'release', leaseId, reason: 'no-ranges' });
      fleet.say(peer, need(blob, 2));
    }
    const streams = [...fleet.grants('a', 'stream'), ...fleet.grants('b', 'stream')];
    expect(streams).toHaveLength(1);
    expect(streams[0]).toMatchObject({ first: 0, count: 40 });
    const [reading, waiting] = fleet.grants('a', 'stream').length > 0 ? ['a', 'b'] : ['b', 'a'];
    fleet.done(reading, { ...streams[0]!, count: 10 });
    fleet.pass(1000);
    expect(fleet.grants(waiting, 'stream')).toEqual([]);
    fleet.swarms.leave(reading);
    fleet.pass(100);
    expect(fleet.grants(waiting, 'stream')[0]).toMatchObject({ first: 0, count: 40 });
  });

  test('unread and unneeded again and again: not at the speed of the network', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    for (let round = 0; round < 20; round++) {
      const last = fleet.grants('a').at(-1)!;
      fleet.say('a', { type: 'release', leaseId: last.leaseId, reason: 'unneeded' }, need(blob, 2));
    }
    expect(fleet.grants('a').length).toBeLessThan(6);
    fleet.pass(20_000);
    expect(fleet.grants('a').length).toBeGreaterThan(4);
  });

  test("somebody else's lease cannot be given back", () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.reader('b', blob);
    fleet.say('b', { type: 'release', leaseId: fleet.grants('a')[0]!.leaseId, reason: 'unneeded' });
    fleet.pass(1000);
    expect(fleet.grants('b')).toEqual([]);
  });
});

describe('a member alone', () => {
  test('takes longer runs after a moment: what its origin gives in a quarter of a second', () => {
    const fleet = new TestFleet();
    const blob = blobOf(300);
    fleet.reader('a', blob, { runs: 16, rate: 10 * 1024 * 1024 });
    expect(fleet.grants('a').map(({ count }) => count)).toEqual([16, 16]);
    fleet.pass(400);
    fleet.done('a', fleet.grants('a')[0]!);
    expect(fleet.grants('a').at(-1)).toMatchObject({ first: 32, count: 40 });
  });

  test('keeps what it reads when a second joins: nothing is cut, nothing is leased twice', () => {
    const fleet = new TestFleet();
    const blob = blobOf(300);
    fleet.reader('a', blob, { runs: 16, rate: 10 * 1024 * 1024 });
    fleet.pass(400);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.reader('b', blob);
    fleet.pass(1000);
    expect(fleet.told('a', 'revoke')).toEqual([]);
    const leased = [...chunksOf(fleet.grants('a')), ...chunksOf(fleet.grants('b'))];
    expect(new Set(leased).size).toBe(leased.length);
    expect(fleet.grants('b').map(({ count }) => count)).toEqual([4, 4]);
  });
});

describe('hedges', () => {
  test('one per chunk, beside the lease, and the chunk is still not leased again', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    for (const peer of ['a', 'b', 'c']) fleet.reader(peer, blob);
    for (const peer of ['b', 'c']) fleet.say(peer, { type: 'hedge', blob, index: 2 });
    expect(fleet.grants('b', 'hedge')).toMatchObject([{ first: 2, count: 2 }]);
    expect(fleet.grants('c', 'hedge')).toEqual([]);
    expect(fleet.swarms.totals.hedgedBytes).toBe(2 * 64 * 1024);
    fleet.swarms.leave('a');
    fleet.pass(500);
    expect(chunksOf([...fleet.grants('b'), ...fleet.grants('c')])).toEqual([0, 1]);
  });

  test('are as long as a run, up to what the member has, reads, or somebody hedged already', () => {
    const fleet = new TestFleet();
    const blob = blobOf(40);
    fleet.join('seed');
    fleet.say('seed', { type: 'inventory', seeds: [blob], complete: true });
    fleet.reader('a', blob);
    fleet.reader('b', blob, { have: [[9, 1]] });
    fleet.say('a', { type: 'hedge', blob, index: 4 });
    fleet.say('b', { type: 'hedge', blob, index: 2 }, { type: 'hedge', blob, index: 8 });
    expect(fleet.grants('a', 'hedge')).toMatchObject([{ first: 4, count: 4 }]);
    expect(fleet.grants('b', 'hedge')).toMatchObject([{ first: 2, count: 2 }, { first: 8, count: 1 }]);
  });

  test('not for who has it, reads it, or may not read', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.reader('blind', blob, { canRead: false });
    fleet.say('a', { type: 'hedge', blob, index: 0 });
    fleet.say('blind', { type: 'hedge', blob, index: 0 });
    fleet.reader('b', blob, { have: [[0, 1]] });
    fleet.say('b', { type: 'hedge', blob, index: 0 });
    for (const peer of ['a', 'b', 'blind']) expect(fleet.grants(peer, 'hedge')).toEqual([]);
  });
});

describe('after a restart', () => {
  test('nothing is leased until all who were there have told what they hold and read', () => {
    const fleet = new TestFleet({ known: ['a', 'b'] });
    const blob = blobOf(8);
    fleet.reader('a', blob, { have: [[0, 3]] });
    fleet.say('a', { type: 'hedge', blob, index: 5 }, { type: 'inventory', seeds: [], complete: true });
    fleet.pass(1500);
    expect(fleet.told('a', 'grant')).toEqual([]);
    fleet.reader('b', blob, { reading: [[3, 2]] });
    fleet.say('b', { type: 'inventory', seeds: [], complete: true });
    expect(fleet.told('a', 'grant')).toEqual([]);
    fleet.pass(200);
    expect(chunksOf([...fleet.grants('a'), ...fleet.grants('b')])).toEqual([5, 6, 7]);
  });

  test('but no longer than two seconds', () => {
    const fleet = new TestFleet({ known: ['a', 'gone'] });
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.pass(1950);
    expect(fleet.grants('a')).toEqual([]);
    fleet.pass(100);
    expect(chunksOf(fleet.grants('a'))).toEqual([0, 1, 2, 3]);
  });

  test('a run of before lives by its progress under the old name, and its results count', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob, { reading: [[0, 4]] });
    fleet.reader('b', blob);
    for (let bytes = 1; bytes < 20; bytes++) {
      fleet.pass(1000);
      fleet.say('a', { type: 'progress', leaseId: '2.1.1', bytes });
    }
    expect(fleet.grants('b')).toEqual([]);
    fleet.say('a', { type: 'done', leaseId: '2.1.1', blob, first: 0, digests: packDigests([0, 1, 2, 3].map(trueDigest)) });
    fleet.pass(20_000);
    expect(fleet.grants('b')).toEqual([]);
    fleet.swarms.leave('a');
    fleet.pass(100);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });
});

describe('nonsense', () => {
  test('ranges and blobs that cannot be are refused and counted', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    expect(fleet.say('a', { type: 'have', blob, ranges: [[3, 2]] })).toBe(false);
    expect(fleet.say('a', want({ ...blob, size: Number.MAX_SAFE_INTEGER }))).toBe(false);
    expect(fleet.say('a', { type: 'done', leaseId: 'x', blob, first: 4, digests: packDigests([trueDigest(4)]) })).toBe(false);
    expect(fleet.say('a', { type: 'done', leaseId: 'x', blob, first: 0, digests: 'AAAA' })).toBe(false);
    expect(fleet.say('stranger', want(blob))).toBe(false);
    expect(fleet.swarms.totals.messagesRefused).toBe(5);
  });

  test('an empty blob leases nothing', () => {
    const fleet = new TestFleet();
    fleet.reader('a', { ...blobOf(1), size: 0 });
    fleet.pass(500);
    expect(fleet.grants('a')).toEqual([]);
  });
});
