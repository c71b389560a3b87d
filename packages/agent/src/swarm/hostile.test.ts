// Peers that are no members, and members that break the rules.

import { createHash, generateKeyPairSync } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { MAX_INTERESTS, type ExchangeFrame } from '@flotilla/shared/exchange';
import { signMembership } from '@flotilla/shared/membership';
import { MemoryMember, randomBlob } from './memory-member.ts';
import { MAX_CONTROL_BYTES, MAX_UNSENT_BYTES } from './outbox.ts';
import { RawPeer, type RawStream } from './raw-peer.ts';
import { TestFleet, type TestHost } from './test-fleet.ts';
import { UPLOAD_LIMITS } from './uploads.ts';

const MIB = 1024 * 1024;
const fleet = new TestFleet();
const raws: RawPeer[] = [];
let host: TestHost;

beforeEach(async () => {
  host = await fleet.start();
});

afterEach(async () => {
  await Promise.all(raws.splice(0).map((raw) => raw.stop()));
  await fleet.stop();
});

async function rawPeer(privateKey?: PrivateKey): Promise<RawPeer> {
  const raw = await RawPeer.start(privateKey);
  raws.push(raw);
  return raw;
}

/** A member in good standing, connected. */
async function member(): Promise<{ raw: RawPeer; stream: RawStream }> {
  const raw = await rawPeer();
  const stream = await raw.greet(host.info, fleet.membership(raw.peerId));
  await host.counted('sessions_opened', 1);
  return { raw, stream };
}

const interest = (channel: number, key: BlobKey): ExchangeFrame => ({ type: 'interest', channel, digest: key.digest, size: key.size });
const kinds = (stream: RawStream): string[] => stream.frames.map((frame) => frame.type);

/** Answers the host's requests with `answer`. The host must have joined the blob. */
function holdAll(stream: RawStream, key: BlobKey, answer: (index: number) => void): void {
  stream.onFrame = (frame) => {
    if (frame.type === 'request') answer(frame.index);
  };
  stream.send(interest(7, key), { type: 'bitfield', channel: 7, bits: Bitfield.full(chunkCount(key.size)).bytes() });
}

describe('no members', () => {
  const strangers: [string, (peerId: string) => string][] = [
    ['forged: signed by another key', (peerId) => signMembership({ fleetId: 'test', peerId, notAfterMs: Date.now() + 1e6 }, generateKeyPairSync('ed25519').privateKey)],
    ['expired', (peerId) => fleet.membership(peerId, Date.now() - 1)],
    ['foreign: of another peer', () => fleet.membership(host.info.peerId)],
    ['no membership at all', () => ''],
    ['garbage', () => 'e30'],
  ];
  test.each(strangers)('%s: refused, and told nothing', async (_kind, membership) => {
    const { key, bytes } = randomBlob(MIB);
    host.holdings.add(new MemoryMember(key, bytes));
    const raw = await rawPeer();
    const stream = await raw.open(host.info);
    stream.hello(membership(raw.peerId));
    stream.send(interest(1, key), { type: 'request', channel: 1, index: 0 });
    await stream.closed;
    expect(kinds(stream).filter((kind) => kind !== 'hello')).toEqual([]);
    expect(host.counts.refused_peers).toBe(1);
    expect(host.counts.sessions_opened).toBe(0);
    expect(host.counts.uploaded_bytes).toBe(0);
  });

  test('a stranger that the host dials gets nothing either', async () => {
    const { key, bytes } = randomBlob(MIB);
    host.holdings.add(new MemoryMember(key, bytes));
    host.join(new MemoryMember(randomBlob(100).key));
    const raw = await rawPeer();
    host.swarm.setMesh([raw.info]);
    const stream = await new Promise<RawStream>((resolve) => {
      raw.onInbound = resolve;
    });
    stream.hello('nonsense');
    stream.send(interest(1, key));
    await stream.closed;
    expect(host.counts.refused_peers).toBe(1);
    expect(kinds(stream).filter((kind) => kind !== 'hello')).toEqual([]);
  });

  test('anything before hello is a fault', async () => {
    const { key, bytes } = randomBlob(MIB);
    host.holdings.add(new MemoryMember(key, bytes));
    const raw = await rawPeer();
    const stream = await raw.open(host.info);
    stream.send(interest(1, key));
    await stream.closed;
    expect(host.counts.protocol_faults).toBe(1);
    expect(kinds(stream).filter((kind) => kind !== 'hello')).toEqual([]);
  });

  test('silence is not waited for', async () => {
    const hasty = await fleet.start({ helloTimeoutMs: 50 });
    const raw = await rawPeer();
    const stream = await raw.open(hasty.info);
    await stream.closed;
    expect(kinds(stream)).toEqual(['hello']);
  });

  test('an agent that is not enrolled has no peers', async () => {
    const alone = await fleet.start({ membership: () => undefined });
    const raw = await rawPeer();
    const stream = await raw.open(alone.info);
    await stream.closed;
    expect(stream.frames).toEqual([]);
    alone.swarm.setMesh([host.info]);
    await alone.counted('failed_dials', 1);
    expect(host.counts.sessions_opened).toBe(0);
  });
});

