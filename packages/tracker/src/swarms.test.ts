import { describe, expect, test } from 'vitest';
import { unpackDigests } from '@flotilla/shared/tracker-api';
import { ENOUGH } from './introductions.ts';
import { blobOf, chunksOf, need, TestFleet, trueDigest, want } from './test-swarms.ts';

describe('digests', () => {
  test('go to all other members in one event per run, and to newcomers at once', () => {
    const fleet = new TestFleet();
    const blob = blobOf(12);
    fleet.reader('a', blob);
    fleet.reader('b', blob, { runs: 0 });
    const [run, spare] = fleet.grants('a');
    fleet.done('a', { ...run!, count: 2 });
    fleet.done('a', { ...run!, first: 2, count: 2 });
    fleet.done('a', spare!);
    expect(fleet.told('b', 'digests')).toEqual([]);
    fleet.pass(50);
    const [event, ...more] = fleet.told('b', 'digests');
    expect(more).toEqual([]);
    expect(event).toMatchObject({ type: 'digests', blob, first: 0, by: 'a' });
    expect(unpackDigests(event!.digests).map((digest) => Buffer.from(digest))).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((index) => Buffer.from(trueDigest(index))));
    expect(fleet.told('a', 'digests')).toEqual([]);
    fleet.reader('c', blob, { runs: 0 });
    expect(fleet.told('c', 'digests')).toHaveLength(1);
    fleet.pass(200);
    expect(fleet.told('c', 'digests')).toHaveLength(1);
  });

  test('wait for company, those of all blobs together', () => {
    const fleet = new TestFleet();
    const [one, other] = [blobOf(12, 'one'), blobOf(12, 'other')];
    for (const blob of [one, other]) for (const peer of ['a', 'b']) fleet.reader(peer, blob, { runs: peer === 'a' ? 2 : 0 });
    fleet.pass(50);
    const [first, second] = [one, other].map(({ digest }) => fleet.grants('a').find(({ blob }) => blob.digest === digest)!);
    fleet.done('a', { ...first!, count: 1 });
    fleet.pass(100);
    fleet.done('a', { ...first!, first: first!.first + 1, count: 1 });
    fleet.done('a', { ...second!, count: 1 });
    expect(fleet.told('b', 'digests')).toEqual([]);
    fleet.pass(100);
    expect(fleet.told('b', 'digests').map(({ blob, digests }) => [blob.digest, unpackDigests(digests).length])).toEqual(expect.arrayContaining([[one.digest, 2], [other.digest, 1]]));
    expect(fleet.told('b', 'digests')).toHaveLength(2);
  });

  test('go at once where somebody reads a part: nothing checks its bytes later', () => {
    const fleet = new TestFleet();
    const blob = blobOf(12);
    fleet.reader('a', blob);
    fleet.reader('b', blob, { runs: 0 });
    fleet.say('b', need(blob, 0, 0, [4, 4]));
    fleet.pass(50);
    for (const index of [0, 1]) {
      fleet.done('a', { ...fleet.grants('a')[0]!, first: index, count: 1 });
      fleet.pass(50);
      expect(fleet.told('b', 'digests').at(-1)?.first).toBe(index);
    }
  });

  test('of several vouchers are told apart, until a seed has signed the whole', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('a', blob, { runs: 1 });
    fleet.reader('b', blob, { runs: 1 });
    for (const peer of ['a', 'b']) fleet.done(peer, fleet.grants(peer)[0]!);
    fleet.reader('c', blob, { runs: 0 });
    expect(fleet.told('c', 'digests').map(({ first, by }) => [first, by])).toEqual([[0, 'a'], [4, 'b']]);
    fleet.signatures.add('a yes');
    fleet.say('b', { type: 'seed', blob, signature: Buffer.from('no').toString('base64url') });
    fleet.reader('d', blob, { runs: 0 });
    expect(fleet.told('d', 'digests')).toHaveLength(2);
    fleet.say('a', { type: 'seed', blob, signature: Buffer.from('yes').toString('base64url') });
    fleet.reader('e', blob, { runs: 0 });
    expect(fleet.told('e', 'digests').map(({ first, by }) => [first, by])).toEqual([[0, 'a']]);
    expect(fleet.swarms.totals).toMatchObject({ mapsSigned: 1, mapsRefused: 1 });
  });

  test('are kept for the next who wants a blob that only seeds hold', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.say('a', { type: 'seed', blob, signature: 'AAAA' }, { type: 'leave', blob, kept: true });
    fleet.pass(1000);
    fleet.reader('b', blob);
    expect(fleet.told('b', 'digests')).toHaveLength(1);
    expect(fleet.told('b', 'grant')).toEqual([]);
  });

  test('a seed whose digests are unknown holds the blob all the same', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.join('a');
    fleet.say('a', { type: 'seed', blob, signature: 'AAAA' });
    fleet.reader('b', blob);
    fleet.pass(500);
    expect(fleet.told('b', 'grant')).toEqual([]);
    expect(fleet.swarms.totals).toMatchObject({ mapsSigned: 0, mapsRefused: 0 });
  });
});

