// Folders, disks and clocks for the store's tests.

import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { PartialBlob, Store, StoredBlob } from '../content/ports.ts';
import { openStore, type BlobStore, type StoreOptions } from './blob-store.ts';
import type { StatFs } from './disk-space.ts';
import type { TestBlob } from './test-blob.test-support.ts';

export { testBlob, type TestBlob } from './test-blob.test-support.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

export async function writeChunks(partial: PartialBlob, blob: TestBlob, indexes: Iterable<number> = blob.chunks.keys()): Promise<void> {
  // What is written is the store's: it frees it.
  for (const index of indexes) await partial.write(index, blob.chunks[index]!.digest, Uint8Array.from(blob.chunks[index]!.bytes));
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

/** A store whose disk is roomy; closed after the test. */
export async function openTestStore(dir: string, options: Partial<StoreOptions> = {}): Promise<BlobStore> {
  const opened = await openStore({ dir, ...fakeDisk(1e9), ...options });
  onTestFinished(() => opened.close());
  return opened;
}

export async function flipByte(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, position);
  byte[0]! ^= 1;
  await file.write(byte, 0, 1, position);
  await file.close();
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');


/** Indexes of the chunks that are here. */
export const has = (blob: { have: { length: number; has(index: number): boolean } }): number[] =>
  [...Array(blob.have.length).keys()].filter((index) => blob.have.has(index));

export async function expectStored(from: BlobStore, blob: TestBlob): Promise<void> {
  const stored = await from.find(blob.key.digest);
  expect(stored?.key).toEqual(blob.key);
  expect(stored!.chunkDigests.map(hex)).toEqual(blob.chunks.map(({ digest }) => hex(digest)));
  expect(Buffer.compare(await readBlob(stored!), blob.bytes)).toBe(0);
}

/** All chunks of a stored blob, in order. */
export async function readBlob(stored: StoredBlob): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (let index = 0; index < stored.chunkDigests.length; index++) chunks.push(await stored.readChunk(index));
  return Buffer.concat(chunks);
}
