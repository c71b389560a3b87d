import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { free } from '../chunk-memory.ts';
import { AgentError } from '../errors.ts';
import { bench } from './test-download.ts';
import type { SourceRight } from './sources.ts';
import { CHUNK, collect, Gate, grantingCoordinator, makeBlob, sha256, spoilt, TestCoordinator, TestPartial } from './test-ports.ts';

const SIZE = 10 * CHUNK + 1000;

describe('reading', () => {
  test('the whole blob comes from the origin, once, and is stored', async () => {
    const { blob, read, origin, events, tracker, swarm } = bench(makeBlob(SIZE), { coordinator: grantingCoordinator() });
    expect(await collect(await read())).toEqual(blob.bytes);
    expect(origin.bytesSent).toBe(SIZE);
    expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: { key: blob.key } });
    await events.when((event) => event.type === 'closed');
    expect(swarm.seeds).toEqual([blob.key]);
    expect(tracker.of('seed')).toHaveLength(1);
  });

  test.each([
    ['empty', makeBlob(0)],
    ['of one chunk', makeBlob(1000)],
    ['of a full chunk', makeBlob(CHUNK)],
    ['of sha512', makeBlob(3 * CHUNK + 1, 'long', 'sha512')],
    ['of one chunk of sha512', makeBlob(7, 'long', 'sha512')],
  ])('a blob %s', async (_, blob) => {
    const { read, events } = bench(blob, { coordinator: grantingCoordinator() });
    expect(await collect(await read())).toEqual(blob.bytes);
    expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: { key: blob.key } });
  });

  test('the sources of its bytes are told', async () => {
    const blob = makeBlob(SIZE);
    const partial = new TestPartial(blob.key).resumed(blob, [0, 1]);
    const { download, peers } = bench(blob, { partial, coordinator: grantingCoordinator() });
    const told = new Map<string, number>();
    const delivered = peers.deliver('p', 2, blob.chunk(2));
    await collect(await download.read({ start: 0, end: SIZE }, new AbortController().signal, (source, bytes) => told.set(source, (told.get(source) ?? 0) + bytes)));
    await delivered;
    expect(Object.fromEntries(told)).toEqual({ store: 2 * CHUNK, peer: CHUNK, origin: SIZE - 3 * CHUNK });
  });

  test.each(['peer', 'origin'] as const)('a download that ends has counted all its bytes: a chunk from the %s, hashed before its write is over', async (from) => {
    const blob = makeBlob(3 * CHUNK);
    const { download, peers, partial, read, events, ended } = bench(blob, { partial: new TestPartial(blob.key).resumed(blob, [0]), ...(from === 'origin' && { coordinator: grantingCoordinator() }) });
    const gate = new Gate();
    const { signal } = new AbortController();
    partial.afterMarked = (index) => (index === 1 ? gate.pass(signal) : undefined);
    const reading = read().then(collect);
    const delivered = from === 'peer' ? [1, 2].map((index) => peers.deliver('p', index, blob.chunk(index))) : [];
    await gate.reached;
    // The whole is verified and given out; the agent stops in this moment.
    expect(await reading).toEqual(blob.bytes);
    const closed = download.close();
    gate.open();
    await closed;
    await Promise.all(delivered);
    expect(events.all.map(({ type }) => type)).toEqual(['finished', 'closed']);
    expect(ended).toEqual([{ peer: 0, origin: 0, duplicate: 0, [from]: 2 * CHUNK }]);
  });

  test('readers at the same moment share one download, each gets all', async () => {
    const { blob, read, origin } = bench(makeBlob(SIZE), { coordinator: grantingCoordinator() });
    const all = await Promise.all([read(), read(), read()].map(async (reader) => collect(await reader)));
    for (const bytes of all) expect(bytes).toEqual(blob.bytes);
    expect(origin.bytesSent).toBe(SIZE);
  });

  test('who comes late reads from the start', async () => {
    const { blob, read, origin, peers } = bench(makeBlob(SIZE), { coordinator: grantingCoordinator() });
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at >= 5 * CHUNK ? gate.pass(signal) : undefined);
    const early = await read();
    await gate.reached;
    expect(peers.announced.length).toBeGreaterThan(0);
    const late = await read();
    gate.open();
    expect(await collect(late)).toEqual(blob.bytes);
    expect(await collect(early)).toEqual(blob.bytes);
    expect(origin.bytesSent).toBe(SIZE);
  });

  test('a range is served without the rest being fetched', async () => {
    const { blob, read, tracker, origin } = bench(makeBlob(SIZE));
    const range = { start: 3 * CHUNK + 5, end: 5 * CHUNK - 7 };
    const reader = read(range);
    expect(tracker.of('need')).toEqual([{ type: 'need', runs: 2, within: [[3, 2]] }]);
    tracker.grant('a', 3, 2);
    expect(await collect(await reader)).toEqual(blob.bytes.slice(range.start, range.end));
    await tracker.released('a');
    expect(origin.events.all.filter((event) => event.type === 'read').map((event) => event.range)).toEqual([{ start: 3 * CHUNK, end: 5 * CHUNK }]);
  });

  test('of a range without end no more is asked for than is soon read', async () => {
    const blob = makeBlob(100 * CHUNK);
    const { read, tracker, download } = bench(blob);
    const asked = (): number => tracker.of('need').at(-1)!.within!.reduce((last, [first, count]) => Math.max(last, first + count), 0);
    const reading = read([{ start: 10 * CHUNK + 5, end: blob.key.size }]);
    expect(tracker.of('need')).toEqual([{ type: 'need', runs: 2, within: [[10, 17]] }]);
    expect([10, 26, 27].map((index) => download.wants(index))).toEqual([true, true, false]);
    const reader = (await (tracker.grant('a', 10, 30), reading))[Symbol.asyncIterator]();
    for (let index = 10; index < 28; index++) expect((await reader.next()).done).toBe(false);
    expect(asked()).toBeGreaterThan(27);
    expect(asked()).toBeLessThan(27 + 20);
    await reader.return?.();
    await tracker.released('a');
    expect(tracker.of('need').at(-1)).toMatchObject({ runs: 0 });
  });

  test('a range takes a chunk of a peer once somebody else vouches for it', async () => {
    const blob = makeBlob(SIZE);
    const { read, peers, download } = bench(blob, { coordinator: new TestCoordinator({ connected: true }) });
    let here = false;
    const reading = read([{ start: 0, end: 10 }]).then((pieces) => {
      here = true;
      return collect(pieces);
    });
    expect(await peers.deliver('giver', 0, blob.chunk(0))).toBe('kept');
    await setImmediate();
    expect(here).toBe(false);
    download.vouched(0, [blob.chunkDigest(0)], 'other');
    expect(await reading).toEqual(blob.bytes.slice(0, 10));
    expect(download.status().readers).toBe(0);
  });

  test('a forged chunk of a peer is not in a range whose true digest comes later', async () => {
    const blob = makeBlob(SIZE);
    const { read, peers, download } = bench(blob, { coordinator: new TestCoordinator({ connected: true }) });
    const reading = read([{ start: 0, end: 10 }]);
    await peers.deliver('liar', 0, spoilt(blob.chunk(0)));
    download.vouched(0, [blob.chunkDigest(0)], 'other');
    await peers.deliver('giver', 0, blob.chunk(0));
    expect(await collect(await reading)).toEqual(blob.bytes.slice(0, 10));
  });

  test('where nobody vouches, a range goes on after a moment with what members give, and does not wait again', async () => {
    const blob = makeBlob(SIZE);
    const { read, peers, clock, fallbacks } = bench(blob, { coordinator: new TestCoordinator({ connected: true }) });
    const reading = read([{ start: 0, end: 2 * CHUNK }]);
    await peers.deliver('giver', 0, blob.chunk(0));
    await peers.deliver('giver', 1, blob.chunk(1));
    clock.advance(1500);
    expect(await collect(await reading)).toEqual(blob.bytes.slice(0, 2 * CHUNK));
    expect(fallbacks()).toEqual(['unvouched']);
  });

  test('a range that is the whole blob ends when the blob is verified', async () => {
    const blob = makeBlob(SIZE);
    const { read, tracker, origin } = bench(blob, { coordinator: grantingCoordinator() });
    origin.send = spoilt;
    await expect(read([{ start: 0, end: SIZE }]).then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(tracker.of('seed')).toEqual([]);
  });

  test('ranges in any order, in one reply', async () => {
    const { blob, read, origin } = bench(makeBlob(SIZE), { coordinator: grantingCoordinator() });
    const ranges = [
      { start: 7 * CHUNK, end: 7 * CHUNK + 10 },
      { start: 3, end: 9 },
      { start: CHUNK - 1, end: CHUNK + 1 },
      { start: 7 * CHUNK + 5, end: 7 * CHUNK + 20 },
    ];
    expect(await collect(await read(ranges))).toEqual(new Uint8Array(Buffer.concat(ranges.map(({ start, end }) => blob.bytes.slice(start, end)))));
    expect(origin.bytesSent).toBe(3 * CHUNK);
  });

  test('what an earlier run has left is not fetched again', async () => {
    const blob = makeBlob(SIZE);
    const partial = new TestPartial(blob.key).resumed(blob, [0, 1, 2, 3, 4, 5, 6, 7]);
    const { read, origin } = bench(blob, { partial, coordinator: grantingCoordinator() });
    expect(await collect(await read())).toEqual(blob.bytes);
    expect(origin.bytesSent).toBe(SIZE - 8 * CHUNK);
  });

  test('a complete partial is verified and finished without anybody asking', async () => {
    const blob = makeBlob(3 * CHUNK);
    const { events, origin } = bench(blob, { partial: new TestPartial(blob.key).resumed(blob, [0, 1, 2]) });
    expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: { key: blob.key } });
    expect(origin.asked('read')).toBe(0);
  });

  test('a chunk that the disk has lost is fetched again', async () => {
    const blob = makeBlob(SIZE);
    const partial = new TestPartial(blob.key).resumed(blob, [0, 1, 2]);
    partial.lose(1);
    const { read, fallbacks, origin } = bench(blob, { partial, coordinator: grantingCoordinator({ runChunks: 1 }) });
    expect(await collect(await read())).toEqual(blob.bytes);
    expect(fallbacks()).toEqual(['chunk-lost']);
    expect(origin.bytesSent).toBe(SIZE - 2 * CHUNK);
  });
});