describe('members that break the protocol are cut off', () => {
  const digest = new Uint8Array(32);
  const payload = new Uint8Array(10);
  const { key, bytes } = randomBlob(3 * 64 * 1024);
  const faults: [string, (stream: RawStream) => void][] = [
    ['a second hello', (stream) => stream.hello('')],
    ['a channel that was never opened', (stream) => stream.send({ type: 'request', channel: 9, index: 0 })],
    ['a channel that was closed', (stream) => stream.send({ type: 'leave', channel: 1 }, { type: 'request', channel: 1, index: 0 })],
    ['a channel opened twice', (stream) => stream.send(interest(1, randomBlob(5).key))],
    ['two channels for one blob', (stream) => stream.send(interest(2, key))],
    ['interest in what is no digest', (stream) => stream.send({ type: 'interest', channel: 2, digest: 'sha256:abc', size: 5 })],
    ['interest in an absurd size', (stream) => stream.send({ type: 'interest', channel: 2, digest: key.digest, size: 2 ** 50 })],
    ['interest in too many blobs', (stream) => {
      for (let i = 0; i < MAX_INTERESTS; i++) stream.send({ type: 'interest', channel: 100 + i, digest: key.digest, size: i });
    }],
    ['a bitfield of the wrong length', (stream) => stream.send({ type: 'bitfield', channel: 1, bits: new Uint8Array(9) })],
    ['a bitfield with bits past its end', (stream) => stream.send({ type: 'bitfield', channel: 1, bits: new Uint8Array([255]) })],
    ['have past the end', (stream) => stream.send({ type: 'have', channel: 1, ranges: [[2, 2]] })],
    ['have of nothing', (stream) => stream.send({ type: 'have', channel: 1, ranges: [[0, 0]] })],
    ['have out of order', (stream) => stream.send({ type: 'have', channel: 1, ranges: [[1, 1], [0, 1]] })],
    ['reading past the end', (stream) => stream.send({ type: 'reading', channel: 1, ranges: [[3, 1]] })],
    ['a request past the end', (stream) => stream.send({ type: 'request', channel: 1, index: 3 })],
    ['a frame that is none', (stream) => stream.stream.send(new Uint8Array([3, 255, 255, 255]))],
    ['a header that is too long', (stream) => stream.stream.send(new Uint8Array([255, 255, 255, 127]))],
  ];
  test.each(faults)('%s', async (_kind, breakRule) => {
    host.join(new MemoryMember(key));
    const { stream } = await member();
    stream.send(interest(1, key));
    await stream.next('bitfield');
    breakRule(stream);
    await stream.closed;
    expect(host.counts.protocol_faults).toBe(1);
    expect(host.swarm.status().peers).toEqual([]);
  });

  const pieces: [string, (stream: RawStream) => void][] = [
    ['without the digest', (stream) => stream.send({ type: 'chunk', channel: 7, index: 0, offset: 0, payload })],
    ['with half a digest', (stream) => stream.send({ type: 'chunk', channel: 7, index: 0, offset: 0, payload, digest: digest.subarray(16) })],
    ['that leave a gap', (stream) => {
      stream.send({ type: 'chunk', channel: 7, index: 0, offset: 0, payload, digest }, { type: 'chunk', channel: 7, index: 0, offset: 20, payload });
    }],
    ['that overlap', (stream) => {
      stream.send({ type: 'chunk', channel: 7, index: 0, offset: 0, payload, digest }, { type: 'chunk', channel: 7, index: 0, offset: 5, payload });
    }],
    ['of nothing', (stream) => stream.send({ type: 'chunk', channel: 7, index: 0, offset: 0, payload: new Uint8Array(0), digest })],
    ['past the end', (stream) => stream.send({ type: 'chunk', channel: 7, index: 0, offset: 0, payload: new Uint8Array(64), digest })],
  ];
  test.each(pieces)('pieces %s', async (_kind, breakRule) => {
    const small = randomBlob(50);
    const mine = new MemoryMember(small.key);
    host.join(mine);
    const { stream } = await member();
    holdAll(stream, small.key, () => breakRule(stream));
    await stream.closed;
    expect(host.counts.protocol_faults).toBe(1);
    expect(mine.have.count).toBe(0);
    expect(host.swarm.status().outstandingBytes).toBe(0);
  });

  test('chunks that nobody asked for are dropped and counted; a flood of them is a fault', async () => {
    const mine = new MemoryMember(key);
    for (const index of [0, 1, 2]) mine.unwanted.add(index);
    host.join(mine);
    const { stream } = await member();
    holdAll(stream, key, () => undefined);
    await stream.next('bitfield');
    stream.chunk(7, key, 1, bytes, createHash('sha256').update(bytes.subarray(0, 64 * 1024)).digest());
    await host.counted('stray_bytes', 64 * 1024);
    expect(host.counts.protocol_faults).toBe(0);
    expect(mine.have.count).toBe(0);
    for (let i = 0; i < 16; i++) stream.chunk(7, key, 1, bytes, digest);
    await stream.closed;
    expect(host.counts.protocol_faults).toBe(1);
    expect(mine.have.count).toBe(0);
  });
});

