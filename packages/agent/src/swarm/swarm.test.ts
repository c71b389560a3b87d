import { createHash } from 'node:crypto';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkCount } from '@flotilla/shared/chunk-map';
import { TokenBucket } from './limits.ts';
import { MemoryMember, randomBlob } from './memory-member.ts';
import { TestFleet } from './test-fleet.ts';

const MIB = 1024 * 1024;
const fleet = new TestFleet();
afterEach(() => fleet.stop());

/** Hosts that are all connected. */
async function hosts(count: number): Promise<typeof fleet.hosts> {
  await Promise.all(Array.from({ length: count }, () => fleet.start()));
  await fleet.connectAll();
  return [...fleet.hosts];
}

describe('a blob goes through the fleet', () => {
  test('two hosts: every chunk goes over once', async () => {
    const { key, bytes } = randomBlob(20 * MIB + 12345);
    const [a, b] = await hosts(2);
    a!.holdings.add(new MemoryMember(key, bytes));
    const member = new MemoryMember(key);
    b!.join(member);
    await member.finished;
    await b!.counted('kept_bytes', key.size);
    expect(member.bytes.equals(bytes)).toBe(true);
    expect(member.verdicts).toEqual({ kept: chunkCount(key.size), duplicate: 0, forged: 0, conflict: 0 });
    expect(a!.counts.uploaded_bytes).toBe(key.size);
    expect(b!.counts.kept_bytes).toBe(key.size);
    expect(b!.counts.stray_bytes).toBe(0);
    expect(b!.swarm.status().outstandingBytes).toBe(0);
    expect(member.handle!.sources()).toMatchObject([{ peerId: a!.info.peerId, held: chunkCount(key.size), bytesDown: key.size, bytesUp: 0 }]);
  });

  test('five hosts: they serve one another', async () => {
    const { key, bytes } = randomBlob(20 * MIB);
    const [seed, ...others] = await hosts(5);
    seed!.holdings.add(new MemoryMember(key, bytes));
    const members = others.map((host) => {
      const member = new MemoryMember(key);
      host.join(member);
      return member;
    });
    await Promise.all(members.map((member) => member.finished));
    for (const member of members) {
      expect(member.bytes.equals(bytes)).toBe(true);
      expect(member.from.size).toBeGreaterThan(1);
    }
    expect(seed!.counts.uploaded_bytes).toBeLessThan(4 * key.size);
  });

  test('two members that hold a half each give one another the other', async () => {
    const { key, bytes } = randomBlob(8 * MIB);
    const [a, b] = await hosts(2);
    const members = [new MemoryMember(key), new MemoryMember(key)];
    a!.join(members[0]!);
    b!.join(members[1]!);
    const full = new MemoryMember(key, bytes);
    for (let index = 0; index < chunkCount(key.size); index++) members[index % 2]!.put(index, full.chunk(index));
    await Promise.all(members.map((member) => member.finished));
    for (const member of members) expect(member.bytes.equals(bytes)).toBe(true);
  });

  test.each([1, 100, 64 * 1024])('a blob of one chunk: %i bytes', async (size) => {
    const { key, bytes } = randomBlob(size);
    const [a, b] = await hosts(2);
    a!.holdings.add(new MemoryMember(key, bytes));
    const member = new MemoryMember(key);
    b!.join(member);
    await member.finished;
    expect(member.bytes.equals(bytes)).toBe(true);
  });

  test('an empty blob has nothing to trade, and harms nothing', async () => {
    const [a, b] = await hosts(2);
    const empty = randomBlob(0);
    a!.join(new MemoryMember(empty.key));
    const member = new MemoryMember(empty.key);
    b!.join(member);
    await member.when(() => member.handle?.peers().length === 1);
    expect(member.handle!.heldByPeer(0)).toBe(false);
  });

  test('six blobs at once share the one peer', async () => {
    const [a, b] = await hosts(2);
    const blobs = Array.from({ length: 6 }, (_, i) => randomBlob((i + 1) * MIB));
    for (const { key, bytes } of blobs) a!.holdings.add(new MemoryMember(key, bytes));
    const members = blobs.map(({ key }) => new MemoryMember(key));
    for (const member of members) b!.join(member);
    await Promise.all(members.map((member) => member.finished));
    for (const [i, member] of members.entries()) expect(member.bytes.equals(blobs[i]!.bytes)).toBe(true);
  });
});