describe('the end of a whole read', () => {
  test('the last chunk waits for the digest of the whole', async () => {
    const { blob, read, peers } = bench(makeBlob(3 * CHUNK));
    const reader = read();
    for (const index of [1, 2]) expect(await peers.deliver('p', index, blob.chunk(index))).toBe('kept');
    await peers.deliver('p', 0, blob.chunk(0));
    const pieces: number[] = [];
    for await (const piece of await reader) pieces.push(piece.length);
    expect(pieces).toEqual([CHUNK, CHUNK, CHUNK]);
  });

  test('a reader of the whole gets no last byte of a wrong blob, a reader of a range does', async () => {
    const { blob, read, peers, events, download } = bench(makeBlob(3 * CHUNK));
    const whole = read();
    const range = read({ start: CHUNK, end: 3 * CHUNK });
    download.vouched(1, [blob.chunkDigest(1), blob.chunkDigest(2)], 'another liar');
    // All chunks are consistent with what the peer says; the whole is not the blob.
    await peers.deliver('liar', 1, blob.chunk(1));
    await peers.deliver('liar', 2, blob.chunk(2));
    const some = (await range)[Symbol.asyncIterator]();
    expect((await some.next()).value).toEqual(blob.chunk(1));
    expect((await some.next()).value).toEqual(blob.chunk(2));
    expect((await some.next()).done).toBe(true);
    await peers.deliver('liar', 0, spoilt(blob.chunk(0)));
    const pieces = (await whole)[Symbol.asyncIterator]();
    let bytes = 0;
    const failure = await (async () => {
      for (;;) {
        const next = await pieces.next();
        if (next.done === true) return undefined;
        bytes += next.value.length;
      }
    })().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(bytes).toBeLessThanOrEqual(2 * CHUNK);
    expect(events.all.some((event) => event.type === 'finished')).toBe(false);
  });

  test('a blob of one chunk gives nothing before it is verified', async () => {
    const { blob, read, peers } = bench(makeBlob(1000, 'one', 'sha512'));
    const reader = read();
    let resolved = false;
    void reader.then(() => (resolved = true));
    await setImmediate();
    expect(resolved).toBe(false);
    await peers.deliver('p', 0, blob.chunk(0));
    expect(await collect(await reader)).toEqual(blob.bytes);
  });
});