describe('members that lie or stall cost time only', () => {
  test('forged bytes: the sender is banned and reported, the blob comes from the other', async () => {
    const { key, bytes } = randomBlob(4 * MIB);
    const honest = await fleet.start();
    honest.holdings.add(new MemoryMember(key, bytes));
    const { raw, stream } = await member();
    const mine = new MemoryMember(key);
    host.join(mine);
    holdAll(stream, key, (index) => stream.chunk(7, key, index, Buffer.alloc(64 * 1024, index), createHash('sha256').update('else').digest()));
    await stream.closed;
    expect(host.forged.map((report) => report.peerId)).toEqual([raw.peerId]);
    expect(host.swarm.status().bans.map((ban) => ban.peerId)).toEqual([raw.peerId]);
    await expect(raw.greet(host.info, fleet.membership(raw.peerId))).rejects.toThrow();
    host.swarm.setMesh([honest.info]);
    await mine.finished;
    expect(mine.bytes.equals(bytes)).toBe(true);
    expect([...mine.from.keys()]).toEqual([honest.info.peerId]);
  });

  test('other bytes than were vouched for are not taken, and not asked of that peer again', async () => {
    const { key, bytes } = randomBlob(MIB);
    const wrong = randomBlob(MIB).bytes;
    const honest = await fleet.start();
    const full = new MemoryMember(key, bytes);
    honest.holdings.add(full);
    const mine = new MemoryMember(key);
    for (let index = 0; index < chunkCount(key.size); index++) mine.vouched.set(index, full.digestOf(index)!);
    host.join(mine);
    const { stream } = await member();
    const asked: number[] = [];
    holdAll(stream, key, (index) => {
      asked.push(index);
      const chunk = wrong.subarray(index * 64 * 1024, (index + 1) * 64 * 1024);
      stream.chunk(7, key, index, chunk, createHash('sha256').update(chunk).digest());
    });
    await host.counted('conflict_chunks', chunkCount(key.size));
    expect(asked.toSorted((a, b) => a - b)).toEqual(Array.from({ length: chunkCount(key.size) }, (_, index) => index));
    expect(host.forged).toEqual([]);
    host.swarm.setMesh([honest.info]);
    await mine.finished;
    expect(mine.bytes.equals(bytes)).toBe(true);
    expect(asked).toHaveLength(chunkCount(key.size));
  });

  test('a peer whose word on a blob counts no more is asked only for what others say as well, whatever it announces', async () => {
    const { key, bytes } = randomBlob(MIB);
    const mine = new MemoryMember(key);
    host.join(mine);
    const { raw, stream } = await member();
    holdAll(stream, key, () => undefined);
    const request = await stream.next('request');
    expect(mine.handle!.heldByPeer(3)).toBe(true);
    mine.handle!.distrust(raw.peerId, () => false);
    await stream.next('cancel', (frame) => frame.index === request.index);
    // One or two, as it found time; the fifth may have been among them.
    const before = new Set<unknown>(stream.frames);
    expect(mine.handle!.heldByPeer(3)).toBe(false);
    stream.send({ type: 'bitfield', channel: 7, bits: Bitfield.full(chunkCount(key.size)).bytes() }, { type: 'have', channel: 7, ranges: [[3, 1]] });
    // Now somebody else says what the fifth is.
    mine.handle!.distrust(raw.peerId, (index) => index === 4);
    expect(await stream.next('request', (frame) => frame.index === 4 && !before.has(frame))).toBeDefined();
    const fifth = bytes.subarray(4 * 64 * 1024, 5 * 64 * 1024);
    stream.chunk(7, key, 4, fifth, createHash('sha256').update(fifth).digest());
    await mine.when(() => mine.have.has(4));
    const requests = kinds(stream).filter((kind) => kind === 'request').length;
    const honest = await fleet.start();
    honest.holdings.add(new MemoryMember(key, bytes));
    host.swarm.setMesh([honest.info]);
    await mine.finished;
    expect(mine.from).toEqual(new Map([[raw.peerId, 1], [honest.info.peerId, chunkCount(key.size) - 1]]));
    expect(kinds(stream).filter((kind) => kind === 'request')).toHaveLength(requests);
    await host.counted('kept_bytes', key.size);
    expect(host.swarm.status().outstandingBytes).toBe(0);
  });

  test('a peer that answers nothing: its chunks come from the other', async () => {
    const { key, bytes } = randomBlob(4 * MIB);
    const mine = new MemoryMember(key);
    host.join(mine);
    const { stream } = await member();
    holdAll(stream, key, () => undefined);
    const request = await stream.next('request');
    const honest = await fleet.start();
    honest.holdings.add(new MemoryMember(key, bytes));
    host.swarm.setMesh([honest.info]);
    await mine.finished;
    expect(mine.bytes.equals(bytes)).toBe(true);
    // Taken back: by the endgame's duplicate, or because it stalled.
    await stream.next('cancel', (frame) => frame.index === request.index);
  });

  test('a peer that stalls in the middle of a chunk is given up on, and asked again after a rest', async () => {
    const { key, bytes } = randomBlob(2 * 64 * 1024);
    const mine = new MemoryMember(key);
    host.join(mine);
    const { stream } = await member();
    const seen = new Set<number>();
    holdAll(stream, key, (index) => {
      const chunk = bytes.subarray(index * 64 * 1024, (index + 1) * 64 * 1024);
      const digest = createHash('sha256').update(chunk).digest();
      if (seen.has(index)) stream.chunk(7, key, index, chunk, digest);
      else stream.send({ type: 'chunk', channel: 7, index, offset: 0, payload: chunk.subarray(0, 1000), digest });
      seen.add(index);
    });
    await stream.next('cancel', (frame) => frame.index === 0);
    await stream.next('cancel', (frame) => frame.index === 1);
    expect(host.counts.stalled_requests).toBe(2);
    await host.counted('kept_bytes', key.size);
    expect(mine.bytes.equals(bytes)).toBe(true);
    expect(host.swarm.status().outstandingBytes).toBe(0);
  });

  test('busy is respected, then asked again', async () => {
    const { key, bytes } = randomBlob(1000);
    const mine = new MemoryMember(key);
    host.join(mine);
    const { stream } = await member();
    let refusals = 0;
    holdAll(stream, key, (index) => {
      if (refusals++ < 2) stream.send({ type: 'busy', channel: 7, index, retryAfterMs: 10 });
      else stream.chunk(7, key, index, bytes, createHash('sha256').update(bytes).digest());
    });
    await mine.finished;
    expect(host.counts.busy_answers).toBe(2);
  });

  test('late pieces of a cancelled request are forgiven', async () => {
    const { key, bytes } = randomBlob(1000);
    const mine = new MemoryMember(key);
    host.join(mine);
    const { stream } = await member();
    holdAll(stream, key, () => undefined);
    await stream.next('request');
    mine.put(0, bytes);
    await stream.next('cancel');
    stream.chunk(7, key, 0, bytes, createHash('sha256').update(bytes).digest());
    await host.counted('stray_bytes', 1000);
    expect(host.swarm.status().peers).toHaveLength(1);
    expect(mine.verdicts.kept).toBe(0);
  });
});

