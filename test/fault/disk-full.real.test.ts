// The store on a file system that really fills up: a small tmpfs, mounted by this test. Needs root.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore, type BlobStore } from '@flotilla/agent/store/blob-store';
import type { PartialBlob } from '@flotilla/agent/content/ports';
import { IndexDb } from '@flotilla/agent/store/index-db';
import { testBlob, type TestBlob } from '@flotilla/agent/store/test-blob.test-support';
import { readBlob } from '@flotilla/agent/store/store.test-support';
import { describe, expect, it, onTestFinished } from 'vitest';

const MIB = 1024 * 1024;

/** A file system of its own, gone after the test. */
function smallDisk(bytes: number): string {
  const dir = mkdtempSync(join(tmpdir(), 'flotilla-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', dir]);
  onTestFinished(() => {
    execFileSync('umount', [dir]);
    rmSync(dir, { recursive: true });
  });
  return dir;
}

/** Takes all that is free, as another program might, but for `leaveBytes`. */
async function fillDisk(dir: string, leaveBytes = 0): Promise<string> {
  const path = join(dir, 'others');
  const file = await open(path, 'w');
  const { bavail, bsize } = await statfs(dir);
  await file.write(Buffer.alloc(bavail * bsize - leaveBytes));
  await file.close();
  return path;
}

async function writeAll(partial: PartialBlob, blob: TestBlob): Promise<void> {
  for (const [index, { digest, bytes }] of blob.chunks.entries()) await partial.write(index, digest, bytes);
}

async function pull(store: BlobStore, blob: TestBlob): Promise<boolean> {
  const partial = await store.openPartial(blob.key);
  await writeAll(partial, blob);
  const stored = await partial.finish(undefined);
  await partial.close(true);
  return stored !== undefined;
}

const root = process.getuid?.() === 0;
if (!root && process.env['CI'] === 'true') throw new Error('the disk-full test needs root to mount a tmpfs');

describe.skipIf(!root)('a full disk (needs root to mount a tmpfs)', () => {
  it('breaks no pull, and is used again once there is room', async () => {
    const dir = smallDisk(24 * MIB);
    let store = await openStore({ dir, limitBytes: 100 * MIB, minFreeShare: 0 });
    const [before, during, after] = [testBlob(1, 4 * MIB), testBlob(2, 6 * MIB), testBlob(3, 4 * MIB)];
    expect(await pull(store, before)).toBe(true);
    store.pin(before.key.digest);

    const partial = await store.openPartial(during.key);
    expect(partial.kept).toBe(true);
    const others = await fillDisk(dir, MIB);
    await writeAll(partial, during);
    expect([partial.kept, partial.have.full]).toEqual([false, true]);
    for (const [index, { bytes }] of during.chunks.entries()) expect(Buffer.compare(await partial.read(index), bytes)).toBe(0);
    expect(await partial.finish(undefined)).toBeUndefined();
    await partial.close(true);
    expect(Buffer.compare(await readBlob((await store.find(before.key.digest))!), before.bytes)).toBe(0);

    await rm(others);
    expect(await pull(store, after)).toBe(true);
    expect(await pull(store, during)).toBe(true);
    await store.close();

    store = await openStore({ dir, limitBytes: 100 * MIB, minFreeShare: 0 });
    for (const blob of [before, during, after]) {
      const stored = await store.find(blob.key.digest);
      expect(Buffer.compare(await readBlob(stored!), blob.bytes)).toBe(0);
    }
    await store.close();
  });

  it('stops the index too, and only for as long as it lasts', async () => {
    const dir = smallDisk(16 * MIB);
    let nowMs = Date.now();
    const store = await openStore({ dir, limitBytes: 100 * MIB, minFreeShare: 0, clock: () => nowMs });
    const others = await fillDisk(dir);
    // Enough records to make level run into the full disk again and again.
    for (let seed = 10; seed < 40; seed++) expect(await pull(store, testBlob(seed, 5000))).toBe(false);
    await rm(others);
    nowMs += 60_000;
    for (let seed = 10; seed < 40; seed++) expect(await pull(store, testBlob(seed, 5000))).toBe(true);
    await store.close();
    const again = await openStore({ dir, limitBytes: 100 * MIB, minFreeShare: 0 });
    expect(again.usage().blobs).toBe(30);
    await again.close();
  });

  it('leaves no index behind that refuses every write', async () => {
    const dir = smallDisk(32 * MIB);
    let nowMs = 0;
    let room = false;
    const openIndex = async (): Promise<IndexDb> => {
      const index = await IndexDb.open(join(dir, 'index'), { now: () => nowMs, hasRoom: async () => room, onLost: (error) => expect.fail(String(error)) });
      onTestFinished(() => index.close());
      return index;
    };
    const index = await openIndex();
    const { key } = testBlob(50, 1);
    const digests = (from: number) => new Map(Array.from({ length: 1000 }, (_, i) => [from + i, randomBytes(32)]));
    // level writes down what it has in memory at 4 MiB, here 1.2 MiB compressed; by then there is no room for it.
    let others: string | undefined;
    let written = 0;
    const failure = await (async () => {
      for (; written < 100_000; written += 1000) {
        if (written === 25_000) others = await fillDisk(dir, MIB);
        await index.putChunks(key, digests(written));
      }
      return undefined;
    })().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'DISK_FULL' });
    await rm(others!);
    nowMs += 60_000;
    await expect(index.putChunks(key, digests(written))).rejects.toMatchObject({ code: 'DISK_FULL' });
    room = true;
    await index.putChunks(key, digests(written));
    await index.close();
    const again = await openIndex();
    expect((await again.chunks(key)).size).toBe(written + 1000);
    await again.close();
  });

  it('keeps an agent from starting with an error that says so', async () => {
    const dir = smallDisk(8 * MIB);
    await fillDisk(dir);
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'DISK_FULL' });
  });
});