describe('chunks of peers', () => {
  test('are verified, announced and told to the tracker', async () => {
    const { blob, read, peers, tracker, download } = bench(makeBlob(SIZE));
    const reader = read();
    expect(download.wants(0)).toBe(true);
    expect(await peers.deliver('p', 0, blob.chunk(0))).toBe('kept');
    expect(download.wants(0)).toBe(false);
    expect(peers.announced).toEqual([0]);
    expect(tracker.of('have')).toEqual([{ type: 'have', ranges: [[0, 1]] }]);
    expect((await (await reader)[Symbol.asyncIterator]().next()).value).toEqual(blob.chunk(0));
    expect(download.status().bytes).toEqual({ peer: CHUNK, origin: 0, duplicate: 0 });
  });

  test('nothing is wanted of them that nobody asked for', async () => {
    const { download, read } = bench(makeBlob(SIZE));
    expect(download.wants(0)).toBe(false);
    const reader = read({ start: CHUNK, end: 2 * CHUNK });
    expect([0, 1, 2].map((index) => download.wants(index))).toEqual([false, true, false]);
    await download.close();
    await expect(reader).rejects.toMatchObject({ code: 'DRAINING' });
  });

  test('bytes that contradict their digest are forged; so is a chunk of the wrong size', async () => {
    const { blob, read, peers, download } = bench(makeBlob(SIZE));
    void read().catch(() => {});
    expect(await peers.deliver('liar', 0, spoilt(blob.chunk(0)), blob.chunkDigest(0))).toBe('forged');
    expect(await peers.deliver('liar', 0, blob.chunk(0).subarray(1))).toBe('forged');
    expect(download.have.count).toBe(0);
    expect(await peers.deliver('p', 0, blob.chunk(0))).toBe('kept');
    await download.close();
  });

  test('bytes of a one-chunk blob that are not the blob are forged, whoever vouches for them', async () => {
    const { blob, read, peers, tracker, download } = bench(makeBlob(1000));
    const reader = read();
    expect(await peers.deliver('liar', 0, spoilt(blob.chunk(0)))).toBe('forged');
    expect(await peers.deliver('p', 0, blob.chunk(0))).toBe('kept');
    download.vouched(0, [Buffer.alloc(32, 7)], 'liar');
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 0, peerId: 'liar' }]);
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('a second copy is a duplicate', async () => {
    const { blob, read, peers, download } = bench(makeBlob(SIZE));
    void read().catch(() => {});
    const both = await Promise.all([peers.deliver('p', 0, blob.chunk(0)), peers.deliver('q', 0, blob.chunk(0))]);
    expect(both.sort()).toEqual(['duplicate', 'kept']);
    expect(download.status().bytes).toMatchObject({ peer: CHUNK, duplicate: CHUNK });
    await download.close();
  });

  test('are counted with their length, also where the store has freed them by then', async () => {
    const { blob, read, peers, partial, download } = bench(makeBlob(4 * CHUNK));
    void read().catch(() => {});
    const kept = Uint8Array.from(blob.chunk(2));
    partial.afterMarked = () => free(kept.buffer);
    expect(await peers.deliver('p', 2, kept)).toBe('kept');
    const dropped = Uint8Array.from(blob.chunk(3));
    partial.afterMarked = () => {
      download.invalid([[3, 1]]);
      free(dropped.buffer);
    };
    expect(await peers.deliver('p', 3, dropped)).toBe('duplicate');
    expect(download.status().bytes).toEqual({ peer: CHUNK, origin: 0, duplicate: CHUNK });
    await download.close();
  });

  test('another digest than the one vouched for is a conflict: not kept, reported', async () => {
    const { blob, read, peers, tracker, download, fallbacks } = bench(makeBlob(SIZE));
    void read().catch(() => {});
    download.vouched(2, [blob.chunkDigest(2)], 'holder');
    expect(await peers.deliver('liar', 2, spoilt(blob.chunk(2)))).toBe('conflict');
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 2, peerId: 'liar' }]);
    expect(fallbacks()).toEqual(['conflict']);
    expect(download.have.has(2)).toBe(false);
    expect(await peers.deliver('p', 2, blob.chunk(2))).toBe('kept');
    await download.close();
  });

  test('a vouch that contradicts a held chunk drops it and breaks who took it, nobody else', async () => {
    const { blob, read, peers, tracker, download } = bench(makeBlob(4 * CHUNK));
    const first = (await Promise.all([read(), peers.deliver('liar', 0, spoilt(blob.chunk(0)))]))[0];
    const later = read({ start: CHUNK, end: 4 * CHUNK });
    const pieces = first[Symbol.asyncIterator]();
    await pieces.next();
    download.vouched(0, [blob.chunkDigest(0)], 'holder');
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 0, peerId: 'liar' }]);
    expect(tracker.of('lost')).toEqual([{ type: 'lost', ranges: [[0, 1]] }]);
    expect(peers.retracted).toBe(1);
    await expect(pieces.next()).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    const again = read();
    for (const index of [0, 1, 2, 3]) expect(await peers.deliver('p', index, blob.chunk(index))).toBe('kept');
    expect(await collect(await later)).toEqual(blob.bytes.slice(CHUNK));
    expect(await collect(await again)).toEqual(blob.bytes);
  });

  test('a vouch that contradicts a chunk while it is being written drops it', async () => {
    const { blob, read, peers, partial, download } = bench(makeBlob(4 * CHUNK));
    void read().catch(() => {});
    const gate = new Gate();
    partial.beforeWritten = () => gate.pass(new AbortController().signal);
    const verdict = peers.deliver('liar', 0, spoilt(blob.chunk(0)));
    await gate.reached;
    download.vouched(0, [blob.chunkDigest(0)], 'holder');
    gate.open();
    expect(await verdict).toBe('conflict');
    expect(download.have.has(0)).toBe(false);
    await download.close();
  });

  test('chunks found invalid while they are being written are dropped', async () => {
    const { blob, read, peers, partial, download } = bench(makeBlob(4 * CHUNK));
    void read().catch(() => {});
    const gate = new Gate();
    partial.beforeWritten = () => gate.pass(new AbortController().signal);
    const verdict = peers.deliver('liar', 0, spoilt(blob.chunk(0)));
    await gate.reached;
    download.invalid([[0, 2]]);
    gate.open();
    expect(await verdict).toBe('duplicate');
    expect(download.have.has(0)).toBe(false);
    await download.close();
  });

  test('nobody can talk a verified blob away', async () => {
    const blob = makeBlob(3 * CHUNK);
    const { read, peers, download, tracker, events } = bench(blob);
    const open = await Promise.all([read(), ...[0, 1, 2].map((index) => peers.deliver('p', index, blob.chunk(index)))]);
    await events.when((event) => event.type === 'finished');
    download.vouched(0, [Buffer.alloc(32)], 'liar');
    download.invalid([[0, 3]]);
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 0, peerId: 'liar' }]);
    expect(await collect(open[0])).toEqual(blob.bytes);
  });

  test('ranges beyond the blob in what the tracker says do no harm', async () => {
    const { blob, read, peers, download } = bench(makeBlob(2 * CHUNK));
    const reader = read();
    download.vouched(1, [blob.chunkDigest(1), Buffer.alloc(32), Buffer.alloc(32)], 'p');
    download.vouched(9, [Buffer.alloc(32)], 'p');
    download.invalid([[1, 0x7fffffff], [70, 5]]);
    download.vouched(1, [blob.chunkDigest(1)], 'p');
    for (const index of [0, 1]) await peers.deliver('p', index, blob.chunk(index));
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('what was taken back is believed again where it is vouched for anew, or no tracker is left that could', async () => {
    const { blob, read, peers, download } = bench(makeBlob(3 * CHUNK));
    const reader = read();
    download.vouched(0, [blob.chunkDigest(0), blob.chunkDigest(1), blob.chunkDigest(2)], 'liar');
    download.invalid([[0, 3]]);
    expect(await peers.deliver('p', 0, blob.chunk(0))).toBe('conflict');
    download.vouched(0, [blob.chunkDigest(0)], 'reader');
    expect(await peers.deliver('p', 0, blob.chunk(0))).toBe('kept');
    download.trackerChanged(false);
    for (const index of [1, 2]) expect(await peers.deliver('p', index, blob.chunk(index))).toBe('kept');
    expect(await collect(await reader)).toEqual(blob.bytes);
  });
});