describe('a slow reader', () => {
  test('is sent no more than it reads: little waits for it, and its requests are bounded', async () => {
    const { key, bytes } = randomBlob(32 * MIB);
    host.holdings.add(new MemoryMember(key, bytes));
    const { stream } = await member();
    stream.send(interest(1, key));
    await stream.next('bitfield');
    stream.stream.pause();
    for (let index = 0; index < chunkCount(key.size); index++) stream.send({ type: 'request', channel: 1, index });
    // The window of the stream and the kernel's buffers take some; then nothing moves.
    let moved = -1;
    await expect.poll(() => {
      const still = host.counts.uploaded_bytes === moved && moved > 0;
      moved = host.counts.uploaded_bytes;
      return still;
    }, { interval: 100 }).toBe(true);
    const status = host.swarm.status();
    expect(status.uploads.active + status.uploads.queued).toBeLessThanOrEqual(UPLOAD_LIMITS.maxPerPeer);
    expect(status.peers[0]!.queuedBytes).toBeLessThanOrEqual(MAX_UNSENT_BYTES + MAX_CONTROL_BYTES);
    expect(host.counts.uploaded_bytes).toBeLessThan(UPLOAD_LIMITS.maxPerPeer * 64 * 1024 + 2 * MIB);
    stream.stream.resume();
    await stream.next('busy');
    await stream.next('chunk', (frame) => frame.index === UPLOAD_LIMITS.maxPerPeer - 1);
  });

  test('hears control before the chunks that wait', async () => {
    const { key, bytes } = randomBlob(8 * MIB);
    const other = randomBlob(10);
    host.holdings.add(new MemoryMember(key, bytes));
    host.holdings.add(new MemoryMember(other.key, other.bytes));
    const { stream } = await member();
    stream.send(interest(1, key));
    await stream.next('bitfield');
    const wanted = UPLOAD_LIMITS.maxPerPeer;
    stream.send(...Array.from({ length: wanted }, (_, index): ExchangeFrame => ({ type: 'request', channel: 1, index })), interest(2, other.key));
    await stream.next('chunk', (frame) => frame.index === wanted - 1);
    const order = stream.frames.filter((frame) => frame.type === 'chunk' || frame.type === 'interest');
    const named = order.findIndex((frame) => frame.type === 'interest' && frame.digest === other.key.digest);
    expect(named).toBeGreaterThan(0);
    expect(named).toBeLessThan(order.length - 1);
  });

  test('that does not take its control frames is cut off', async () => {
    const { stream } = await member();
    stream.stream.pause();
    // Each interest is answered by an interest and a bitfield of 32 KiB.
    for (let channel = 1; channel <= 200; channel++) {
      const key = { ...randomBlob(1).key, size: 1024 ** 4 - channel };
      host.holdings.add({ key, have: new Bitfield(chunkCount(key.size)), digestOf: () => undefined, readChunk: () => Promise.reject(new Error('none')) });
      stream.send(interest(channel, key));
    }
    await host.counted('slow_peers', 1);
    expect(host.swarm.status().peers).toEqual([]);
  });
});

