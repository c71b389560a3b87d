// The disk fills up or fails under the store: pulls go on, what is on disk stays readable, nothing wrong is kept.

import { describe, expect, it } from 'vitest';
import { nodeDiskIo, type DiskIo } from './disk-io.ts';
import { KIB, fakeDisk, openTestStore, store, storeFiles, testBlob, testClock, testFolder, writeChunks } from './store.test-support.ts';

const CHUNK = 64 * KIB;

/** node's file system, of which `fail` breaks one call after another. */
function breakingIo(): { io: DiskIo; fail: { on: keyof DiskIo | undefined; code: string } } {
  const fail: { on: keyof DiskIo | undefined; code: string } = { on: undefined, code: 'ENOSPC' };
  const io = Object.fromEntries(
    Object.entries(nodeDiskIo).map(([name, call]: [string, (...args: never[]) => unknown]) => [
      name,
      async (...args: never[]): Promise<unknown> => {
        if (fail.on === name) throw Object.assign(new Error(`${fail.code}: injected`), { code: fail.code });
        return call.apply(nodeDiskIo, args);
      },
    ]),
  ) as unknown as DiskIo;
  return { io, fail };
}

describe('a write that fails', () => {
  it.each([
    ['ENOSPC', 'DISK_FULL'],
    ['EDQUOT', 'DISK_FULL'],
    ['EIO', 'STORE_CORRUPT'],
  ])('%s is %s; the pull goes on in memory and what is on disk can be read', async (errno, code) => {
    const dir = await testFolder();
    const { io, fail } = breakingIo();
    const unkept: string[] = [];
    const logged: unknown[] = [];
    const opened = await openTestStore(dir, {
      cacheBytes: 0,
      io,
      metrics: { evicted: () => {}, corrupt: () => {}, unkept: (reason) => unkept.push(reason) },
      logger: { info: () => {}, warn: (fields: unknown) => logged.push(fields), error: (fields: unknown) => logged.push(fields) },
    });
    const blob = testBlob(1, 4 * CHUNK);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob, [0, 1]);
    fail.on = 'write';
    fail.code = errno;
    await writeChunks(partial, blob, [2]);
    expect([partial.kept, partial.path, partial.have.has(2)]).toEqual([false, undefined, true]);
    expect(unkept).toEqual([code === 'DISK_FULL' ? 'disk-full' : 'disk-failed']);
    expect(logged).toMatchObject([{ code, err: { code, cause: { code: errno } } }]);
    await writeChunks(partial, blob, [3]);
    expect(partial.have.full).toBe(true);
    for (const [index, { bytes }] of blob.chunks.entries()) expect(Buffer.compare(await partial.read(index), bytes)).toBe(0);
    expect(await partial.finish(undefined)).toBeUndefined();
    await partial.close(true);
    expect(await opened.list()).toEqual([]);

    fail.on = undefined;
    const again = await opened.openPartial(blob.key);
    expect([...blob.chunks.keys()].filter((index) => again.have.has(index))).toEqual([0, 1]);
    await writeChunks(again, blob);
    expect((await again.finish(undefined))?.key).toEqual(blob.key);
    await again.close(true);
    expect(await storeFiles(dir)).toHaveLength(1);
  });

  it('can drop chunks on disk and in memory', async () => {
    const { io, fail } = breakingIo();
    const opened = await openTestStore(await testFolder(), { cacheBytes: 0, io });
    const blob = testBlob(2, 3 * CHUNK);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob, [0]);
    fail.on = 'write';
    await writeChunks(partial, blob, [1]);
    await partial.drop([[0, 2]]);
    expect(partial.have.count).toBe(0);
    await writeChunks(partial, blob, [0]);
    expect(Buffer.compare(await partial.read(0), blob.chunks[0]!.bytes)).toBe(0);
  });
});

describe('a blob that cannot be finished', () => {
  it.each([
    ['sync', 'EIO'],
    ['sync', 'ENOSPC'],
    ['makeFolder', 'ENOSPC'],
    ['rename', 'EIO'],
  ] as const)('because %s fails with %s is not kept, stays readable and leaves no record', async (call, code) => {
    const dir = await testFolder();
    const { io, fail } = breakingIo();
    const opened = await openTestStore(dir, { cacheBytes: 0, io });
    const blob = testBlob(3, 2 * CHUNK + 1);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob);
    fail.on = call;
    fail.code = code;
    expect(await partial.finish(undefined)).toBeUndefined();
    expect(partial.kept).toBe(false);
    expect(await opened.find(blob.key.digest)).toBeUndefined();
    for (const [index, { bytes }] of blob.chunks.entries()) expect(Buffer.compare(await partial.read(index), bytes)).toBe(0);
    fail.on = undefined;
    await opened.close();
    const again = await openTestStore(dir, { cacheBytes: 0 });
    expect(await again.find(blob.key.digest)).toBeUndefined();
    const resumed = await again.openPartial(blob.key);
    expect(resumed.have.full).toBe(true);
    expect((await resumed.finish(undefined))?.key).toEqual(blob.key);
    await resumed.close(true);
  });
});