describe('leases', () => {
  test('two runs are asked for; the spare is read when the first comes to its last chunk', async () => {
    const { blob, read, tracker, origin } = bench(makeBlob(8 * CHUNK));
    const gates = [new Gate(), new Gate()];
    origin.beforePiece = (at, signal) => (at === 3 * CHUNK ? gates[0]!.pass(signal) : at === 4 * CHUNK ? gates[1]!.pass(signal) : undefined);
    const reader = read();
    expect(tracker.of('need').at(-1)).toEqual({ type: 'need', runs: 2, within: undefined });
    gates[0]!.open();
    tracker.grant('a', 0, 4);
    tracker.grant('b', 4, 4);
    await gates[1]!.reached;
    expect(origin.events.all.filter((event) => event.type === 'read').map((event) => event.range?.start)).toEqual([0, 4 * CHUNK]);
    gates[1]!.open();
    expect(await collect(await reader)).toEqual(blob.bytes);
    const done = tracker.of('done');
    expect(done.map(({ first }) => first).sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const { first, digests } of done) expect(digests).toEqual([blob.chunkDigest(first)]);
    await Promise.all(['a', 'b'].map((id) => tracker.released(id)));
  });

  test('without a tracker a spare of which a peer reads a part is given back; what is begun is read to its end, and with one it says who reads what', async () => {
    const { read, tracker, origin, peers, coordinator, download } = bench(makeBlob(12 * CHUNK));
    const gate = new Gate();
    origin.beforeAnswer = (signal) => gate.pass(signal);
    void read().catch(() => {});
    for (const [id, first] of [['a', 0], ['b', 4], ['c', 8]] as const) tracker.grant(id, first, 4);
    await gate.reached;
    peers.peersRead(1, 11);
    expect(tracker.of('release')).toEqual([]);
    coordinator.connected = false;
    peers.peersRead(1, 11);
    expect(tracker.of('release')).toEqual([{ type: 'release', leaseId: 'c', reason: 'unneeded', retryAfterMs: undefined }]);
    expect(peers.reads).toEqual([[0, 4], [4, 4]]);
    await download.close();
  });

  test('chunks under a lease are not asked of peers, and told as being read', async () => {
    const { read, tracker, origin, download, peers } = bench(makeBlob(8 * CHUNK));
    const gate = new Gate();
    origin.beforeAnswer = (signal) => gate.pass(signal);
    void read().catch(() => {});
    tracker.grant('a', 2, 3);
    await gate.reached;
    expect([1, 2, 3, 4, 5].map((index) => download.wants(index))).toEqual([true, false, false, false, true]);
    expect(peers.reads).toEqual([[2, 3]]);
    await download.close();
    expect(peers.reads).toEqual([[2, 3]]);
  });

  test('what is revoked is not read; the chunk under way still counts', async () => {
    const { blob, read, tracker, origin, download } = bench(makeBlob(8 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at > CHUNK && at < 2 * CHUNK ? gate.pass(signal) : undefined);
    void read().catch(() => {});
    tracker.grant('a', 0, 8);
    tracker.grant('b', 5, 2);
    await gate.reached;
    tracker.member.revoke('a', 0);
    tracker.member.revoke('b', 0);
    expect(tracker.of('release')).toEqual([{ type: 'release', leaseId: 'b', reason: 'unneeded', retryAfterMs: undefined }]);
    gate.open();
    await tracker.released('a');
    expect(tracker.of('done').map(({ first }) => first)).toEqual([0, 1]);
    expect(download.have.ranges()).toEqual([[0, 2]]);
    expect(origin.bytesSent).toBeLessThan(3 * CHUNK);
    expect(await download.readChunk(1)).toEqual(Buffer.from(blob.chunk(1)));
    await download.close();
  });

  test('a spare that is asked back is given back; one that is being read by then is read to its end', async () => {
    const { read, tracker, origin, download } = bench(makeBlob(8 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at > CHUNK && at < 2 * CHUNK ? gate.pass(signal) : undefined);
    void read().catch(() => {});
    tracker.grant('a', 0, 4);
    tracker.grant('b', 4, 4);
    await gate.reached;
    tracker.member.revoke('a', 0, true);
    tracker.member.revoke('b', 0, true);
    expect(tracker.of('release')).toEqual([{ type: 'release', leaseId: 'b', reason: 'unneeded', retryAfterMs: undefined }]);
    gate.open();
    await tracker.released('a');
    expect(tracker.of('done').map(({ first }) => first)).toEqual([0, 1, 2, 3]);
    expect(origin.bytesSent).toBe(4 * CHUNK);
    await download.close();
  });

  test('a revoked run that stalls is given up at once', async () => {
    const { read, tracker, origin, clock, download } = bench(makeBlob(8 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (_, signal) => gate.pass(signal);
    void read().catch(() => {});
    tracker.grant('a', 0, 8);
    await gate.reached;
    clock.advance(2000);
    tracker.member.revoke('a', 0);
    expect(await tracker.released('a')).toMatchObject({ reason: 'unneeded' });
    expect(origin.asked('aborted')).toBe(1);
    await download.close();
  });

  test('an audit is read and reported, and changes nothing here', async () => {
    const { blob, read, tracker, origin, peers, download } = bench(makeBlob(4 * CHUNK));
    void read().catch(() => {});
    await peers.deliver('p', 1, blob.chunk(1));
    origin.send = (bytes) => spoilt(bytes);
    tracker.grant('audit', 1, 1, 'audit');
    await tracker.released('audit');
    expect(tracker.of('done')).toEqual([{ type: 'done', leaseId: 'audit', first: 1, digests: [await hashOf(spoilt(blob.chunk(1)))] }]);
    expect(download.digestOf(1)).toEqual(blob.chunkDigest(1));
    await download.close();
  });

  test('a grant that nobody needs any more is given back', async () => {
    const { tracker, origin } = bench(makeBlob(4 * CHUNK));
    tracker.grant('a', 0, 4);
    expect(await tracker.released('a')).toMatchObject({ reason: 'unneeded' });
    expect(origin.asked('read')).toBe(0);
  });

  test('an origin without ranges: the lease is given back, and a stream reads the whole', async () => {
    const { blob, read, tracker, origin, peers } = bench(makeBlob(6 * CHUNK));
    origin.ranges = false;
    const reader = read();
    await peers.deliver('p', 0, blob.chunk(0));
    tracker.grant('a', 1, 2);
    expect(await tracker.released('a')).toMatchObject({ reason: 'no-ranges' });
    tracker.grant('s', 0, 6, 'stream');
    expect(await collect(await reader)).toEqual(blob.bytes);
    expect(origin.events.all.filter((event) => event.type === 'read').at(-1)).toMatchObject({ range: undefined });
  });

  test('a chunk that differs from what a peer gave: the origin is believed, the peer reported', async () => {
    const { blob, read, tracker, peers, origin } = bench(makeBlob(4 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at >= CHUNK ? gate.pass(signal) : undefined);
    const reader = read();
    tracker.grant('a', 0, 4);
    await gate.reached;
    expect(await peers.deliver('liar', 2, spoilt(blob.chunk(2)))).toBe('kept');
    gate.open();
    expect(await tracker.events.when((event) => event.type === 'conflict')).toMatchObject({ index: 2, peerId: 'liar' });
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('what is read is told at once where peers decide by it, as without a tracker, and when one is lost', async () => {
    const coordinator = new TestCoordinator();
    const { blob, read, tracker, peers, origin, download } = bench(makeBlob(8 * CHUNK), { coordinator });
    const gate = new Gate();
    origin.beforePiece = (_, signal) => gate.pass(signal);
    const reader = read();
    tracker.grant('a', 0, 4);
    expect([peers.reads, peers.readsSoon]).toEqual([[[0, 4]], false]);
    coordinator.connected = false;
    download.trackerChanged(false);
    expect([peers.reads, peers.readsSoon]).toEqual([[[0, 4]], true]);
    tracker.grant('local', 4, 4);
    expect([peers.reads, peers.readsSoon]).toEqual([[[0, 4], [4, 4]], true]);
    gate.open();
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('all that the peer alone says is dropped with it, in one go, and no more of it is taken', async () => {
    const { blob, read, tracker, peers, origin, download } = bench(makeBlob(8 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (_, signal) => gate.pass(signal);
    const taken = read();
    const tail = read({ start: 3 * CHUNK, end: 4 * CHUNK });
    download.vouched(2, [blob.chunkDigest(2), blob.chunkDigest(3)], 'holder');
    tracker.grant('a', 4, 1);
    await gate.reached;
    for (const index of [0, 1, 4, 5]) expect(await peers.deliver('liar', index, spoilt(blob.chunk(index)))).toBe('kept');
    expect(await peers.deliver('liar', 2, blob.chunk(2))).toBe('kept');
    expect(await peers.deliver('honest', 3, blob.chunk(3))).toBe('kept');
    const pieces = (await taken)[Symbol.asyncIterator]();
    await pieces.next();
    gate.open();
    await tracker.released('a');
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 4, peerId: 'liar' }]);
    expect([...peers.distrusted]).toEqual([['liar', [2, 3]]]);
    expect(download.have.ranges(), 'the chunk that was read, and what another vouches for').toEqual([[2, 3]]);
    await expect(pieces.next()).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(await collect(await tail), 'who took nothing of it is not broken').toEqual(blob.chunk(3));

    const again = read();
    expect(await peers.deliver('liar', 5, spoilt(blob.chunk(5)))).toBe('conflict');
    download.vouched(5, [blob.chunkDigest(5)], 'holder');
    expect([...peers.distrusted]).toEqual([['liar', [2, 3, 5]]]);
    expect(await peers.deliver('liar', 5, blob.chunk(5)), 'here somebody else says the same').toBe('kept');
    for (const index of [0, 1, 6, 7]) expect(await peers.deliver('honest', index, blob.chunk(index))).toBe('kept');
    expect(await collect(await again)).toEqual(blob.bytes);
  });

  test('a peer that sends other bytes than this host has read itself is as suspect', async () => {
    const { blob, read, tracker, peers, download } = bench(makeBlob(4 * CHUNK));
    const reader = read();
    tracker.grant('a', 0, 1);
    await tracker.released('a');
    expect(await peers.deliver('liar', 2, spoilt(blob.chunk(2)))).toBe('kept');
    expect(await peers.deliver('liar', 0, spoilt(blob.chunk(0)))).toBe('conflict');
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 0, peerId: 'liar' }]);
    expect(download.have.ranges()).toEqual([[0, 1]]);
    for (const index of [1, 2, 3]) expect(await peers.deliver('honest', index, blob.chunk(index))).toBe('kept');
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test.each([
    ['has only passed on wrong bytes is believed in what it has read itself', false],
    ['has vouched for wrong bytes is believed in nothing', true],
  ])('a peer that %s', async (_, vouched) => {
    const { blob, read, tracker, peers, origin, download } = bench(makeBlob(4 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (_at, signal) => gate.pass(signal);
    void read({ start: 3 * CHUNK, end: 4 * CHUNK }).catch(() => {});
    download.vouched(1, [blob.chunkDigest(1)], 'fooled');
    if (vouched) download.vouched(2, [sha256(spoilt(blob.chunk(2)))], 'fooled');
    tracker.grant('a', 2, 1);
    await gate.reached;
    for (const index of [0, 1, 2]) expect(await peers.deliver('fooled', index, index === 1 ? blob.chunk(1) : spoilt(blob.chunk(index)))).toBe('kept');
    gate.open();
    await tracker.released('a');
    expect([...peers.distrusted]).toEqual([['fooled', vouched ? [] : [1]]]);
    expect(download.have.ranges()).toEqual(vouched ? [[2, 1]] : [[1, 2]]);
    await download.close();
  });

  test('who passes on what somebody else has vouched for is not suspect', async () => {
    const { blob, read, tracker, peers, origin, download } = bench(makeBlob(4 * CHUNK));
    const gate = new Gate();
    origin.beforePiece = (_, signal) => gate.pass(signal);
    void read({ start: 3 * CHUNK, end: 4 * CHUNK }).catch(() => {});
    download.vouched(1, [sha256(spoilt(blob.chunk(1)))], 'liar');
    tracker.grant('a', 1, 1);
    await gate.reached;
    await peers.deliver('honest', 0, blob.chunk(0));
    await peers.deliver('honest', 1, spoilt(blob.chunk(1)));
    gate.open();
    await tracker.released('a');
    expect(tracker.of('conflict')).toContainEqual({ type: 'conflict', index: 1, peerId: 'liar' });
    expect([peers.distrusted.size, download.have.has(0)]).toEqual([0, true]);
    await download.close();
  });

  test('what was vouched for and taken back is left where it still comes, and whoever passes it on is not suspect', async () => {
    const { blob, read, tracker, peers, download } = bench(makeBlob(4 * CHUNK));
    const reader = read();
    const [zero, one] = [spoilt(blob.chunk(0)), spoilt(blob.chunk(1))];
    download.vouched(0, [sha256(zero), sha256(one), blob.chunkDigest(2)], 'liar');
    expect(await peers.deliver('honest', 3, blob.chunk(3))).toBe('kept');
    download.invalid([[0, 3]]);
    expect(await peers.deliver('honest', 0, zero), 'nobody has said yet what it is').toBe('conflict');
    tracker.grant('a', 0, 1);
    await tracker.released('a');
    download.vouched(1, [blob.chunkDigest(1), blob.chunkDigest(2)], 'reader');
    expect(await peers.deliver('honest', 0, zero), 'read here').toBe('conflict');
    expect(await peers.deliver('honest', 1, one), 'vouched for otherwise').toBe('conflict');
    expect([tracker.of('conflict'), peers.distrusted.size]).toEqual([[], 0]);
    for (const index of [1, 2]) expect(await peers.deliver('honest', index, blob.chunk(index))).toBe('kept');
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test("a peer's chunk that is being written while the origin's comes is compared too", async () => {
    const { blob, read, tracker, peers, partial } = bench(makeBlob(4 * CHUNK));
    const gate = new Gate();
    const reader = read();
    partial.beforeWritten = (index) => (index === 2 ? gate.pass(new AbortController().signal) : undefined);
    const verdict = peers.deliver('liar', 2, spoilt(blob.chunk(2)));
    await gate.reached;
    tracker.grant('a', 0, 4);
    await tracker.events.when((event) => event.type === 'done' && event.first === 3);
    gate.open();
    expect(await verdict).toBe('kept');
    // A reader that took the chunk between its write and the comparison would rightly be broken: this one begins afterwards.
    await tracker.events.when((event) => event.type === 'done' && event.first === 2);
    expect(await collect(await reader)).toEqual(blob.bytes);
    expect(tracker.of('conflict')).toEqual([{ type: 'conflict', index: 2, peerId: 'liar' }]);
  });

  test('an answer that fails is reported with its reason', async () => {
    const { read, tracker, origin, download } = bench(makeBlob(4 * CHUNK));
    void read().catch(() => {});
    for (const [id, error, reason, retryAfterMs] of [
      ['a', new AgentError('ORIGIN_THROTTLED', '429', { retryAfterMs: 7000 }), 'throttled', 7000],
      ['b', new AgentError('ORIGIN_DENIED', '403'), 'denied', undefined],
      ['c', new AgentError('ORIGIN_UNREACHABLE', 'gone'), 'failed', undefined],
    ] as const) {
      origin.down = error;
      download.admit({ source: tracker.wants[0]!.source, authority: { kind: 'anonymous' } });
      tracker.grant(id, 0, 4);
      expect(await tracker.released(id)).toMatchObject({ reason, retryAfterMs });
    }
    await download.close();
  });

  describe('are read with the right of a caller that was let in', () => {
    const source = { origin: 'lab', repository: 'private/app', kind: 'blob', private: true } as const;
    const ann: SourceRight = { source, authority: { kind: 'caller', id: 'ann', authorization: 'Basic YTph' } };
    const own: SourceRight = { source, authority: { kind: 'agent' } };
    const refused = new AgentError('ORIGIN_DENIED', '403');

    test('nobody asks for leases before one comes whose right does', async () => {
      const { blob, read, tracker, origin, download } = bench(makeBlob(2 * CHUNK), { source, authority: undefined });
      const reader = read();
      expect(tracker.wants).toEqual([{ source, canRead: false }]);
      expect(tracker.of('need')).toEqual([]);
      download.admit(ann);
      expect(tracker.wants.at(-1)).toEqual({ source, canRead: true });
      expect(tracker.of('need')).toMatchObject([{ runs: 2 }]);
      tracker.grant('a', 0, 2);
      expect(await collect(await reader)).toEqual(blob.bytes);
      expect(origin.events.all.filter((event) => event.type === 'read').map(({ authority }) => authority)).toEqual([ann.authority]);
    });

    test('one that the origin refuses is told and dropped; another one does', async () => {
      const { blob, read, tracker, origin, download, events } = bench(makeBlob(2 * CHUNK), { ...ann });
      const reader = read();
      download.admit(own);
      origin.refuse = ({ kind }) => (kind === 'agent' ? refused : undefined);
      tracker.grant('a', 0, 2);
      expect(await tracker.released('a')).toMatchObject({ reason: 'denied' });
      expect(events.all.filter((event) => event.type === 'refused')).toEqual([{ type: 'refused', right: own, code: 'ORIGIN_DENIED' }]);
      // Whoever leases takes it that this host may not read any more: it hears that it may.
      expect(tracker.wants.at(-1)).toEqual({ source, canRead: true });
      tracker.grant('b', 0, 2);
      expect(await collect(await reader)).toEqual(blob.bytes);
      expect(download.status().lastError).toContain('ORIGIN_DENIED');
    });

    test('when the last one is refused the origin is left to others', async () => {
      const { blob, read, tracker, origin, peers } = bench(makeBlob(2 * CHUNK), { ...ann });
      const reader = read();
      origin.refuse = () => refused;
      tracker.grant('a', 0, 2);
      await tracker.released('a');
      expect(tracker.wants.at(-1)).toEqual({ source, canRead: false });
      tracker.grant('b', 0, 2);
      expect(await tracker.released('b')).toMatchObject({ reason: 'denied' });
      expect(origin.asked('read')).toBe(1);
      for (const index of [0, 1]) await peers.deliver('p', index, blob.chunk(index));
      expect(await collect(await reader)).toEqual(blob.bytes);
    });
  });

  test('a host that may not read at the origin asks for no lease', async () => {
    const { blob, read, tracker, peers } = bench(makeBlob(2 * CHUNK), { authority: undefined });
    const reader = read();
    for (const index of [0, 1]) await peers.deliver('p', index, blob.chunk(index));
    expect(await collect(await reader)).toEqual(blob.bytes);
    expect(tracker.of('need')).toEqual([]);
  });
});

describe('when the client leaves', () => {
  test('spares are given back, the run goes on, and after a while everything ends', async () => {
    const { read, tracker, origin, clock, download, events, peers, partial } = bench(makeBlob(8 * CHUNK), { lingerMs: 5000 });
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at >= CHUNK ? gate.pass(signal) : undefined);
    const client = new AbortController();
    const reader = read(undefined, client.signal);
    tracker.grant('a', 0, 4);
    tracker.grant('b', 4, 4);
    await gate.reached;
    const pieces = (await reader)[Symbol.asyncIterator]();
    await pieces.next();
    client.abort(new Error('gone'));
    await expect(pieces.next()).rejects.toThrow('gone');
    expect(await tracker.released('b')).toMatchObject({ reason: 'unneeded' });
    expect(tracker.of('need')).toHaveLength(1);
    clock.advance(4999);
    expect(download.open).toBe(true);
    clock.advance(1);
    await events.when((event) => event.type === 'closed');
    expect(origin.asked('aborted')).toBe(1);
    expect(tracker.of('leave')).toHaveLength(1);
    expect(peers.left).toBe(true);
    expect(partial.state).toBe('kept');
    expect(clock.timers).toBe(0);
  });

  test('the work goes on for the others', async () => {
    const { blob, read, peers } = bench(makeBlob(3 * CHUNK));
    const client = new AbortController();
    const left = read(undefined, client.signal);
    const stays = read();
    client.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    for (const index of [0, 1, 2]) expect(await peers.deliver('p', index, blob.chunk(index))).toBe('kept');
    expect(await collect(await stays)).toEqual(blob.bytes);
  });

  test('an answer that nobody iterates ends with its request', async () => {
    const { blob, read, peers, download } = bench(makeBlob(3 * CHUNK));
    const client = new AbortController();
    const reader = read(undefined, client.signal);
    await peers.deliver('p', 0, blob.chunk(0));
    await reader;
    expect(download.status().readers).toBe(1);
    client.abort();
    expect(download.status().readers).toBe(0);
    await download.close();
  });

  test('who comes back while it lingers goes on where it was', async () => {
    const { blob, read, clock, peers, download } = bench(makeBlob(3 * CHUNK), { lingerMs: 5000 });
    const client = new AbortController();
    const left = read(undefined, client.signal);
    await peers.deliver('p', 0, blob.chunk(0));
    client.abort();
    await expect(left.then(collect)).rejects.toThrow();
    clock.advance(4000);
    const reader = read();
    clock.advance(4000);
    expect(download.open).toBe(true);
    for (const index of [1, 2]) await peers.deliver('p', index, blob.chunk(index));
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('a stream of the whole is read on for peers that follow it', async () => {
    const { read, tracker, origin, clock, download, peers, events } = bench(makeBlob(8 * CHUNK), { lingerMs: 5000 });
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at >= CHUNK ? gate.pass(signal) : undefined);
    const client = new AbortController();
    const reader = read(undefined, client.signal);
    peers.peer('follower', []);
    tracker.grant('s', 0, 8, 'stream');
    await gate.reached;
    client.abort(new Error('gone'));
    await expect(reader).rejects.toThrow('gone');
    clock.advance(6000);
    expect(download.open).toBe(true);
    gate.open();
    expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: expect.anything() });
  });

  test('a background fetch ends with its signal', async () => {
    const { download } = bench(makeBlob(3 * CHUNK));
    const stop = new AbortController();
    const fetched = download.background(stop.signal);
    expect(download.wants(2)).toBe(true);
    stop.abort(new Error('enough'));
    await expect(fetched).rejects.toThrow('enough');
    expect(download.wants(2)).toBe(false);
    await download.close();
  });
});

describe('background', () => {
  test('fetches the whole for nobody', async () => {
    const { blob, download, events } = bench(makeBlob(SIZE), { coordinator: grantingCoordinator() });
    await download.background(new AbortController().signal);
    expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: { key: blob.key } });
  });

  test('a chunk that was found wrong is fetched again for it', async () => {
    const { blob, download, peers } = bench(makeBlob(3 * CHUNK));
    const fetched = download.background(new AbortController().signal);
    await peers.deliver('liar', 0, spoilt(blob.chunk(0)));
    await peers.deliver('p', 1, blob.chunk(1));
    expect(download.wants(0)).toBe(false);
    download.vouched(0, [blob.chunkDigest(0)], 'holder');
    expect(download.wants(0)).toBe(true);
    for (const index of [0, 2]) await peers.deliver('p', index, blob.chunk(index));
    await fetched;
  });
});

describe('without progress', () => {
  test('a hedge is asked for, then the readers that starve are broken, and nobody else', async () => {
    const { blob, read, tracker, clock, peers, fallbacks, download } = bench(makeBlob(4 * CHUNK), { hedgeMs: 5000, stallMs: 60_000 });
    const starved = read();
    const slow = read({ start: 3 * CHUNK, end: 4 * CHUNK });
    await peers.deliver('p', 3, blob.chunk(3));
    download.vouched(3, [blob.chunkDigest(3)], 'q');
    const pieces = await slow;
    clock.advance(4999);
    expect(tracker.of('hedge')).toEqual([]);
    clock.advance(1);
    expect(tracker.of('hedge')).toEqual([{ type: 'hedge', index: 0 }]);
    clock.advance(4999);
    expect(tracker.of('hedge')).toHaveLength(1);
    clock.advance(1);
    expect(tracker.of('hedge')).toHaveLength(2);
    clock.advance(50_000);
    await expect(starved).rejects.toMatchObject({ code: 'PULL_STALLED' });
    expect(fallbacks()).toContain('stalled');
    expect(await collect(pieces)).toEqual(blob.chunk(3));
    await download.close();
  });

  test('a hedge that is granted brings the chunk', async () => {
    const { blob, read, tracker, clock } = bench(makeBlob(2 * CHUNK), { hedgeMs: 5000 });
    const reader = read();
    clock.advance(5000);
    tracker.grant('h', 0, 1, 'hedge');
    tracker.grant('a', 1, 1);
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('while only hedges bring bytes the next is asked for as soon as one is read, and not once a peer gives a chunk', async () => {
    const { blob, tracker, clock, peers, download } = bench(makeBlob(6 * CHUNK), { hedgeMs: 5000 });
    const fetched = download.background(new AbortController().signal);
    const hedged = (): number[] => tracker.of('hedge').map(({ index }) => index);
    clock.advance(5000);
    expect(hedged()).toEqual([0]);
    tracker.grant('h0', 0, 1, 'hedge');
    await tracker.released('h0');
    expect(hedged(), 'no time has passed').toEqual([0, 1]);
    tracker.grant('h1', 1, 1, 'hedge');
    await tracker.released('h1');
    expect(hedged()).toEqual([0, 1, 2]);
    await peers.deliver('p', 2, blob.chunk(2));
    tracker.grant('a', 3, 1);
    await tracker.released('a');
    clock.advance(4999);
    expect(hedged(), 'others bring bytes').toEqual([0, 1, 2]);
    clock.advance(1);
    expect(hedged()).toEqual([0, 1, 2, 4]);
    await peers.deliver('p', 4, blob.chunk(4));
    await peers.deliver('p', 5, blob.chunk(5));
    await fetched;
  });

  test('bytes of chunks that are incomplete are progress', async () => {
    const { read, clock, peers, download, tracker, origin } = bench(makeBlob(4 * CHUNK), { hedgeMs: 5000, stallMs: 20_000 });
    void read().catch(() => {});
    for (let i = 0; i < 10; i++) {
      peers.received += 1000;
      clock.advance(4000);
    }
    expect(tracker.of('hedge')).toEqual([]);
    const gate = new Gate();
    origin.beforePiece = (at, signal) => (at > 0 ? gate.pass(signal) : undefined);
    tracker.grant('a', 2, 1);
    await gate.reached;
    clock.advance(4000);
    expect(tracker.of('hedge')).toEqual([]);
    expect(download.status().readers).toBe(1);
    await download.close();
  });

  test('a lease whose origin is silent is told to be alive every second', async () => {
    const { read, clock, download, tracker, origin } = bench(makeBlob(4 * CHUNK), { hedgeMs: 60_000, stallMs: 60_000 });
    void read().catch(() => {});
    const gate = new Gate();
    origin.beforePiece = (_at, signal) => gate.pass(signal);
    tracker.grant('a', 2, 1);
    await gate.reached;
    for (let ticks = 0; ticks < 6; ticks++) clock.advance(500);
    expect(tracker.of('progress')).toEqual(Array.from({ length: 3 }, () => ({ type: 'progress', leaseId: 'a', bytes: 0 })));
    await download.close();
  });

  test('a chunk that keeps a reader waiting is urgent, although others arrive', async () => {
    const { blob, read, clock, peers, download } = bench(makeBlob(8 * CHUNK));
    void read().catch(() => {});
    expect(download.urgent()).toBeUndefined();
    for (const index of [1, 2, 3, 4]) {
      clock.advance(300);
      await peers.deliver('p', index, blob.chunk(index));
    }
    expect(download.urgent()).toBe(0);
    await download.close();
  });
});

describe('an origin that fails', () => {
  const gone = new AgentError('ORIGIN_UNREACHABLE', 'connection refused');

  test('breaks a reader that is alone, after peers had time to speak', async () => {
    const { read, tracker, clock, origin, download } = bench(makeBlob(4 * CHUNK), { settleMs: 2000 });
    origin.down = gone;
    const reader = read();
    tracker.grant('a', 0, 4);
    await tracker.released('a');
    clock.advance(1999);
    expect(download.status().readers).toBe(1);
    clock.advance(1);
    await expect(reader).rejects.toBe(gone);
    await download.close();
  });

  test('breaks nobody while a peer holds what is needed', async () => {
    const { blob, read, tracker, clock, origin, peers } = bench(makeBlob(4 * CHUNK));
    origin.down = gone;
    const reader = read();
    tracker.grant('a', 0, 4);
    await tracker.released('a');
    peers.peer('seed');
    clock.advance(4000);
    for (const index of [0, 1, 2, 3]) await peers.deliver('seed', index, blob.chunk(index));
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('among peers that do not hold it, breaks after three failures', async () => {
    const { read, tracker, clock, origin, peers, download } = bench(makeBlob(4 * CHUNK));
    origin.down = gone;
    peers.peer('other', []);
    const reader = read();
    for (const id of ['a', 'b', 'c']) {
      expect(download.status().readers).toBe(1);
      tracker.grant(id, 0, 4);
      await tracker.released(id);
      clock.advance(2000);
    }
    await expect(reader).rejects.toBe(gone);
    await download.close();
  });

  test('is forgotten once it gives a chunk', async () => {
    const { blob, read, tracker, clock, origin, peers } = bench(makeBlob(4 * CHUNK));
    const reader = read();
    origin.down = gone;
    tracker.grant('a', 0, 4);
    await tracker.released('a');
    origin.down = undefined;
    tracker.grant('b', 0, 1);
    await tracker.released('b');
    clock.advance(2500);
    for (const index of [1, 2, 3]) await peers.deliver('p', index, blob.chunk(index));
    expect(await collect(await reader)).toEqual(blob.bytes);
  });

  test('a chunk of a one-chunk blob that is wrong: nothing is stored', async () => {
    const { read, tracker, origin, clock, partial, events } = bench(makeBlob(1000));
    origin.send = (bytes) => spoilt(bytes);
    const reader = read();
    tracker.grant('a', 0, 1);
    await tracker.released('a');
    clock.advance(2000);
    await expect(reader).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    await events.when((event) => event.type === 'closed');
    expect(partial.state).toBe('removed');
  });

  test('an origin that has changed: what this host read alone is not the blob', async () => {
    const { read, origin, partial, events } = bench(makeBlob(4 * CHUNK), { coordinator: grantingCoordinator() });
    origin.send = (bytes, { start }) => (start === 0 ? spoilt(bytes) : bytes);
    await expect(read().then(collect)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    await events.when((event) => event.type === 'closed');
    expect(partial.state).toBe('removed');
    expect(events.all.some((event) => event.type === 'finished')).toBe(false);
  });

  test('an origin that sends less than it said is a failure of the lease, with what came before kept', async () => {
    const { read, tracker, origin, download } = bench(makeBlob(4 * CHUNK));
    void read().catch(() => {});
    origin.send = (bytes) => bytes.subarray(0, CHUNK + 10);
    tracker.grant('a', 0, 3);
    expect(await tracker.released('a')).toMatchObject({ reason: 'failed' });
    expect(download.have.ranges()).toEqual([[0, 1]]);
    expect(download.status().lastError).toContain('ORIGIN_LENGTH');
    await download.close();
  });
});

test("its seat among the importers of its zone is the tracker's word, and good until that goes", async () => {
  const { download, peers } = bench(makeBlob(SIZE));
  download.importer({ seats: 3, seat: 1 });
  expect(peers.seat).toEqual({ seats: 3, seat: 1 });
  download.trackerChanged(true);
  expect(peers.seat).toEqual({ seats: 3, seat: 1 });
  download.trackerChanged(false);
  expect(peers.seat).toBeUndefined();
  await download.close();
});

test('a closing agent finishes a blob that is verified', async () => {
  const blob = makeBlob(2 * CHUNK);
  const { read, peers, download, partial, events } = bench(blob);
  const reader = read();
  for (const index of [0, 1]) await peers.deliver('p', index, blob.chunk(index));
  expect(await collect(await reader)).toEqual(blob.bytes);
  await download.close();
  expect(partial.state).toBe('finished');
  expect(events.all.at(-1)).toEqual({ type: 'closed' });
});

test('a disk that cannot finish the blob still lets it be read', async () => {
  const blob = makeBlob(3 * CHUNK);
  const partial = new TestPartial(blob.key);
  partial.roomChunks = 3;
  const { read, peers, fallbacks, events } = bench(blob, { partial });
  const readers = [read(), read()];
  for (const index of [0, 1, 2]) await peers.deliver('p', index, blob.chunk(index));
  for (const reader of readers) expect(await collect(await reader)).toEqual(blob.bytes);
  expect(fallbacks()).toEqual(['unkept']);
  expect(await events.when((event) => event.type === 'finished')).toMatchObject({ stored: undefined });
});

async function hashOf(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', Buffer.from(bytes)));
}
