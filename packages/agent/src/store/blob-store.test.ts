import { mkdir, open, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openStore, type BlobStore, type StoreOptions } from './blob-store.ts';
import { StorePaths } from './paths.ts';
import { KIB, fakeDisk, store, storeFiles, testBlob, testClock, testFolder, writeChunks, type TestBlob } from './store.test-support.ts';

const DAY_MS = 24 * 3600 * 1000;

/** A store whose disk is roomy; closed after the test. */
async function openTestStore(dir: string, options: Partial<StoreOptions> = {}): Promise<BlobStore> {
  const opened = await openStore({ dir, ...fakeDisk(1e9), ...options });
  onTestFinished(() => opened.close());
  return opened;
}

async function flipByte(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, position);
  byte[0]! ^= 1;
  await file.write(byte, 0, 1, position);
  await file.close();
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const has = (blob: { have: { length: number; has(index: number): boolean } }): number[] =>
  [...Array(blob.have.length).keys()].filter((index) => blob.have.has(index));

async function expectStored(from: BlobStore, blob: TestBlob): Promise<void> {
  const stored = await from.find(blob.key.digest);
  expect(stored?.key).toEqual(blob.key);
  expect(stored!.chunkDigests.map(hex)).toEqual(blob.chunks.map(({ digest }) => hex(digest)));
  expect(Buffer.compare(await stored!.read({ start: 0, end: blob.key.size }), blob.bytes)).toBe(0);
}

describe('finished blobs', () => {
  it.each([
    ['empty', 0, 'sha256'],
    ['of one byte', 1, 'sha256'],
    ['of one chunk', 64 * KIB, 'sha256'],
    ['of several chunks', 64 * KIB * 3 + 17, 'sha256'],
    ['with a sha512 digest', 100_000, 'sha512'],
  ] as const)('keeps a blob %s over a restart', async (_, size, algorithm) => {
    const dir = await testFolder();
    const blob = testBlob(1, size, algorithm);
    const first = await openTestStore(dir);
    const stored = await store(first, blob, 'application/x-layer');
    expect(stored?.mediaType).toBe('application/x-layer');
    await expectStored(first, blob);
    await first.close();
    const second = await openTestStore(dir);
    await expectStored(second, blob);
    expect((await second.find(blob.key.digest))?.mediaType).toBe('application/x-layer');
    expect(await second.list()).toEqual([blob.key]);
    expect(await storeFiles(dir)).toHaveLength(1);
  });

  it('reads any range, and refuses one outside', async () => {
    const blob = testBlob(2, 200_001);
    const stored = (await store(await openTestStore(await testFolder()), blob))!;
    for (const [start, end] of [[0, 0], [0, 1], [65_535, 65_537], [200_000, 200_001], [200_001, 200_001]] as const) {
      expect(Buffer.compare(await stored.read({ start, end }), blob.bytes.subarray(start, end))).toBe(0);
    }
    await expect(stored.read({ start: 0, end: 200_002 })).rejects.toThrow(RangeError);
    await expect(stored.read({ start: 2, end: 1 })).rejects.toThrow(RangeError);
  });

  it('is private to the agent', async () => {
    const dir = await testFolder();
    const blob = testBlob(2, 10);
    await store(await openTestStore(dir), blob);
    const paths = new StorePaths(dir);
    expect((await stat(paths.blob(blob.key.digest))).mode & 0o077).toBe(0);
    expect((await stat(paths.blobFolder(blob.key.digest))).mode & 0o077).toBe(0);
  });

  it('does not know what it does not have', async () => {
    const opened = await openTestStore(await testFolder());
    expect(await opened.find(testBlob(3, 5).key.digest)).toBeUndefined();
    expect(await opened.list()).toEqual([]);
  });

  it.each([
    ['came short', (path: string) => truncate(path, 100)],
    ['is gone', (path: string) => rm(path)],
  ])('drops a blob whose file %s', async (_, damage) => {
    const dir = await testFolder();
    const blob = testBlob(4, 100_000);
    const evicted: string[] = [];
    const opened = await openTestStore(dir);
    opened.onEvict(({ digest }) => evicted.push(digest));
    await store(opened, blob);
    await opened.close();
    const again = await openTestStore(dir);
    again.onEvict(({ digest }) => evicted.push(digest));
    const stored = (await again.find(blob.key.digest))!;
    await damage(new StorePaths(dir).blob(blob.key.digest));
    await expect(stored.read({ start: 0, end: 65_536 })).rejects.toMatchObject({ code: 'STORE_CORRUPT', cause: expect.any(Error) });
    expect(await again.find(blob.key.digest)).toBeUndefined();
    expect(evicted).toEqual([blob.key.digest]);
    expect(await storeFiles(dir)).toEqual([]);
    await store(again, blob);
    await expectStored(again, blob);
  });

  it('locks the data folder', async () => {
    const dir = await testFolder();
    const first = await openTestStore(dir);
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LOCKED', cause: expect.anything() });
    await first.close();
    await openTestStore(dir);
  });
});