describe('who brings a blob into a zone', () => {
  const seatOf = (fleet: TestFleet, peer: string): unknown => {
    const { seats, seat } = fleet.told(peer, 'importer').at(-1) ?? {};
    return [seat, seats];
  };

  test('is told at once, to all of the zone and nobody else, and again when somebody leaves', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    for (const [peer, zone] of [['a', 'x'], ['b', 'x'], ['c', 'x'], ['d', 'y']] as const) fleet.zones.set(peer, zone);
    for (const peer of ['a', 'b', 'c', 'd', 'nowhere']) fleet.reader(peer, blob);
    expect(['a', 'b', 'c', 'd', 'nowhere'].map((peer) => seatOf(fleet, peer))).toEqual([[0, 3], [1, 3], [2, 3], [0, 1], [undefined, undefined]]);
    fleet.forget();
    fleet.say('b', { type: 'leave', blob, kept: false });
    expect(['a', 'c', 'd'].map((peer) => seatOf(fleet, peer))).toEqual([[0, 2], [1, 2], [undefined, undefined]]);
    fleet.swarms.leave('a');
    fleet.pass(50);
    expect(seatOf(fleet, 'c')).toEqual([0, 1]);
  });

  test('is nobody who wants only a part, or cannot pass it on', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    for (const peer of ['a', 'b']) fleet.zones.set(peer, 'x');
    for (const peer of ['a', 'b']) fleet.reader(peer, blob);
    fleet.say('a', need(blob, 1, 0, [0, 2]));
    expect([seatOf(fleet, 'a'), seatOf(fleet, 'b')]).toEqual([[undefined, 1], [0, 1]]);
    fleet.say('a', need(blob, 1));
    expect([seatOf(fleet, 'a'), seatOf(fleet, 'b')]).toEqual([[1, 2], [0, 2]]);
    fleet.swarms.mute('b', true);
    fleet.pass(50);
    expect([seatOf(fleet, 'a'), seatOf(fleet, 'b')]).toEqual([[0, 1], [undefined, 1]]);
    fleet.say('b', need(blob, 1, 0, [0, 2]));
    fleet.swarms.mute('b', false);
    fleet.pass(50);
    expect(seatOf(fleet, 'b')).toEqual([undefined, 1]);
    fleet.say('b', need(blob, 1));
    expect(seatOf(fleet, 'b')).toEqual([1, 2]);
  });
});

describe('who is told of whom', () => {
  test('the mesh comes with the next tick, whole, and only when it changed', () => {
    const fleet = new TestFleet();
    fleet.join('a', 'b');
    expect(fleet.told('a', 'mesh')).toEqual([]);
    fleet.pass(50);
    expect(fleet.told('a', 'mesh')).toEqual([{ type: 'mesh', peers: [{ peerId: 'b', addresses: ['/ip4/10.0.0.1/tcp/5001'] }] }]);
    fleet.pass(500);
    expect(fleet.told('a', 'mesh')).toHaveLength(1);
    fleet.swarms.leave('b');
    fleet.pass(50);
    expect(fleet.told('a', 'mesh').at(-1)).toEqual({ type: 'mesh', peers: [] });
  });

  test('a member of a large fleet is introduced to holders outside of its mesh', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    const all = Array.from({ length: 200 }, (_, at) => `peer-${at}`);
    fleet.join(...all);
    fleet.pass(50);
    for (const peer of all.slice(100, 130)) fleet.say(peer, { type: 'inventory', seeds: [blob], complete: true });
    // It asks for no leases: time alone keeps the swarm going.
    fleet.say('peer-0', want(blob));
    fleet.pass(1_000);
    const mesh = new Set(fleet.told('peer-0', 'mesh').at(-1)!.peers.map(({ peerId }) => peerId));
    const inMesh = all.slice(100, 130).filter((peer) => mesh.has(peer)).length;
    const introduced = fleet.told('peer-0', 'peers').flatMap(({ peers }) => peers.map(({ peerId }) => peerId));
    expect(introduced.every((peer) => !mesh.has(peer) && all.slice(100, 130).includes(peer))).toBe(true);
    expect(introduced).toHaveLength(ENOUGH - Math.min(ENOUGH, inMesh));
    fleet.pass(500);
    expect(fleet.told('peer-0', 'peers')).toHaveLength(1);
  });
});

describe('coming and going', () => {
  test('a session that ends takes everything of the agent with it; swarms of nobody are forgotten', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.done('a', { ...fleet.grants('a')[0]!, count: 2 });
    expect(fleet.swarms.size).toBe(1);
    fleet.swarms.leave('a');
    fleet.swarms.settle(fleet.nowMs);
    expect(fleet.swarms.size).toBe(0);
    fleet.reader('b', blob);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('an evicted seed is a seed no more', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.join('a');
    fleet.say('a', { type: 'inventory', seeds: [blob], complete: true });
    fleet.say('a', { type: 'lost', blob, ranges: [[0, 4]] });
    fleet.reader('b', blob);
    expect(chunksOf(fleet.grants('b'))).toEqual([0, 1, 2, 3]);
  });

  test('the status shows who holds and reads what', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('a', blob);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.join('seed');
    fleet.say('seed', { type: 'inventory', seeds: [blobOf(4, 'other')], complete: true });
    expect(fleet.swarms.status()).toEqual({
      total: 2,
      active: [{ digest: blob.digest, size: blob.size, chunks: 8, seeds: 0, leases: 1, digestsKnown: 4, members: [{ peerId: 'a', held: 4, leases: 1, grantedBytes: blob.size }] }],
    });
    expect(fleet.swarms.totals).toMatchObject({ grantedBytes: blob.size, doneBytes: blob.size / 2 });
  });
});