describe('who holds what', () => {
  test('interest is remembered: a blob seeded later is told to those who wanted it', async () => {
    const { key, bytes } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    const member = new MemoryMember(key);
    b!.join(member);
    const other = new MemoryMember(randomBlob(1000).key);
    // The exchange is in order: once this blob is known there, so is the interest in the first.
    a!.join(other);
    b!.join(new MemoryMember(other.key));
    await other.when(() => other.handle?.peers().length === 1);
    expect(member.handle!.peers()).toEqual([]);
    a!.holdings.add(new MemoryMember(key, bytes));
    a!.swarm.seeded(key);
    await member.finished;
    expect(member.bytes.equals(bytes)).toBe(true);
  });

  test('a member that joins later learns of members that were there', async () => {
    const { key, bytes } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    const first = new MemoryMember(key);
    a!.join(first);
    first.put(3, new MemoryMember(key, bytes).chunk(3));
    const second = new MemoryMember(key);
    b!.join(second);
    await second.when(() => second.have.has(3));
    expect([...second.from]).toEqual([[a!.info.peerId, 1]]);
    expect(first.handle!.peers()).toEqual([b!.info.peerId]);
  });

  test('chunks that are lost are asked of nobody, and told', async () => {
    const { key, bytes } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    const holder = new MemoryMember(key);
    const watcher = new MemoryMember(key);
    for (let index = 0; index < chunkCount(key.size); index++) watcher.unwanted.add(index);
    a!.join(holder);
    b!.join(watcher);
    const full = new MemoryMember(key, bytes);
    for (const index of [1, 2, 5]) holder.put(index, full.chunk(index));
    await watcher.when(() => watcher.handle!.heldByPeer(5));
    expect([1, 2, 3].map((index) => watcher.handle!.heldByPeer(index))).toEqual([true, true, false]);
    holder.lose(2);
    await watcher.when(() => !watcher.handle!.heldByPeer(2));
    expect(watcher.handle!.heldByPeer(5)).toBe(true);
    watcher.unwanted.clear();
    watcher.handle!.poke();
    await watcher.when(() => watcher.have.count === 2);
    expect(watcher.have.ranges()).toEqual([[1, 1], [5, 1]]);
  });

  test('what a member reads at the origin is known to the others, until it says otherwise', async () => {
    const { key } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    const reader = new MemoryMember(key);
    const other = new MemoryMember(key);
    a!.join(reader);
    b!.join(other);
    reader.handle!.reading([[4, 2], [0, 1]]);
    await other.when(() => other.handle!.readByPeer(4));
    expect([0, 1, 4, 5, 6].map((index) => other.handle!.readByPeer(index))).toEqual([true, false, true, true, false]);
    reader.handle!.reading([]);
    await other.when(() => !other.handle!.readByPeer(4));
  });

  test('a download that is over is uploaded on, until nobody needs it', async () => {
    const { key, bytes } = randomBlob(4 * MIB);
    const [a, b, c] = await hosts(3);
    a!.holdings.add(new MemoryMember(key, bytes));
    const first = new MemoryMember(key);
    b!.join(first);
    await first.finished;
    b!.swarm.seeded(key);
    first.handle!.leave();
    a!.holdings.remove(key);
    a!.swarm.evicted(key);
    const second = new MemoryMember(key);
    c!.join(second);
    await second.finished;
    expect(second.bytes.equals(bytes)).toBe(true);
    c!.swarm.seeded(key);
    second.handle!.leave();
    // Once the last peer that shared it is gone, no books are kept on the blob.
    const probe = new MemoryMember(randomBlob(10).key);
    b!.join(probe);
    c!.join(new MemoryMember(probe.key));
    await probe.when(() => probe.handle?.peers().length === 1);
    await c!.swarm.close();
    await probe.when(() => probe.handle?.peers().length === 0);
    expect(b!.swarm.status().blobs).toBe(1);
  });

  test('a download that gives up without a blob leaves: its requests are taken back', async () => {
    const { key, bytes } = randomBlob(8 * MIB);
    const [a, b] = await hosts(2);
    a!.holdings.add(new MemoryMember(key, bytes));
    const member = new MemoryMember(key);
    b!.join(member);
    await member.when(() => member.have.count > 3);
    b!.holdings.remove(key);
    member.handle!.leave();
    expect(b!.swarm.status().outstandingBytes).toBe(0);
    const again = new MemoryMember(key);
    b!.join(again);
    await again.finished;
    expect(again.bytes.equals(bytes)).toBe(true);
  });
});