describe('partials', () => {
  it('serves what was written, before and after it is finished', async () => {
    const blob = testBlob(5, 64 * KIB * 3 + 5);
    const opened = await openTestStore(await testFolder(), { cacheBytes: 70 * KIB });
    const partial = await opened.openPartial(blob.key);
    expect(partial.kept).toBe(true);
    expect(partial.have.count).toBe(0);
    await Promise.all([3, 1, 0, 2].map((index) => writeChunks(partial, blob, [index])));
    for (const [index, chunk] of blob.chunks.entries()) {
      expect(partial.digestOf(index)).toEqual(chunk.digest);
      expect(Buffer.compare(await partial.read(index), chunk.bytes)).toBe(0);
    }
    await partial.finish(undefined);
    for (const [index, chunk] of blob.chunks.entries()) expect(Buffer.compare(await partial.read(index), chunk.bytes)).toBe(0);
    await partial.close(true);
    await expect(partial.read(0)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  it('resumes with every chunk that was kept', async () => {
    const dir = await testFolder();
    const blob = testBlob(6, 64 * KIB * 5);
    const first = await openTestStore(dir);
    const partial = await first.openPartial(blob.key);
    await writeChunks(partial, blob, [4, 0, 2]);
    await first.close();
    const second = await openTestStore(dir);
    const resumed = await second.openPartial(blob.key);
    expect(has(resumed)).toEqual([0, 2, 4]);
    expect(Buffer.compare(await resumed.read(4), blob.chunks[4]!.bytes)).toBe(0);
    expect(hex(resumed.digestOf(2)!)).toBe(hex(blob.chunks[2]!.digest));
    await writeChunks(resumed, blob, [1, 3]);
    await resumed.finish(undefined);
    await resumed.close(true);
    await expectStored(second, blob);
    expect(await storeFiles(dir)).toHaveLength(1);
  });

  it('drops a chunk of which one bit changed on disk, and no other', async () => {
    const dir = await testFolder();
    const blob = testBlob(7, 64 * KIB * 4);
    const opened = await openTestStore(dir);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob, [0, 1, 3]);
    const path = partial.path!;
    await partial.close(true);
    await flipByte(path, 64 * KIB + 1000);
    const resumed = await opened.openPartial(blob.key);
    expect(has(resumed)).toEqual([0, 3]);
    expect(resumed.digestOf(1)).toBeUndefined();
    await resumed.close(true);
    await flipByte(path, 64 * KIB + 1000);
    // the record of a wrong chunk is gone for good
    expect(has(await opened.openPartial(blob.key))).toEqual([0, 3]);
  });

  it('forgets dropped chunks, also over a restart, and takes them anew', async () => {
    const dir = await testFolder();
    const blob = testBlob(8, 64 * KIB * 4);
    const opened = await openTestStore(dir);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob);
    await partial.drop([[1, 2]]);
    expect(has(partial)).toEqual([0, 3]);
    await expect(partial.read(1)).rejects.toMatchObject({ code: 'INTERNAL' });
    await writeChunks(partial, blob, [2]);
    await partial.close(true);
    expect(has(await opened.openPartial(blob.key))).toEqual([0, 2, 3]);
  });

  it('refuses to finish what is not whole, and chunks of a wrong length', async () => {
    const blob = testBlob(9, 64 * KIB + 1);
    const partial = await (await openTestStore(await testFolder())).openPartial(blob.key);
    await writeChunks(partial, blob, [0]);
    await expect(partial.finish(undefined)).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(partial.write(1, blob.chunks[1]!.digest, new Uint8Array(2))).rejects.toThrow(RangeError);
    await expect(partial.write(2, blob.chunks[1]!.digest, new Uint8Array(1))).rejects.toThrow(RangeError);
    expect(has(partial)).toEqual([0]);
  });

  it('removes what is not to be kept', async () => {
    const dir = await testFolder();
    const opened = await openTestStore(dir);
    const blob = testBlob(10, 64 * KIB * 2);
    const partial = await opened.openPartial(blob.key);
    await writeChunks(partial, blob, [0]);
    await partial.close(false);
    const untouched = await opened.openPartial(blob.key);
    expect(has(untouched)).toEqual([]);
    await untouched.close(true);
    expect(await storeFiles(dir)).toEqual([]);
    expect(opened.usage().bytes).toBe(0);
  });

  it('has one writer, waits for the last one to close, and keeps other sizes apart', async () => {
    const opened = await openTestStore(await testFolder());
    const blob = testBlob(11, 64 * KIB * 2);
    const partial = await opened.openPartial(blob.key);
    await expect(opened.openPartial(blob.key)).rejects.toMatchObject({ code: 'INTERNAL' });
    const other = await opened.openPartial({ digest: blob.key.digest, size: blob.key.size + 1 });
    await writeChunks(partial, blob, [1]);
    expect(has(other)).toEqual([]);
    const closing = partial.close(true);
    expect(has(await opened.openPartial(blob.key))).toEqual([1]);
    await closing;
  });
});

describe('start', () => {
  it('removes what does not belong there, and nothing outside its folders', async () => {
    const dir = await testFolder();
    const blob = testBlob(20, 1000);
    const first = await openTestStore(dir);
    await store(first, blob);
    await first.close();
    const hex = 'c'.repeat(64);
    await mkdir(join(dir, 'blobs/sha256/cc'), { recursive: true });
    await mkdir(join(dir, 'blobs/md5'));
    for (const stray of ['blobs/stray', 'blobs/sha256/x', `blobs/sha256/cc/${hex}`, 'blobs/md5/y', 'partials/z', `partials/sha256/${hex}.5`, 'mine']) {
      await writeFile(join(dir, stray), 'stray');
    }
    await expectStored(await openTestStore(dir), blob);
    expect(await storeFiles(dir)).toEqual([new StorePaths('').blob(blob.key.digest)]);
    expect((await stat(join(dir, 'mine'))).size).toBe(5);
  });

  it('adopts a blob without a record after hashing it whole, also when the whole index is gone', async () => {
    const dir = await testFolder();
    const [good, bad] = [testBlob(21, 150_000), testBlob(22, 150_000)];
    const first = await openTestStore(dir);
    await store(first, good);
    await store(first, bad);
    await first.close();
    await rm(join(dir, 'index'), { recursive: true });
    await flipByte(new StorePaths(dir).blob(bad.key.digest), 149_999);
    const second = await openTestStore(dir);
    await expectStored(second, good);
    expect(await second.find(bad.key.digest)).toBeUndefined();
    expect(await storeFiles(dir)).toHaveLength(1);
    await second.close();
    await expectStored(await openTestStore(dir), good);
  });

  it('goes on with a damaged index', async () => {
    const dir = await testFolder();
    const blob = testBlob(23, 5000);
    const first = await openTestStore(dir);
    await store(first, blob);
    await first.close();
    await writeFile(join(dir, 'index/CURRENT'), 'nonsense');
    await expectStored(await openTestStore(dir), blob);
  });

  it('removes records without a file, and blobs of another size than recorded', async () => {
    const dir = await testFolder();
    const [gone, short] = [testBlob(24, 5000), testBlob(25, 5000)];
    const first = await openTestStore(dir);
    await store(first, gone);
    await store(first, short);
    await writeChunks(await first.openPartial(testBlob(26, 5000).key), testBlob(26, 5000));
    await first.close();
    const paths = new StorePaths(dir);
    await rm(paths.blob(gone.key.digest));
    await truncate(paths.blob(short.key.digest), 4999);
    await rm(paths.partial(testBlob(26, 5000).key));
    const second = await openTestStore(dir);
    expect(await second.list()).toEqual([]);
    await second.close();
    const index = new Level(paths.index);
    expect(await index.keys().all()).toEqual([]);
    await index.close();
  });

  it('hashes the chunks of a blob again where the index has lost their digests', async () => {
    const dir = await testFolder();
    const blob = testBlob(27, 150_000);
    const first = await openTestStore(dir);
    await store(first, blob);
    await first.close();
    const index = new Level(new StorePaths(dir).index);
    await index.del(`map!${blob.key.digest}`);
    await index.close();
    await expectStored(await openTestStore(dir), blob);
  });

  it('gives up partials that nobody has touched for a week, at start and later', async () => {
    const dir = await testFolder();
    const time = testClock();
    const [early, late] = [testBlob(28, 70_000), testBlob(29, 70_000)];
    const first = await openTestStore(dir, { clock: time.clock });
    for (const blob of [early, late]) {
      const partial = await first.openPartial(blob.key);
      await writeChunks(partial, blob, [0]);
      await partial.close(true);
      time.nowMs += 4 * DAY_MS;
    }
    await first.close();
    const second = await openTestStore(dir, { clock: time.clock });
    expect(second.status().idlePartials).toBe(1);
    expect(await storeFiles(dir)).toEqual([new StorePaths('').partial(late.key)]);
    time.nowMs += 4 * DAY_MS;
    await second.trim();
    expect(await storeFiles(dir)).toEqual([]);
  });
});

describe('room', () => {
  const size = 8 * KIB;
  const blobs = [1, 2, 3, 4, 5].map((seed) => testBlob(seed, size));
  const names = async (from: BlobStore): Promise<number[]> => {
    const held = new Set((await from.list()).map(({ digest }) => digest));
    return blobs.flatMap(({ key }, i) => (held.has(key.digest) ? [i + 1] : []));
  };

  it('takes a tenth of the file system at most, unless told otherwise', async () => {
    const byDefault = await openTestStore(await testFolder(), fakeDisk(1_000_000));
    expect(byDefault.usage().limitBytes).toBe(100_000);
    const told = await openTestStore(await testFolder(), { ...fakeDisk(1_000_000), limitBytes: 5 });
    expect(told.usage().limitBytes).toBe(5);
  });

  it('evicts what was used longest ago, over restarts too, and says so', async () => {
    const dir = await testFolder();
    const time = testClock();
    const options = { clock: time.clock, limitBytes: 3 * size };
    const first = await openTestStore(dir, options);
    const evicted: number[] = [];
    for (const blob of blobs.slice(0, 3)) {
      await store(first, blob);
      time.nowMs += 1000;
    }
    await first.find(blobs[0]!.key.digest);
    await first.close();
    const second = await openTestStore(dir, options);
    second.onEvict(({ digest }) => evicted.push(blobs.findIndex(({ key }) => key.digest === digest) + 1));
    await store(second, blobs[3]!);
    expect(await names(second)).toEqual([1, 3, 4]);
    await store(second, blobs[4]!);
    expect(await names(second)).toEqual([1, 4, 5]);
    expect(evicted).toEqual([2, 3]);
    expect(await storeFiles(dir)).toHaveLength(3);
    expect(second.usage()).toMatchObject({ bytes: 3 * size, blobs: 3 });
  });

  it('never evicts what is pinned, as often as it was pinned', async () => {
    const opened = await openTestStore(await testFolder(), { limitBytes: 2 * size });
    const [one, two, three, four] = blobs as [TestBlob, TestBlob, TestBlob, TestBlob];
    await store(opened, one);
    await store(opened, two);
    opened.pin(one.key.digest);
    opened.pin(one.key.digest);
    opened.unpin(one.key.digest);
    await store(opened, three);
    expect(await names(opened)).toEqual([1, 3]);
    opened.pin(three.key.digest);
    expect(await store(opened, four)).toBeUndefined();
    expect(await names(opened)).toEqual([1, 3]);
    opened.unpin(one.key.digest);
    await store(opened, four);
    expect(await names(opened)).toEqual([3, 4]);
  });

  it('evicts no blob whose partial is open still', async () => {
    const opened = await openTestStore(await testFolder(), { limitBytes: size });
    const partial = await opened.openPartial(blobs[0]!.key);
    await writeChunks(partial, blobs[0]!);
    await partial.finish(undefined);
    expect(await store(opened, blobs[1]!)).toBeUndefined();
    expect(Buffer.compare(await partial.read(0), blobs[0]!.bytes)).toBe(0);
    await partial.close(true);
    await store(opened, blobs[1]!);
    expect(await names(opened)).toEqual([2]);
  });

  it('gives up idle partials before blobs', async () => {
    const dir = await testFolder();
    const opened = await openTestStore(dir, { limitBytes: 3 * size });
    await store(opened, blobs[0]!);
    const idle = await opened.openPartial(blobs[1]!.key);
    await writeChunks(idle, blobs[1]!);
    await idle.close(true);
    await store(opened, blobs[2]!);
    expect(opened.status()).toMatchObject({ idlePartials: 1, blobs: 2 });
    await store(opened, blobs[3]!);
    expect(opened.status()).toMatchObject({ idlePartials: 0, blobs: 3 });
    expect(await names(opened)).toEqual([1, 3, 4]);
  });

  it('reserves the whole blob at once, and keeps in memory what does not fit', async () => {
    const dir = await testFolder();
    const opened = await openTestStore(dir, { limitBytes: 3 * 64 * KIB });
    const [large, small] = [testBlob(30, 2 * 64 * KIB), testBlob(31, 64 * KIB + 1)];
    const first = await opened.openPartial(large.key);
    expect(opened.usage().bytes).toBe(0);
    const unkept = await opened.openPartial(small.key);
    expect([first.kept, unkept.kept, unkept.path]).toEqual([true, false, undefined]);
    await writeChunks(unkept, small);
    expect(Buffer.compare(await unkept.read(1), small.chunks[1]!.bytes)).toBe(0);
    await unkept.drop([[0, 1]]);
    expect(has(unkept)).toEqual([1]);
    await expect(unkept.read(0)).rejects.toMatchObject({ code: 'INTERNAL' });
    await writeChunks(unkept, small, [0]);
    expect(await unkept.finish(undefined)).toBeUndefined();
    expect(opened.status()).toMatchObject({ memoryPartials: 1, openPartials: 1 });
    await unkept.close(true);
    expect(opened.status().memoryPartials).toBe(0);
    await first.close(false);
    expect((await opened.openPartial(small.key)).kept).toBe(true);
  });

  it('does not evict for a blob that would not fit even then', async () => {
    const opened = await openTestStore(await testFolder(), { limitBytes: 2 * size });
    await store(opened, blobs[0]!);
    expect((await opened.openPartial(testBlob(32, 3 * size).key)).kept).toBe(false);
    expect(await names(opened)).toEqual([1]);
  });

  it('keeps a share of the file system free, and gives way when others fill it', async () => {
    const disk = fakeDisk(100 * size, 24 * size);
    const time = testClock();
    const opened = await openTestStore(await testFolder(), { statfs: disk.statfs, clock: time.clock, limitBytes: 1e9 });
    for (const blob of blobs.slice(0, 4)) {
      expect((await store(opened, blob))?.key).toEqual(blob.key);
      disk.freeBytes -= size;
    }
    time.nowMs += 1000;
    await store(opened, blobs[4]!);
    expect(await names(opened)).toEqual([2, 3, 4, 5]);
    disk.freeBytes = 18 * size;
    time.nowMs += 1000;
    expect((await opened.openPartial(testBlob(33, 3 * size).key)).kept).toBe(false);
    expect(await names(opened)).toEqual([4, 5]);
    await opened.close();
  });

  it('evicts at start what a lower limit asks for', async () => {
    const dir = await testFolder();
    const first = await openTestStore(dir);
    for (const blob of blobs) await store(first, blob);
    await first.close();
    const second = await openTestStore(dir, { limitBytes: 2 * size });
    expect(await second.list()).toHaveLength(2);
    expect(await storeFiles(dir)).toHaveLength(2);
  });

  it('stays within its limit, right and tidy, under many pulls at once', async () => {
    const dir = await testFolder();
    const limitBytes = 20 * 64 * KIB;
    const opened = await openTestStore(dir, { limitBytes, cacheBytes: 256 * KIB });
    const all = Array.from({ length: 16 }, (_, seed) => testBlob(seed, [3, 64 * KIB, 200_000, 400_000][seed % 4]!));
    await Promise.all(
      all.map(async (blob, i) => {
        for (let round = 0; round < 6; round++) {
          opened.pin(blob.key.digest);
          const stored = await opened.find(blob.key.digest);
          if (stored !== undefined) {
            expect(Buffer.compare(await stored.read({ start: 0, end: blob.key.size }), blob.bytes)).toBe(0);
          } else {
            const partial = await opened.openPartial(blob.key);
            await Promise.all(blob.chunks.map((_, index) => writeChunks(partial, blob, [index])));
            if ((i + round) % 3 > 0) await partial.finish(undefined);
            for (const [index, { bytes }] of blob.chunks.entries()) expect(Buffer.compare(await partial.read(index), bytes)).toBe(0);
            await partial.close(round % 4 > 0);
          }
          opened.unpin(blob.key.digest);
          expect(opened.usage().bytes).toBeLessThanOrEqual(limitBytes);
        }
      }),
    );
    const { blobs, idlePartials, openPartials, memoryPartials, pinned } = opened.status();
    expect([openPartials, memoryPartials, pinned]).toEqual([0, 0, 0]);
    expect(await storeFiles(dir)).toHaveLength(blobs + idlePartials);
    expect(blobs).toBeGreaterThan(0);
    for (const blob of all) if ((await opened.find(blob.key.digest)) !== undefined) await expectStored(opened, blob);
  });
});
