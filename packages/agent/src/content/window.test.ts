import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { bench, type Bench } from './test-download.ts';
import { CHUNK, collect, Gate, grantingCoordinator, makeBlob, PATIENCE_MS, spoilt, TestPartial, type TestBlob } from './test-ports.ts';

// A disk without room: chunks pass through memory.

const WINDOW = 8;

function unkept(blob: TestBlob, options: Parameters<typeof bench>[1] = {}): Bench {
  return bench(blob, { partial: new TestPartial(blob.key, { kept: false }), windowBytes: WINDOW * CHUNK, ...options });
}

/** Peers hold everything, and give what is wanted until nothing is. */
async function serve({ blob, download, peers }: Bench): Promise<void> {
  for (;;) {
    const index = Array.from({ length: blob.chunks }, (_, i) => i).find((i) => download.wants(i));
    if (index === undefined) return;
    await peers.deliver('p', index, blob.chunk(index));
    await setImmediate();
  }
}

async function next(pieces: AsyncIterator<Uint8Array>): Promise<Uint8Array | undefined> {
  const piece = await pieces.next();
  return piece.done === true ? undefined : new Uint8Array(piece.value);
}

test('a blob larger than the window is read whole, verified, and not stored', async () => {
  const blob = makeBlob(40 * CHUNK + 9);
  const { read, partial, events, fallbacks, download } = unkept(blob, { coordinator: grantingCoordinator() });
  expect(await collect(await read())).toEqual(blob.bytes);
  expect(partial.peakInMemory).toBeLessThanOrEqual(WINDOW);
  expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: undefined });
  expect(fallbacks()).toEqual([]);
  await download.close();
  expect(partial.inMemory).toBeLessThanOrEqual(WINDOW);
});

test('a reader that takes nothing bounds what is fetched', async () => {
  const blob = makeBlob(40 * CHUNK);
  const b = unkept(blob);
  const reader = b.read();
  await serve(b);
  const pieces = (await reader)[Symbol.asyncIterator]();
  expect(await next(pieces)).toEqual(blob.chunk(0));
  await serve(b);
  expect(b.download.have.count).toBe(WINDOW);
  expect(await next(pieces)).toEqual(blob.chunk(1));
  // The window follows the hash of the whole as well, which a worker computes.
  while (b.tracker.of('need').at(-1)?.within === undefined) await setImmediate();
  expect(b.tracker.of('need').at(-1)).toMatchObject({ within: [[1, WINDOW]] });
  expect(b.download.wants(WINDOW)).toBe(true);
  await b.download.close();
});

