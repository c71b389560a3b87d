// Blame, seen from the agents: what they say, who has to read again, and what becomes of the liar.

import { describe, expect, test } from 'vitest';
import { packDigests, type AgentMessage, type Grant } from '@flotilla/shared/tracker-api';
import { blobOf, chunksOf, falseDigest, need, TestFleet, trueDigest, want } from './test-swarms.ts';
import type { BlobKey } from '@flotilla/shared/chunk-map';

const base64 = (digest: Uint8Array): string => Buffer.from(digest).toString('base64url');

function conflict(blob: BlobKey, index: number, peer: string, heard: Uint8Array, expected: Uint8Array): AgentMessage {
  return { type: 'conflict', blob, index, peer, heard: base64(heard), expected: base64(expected) };
}

/** `reader` reads the next run, honestly or not. */
function read(fleet: TestFleet, reader: string, honest: boolean): Grant {
  const grant = fleet.grants(reader).at(-1)!;
  fleet.done(reader, grant, honest ? trueDigest : (index) => falseDigest(index, reader));
  return grant;
}

/** `reader` reads the first chunk of the hedge that it was given last, and gives back the rest. */
function readHedged(fleet: TestFleet, reader: string, digest = trueDigest): void {
  const hedge = fleet.grants(reader, 'hedge').at(-1)!;
  fleet.done(reader, { ...hedge, count: 1 }, digest);
  fleet.say(reader, { type: 'release', leaseId: hedge.leaseId, reason: 'unneeded' });
}

/** Everybody answers the audits that it was given since, with the truth. */
function answerAudits(fleet: TestFleet, answered: Set<string>, liar?: string): number {
  let count = 0;
  for (const { peer, event } of fleet.log.slice()) {
    if (event.type !== 'grant' || event.mode !== 'audit' || answered.has(event.leaseId)) continue;
    answered.add(event.leaseId);
    fleet.done(peer, event, peer === liar ? (index) => falseDigest(index, peer) : trueDigest);
    fleet.say(peer, { type: 'release', leaseId: event.leaseId, reason: 'unneeded' });
    count++;
  }
  return count;
}

/** A whole search, with the truth. @returns the audits that it took */
function searched(fleet: TestFleet): Set<string> {
  const answered = new Set<string>();
  for (let turn = 0; turn < 5; turn++) answerAudits(fleet, answered);
  return answered;
}

function lieOnce(fleet: TestFleet, blob: BlobKey): Grant {
  fleet.reader('liar', blob, { runs: 1 });
  const lie = read(fleet, 'liar', false);
  fleet.reader('victim', blob, { runs: 0 });
  fleet.reader('third', blob, { runs: 0 });
  fleet.pass(100);
  return lie;
}

/** Three readers share a blob; `liar` lies in all that it reads. */
function shared(fleet: TestFleet, blob: BlobKey, liar?: string): void {
  const readers = ['a', 'b', 'c'];
  for (const peer of readers) fleet.reader(peer, blob, { runs: 16 });
  const done = new Set<string>();
  for (let turn = 0; turn < 100; turn++) {
    fleet.pass(100);
    for (const { peer, event } of fleet.log.slice()) {
      if (event.type !== 'grant' || event.mode !== 'run' || done.has(event.leaseId)) continue;
      done.add(event.leaseId);
      fleet.done(peer, event, peer === liar ? (index) => falseDigest(index, peer) : trueDigest);
    }
  }
  for (const peer of readers) fleet.say(peer, { type: 'have', blob, ranges: [[0, 60]] });
  fleet.pass(100);
}

