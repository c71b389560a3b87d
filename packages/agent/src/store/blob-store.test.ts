import { mkdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { describe, expect, it } from 'vitest';
import { openStore } from './blob-store.ts';
import { StorePaths } from './paths.ts';
import { KIB, expectStored, flipByte, openTestStore, readBlob, store, storeFiles, testBlob, testClock, testFolder, writeChunks } from './store.test-support.ts';

const DAY_MS = 24 * 3600 * 1000;

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

  it('reads any chunk, and refuses one outside', async () => {
    const blob = testBlob(2, 200_001);
    const stored = (await store(await openTestStore(await testFolder()), blob))!;
    expect(Buffer.compare(await readBlob(stored), blob.bytes)).toBe(0);
    await expect(stored.readChunk(4)).rejects.toThrow(RangeError);
    await expect(stored.readChunk(-1)).rejects.toThrow(RangeError);
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
    ['has rotted', (path: string) => flipByte(path, 99_999)],
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
    await expect(stored.readChunk(1)).rejects.toMatchObject({ code: 'STORE_CORRUPT', cause: expect.any(Error) });
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