describe('two streams with one peer', () => {
  /** A key whose peer id sorts before or after the host's. */
  async function keySorting(lower: boolean): Promise<PrivateKey> {
    for (;;) {
      const key = await generateKeyPair('Ed25519');
      if (peerIdFromPrivateKey(key).toString() < host.info.peerId === lower) return key;
    }
  }

  test.each([true, false])('the one opened by the lower peer id stays (theirs is lower: %s)', async (lower) => {
    const raw = await rawPeer(await keySorting(lower));
    const theirs = new Promise<RawStream>((resolve) => {
      raw.onInbound = resolve;
    });
    const membership = fleet.membership(raw.peerId);
    // The host dials; before it has heard our hello on its stream we open one of our own.
    host.swarm.setMesh([raw.info]);
    const outbound = await theirs;
    const inbound = await raw.open(host.info);
    outbound.hello(membership);
    inbound.hello(membership);
    const [stays, goes] = lower ? [inbound, outbound] : [outbound, inbound];
    await goes.closed;
    const { key, bytes } = randomBlob(100);
    host.holdings.add(new MemoryMember(key, bytes));
    stays.send(interest(1, key));
    await stays.next('bitfield');
    expect(host.swarm.status().peers).toHaveLength(1);
  });

  test('of two that the same side opened the newer stays', async () => {
    const { raw, stream } = await member();
    const again = await raw.greet(host.info, fleet.membership(raw.peerId));
    await stream.closed;
    const { key, bytes } = randomBlob(100);
    host.holdings.add(new MemoryMember(key, bytes));
    again.send(interest(1, key));
    await again.next('bitfield');
  });

  test('both dial at the same moment, again and again: one session, and it works', async () => {
    const other = await fleet.start();
    for (let round = 0; round < 5; round++) {
      const { key, bytes } = randomBlob(MIB);
      other.holdings.add(new MemoryMember(key, bytes));
      const mine = new MemoryMember(key);
      host.join(mine);
      host.swarm.setMesh([other.info]);
      other.swarm.setMesh([host.info]);
      await mine.finished;
      expect(mine.bytes.equals(bytes)).toBe(true);
      expect(host.swarm.status().peers).toHaveLength(1);
      host.banned.add(other.info.peerId);
      host.swarm.bansChanged();
      host.banned.clear();
      await other.counted('sessions_closed', round + 1);
    }
  });
});

test('finished blobs that two hosts both name make room for new ones', async () => {
  const { stream } = await member();
  const blobs = Array.from({ length: 300 }, () => randomBlob(10));
  for (const [i, { key, bytes }] of blobs.entries()) {
    host.holdings.add(new MemoryMember(key, bytes));
    stream.send(interest(i + 1, key));
  }
  const last = blobs.at(-1)!.key.digest;
  await stream.next('interest', (frame) => frame.digest === last);
  const first = await stream.next('interest', (frame) => frame.digest === blobs[0]!.key.digest);
  await stream.next('leave', (frame) => frame.channel === first.channel);
  expect(kinds(stream).filter((kind) => kind === 'leave')).toHaveLength(300 - 256);
});