describe('two digests for one index', () => {
  test('who lied brings nothing into its zone any more', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    for (const peer of ['liar', 'victim', 'third']) fleet.zones.set(peer, 'x');
    lieOnce(fleet, blob);
    expect(fleet.told('liar', 'importer').at(-1)).toMatchObject({ seats: 3, seat: 0 });
    fleet.say('victim', { type: 'hedge', blob, index: 1 });
    readHedged(fleet, 'victim');
    answerAudits(fleet, new Set());
    fleet.pass(50);
    expect(fleet.told('liar', 'importer').at(-1)).toEqual({ type: 'importer', blob, seats: 2 });
    expect(fleet.told('third', 'importer').at(-1)).toMatchObject({ seats: 2, seat: 0 });
  });

  test('a third reads; the voucher that lied loses vouching and leases, and all that it said is fetched again', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    const lie = lieOnce(fleet, blob);
    expect(fleet.told('victim', 'digests')).toMatchObject([{ first: 0, by: 'liar' }]);
    // The victim read chunk 1 itself, by hedge, and found something else.
    fleet.say('victim', { type: 'hedge', blob, index: 1 });
    readHedged(fleet, 'victim');
    expect(fleet.grants('third', 'audit')).toMatchObject([{ first: 1, count: 1 }]);
    fleet.say('liar', need(blob, 2));
    fleet.forget();
    answerAudits(fleet, new Set());
    expect(fleet.swarms.trusted('liar')).toBe(false);
    expect(fleet.swarms.trusted('victim')).toBe(true);
    expect(fleet.blamed.at(-1)).toEqual({ peer: 'liar', distrusted: true, blobs: [`${blob.digest}/${blob.size}`], accusers: [] });
    expect(fleet.quarantined).toEqual([]);
    const invalid = fleet.told('victim', 'invalid').flatMap(({ ranges }) => chunksOf(ranges.map(([first, count]) => ({ first, count }))));
    expect(new Set(invalid)).toEqual(new Set([0, 1, 2, 3]));
    expect(lie.count).toBe(4);
    fleet.pass(200);
    expect(fleet.told('third', 'digests').some(({ first, by }) => first === 1 && by === 'victim')).toBe(true);
    fleet.say('third', need(blob, 2));
    fleet.pass(1000);
    // What it vouched for is leased again, but not to it; chunk 1 is held by the victim, who read it.
    expect(chunksOf(fleet.grants('third'))).toEqual(expect.arrayContaining([0, 2, 3]));
    expect(chunksOf(fleet.grants('third'))).not.toContain(1);
    expect(fleet.grants('liar')).toEqual([]);
    fleet.say('liar', { type: 'done', leaseId: 'x', blob, first: 5, digests: packDigests([falseDigest(5, 'liar')]) });
    fleet.forget();
    fleet.pass(100);
    expect(fleet.told('victim', 'digests')).toEqual([]);
  });

  test('where there is no third, the accuser reads, and the loser is distrusted but this is no proof', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('liar', blob, { runs: 1 });
    read(fleet, 'liar', false);
    fleet.reader('victim', blob, { runs: 0 });
    fleet.say('victim', { type: 'hedge', blob, index: 1 });
    readHedged(fleet, 'victim');
    expect(fleet.grants('victim', 'audit')).toHaveLength(1);
    answerAudits(fleet, new Set());
    expect(fleet.swarms.trusted('liar')).toBe(false);
    expect(fleet.blamed.at(-1)).toMatchObject({ peer: 'liar', blobs: [] });
  });

  test('a second blob is quarantine', () => {
    const fleet = new TestFleet();
    const blobs = [blobOf(8, 'one'), blobOf(8, 'two')];
    fleet.join('liar', 'victim', 'third');
    for (const blob of blobs) {
      fleet.say('liar', want(blob), need(blob, 1));
      read(fleet, 'liar', false);
      for (const peer of ['victim', 'third']) fleet.say(peer, want(blob));
    }
    const answered = new Set<string>();
    for (const blob of blobs) {
      expect(fleet.quarantined).toEqual([]);
      fleet.say('victim', { type: 'hedge', blob, index: 0 });
      readHedged(fleet, 'victim');
      answerAudits(fleet, answered);
    }
    expect(fleet.quarantined).toEqual([{ peer: 'liar', reason: 'vouched for wrong chunks of two blobs' }]);
  });

  test('a reporter who was wrong harms nobody, and a chunk is audited once', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('honest', blob, { runs: 1 });
    read(fleet, 'honest', true);
    fleet.reader('confused', blob, { runs: 0 });
    fleet.reader('third', blob, { runs: 0 });
    const complaint = conflict(blob, 2, 'honest', trueDigest(2), falseDigest(2, 'confused'));
    fleet.say('confused', complaint);
    expect(fleet.grants('third', 'audit')).toHaveLength(1);
    answerAudits(fleet, new Set());
    expect(fleet.swarms.trusted('honest')).toBe(true);
    expect(fleet.swarms.trusted('confused')).toBe(true);
    expect(fleet.told('confused', 'invalid')).toEqual([]);
    fleet.say('confused', complaint);
    fleet.pass(500);
    expect(fleet.grants('third', 'audit')).toHaveLength(1);
  });

  test('hearsay is an accusation: one is not enough, two members are', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('honest', blob, { runs: 2 });
    read(fleet, 'honest', true);
    fleet.done('honest', fleet.grants('honest')[0]!);
    for (const peer of ['b', 'c', 'third', 'forger']) fleet.reader(peer, blob, { runs: 0 });
    const answered = new Set<string>();
    fleet.say('b', conflict(blob, 0, 'forger', falseDigest(0, 'forger'), trueDigest(0)));
    answerAudits(fleet, answered);
    fleet.say('b', conflict(blob, 1, 'forger', falseDigest(1, 'forger'), trueDigest(1)));
    answerAudits(fleet, answered);
    expect(fleet.quarantined).toEqual([]);
    expect(fleet.swarms.trusted('forger')).toBe(true);
    fleet.say('c', conflict(blob, 2, 'forger', falseDigest(2, 'forger'), trueDigest(2)));
    answerAudits(fleet, answered);
    expect(fleet.quarantined).toEqual([{ peer: 'forger', reason: 'two members got wrong bytes from it' }]);
  });

  test('what somebody claims to hold whose bytes an audit found wrong is leased again', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.join('forger');
    fleet.say('forger', { type: 'inventory', seeds: [blob], complete: true });
    fleet.reader('reader', blob);
    fleet.pass(500);
    expect(fleet.grants('reader')).toEqual([]);
    fleet.say('reader', conflict(blob, 0, 'forger', falseDigest(0, 'forger'), trueDigest(0)));
    answerAudits(fleet, new Set());
    fleet.pass(500);
    expect(chunksOf(fleet.grants('reader'))).not.toEqual([]);
    expect(fleet.quarantined).toEqual([]);
  });

  test('what a known liar sends on costs no further reading, and two who got it are enough', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    fleet.say('a', { type: 'mismatch', blob });
    const answered = new Set<string>();
    for (let turn = 0; turn < 10; turn++) answerAudits(fleet, answered);
    expect(fleet.swarms.trusted('b')).toBe(false);
    const audits = answered.size;
    const held = fleet.grants('a').flatMap((grant) => chunksOf([grant]));
    for (const index of held) fleet.say('c', conflict(blob, index, 'b', falseDigest(index, 'b'), trueDigest(index)));
    expect(fleet.quarantined).toEqual([]);
    // The right digest is no lie, whoever sends it.
    fleet.say('a', conflict(blob, held[0]!, 'b', trueDigest(held[0]!), falseDigest(held[0]!, 'b')));
    expect(fleet.quarantined).toEqual([]);
    fleet.say('a', conflict(blob, held[0]!, 'b', falseDigest(held[0]!, 'b'), trueDigest(held[0]!)));
    expect(fleet.quarantined).toEqual([{ peer: 'b', reason: 'two members got wrong bytes from it' }]);
    for (let turn = 0; turn < 10; turn++) answerAudits(fleet, answered);
    expect(answered.size).toBe(audits);
  });

  test('who passes on what a liar vouched for is not accused, and costs no reading', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    const byLiar = fleet.grants('b').flatMap((grant) => chunksOf([grant]));
    fleet.say('a', { type: 'mismatch', blob });
    const answered = new Set<string>();
    for (let turn = 0; turn < 10; turn++) answerAudits(fleet, answered);
    expect(fleet.swarms.trusted('b')).toBe(false);
    const audits = answered.size;
    for (const index of byLiar) fleet.say('a', conflict(blob, index, 'c', falseDigest(index, 'b'), trueDigest(index)));
    for (let turn = 0; turn < 10; turn++) answerAudits(fleet, answered);
    expect(answered.size).toBe(audits);
    expect(fleet.blamed.filter(({ peer }) => peer === 'c')).toEqual([]);
  });

  test('three readings, three digests: nobody is blamed', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    lieOnce(fleet, blob);
    fleet.say('victim', { type: 'hedge', blob, index: 1 });
    readHedged(fleet, 'victim', (index) => falseDigest(index, 'victim'));
    answerAudits(fleet, new Set());
    expect(fleet.blamed).toEqual([]);
    expect(fleet.told('victim', 'invalid')).toMatchObject([{ ranges: [[1, 1]] }]);
  });

  test('an auditor that leaves or fails is followed by another', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    lieOnce(fleet, blob);
    fleet.reader('fourth', blob, { runs: 0 });
    fleet.say('victim', { type: 'hedge', blob, index: 1 });
    readHedged(fleet, 'victim');
    const first = ['third', 'fourth'].find((peer) => fleet.grants(peer, 'audit').length > 0)!;
    const second = first === 'third' ? 'fourth' : 'third';
    fleet.say(first, { type: 'release', leaseId: fleet.grants(first, 'audit')[0]!.leaseId, reason: 'failed' });
    fleet.pass(100);
    expect(fleet.grants(second, 'audit')).toMatchObject([{ first: 1 }]);
    fleet.swarms.leave(second);
    fleet.pass(1000);
    // The first is still passed over for its failure; the reporter itself reads.
    expect(fleet.grants('victim', 'audit')).toMatchObject([{ first: 1 }]);
  });

  test('a chunk that nobody can read again is forgotten and read anew', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('liar', blob, { runs: 1 });
    read(fleet, 'liar', false);
    fleet.reader('blind', blob, { canRead: false });
    fleet.say('liar', { type: 'want', blob, canRead: false, have: [[0, 4]], reading: [] });
    fleet.say('blind', conflict(blob, 2, 'liar', trueDigest(2), falseDigest(2, 'liar')));
    fleet.pass(11_000);
    expect(fleet.told('blind', 'invalid')).toMatchObject([{ ranges: [[2, 1]] }]);
    expect(fleet.blamed).toEqual([]);
  });
});

