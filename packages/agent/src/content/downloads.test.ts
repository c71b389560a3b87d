import { setImmediate } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import type { DownloadInit } from './download-contract.ts';
import { Downloads, type DownloadSettings } from './downloads.ts';
import { hashPool } from './test-download.ts';
import { CHUNK, collect, Gate, grantingCoordinator, makeBlob, PATIENCE_MS, TestClock, TestOrigin, TestStore, TestSwarm, type TestBlob, type TestCoordinator } from './test-ports.ts';

const INIT: DownloadInit = { source: { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' }, authority: { kind: 'anonymous' } };
const blob = makeBlob(6 * CHUNK + 100);

interface Host {
  readonly downloads: Downloads;
  readonly store: TestStore;
  readonly origin: TestOrigin;
  readonly swarm: TestSwarm;
  readonly coordinator: TestCoordinator;
  readonly clock: TestClock;
  readonly counted: string[];
  readonly stored: number[];
  readonly open: (blob: TestBlob, signal?: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;
  readonly pull: (blob: TestBlob) => Promise<Uint8Array>;
}

function host(settings: DownloadSettings = {}, log = pino({ enabled: false })): Host {
  const store = new TestStore();
  const origin = new TestOrigin();
  const swarm = new TestSwarm();
  const coordinator = grantingCoordinator();
  const clock = new TestClock();
  const counted: string[] = [];
  const stored: number[] = [];
  origin.add(blob);
  const downloads = new Downloads(
    {
      store,
      origin,
      swarm,
      coordinator,
      hashes: hashPool(),
      now: clock.now,
      every: clock.every,
      log,
      rights: { reading: () => Promise.resolve(), refused: () => {} },
      metrics: { bytes: () => {}, stored: (bytes) => stored.push(bytes), fallback: (kind) => counted.push(kind) },
    },
    settings,
  );
  const open = ({ key }: TestBlob, signal = new AbortController().signal): Promise<AsyncIterable<Uint8Array>> =>
    downloads.served(key, INIT).open({ start: 0, end: key.size }, signal);
  return { downloads, store, origin, swarm, coordinator, clock, counted, stored, open, pull: async (each) => collect(await open(each)) };
}

/** Turns of the event loop until it holds: few, as all ports are in memory, but hashing is done by threads that a busy machine lets wait. */
async function until(holds: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > deadlineMs) throw new Error('it does not come about');
    await setImmediate();
  }
}

/** Every download has let go of everything. */
async function quiet({ store, downloads }: Host): Promise<void> {
  await until(() => store.partials.every(({ state }) => state !== 'open') && downloads.status().length === 0 && [...store.pins.values()].every((pins) => pins === 0));
}

test('many at once are one download', async () => {
  const h = host();
  const all = await Promise.all(Array.from({ length: 10 }, () => h.pull(blob)));
  for (const bytes of all) expect(bytes).toEqual(blob.bytes);
  expect(h.origin.bytesSent).toBe(blob.key.size);
  expect(h.swarm.handles).toHaveLength(1);
  await quiet(h);
});

test('a finished blob is logged with its origin, and with where its bytes came from', async () => {
  const lines: Record<string, unknown>[] = [];
  const h = host({}, pino({}, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }));
  await h.pull(blob);
  await quiet(h);
  const finished = lines.filter(({ msg }) => msg === 'blob finished');
  expect(finished).toHaveLength(1);
  expect(finished[0]).toMatchObject({ digest: blob.key.digest, origin: 'docker.io', repository: 'library/nginx', from: 'origin', originBytes: blob.key.size, peerBytes: 0, kept: true });
});

test('what is stored comes from the store', async () => {
  const h = host();
  await h.pull(blob);
  await quiet(h);
  expect(await h.pull(blob)).toEqual(blob.bytes);
  expect(h.origin.bytesSent).toBe(blob.key.size);
  expect(h.stored.reduce((sum, bytes) => sum + bytes, 0)).toBe(blob.key.size);
});

test('a look into the store that is overtaken by the finish starts no second download', async () => {
  const h = host();
  await h.pull(blob);
  await quiet(h);
  const slow = new Gate();
  const known = h.store.blobs.get(blob.key.digest)!;
  h.store.blobs.delete(blob.key.digest);
  h.store.beforeFound = () => slow.pass(new AbortController().signal);
  const pulled = h.pull(blob);
  await slow.reached;
  h.store.put(known);
  h.store.beforeFound = () => {};
  slow.open();
  expect(await pulled).toEqual(blob.bytes);
  expect(h.origin.bytesSent).toBe(blob.key.size);
  expect(h.store.partials).toHaveLength(1);
});

test('a download that is ending is waited for, then the blob is opened anew', async () => {
  const h = host({ lingerMs: 5000 });
  const gate = new Gate();
  h.origin.beforePiece = (at, signal) => (at > CHUNK ? gate.pass(signal) : undefined);
  const client = new AbortController();
  const left = h.open(blob, client.signal);
  await gate.reached;
  client.abort(new Error('gone'));
  await expect(left.then(collect)).rejects.toThrow('gone');
  h.clock.advance(5000);
  h.origin.beforePiece = () => {};
  expect(await h.pull(blob)).toEqual(blob.bytes);
  await quiet(h);
  expect(h.swarm.handles.map(({ left }) => left)).toEqual([true, true]);
  expect(h.store.partials.map(({ state }) => state)).toEqual(['kept', 'finished']);
});