describe('nothing of a single peer stops it', () => {
  test('a seed that dies in the middle: the rest comes from the other', async () => {
    const { key, bytes } = randomBlob(20 * MIB);
    const [a, b, c] = await hosts(3);
    a!.holdings.add(new MemoryMember(key, bytes));
    b!.holdings.add(new MemoryMember(key, bytes));
    const member = new MemoryMember(key);
    c!.join(member);
    await member.when(() => (member.from.get(a!.info.peerId) ?? 0) > 10);
    const died = a!.swarm.close();
    await member.finished;
    await died;
    expect(member.bytes.equals(bytes)).toBe(true);
    expect(c!.swarm.status().peers.map((peer) => peer.peerId)).toEqual([b!.info.peerId]);
  });

  test('a peer that was expelled is disconnected at once and stays away', async () => {
    const { key } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    const member = new MemoryMember(key);
    a!.join(member);
    b!.join(new MemoryMember(key));
    await member.when(() => member.handle!.peers().length === 1);
    a!.banned.add(b!.info.peerId);
    a!.swarm.bansChanged();
    expect(member.handle!.peers()).toEqual([]);
    await b!.counted('failed_dials', 1);
    expect(a!.swarm.status().peers).toEqual([]);
  });

  test('a seed whose disk fails: busy, and the chunk comes from another', async () => {
    const { key, bytes } = randomBlob(2 * MIB);
    const [a, b, c] = await hosts(3);
    const broken = new MemoryMember(key, bytes);
    broken.readChunk = () => Promise.reject(new Error('I/O error'));
    a!.holdings.add(broken);
    b!.holdings.add(new MemoryMember(key, bytes));
    const member = new MemoryMember(key);
    c!.join(member);
    await member.finished;
    expect(member.from.get(a!.info.peerId)).toBeUndefined();
    expect(member.bytes.equals(bytes)).toBe(true);
  });

  test('connections come back: a mesh peer that restarts is dialled again', async () => {
    const { key, bytes } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    for (const { peerId } of a!.swarm.status().peers) expect(peerId).toBe(b!.info.peerId);
    const member = new MemoryMember(key);
    a!.join(member);
    // b forgets a; a's mesh still names b, so whoever dials first brings them together.
    b!.banned.add(a!.info.peerId);
    b!.swarm.bansChanged();
    b!.banned.clear();
    b!.holdings.add(new MemoryMember(key, bytes));
    await member.finished;
    expect(a!.counts.sessions_opened).toBe(2);
  });

  test('a peer that is gone without a word is noticed', async () => {
    const a = await fleet.start({ silenceMs: 300 });
    const b = await fleet.start({ silenceMs: 60_000 });
    // A cable between them that can be cut: neither side hears of it.
    const cut: Socket[] = [];
    const port = Number(b.info.addresses[0]!.split('/').at(-1));
    const cable = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) socket.on('error', () => socket.destroy());
      cut.push(near, far);
    });
    await new Promise<void>((resolve) => void cable.listen(0, '127.0.0.1', resolve));
    const member = new MemoryMember(randomBlob(MIB).key);
    a.join(member);
    b.join(new MemoryMember(member.key));
    a.swarm.setMesh([{ peerId: b.info.peerId, addresses: [`/ip4/127.0.0.1/tcp/${(cable.address() as AddressInfo).port}`] }]);
    await member.when(() => member.handle!.peers().length === 1);
    for (const socket of cut) socket.unpipe().pause();
    await member.when(() => member.handle!.peers().length === 0);
    for (const socket of cut) socket.destroy();
    a.swarm.setMesh([]);
    await new Promise((resolve) => void cable.close(resolve));
  });

  test('closing tells the peers', async () => {
    const { key } = randomBlob(MIB);
    const [a, b] = await hosts(2);
    const member = new MemoryMember(key);
    a!.join(member);
    b!.join(new MemoryMember(key));
    await member.when(() => member.handle!.peers().length === 1);
    const closed = b!.swarm.close();
    await member.when(() => member.handle!.peers().length === 0);
    await closed;
  });
});

test('limits hold for the whole host and can be lifted', async () => {
  const { key, bytes } = randomBlob(MIB);
  const a = await fleet.start({ uploadLimit: 1 });
  const b = await fleet.start();
  await fleet.connectAll();
  a.holdings.add(new MemoryMember(key, bytes));
  const member = new MemoryMember(key);
  b.join(member);
  // The burst lets one chunk go; at one byte per second the next is most of a day away.
  await member.when(() => member.have.count === 1);
  expect(a.counts.uploaded_bytes).toBe(64 * 1024);
  a.swarm.setLimits({});
  await member.finished;
});

test('the download limit is the one that is shared with whatever else this host downloads', async () => {
  const { key, bytes } = randomBlob(MIB);
  const downloadLimit = new TokenBucket(1);
  const a = await fleet.start();
  const b = await fleet.start({ downloadLimit });
  await fleet.connectAll();
  a.holdings.add(new MemoryMember(key, bytes));
  const member = new MemoryMember(key);
  b.join(member);
  await member.when(() => member.have.count === 1);
  expect(downloadLimit.waitMs(64 * 1024, Date.now())).toBeGreaterThan(0);
  b.swarm.setLimits({});
  await member.finished;
});

test('the bitfield of a memory member says what it has', () => {
  const { key, bytes } = randomBlob(3 * 64 * 1024);
  const member = new MemoryMember(key, bytes);
  expect(member.have.bytes()).toEqual(Bitfield.full(3).bytes());
  expect(member.digestOf(2)).toEqual(new Uint8Array(createHash('sha256').update(bytes.subarray(2 * 64 * 1024)).digest()));
});