describe('the whole is wrong', () => {
  test('one chunk of each voucher is read by another; the liar is found and its part fetched again', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    const byLiar = fleet.grants('b').flatMap((grant) => chunksOf([grant]));
    fleet.say('a', { type: 'mismatch', blob });
    const audits = fleet.log.filter(({ event }) => event.type === 'grant' && event.mode === 'audit');
    expect(audits).toHaveLength(3);
    const answered = searched(fleet);
    expect(fleet.swarms.trusted('b')).toBe(false);
    expect(fleet.swarms.trusted('a') && fleet.swarms.trusted('c')).toBe(true);
    const invalid = fleet.told('a', 'invalid').flatMap(({ ranges }) => chunksOf(ranges.map(([first, count]) => ({ first, count }))));
    expect([...new Set(invalid)].toSorted((x, y) => x - y)).toEqual(byLiar.toSorted((x, y) => x - y));
    expect(fleet.badBlobs).toEqual([]);
    expect(answered.size).toBeLessThan(10);
  });

  test('who has still to hear what was found wrong sets off no second search, and one that has does', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    fleet.say('a', { type: 'mismatch', blob, round: 0 });
    const answered = searched(fleet);
    expect(fleet.swarms.trusted('b')).toBe(false);
    const audits = answered.size;
    const { round } = fleet.told('c', 'invalid').at(-1)!;
    expect(round).toBeGreaterThan(0);
    for (let late = 0; late < round!; late++) fleet.say('c', { type: 'mismatch', blob, round: late });
    for (let turn = 0; turn < 5; turn++) answerAudits(fleet, answered);
    expect(answered.size).toBe(audits);
    fleet.say('c', { type: 'mismatch', blob, round: round! });
    answerAudits(fleet, answered);
    expect(answered.size).toBeGreaterThan(audits);
  });

  test('what somebody had before it heard that it is wrong is not had; the run that it reads it with stays its own', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    fleet.say('a', { type: 'mismatch', blob, round: 0 });
    searched(fleet);
    const { round } = fleet.told('c', 'invalid').at(-1)!;
    fleet.pass(100);
    const { book } = fleet.swarms.find(blob.digest, blob.size)!;
    const own = fleet.grants('c').at(-1)!;
    const range: [number, number] = [own.first, own.count];
    expect(book.lease(own.leaseId)).toBeDefined();
    fleet.say('c', { type: 'have', blob, ranges: [range], round: 0 }, { type: 'lost', blob, ranges: [range] });
    expect(book.lease(own.leaseId), 'else another would be given what it reads').toBeDefined();
    fleet.say('c', { type: 'have', blob, ranges: [range], round: round! });
    expect(book.holdings.hasAll('c', range)).toBe(true);
    expect(book.lease(own.leaseId)).toBeUndefined();
  });

  test('who was away while chunks were taken back hears of those that it says it holds', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    const [lie] = fleet.grants('b');
    fleet.swarms.leave('c');
    fleet.say('a', { type: 'mismatch', blob, round: 0 });
    searched(fleet);
    fleet.forget();
    fleet.join('c');
    fleet.say('c', { type: 'want', blob, canRead: true, have: [[0, 60]], reading: [], round: 0 });
    expect(fleet.swarms.find(blob.digest, blob.size)!.book.holdings.has('c', lie!.first)).toBe(false);
    const [told] = fleet.told('c', 'invalid');
    expect(chunksOf(told!.ranges.map(([first, count]) => ({ first, count })))).toContain(lie!.first);
    expect(chunksOf(told!.ranges.map(([first, count]) => ({ first, count })))).not.toContain(fleet.grants('a')[0]?.first);
    fleet.forget();
    fleet.say('c', { type: 'want', blob, canRead: true, have: [], reading: [], round: told!.round });
    expect(fleet.told('c', 'invalid')).toEqual([]);
  });

  test('what an auditor read it did not keep: it is told the digest as the others are, and does not count as a holder', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    fleet.say('a', { type: 'mismatch', blob, round: 0 });
    searched(fleet);
    fleet.pass(200);
    const { holdings } = fleet.swarms.find(blob.digest, blob.size)!.book;
    const audited = fleet.told('a', 'digests').filter(({ by }) => by === 'a').concat(fleet.told('c', 'digests').filter(({ by }) => by === 'c'));
    expect(audited.length).toBeGreaterThan(0);
    for (const { first, by } of audited) {
      expect(holdings.held(first), 'nobody holds it, so that it is read again').toBe(false);
      for (const peer of ['a', 'c']) expect(fleet.told(peer, 'digests').some((event) => event.first === first && event.by === by)).toBe(true);
    }
  });

  test('while all agree twice as many are read, and in the end the origin is blamed: a minute without leases', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob);
    fleet.say('a', { type: 'mismatch', blob });
    const answered = new Set<string>();
    for (let turn = 0; turn < 200 && fleet.badBlobs.length === 0; turn++) {
      answerAudits(fleet, answered);
      fleet.pass(50);
    }
    expect(fleet.badBlobs).toEqual([blob]);
    expect(answered.size).toBe(60);
    expect(fleet.blamed).toEqual([]);
  });

  test('a bad origin is left alone for a minute', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.reader('b', blob);
    fleet.say('b', { type: 'mismatch', blob });
    const answered = new Set<string>();
    for (let turn = 0; turn < 20; turn++) {
      answerAudits(fleet, answered);
      fleet.pass(50);
    }
    expect(fleet.badBlobs).toHaveLength(1);
    fleet.say('b', { type: 'leave', blob, kept: false });
    fleet.say('a', { type: 'lost', blob, ranges: [[0, 4]] }, need(blob, 2));
    fleet.forget();
    fleet.pass(58_000);
    expect(fleet.told('a', 'grant')).toEqual([]);
    fleet.pass(3000);
    expect(fleet.grants('a')).toHaveLength(1);
  });

  test('an auditor that lies about an honest voucher is found by a third', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('honest', blob);
    fleet.done('honest', fleet.grants('honest')[0]!);
    fleet.reader('liar', blob);
    fleet.say('liar', { type: 'mismatch', blob });
    fleet.reader('third', blob);
    const answered = new Set<string>();
    for (let turn = 0; turn < 3; turn++) answerAudits(fleet, answered, 'liar');
    expect(fleet.swarms.trusted('honest')).toBe(true);
    expect(fleet.swarms.trusted('liar')).toBe(false);
  });

  test('where a seed has signed the same chunks, the reporter alone fetches again', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.reader('a', blob);
    fleet.done('a', fleet.grants('a')[0]!);
    fleet.signatures.add('a good');
    fleet.say('a', { type: 'seed', blob, signature: Buffer.from('good').toString('base64url') });
    fleet.reader('b', blob, { have: [[0, 4]] });
    fleet.reader('c', blob);
    fleet.forget();
    fleet.say('b', { type: 'mismatch', blob });
    fleet.pass(500);
    expect(fleet.told('b', 'invalid')).toMatchObject([{ ranges: [[0, 4]] }]);
    expect(fleet.told('b', 'digests'), 'without them it would believe nobody, and read all of it at the origin').toMatchObject([{ first: 0, digests: packDigests([0, 1, 2, 3].map(trueDigest)), by: 'a' }]);
    expect(fleet.told('c', 'invalid')).toEqual([]);
    expect(fleet.log.filter(({ event }) => event.type === 'grant' && event.mode === 'audit')).toEqual([]);
  });

  test('a liar that signs what it vouched for gains nothing: at the second mismatch its word is not enough', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob, 'b');
    fleet.signatures.add('b good');
    fleet.say('b', { type: 'seed', blob, signature: Buffer.from('good').toString('base64url') });
    fleet.say('a', { type: 'mismatch', blob });
    fleet.say('c', { type: 'mismatch', blob });
    const answered = new Set<string>();
    for (let turn = 0; turn < 10; turn++) answerAudits(fleet, answered);
    expect(fleet.swarms.trusted('b')).toBe(false);
    expect(fleet.swarms.trusted('a') && fleet.swarms.trusted('c')).toBe(true);
    expect(fleet.badBlobs).toEqual([]);
  });

  test('what two seeds have signed is right, however many say that they do not have it', () => {
    const fleet = new TestFleet();
    const blob = blobOf(60);
    shared(fleet, blob);
    for (const peer of ['b', 'c']) {
      fleet.signatures.add(`${peer} good`);
      fleet.say(peer, { type: 'seed', blob, signature: Buffer.from('good').toString('base64url') });
    }
    for (let times = 0; times < 3; times++) fleet.say('a', { type: 'mismatch', blob });
    fleet.pass(500);
    expect(fleet.told('a', 'invalid')).toHaveLength(3);
    expect(fleet.log.filter(({ event }) => event.type === 'grant' && event.mode === 'audit')).toEqual([]);
  });
});