describe('a partial that cannot be opened on disk', () => {
  it.each(['create', 'open'] as const)('because %s fails is one in memory', async (call) => {
    const dir = await testFolder();
    const { io, fail } = breakingIo();
    const opened = await openTestStore(dir, { cacheBytes: 0, io });
    const blob = testBlob(4, 2 * CHUNK);
    const kept = await opened.openPartial(blob.key);
    await writeChunks(kept, blob, [1]);
    await kept.close(true);
    fail.on = call;
    const partial = await opened.openPartial(blob.key);
    expect([partial.kept, partial.have.count]).toEqual([false, 0]);
    await partial.close(true);
    fail.on = undefined;
    const resumed = await opened.openPartial(blob.key);
    expect([resumed.kept, resumed.have.has(1)]).toEqual([true, true]);
  });
});

describe('reads that fail', () => {
  it('drop the chunk of a partial that the disk cannot read', async () => {
    const { io, fail } = breakingIo();
    const opened = await openTestStore(await testFolder(), { cacheBytes: 0, io });
    const blob = testBlob(5, 2 * CHUNK);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob);
    fail.on = 'read';
    fail.code = 'EIO';
    await expect(partial.read(1)).rejects.toMatchObject({ code: 'STORE_CORRUPT', cause: { code: 'EIO' } });
    expect([partial.have.has(0), partial.have.has(1)]).toEqual([true, false]);
  });

  it('do not cost a blob where only handles are short', async () => {
    const { io, fail } = breakingIo();
    const dir = await testFolder();
    const blob = testBlob(6, 1000);
    const first = await openTestStore(dir, { cacheBytes: 0 });
    await store(first, blob);
    await first.close();
    const opened = await openTestStore(dir, { cacheBytes: 0, io });
    const stored = (await opened.find(blob.key.digest))!;
    fail.on = 'open';
    fail.code = 'EMFILE';
    await expect(stored.readChunk(0)).rejects.toMatchObject({ code: 'INTERNAL', cause: { code: 'EMFILE' } });
    fail.on = undefined;
    expect(Buffer.compare(await stored.readChunk(0), blob.bytes)).toBe(0);
    fail.on = 'read';
    fail.code = 'EIO';
    await expect(stored.readChunk(0)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    expect(await opened.list()).toEqual([]);
  });

  it('believe a disk that has failed a write only after hashing', async () => {
    const { io, fail } = breakingIo();
    let lie = false;
    const lying: DiskIo = {
      ...io,
      async read(file, into, position) {
        const filled = await io.read(file, into, position);
        if (lie) into[0]! ^= 1;
        return filled;
      },
    };
    const opened = await openTestStore(await testFolder(), { cacheBytes: 0, io: lying });
    const blob = testBlob(7, 2 * CHUNK);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob);
    fail.on = 'sync';
    fail.code = 'EIO';
    await partial.finish(undefined);
    lie = true;
    await expect(partial.read(0)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    expect(partial.have.has(0)).toBe(false);
  });
});

describe('others fill the disk', () => {
  it('during a write: idle things go first, then the pull is not kept', async () => {
    const disk = fakeDisk(1000 * CHUNK);
    const time = testClock();
    const opened = await openTestStore(await testFolder(), { cacheBytes: 0, statfs: disk.statfs, clock: time.clock });
    await store(opened, testBlob(8, CHUNK));
    const blob = testBlob(9, 4 * CHUNK);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob, [0]);
    disk.freeBytes = 200 * CHUNK;
    await writeChunks(partial, blob, [1]);
    time.nowMs += 1000;
    await writeChunks(partial, blob, [2]);
    expect(await opened.list()).toEqual([]);
    time.nowMs += 1000;
    await writeChunks(partial, blob, [3]);
    expect([partial.kept, partial.have.full]).toEqual([false, true]);
    expect(opened.usage().bytes).toBe(3 * CHUNK);
  });
});