test('a wrong whole is not completed', async () => {
  const blob = makeBlob(20 * CHUNK);
  const { read, origin, events, partial } = unkept(blob, { coordinator: grantingCoordinator() });
  origin.send = (bytes, { start }) => (start === 0 ? spoilt(bytes) : bytes);
  await expect(read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  await events.when((event) => event.type === 'closed');
  expect(partial.state).toBe('removed');
});

test('a wrong whole with chunks of peers: after the tracker has answered, a retry succeeds', async () => {
  const blob = makeBlob(20 * CHUNK);
  const b = unkept(blob);
  const failed = expect(b.read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  await deliverAll(b, 4);
  await failed;
  expect(b.tracker.of('mismatch')).toHaveLength(1);
  const retry = b.read().then(collect);
  b.download.invalid([[4, 1]]);
  const done = serveUntil(b, retry);
  expect(await retry).toEqual(blob.bytes);
  await done;
  await b.download.close();
});

test('a wrong whole without a tracker: the retry is read at the origin alone', async () => {
  const blob = makeBlob(12 * CHUNK);
  const b = unkept(blob, { coordinator: grantingCoordinator() });
  const gate = new Gate();
  b.origin.beforeAnswer = (signal) => gate.pass(signal);
  const failed = expect(b.read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  await deliverAll(b, 4);
  await failed;
  const retry = b.read().then(collect);
  expect(await b.peers.deliver('p', 0, blob.chunk(0))).toBe('duplicate');
  gate.open();
  expect(await retry).toEqual(blob.bytes);
  await b.download.close();
});

describe('readers side by side', () => {
  test('a late one reads from the start, at its own pace, in bounded memory', async () => {
    const blob = makeBlob(40 * CHUNK);
    const b = unkept(blob, { coordinator: grantingCoordinator({ runChunks: 2 }) });
    const early = (await b.read())[Symbol.asyncIterator]();
    for (let index = 0; index < 20; index++) expect(await next(early)).toEqual(blob.chunk(index));
    const late = await b.read();
    expect(await collect(late)).toEqual(blob.bytes);
    for (let index = 20; index < 40; index++) expect(await next(early)).toEqual(blob.chunk(index));
    expect(await next(early)).toBeUndefined();
    expect(b.partial.peakInMemory).toBeLessThanOrEqual(2 * WINDOW);
    await b.download.close();
  });

  test('one that has stopped reading holds up nobody', async () => {
    const blob = makeBlob(40 * CHUNK);
    const b = unkept(blob, { coordinator: grantingCoordinator({ runChunks: 2 }) });
    const stuck = (await b.read())[Symbol.asyncIterator]();
    expect(await next(stuck)).toEqual(blob.chunk(0));
    expect(await collect(await b.read())).toEqual(blob.bytes);
    for (let index = 1; index < 40; index++) expect(await next(stuck)).toEqual(blob.chunk(index));
    expect(await next(stuck)).toBeUndefined();
    expect(b.partial.peakInMemory).toBeLessThanOrEqual(2 * WINDOW);
    await b.download.close();
  });

  test('one that starts after the digest was found right gets the same bytes or none', async () => {
    const blob = makeBlob(12 * CHUNK);
    const b = unkept(blob);
    const first = b.read().then(collect);
    await serveUntil(b, first);
    expect(await first).toEqual(blob.bytes);
    const second = b.read();
    // What was proven cannot be replaced.
    expect(await b.peers.deliver('liar', 0, spoilt(blob.chunk(0)))).toBe('forged');
    const all = second.then(collect);
    await serveUntil(b, all);
    expect(await all).toEqual(blob.bytes);
    await b.download.close();
  });

  test('a chunk that comes again has to be the one that was hashed', async () => {
    const blob = makeBlob(20 * CHUNK);
    const b = unkept(blob);
    const early = (await Promise.all([b.read(), serve(b)]))[0][Symbol.asyncIterator]();
    for (let index = 0; index < 6; index++) {
      expect(await next(early)).toEqual(blob.chunk(index));
      await serve(b);
    }
    // It leaves memory once it is in the hash of the whole, which another thread computes.
    await expect.poll(() => b.download.have.has(0), { timeout: 20_000 }).toBe(false);
    const late = b.read();
    expect(await b.peers.deliver('liar', 0, spoilt(blob.chunk(0)))).toBe('conflict');
    expect(b.tracker.of('conflict')).toEqual([{ type: 'conflict', index: 0, peerId: 'liar' }]);
    const lateAll = late.then(collect);
    await serveUntil(b, lateAll);
    expect(await lateAll).toEqual(blob.bytes);
    await b.download.close();
  });

  test('the origin contradicts what a peer gave and has left memory: whoever took it is broken', async () => {
    const blob = makeBlob(20 * CHUNK);
    const b = unkept(blob);
    const early = b.read();
    await b.peers.deliver('liar', 0, spoilt(blob.chunk(0)));
    const pieces = (await early)[Symbol.asyncIterator]();
    await serve(b);
    for (let index = 0; index < 6; index++) {
      await next(pieces);
      await serve(b);
    }
    // Only then is it read again; another thread hashes it before.
    await expect.poll(() => b.download.have.has(0), { timeout: 20_000 }).toBe(false);
    const late = b.read();
    b.tracker.grant('a', 0, 2);
    await b.tracker.released('a');
    expect(b.tracker.of('conflict')).toEqual([{ type: 'conflict', index: 0, peerId: 'liar' }]);
    await expect(next(pieces)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    const lateAll = late.then(collect);
    await serveUntil(b, lateAll);
    expect(await lateAll).toEqual(blob.bytes);
    await b.download.close();
  });

  test('more readers than fit wait their turn', async () => {
    const blob = makeBlob(30 * CHUNK);
    const b = unkept(blob, { coordinator: grantingCoordinator({ runChunks: 1 }) });
    const readers = Array.from({ length: 12 }, (_, i) => b.read({ start: i * CHUNK, end: 30 * CHUNK }).then(collect));
    const all = await Promise.all(readers);
    all.forEach((bytes, i) => expect(bytes).toEqual(blob.bytes.slice(i * CHUNK)));
    expect(b.partial.peakInMemory).toBeLessThanOrEqual(2 * WINDOW);
    await b.download.close();
  });
});

test('a range at the end is read without the rest, from peers alone', async () => {
  const blob = makeBlob(40 * CHUNK);
  const b = unkept(blob, { authority: undefined });
  const range = b.read({ start: 30 * CHUNK, end: 32 * CHUNK }).then(collect);
  expect([0, 29, 30, 31, 32].map((index) => b.download.wants(index))).toEqual([false, false, true, true, false]);
  b.download.vouched(30, [blob.chunkDigest(30), blob.chunkDigest(31)], 'another peer');
  await serveUntil(b, range);
  expect(await range).toEqual(blob.bytes.slice(30 * CHUNK, 32 * CHUNK));
  expect(b.download.status().bytes.peer).toBe(2 * CHUNK);
  await b.download.close();
});

test('ranges far from each other come through memory, in any order, twice the same', async () => {
  const blob = makeBlob(40 * CHUNK);
  const b = unkept(blob, { coordinator: grantingCoordinator({ runChunks: 2 }) });
  const ranges = [30, 2, 17, 38, 3].map((chunk) => ({ start: chunk * CHUNK + 7, end: (chunk + 1) * CHUNK + 9 }));
  const expected = new Uint8Array(Buffer.concat(ranges.map(({ start, end }) => blob.bytes.slice(start, end))));
  for (let time = 0; time < 2; time++) expect(await collect(await b.read(ranges))).toEqual(expected);
  expect(b.partial.peakInMemory).toBeLessThanOrEqual(2 * WINDOW);
  await b.download.close();
});

test('nothing is fetched ahead for nobody', async () => {
  const { download } = unkept(makeBlob(CHUNK));
  await expect(download.background(new AbortController().signal)).rejects.toMatchObject({ code: 'DISK_FULL' });
  await download.close();
});

describe('a disk that fills up in the middle', () => {
  test('the pull goes on, streamed; what is on disk stays', async () => {
    const blob = makeBlob(60 * CHUNK);
    const partial = new TestPartial(blob.key);
    partial.roomChunks = 20;
    const { read, fallbacks, download, events } = bench(blob, { partial, windowBytes: WINDOW * CHUNK, coordinator: grantingCoordinator() });
    expect(await collect(await read())).toEqual(blob.bytes);
    expect(partial.peakInMemory).toBeLessThanOrEqual(2 * WINDOW);
    expect(fallbacks()).toEqual(['unkept']);
    expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: undefined });
    expect(download.have.count).toBeGreaterThanOrEqual(20);
    await download.close();
    expect(partial.state).toBe('kept');
  });

  test('a late reader has the part on disk from there', async () => {
    const blob = makeBlob(40 * CHUNK);
    const partial = new TestPartial(blob.key);
    partial.roomChunks = 20;
    const b = bench(blob, { partial, windowBytes: WINDOW * CHUNK, coordinator: grantingCoordinator({ runChunks: 2 }) });
    const first = await collect(await b.read());
    const sent = b.origin.bytesSent;
    expect(await collect(await b.read())).toEqual(first);
    expect(b.origin.bytesSent - sent).toBeLessThanOrEqual(20 * CHUNK);
    await b.download.close();
  });

  test('a background fetch ends with the reason', async () => {
    const blob = makeBlob(10 * CHUNK);
    const partial = new TestPartial(blob.key);
    partial.roomChunks = 3;
    const { download } = bench(blob, { partial, coordinator: grantingCoordinator() });
    await expect(download.background(new AbortController().signal)).rejects.toMatchObject({ code: 'DISK_FULL' });
    await download.close();
  });
});

/** A peer gives all chunks in order, as the window reaches them, one of them wrong. */
async function deliverAll({ blob, peers }: Bench, wrong: number): Promise<void> {
  for (let index = 0; index < blob.chunks; index++) {
    const bytes = index === wrong ? spoilt(blob.chunk(index)) : blob.chunk(index);
    const deadlineMs = performance.now() + PATIENCE_MS;
    while ((await peers.deliver('p', index, bytes)) !== 'kept') {
      if (performance.now() > deadlineMs) throw new Error(`chunk ${index} is not taken`);
      await setImmediate();
    }
  }
}

/** Peers give what is wanted until the promise is settled. */
async function serveUntil(b: Bench, promise: Promise<unknown>): Promise<void> {
  const progress = { settled: false };
  promise.then(
    () => (progress.settled = true),
    () => (progress.settled = true),
  );
  const deadlineMs = performance.now() + PATIENCE_MS;
  while (!progress.settled) {
    if (performance.now() > deadlineMs) throw new Error('it does not come to its end');
    await serve(b);
    await setImmediate();
  }
}
