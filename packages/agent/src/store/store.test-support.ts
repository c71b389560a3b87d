// Folders, disks and clocks for the store's tests.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { onTestFinished } from 'vitest';
import type { PartialBlob, Store, StoredBlob } from '../content/ports.ts';
import type { StatFs } from './disk-space.ts';
import type { TestBlob } from './test-blob.test-support.ts';

export { testBlob, type TestBlob } from './test-blob.test-support.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

export async function writeChunks(partial: PartialBlob, blob: TestBlob, indexes: Iterable<number> = blob.chunks.keys()): Promise<void> {
  for (const index of indexes) await partial.write(index, blob.chunks[index]!.digest, blob.chunks[index]!.bytes);
}

/** Pulls the whole blob into the store. */
export async function store(into: Store, blob: TestBlob, mediaType?: string): Promise<StoredBlob | undefined> {
  const partial = await into.openPartial(blob.key);
  await writeChunks(partial, blob);
  const stored = await partial.finish(mediaType);
  await partial.close(true);
  return stored;
}

/** A folder that is gone after the test. */
export async function testFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-store-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** All files of blobs/ and partials/, relative to the data folder. */
export async function storeFiles(dir: string): Promise<string[]> {
  const files: string[] = [];
  for (const root of ['blobs', 'partials']) {
    for (const entry of await readdir(join(dir, root), { recursive: true, withFileTypes: true })) {
      if (!entry.isDirectory()) files.push(relative(dir, join(entry.parentPath, entry.name)));
    }
  }
  return files.sort();
}

/** A file system of this size; `disk.freeBytes` may be changed at any time. */
export function fakeDisk(totalBytes: number, freeBytes = totalBytes): { freeBytes: number; statfs: StatFs } {
  const disk = {
    freeBytes,
    statfs: async () => ({ bsize: 1, blocks: totalBytes, bavail: disk.freeBytes }),
  };
  return disk;
}

/** A wall clock that stands still until it is moved. */
export function testClock(startMs = 1_800_000_000_000): { nowMs: number; clock: () => number } {
  const time = { nowMs: startMs, clock: () => time.nowMs };
  return time;
}
