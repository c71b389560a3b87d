import { describe, expect, it } from 'vitest';
import type { BlobStore } from './blob-store.ts';
import { KIB, expectStored, fakeDisk, has, openTestStore, readBlob, store, storeFiles, testBlob, testClock, testFolder, writeChunks, type TestBlob } from './store.test-support.ts';

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

  it('never evicts a partial that is open, and takes a finished one for what it is: a blob', async () => {
    const opened = await openTestStore(await testFolder(), { limitBytes: size });
    const partial = await opened.openPartial(blobs[0]!.key);
    await writeChunks(partial, blobs[0]!);
    expect(await store(opened, blobs[1]!)).toBeUndefined();
    await partial.finish(undefined);
    opened.pin(blobs[0]!.key.digest);
    expect(await store(opened, blobs[1]!)).toBeUndefined();
    opened.unpin(blobs[0]!.key.digest);
    // Without a close: to finish is the end of a partial.
    await store(opened, blobs[1]!);
    expect(await names(opened)).toEqual([2]);
    expect(opened.status().openPartials).toBe(0);
    await store(opened, blobs[0]!);
    expect(await names(opened)).toEqual([1]);
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
            expect(Buffer.compare(await readBlob(stored), blob.bytes)).toBe(0);
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