describe('chunks that nobody vouches for', () => {
  test('are read again by the reporter of a mismatch; the claims of those who hold them count no more', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.join('seed', 'other');
    for (const peer of ['seed', 'other']) fleet.say(peer, { type: 'inventory', seeds: [blob], complete: true });
    fleet.reader('victim', blob, { have: [[0, 8]] });
    fleet.say('victim', { type: 'mismatch', blob });
    expect(fleet.told('victim', 'invalid')).toMatchObject([{ ranges: [[0, 8]] }]);
    expect(fleet.badBlobs).toEqual([]);
    fleet.say('victim', need(blob, 2));
    expect(chunksOf(fleet.grants('victim'))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('a second reader in doubt is not asked to read what it says it holds', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    fleet.reader('doubted', blob, { have: [[0, 4]], runs: 0 });
    fleet.reader('victim', blob, { have: [[0, 8]], runs: 0 });
    fleet.say('victim', { type: 'mismatch', blob }, { type: 'leave', blob, kept: false });
    fleet.say('doubted', need(blob, 2));
    fleet.pass(1000);
    expect(chunksOf(fleet.grants('doubted'))).toEqual([4, 5, 6, 7]);
  });
});

describe('accusations', () => {
  test('one is enough to do without what only the accused claims to hold', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.join('bad');
    fleet.say('bad', { type: 'inventory', seeds: [blob], complete: true });
    fleet.reader('a', blob);
    fleet.pass(500);
    expect(fleet.grants('a')).toEqual([]);
    fleet.say('a', { type: 'accuse', blob, index: 0, peer: 'bad' });
    expect(chunksOf(fleet.grants('a'))).toEqual([0, 1, 2, 3]);
    expect(fleet.quarantined).toEqual([]);
  });

  test('two independent members are enough, one is not, however often it says so', () => {
    const fleet = new TestFleet();
    const blob = blobOf(4);
    fleet.join('a', 'b', 'bad');
    fleet.say('a', { type: 'accuse', blob, index: 0, peer: 'bad' }, { type: 'accuse', blob, index: 1, peer: 'bad' });
    fleet.say('bad', { type: 'accuse', blob, index: 1, peer: 'bad' });
    expect(fleet.quarantined).toEqual([]);
    fleet.say('b', { type: 'accuse', blob, index: 0, peer: 'bad' });
    expect(fleet.quarantined.map(({ peer }) => peer)).toEqual(['bad']);
  });
});

describe('a member that is not trusted', () => {
  test('reads for itself where nobody else can, and what it holds does not count', () => {
    const fleet = new TestFleet();
    const blob = blobOf(8);
    lieOnce(fleet, blob);
    fleet.say('victim', { type: 'hedge', blob, index: 1 });
    readHedged(fleet, 'victim');
    answerAudits(fleet, new Set());
    for (const peer of ['victim', 'third']) fleet.say(peer, { type: 'leave', blob, kept: false });
    fleet.forget();
    fleet.say('liar', want(blob), need(blob, 2));
    fleet.pass(200);
    const runs = fleet.grants('liar');
    expect(chunksOf(runs)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const grant of runs) fleet.done('liar', grant);
    fleet.say('liar', need(blob, 2));
    fleet.pass(2000);
    expect(fleet.grants('liar')).toHaveLength(runs.length);
    fleet.reader('new', blob);
    expect(chunksOf(fleet.grants('new'))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(fleet.told('new', 'digests').filter(({ by }) => by === 'liar')).toEqual([]);
  });
});