test('an open that fails leaves nothing behind', async () => {
  const h = host();
  h.store.openPartial = () => Promise.reject(new AgentError('INTERNAL', 'no'));
  await expect(h.open(blob)).rejects.toThrow('no');
  expect([...h.store.pins.values()]).toEqual([0]);
  h.store.openPartial = TestStore.prototype.openPartial.bind(h.store);
  expect(await h.pull(blob)).toEqual(blob.bytes);
});

describe('a stored blob', () => {
  test('stays while it is read, and no longer', async () => {
    const h = host();
    await h.pull(blob);
    await quiet(h);
    const pieces = (await h.open(blob))[Symbol.asyncIterator]();
    expect(h.store.pins.get(blob.key.digest)).toBe(1);
    await pieces.next();
    await pieces.return?.();
    expect(h.store.pins.get(blob.key.digest)).toBe(0);
  });

  test('does not stay for an answer that nobody iterates', async () => {
    const h = host();
    await h.pull(blob);
    await quiet(h);
    const client = new AbortController();
    await h.open(blob, client.signal);
    client.abort();
    expect(h.store.pins.get(blob.key.digest)).toBe(0);
    await expect(h.open(blob, client.signal)).rejects.toThrow();
    expect(h.store.pins.get(blob.key.digest)).toBe(0);
  });

  test('is fetched again where the disk has damaged it', async () => {
    const h = host();
    await h.pull(blob);
    await quiet(h);
    const damaged = h.store.blobs.get(blob.key.digest)!;
    damaged.damaged = new AgentError('STORE_CORRUPT', 'gone');
    const found = h.store.find.bind(h.store);
    h.store.find = async (digest) => {
      const stored = await found(digest);
      // The store drops what it could not read.
      h.store.blobs.delete(digest);
      h.store.find = found;
      return stored;
    };
    expect(await h.pull(blob)).toEqual(blob.bytes);
    expect(h.counted).toEqual(['store-corrupt']);
    expect(h.origin.bytesSent).toBe(2 * blob.key.size);
    await quiet(h);
  });

  test('that stays damaged is an error, not a loop', async () => {
    const h = host();
    await h.pull(blob);
    await quiet(h);
    h.store.blobs.get(blob.key.digest)!.damaged = new AgentError('STORE_CORRUPT', 'gone');
    await expect(h.pull(blob)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    expect(h.store.pins.get(blob.key.digest)).toBe(0);
  });

  test('of another size than was said is not served as that', async () => {
    const h = host();
    await h.pull(blob);
    await quiet(h);
    const key = { ...blob.key, size: blob.key.size - 1 };
    const range = h.downloads.served(key, INIT).open({ start: 0, end: key.size }, new AbortController().signal);
    await until(() => h.coordinator.handles.length === 2);
    await h.coordinator.handle.events.when((event) => event.type === 'release' && event.reason === 'failed');
    h.clock.advance(2000);
    await expect(range).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
  });
});

describe('what peers find', () => {
  test('the download at work, then the stored blob', async () => {
    const h = host();
    const gate = new Gate();
    h.origin.beforePiece = (at, signal) => (at > CHUNK ? gate.pass(signal) : undefined);
    expect(await h.downloads.find(blob.key)).toBeUndefined();
    const pulled = h.pull(blob);
    await gate.reached;
    const holding = await h.downloads.find(blob.key);
    expect(holding?.have.full).toBe(false);
    gate.open();
    await pulled;
    await quiet(h);
    const seed = await h.downloads.find(blob.key);
    expect(seed!.have.full).toBe(true);
    expect(new Uint8Array(await seed!.readChunk(6))).toEqual(blob.chunk(6));
    expect(seed!.digestOf(2)).toEqual(blob.chunkDigest(2));
    expect(await h.downloads.find({ ...blob.key, size: 5 })).toBeUndefined();
  });
});

describe('fetch', () => {
  test('stores a blob for nobody, and asks for nothing where it is stored', async () => {
    const h = host();
    const { signal } = new AbortController();
    await h.downloads.fetch(blob.key, INIT, signal);
    await quiet(h);
    expect(h.store.blobs.has(blob.key.digest)).toBe(true);
    await h.downloads.fetch(blob.key, INIT, signal);
    expect(h.origin.bytesSent).toBe(blob.key.size);
  });

  test('fetches nothing where there is no room', async () => {
    const h = host();
    h.store.kept = false;
    await expect(h.downloads.fetch(blob.key, INIT, new AbortController().signal)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(h.origin.asked('read')).toBe(0);
    expect(h.counted).toEqual(['unkept']);
    expect(await h.pull(blob)).toEqual(blob.bytes);
    expect(h.counted).toEqual(['unkept']);
    await h.downloads.close();
  });
});

test('closing breaks the readers, keeps what is here, and takes nobody new', async () => {
  const h = host();
  const gate = new Gate();
  h.origin.beforePiece = (at, signal) => (at > 2 * CHUNK ? gate.pass(signal) : undefined);
  const pulled = h.pull(blob);
  await gate.reached;
  const closed = h.downloads.close();
  await expect(pulled).rejects.toMatchObject({ code: 'DRAINING' });
  await closed;
  expect(h.store.partials.map(({ state }) => state)).toEqual(['kept']);
  expect(h.clock.timers).toBe(0);
  await expect(h.open(blob)).rejects.toMatchObject({ code: 'DRAINING' });
});
