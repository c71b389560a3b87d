import { describe, expect, it } from 'vitest';
import { KIB, expectStored, flipByte, has, hex, openTestStore, storeFiles, testBlob, testFolder, writeChunks } from './store.test-support.ts';

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

  it.each([['on disk', 1e9], ['in memory', 1]])('%s holds on to no more than the digest of what it is given', async (_, limitBytes) => {
    const blob = testBlob(12, 10);
    const partial = await (await openTestStore(await testFolder(), { limitBytes })).openPartial(blob.key);
    const frame = Buffer.concat([blob.chunks[0]!.digest, new Uint8Array(100_000)]);
    await partial.write(0, frame.subarray(0, 32), blob.bytes);
    expect(hex(partial.digestOf(0)!)).toBe(hex(blob.chunks[0]!.digest));
    expect(partial.digestOf(0)!.buffer.byteLength).toBe(32);
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
