import { describe, expect, test } from 'vitest';
import { bench, type Bench } from './test-download.ts';
import { CHUNK, collect, Gate, grantingCoordinator, makeBlob, spoilt, TestCoordinator, TestPartial } from './test-ports.ts';

// Every chunk has the digest that its giver vouches for, and the whole is wrong.

/** A reader that is broken because chunk `wrong` of the blob came from a liar. */
async function broken({ blob, read, peers }: Bench, wrong: number): Promise<void> {
  const reader = read();
  const failed = expect(reader.then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  for (let index = 0; index < blob.chunks; index++) {
    const bytes = index === wrong ? spoilt(blob.chunk(index)) : blob.chunk(index);
    expect(await peers.deliver(index === wrong ? 'liar' : 'honest', index, bytes)).toBe('kept');
  }
  await failed;
}

/** A reader that is broken by chunk 2 of a liar; chunks 0 and 1 were read here, 3 is honest. */
async function brokenByOther(): Promise<Bench> {
  const b = bench(makeBlob(4 * CHUNK));
  const failed = expect(b.read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  b.tracker.grant('a', 0, 2);
  await b.tracker.released('a');
  await b.peers.deliver('liar', 2, spoilt(b.blob.chunk(2)));
  await b.peers.deliver('honest', 3, b.blob.chunk(3));
  await failed;
  return b;
}

describe('with a tracker', () => {
  test('it is asked, and what it finds wrong is fetched again', async () => {
    const b = bench(makeBlob(4 * CHUNK));
    await broken(b, 2);
    expect(b.tracker.of('mismatch')).toHaveLength(1);
    expect(b.fallbacks()).toEqual(['repair']);
    expect(b.download.status().state).toBe('repairing');
    const retry = b.read();
    b.download.invalid([[2, 1]]);
    expect(b.tracker.of('lost')).toEqual([{ type: 'lost', ranges: [[2, 1]] }]);
    expect(await b.peers.deliver('honest', 2, b.blob.chunk(2)), 'nobody but its sender vouches for it').toBe('duplicate');
    b.download.vouched(2, [b.blob.chunkDigest(2)], 'auditor');
    expect(await b.peers.deliver('honest', 2, b.blob.chunk(2))).toBe('kept');
    expect(await collect(await retry)).toEqual(b.blob.bytes);
  });

  test('the retry gets no byte of a peer before the whole is right', async () => {
    const b = bench(makeBlob(4 * CHUNK));
    await broken(b, 2);
    let started = false;
    const retry = b.read().then((reader) => {
      started = true;
      return reader;
    });
    b.download.invalid([[1, 1]]);
    b.download.vouched(1, [b.blob.chunkDigest(1)], 'auditor');
    await b.peers.deliver('honest', 1, b.blob.chunk(1));
    // The liar's chunk was not among those that were dropped: the whole is wrong again, and the retry has seen nothing of it.
    await b.tracker.events.when((event) => event.type === 'mismatch', b.tracker.events.all.findIndex((event) => event.type === 'mismatch') + 1);
    expect(started).toBe(false);
    b.download.invalid([[2, 1]]);
    b.download.vouched(2, [b.blob.chunkDigest(2)], 'auditor');
    await b.peers.deliver('honest', 2, b.blob.chunk(2));
    expect(await collect(await retry)).toEqual(b.blob.bytes);
  });

  test('in doubt, a reader of a range has the rest fetched, so that the doubt ends', async () => {
    const b = bench(makeBlob(4 * CHUNK));
    await broken(b, 3);
    const range = b.read({ start: 0, end: CHUNK });
    b.download.invalid([[3, 1]]);
    expect(b.download.wants(3)).toBe(false);
    b.download.vouched(3, [b.blob.chunkDigest(3)], 'auditor');
    expect(b.download.wants(3)).toBe(true);
    expect(b.peers.poked.at(-1), 'what is wanted now is asked for').toEqual([[3, 1]]);
    b.clock.advance(5000);
    expect(b.tracker.of('hedge')).toEqual([{ type: 'hedge', index: 3 }]);
    await b.peers.deliver('honest', 3, b.blob.chunk(3));
    expect(await collect(await range)).toEqual(b.blob.chunk(0));
  });

  test('what this host read at the origin itself goes out meanwhile, and is not dropped', async () => {
    const b = await brokenByOther();
    const own = await b.read({ start: 0, end: 2 * CHUNK });
    expect(await collect(own)).toEqual(b.blob.bytes.slice(0, 2 * CHUNK));
    b.download.invalid([[0, 4]]);
    expect(b.download.have.ranges()).toEqual([[0, 2]]);
    await b.download.close();
  });

  test('it is asked again where what it found wrong is not what is wrong here', async () => {
    const b = await brokenByOther();
    expect(b.tracker.of('mismatch')).toHaveLength(1);
    b.download.invalid([[1, 1]]);
    expect(b.tracker.of('mismatch')).toHaveLength(2);
    expect(b.download.status().state).toBe('repairing');
    b.download.invalid([[2, 1]]);
    expect(b.tracker.of('mismatch')).toHaveLength(2);
    expect(b.download.status().state).toBe('running');
    await b.download.close();
  });

  test('without an answer the blob is given up, and nothing of it is believed again', async () => {
    const b = bench(makeBlob(4 * CHUNK), { auditMs: 15_000, lingerMs: 5000 });
    await broken(b, 1);
    b.clock.advance(14_999);
    expect(b.download.open).toBe(true);
    const retry = b.read();
    b.clock.advance(1);
    await expect(retry).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    await b.events.when((event) => event.type === 'closed');
    expect(b.partial.state).toBe('removed');
  });

  test('a tracker that goes away while it is asked: from then on only the origin is believed', async () => {
    const b = bench(makeBlob(4 * CHUNK));
    await broken(b, 1);
    const retry = b.read();
    b.coordinator.connected = false;
    b.download.trackerChanged(false);
    expect(b.download.have.count).toBe(0);
    b.tracker.grant('a', 0, 4);
    expect(await collect(await retry)).toEqual(b.blob.bytes);
  });

  test('chunks forgotten while the verdict is awaited make it worthless', async () => {
    const blob = makeBlob(4 * CHUNK);
    const b = bench(blob);
    const reader = b.read();
    for (const index of [0, 1, 2]) await b.peers.deliver('p', index, blob.chunk(index));
    // The last write, the end of the hash and the order to forget fall together.
    const last = b.peers.deliver('p', 3, blob.chunk(3));
    const forgotten = b.tracker.events.when((event) => event.type === 'have' && event.ranges[0]![0] === 3).then(() => b.download.invalid([[3, 1]]));
    await Promise.all([last, forgotten]);
    expect(b.download.have.has(3)).toBe(false);
    await b.peers.deliver('p', 3, blob.chunk(3));
    expect(await collect(await reader)).toEqual(blob.bytes);
    expect(await b.events.when((event) => event.type === 'finished')).toMatchObject({ stored: { key: blob.key } });
  });
});

describe('without a tracker', () => {
  test('all that peers gave is read again at the origin, and no peer is asked', async () => {
    const b = bench(makeBlob(4 * CHUNK), { coordinator: new TestCoordinator({ connected: false }) });
    await broken(b, 1);
    expect(b.tracker.of('mismatch')).toEqual([]);
    const retry = b.read();
    expect(b.download.wants(0)).toBe(false);
    expect(b.download.roster().peers).toEqual([]);
    expect(await b.peers.deliver('honest', 0, b.blob.chunk(0))).toBe('duplicate');
    b.tracker.grant('a', 0, 4);
    expect(await collect(await retry)).toEqual(b.blob.bytes);
    expect(b.origin.bytesSent).toBe(4 * CHUNK);
  });

  test('so are wrong chunks that an earlier run has left', async () => {
    const blob = makeBlob(4 * CHUNK);
    const partial = new TestPartial(blob.key).resumed(blob, [0, 2], (index) => (index === 2 ? spoilt(blob.chunk(2)) : blob.chunk(index)));
    const b = bench(blob, { partial, coordinator: grantingCoordinator() });
    await expect(b.read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(await collect(await b.read())).toEqual(blob.bytes);
  });

  test('an origin that is wrong too ends it', async () => {
    const b = bench(makeBlob(4 * CHUNK), { coordinator: grantingCoordinator({ runChunks: 2 }) });
    b.origin.send = (bytes, { start }) => (start === 0 ? spoilt(bytes) : bytes);
    const gate = new Gate();
    b.origin.beforeAnswer = (signal) => gate.pass(signal);
    const reader = b.read();
    const failed = expect(reader.then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    await gate.reached;
    for (const index of [2, 3]) await b.peers.deliver('p', index, b.blob.chunk(index));
    gate.open();
    await failed;
    await expect(b.read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    await b.events.when((event) => event.type === 'closed');
    expect(b.partial.state).toBe('removed');
  });
});
