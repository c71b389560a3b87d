import { stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StoredBlob } from '../content/ports.ts';
import { nodeDiskIo, type DiskIo } from './disk-io.ts';
import { StorePaths } from './paths.ts';
import { KIB, MIB, flipByte, openTestStore, store, testBlob, testClock, testFolder, type TestBlob } from './store.test-support.ts';
import { VERIFIED_MS } from './verified-chunks.ts';

/** Counts what is read of files, and how often anything is. */
function countingIo(): DiskIo & { bytes: number } {
  return {
    ...nodeDiskIo,
    bytes: 0,
    async read(file, into, position) {
      this.bytes += into.length;
      return nodeDiskIo.read(file, into, position);
    },
  };
}

async function storedBlob(size: number, seed = 1): Promise<{ stored: StoredBlob; blob: TestBlob; path: string; time: ReturnType<typeof testClock>; io: ReturnType<typeof countingIo> }> {
  const dir = await testFolder();
  const io = countingIo();
  // After every change that the test makes: chunks count as verified at once.
  const time = testClock(Date.now() + 60_000);
  const opened = await openTestStore(dir, { io, clock: time.clock });
  const blob = testBlob(seed, size);
  const stored = (await store(opened, blob))!;
  io.bytes = 0;
  const path = new StorePaths(dir).blob(blob.key.digest);
  await nextTick(path, join(dir, 'clock'));
  return { stored, blob, path, time, io };
}

/** The kernel's clock of changes has moved on since the file's last one. */
async function nextTick(path: string, scratch: string): Promise<void> {
  const { ctimeNs } = await stat(path, { bigint: true });
  do await writeFile(scratch, '');
  while ((await stat(scratch, { bigint: true })).ctimeNs <= ctimeNs);
}

/** Pieces are lent: copied at once. */
async function readAll(stored: StoredBlob, start: number, end: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stored.read({ start, end })) {
    pieces.push(Uint8Array.from(piece));
    await new Promise(setImmediate);
  }
  return Buffer.concat(pieces);
}

const expectBytes = (bytes: Uint8Array, expected: Uint8Array): void => {
  // Not toEqual: what it prints of large arrays takes minutes.
  expect(Buffer.compare(bytes, expected)).toBe(0);
};

describe('a range of a finished blob', () => {
  it('is exactly these bytes, verified or compared before', async () => {
    const size = 3 * MIB + 12_345;
    const { stored, blob } = await storedBlob(size);
    const position = fc.integer({ min: 0, max: size });
    await fc.assert(
      fc.asyncProperty(position, position, async (a, b) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        expectBytes(await readAll(stored, start, end), blob.bytes.subarray(start, end));
      }),
      { numRuns: 60 },
    );
  });

  it('has to lie in it', async () => {
    const { stored } = await storedBlob(100);
    for (const [start, end] of [[-1, 5], [0, 101], [50, 40]] as const) await expect(readAll(stored, start, end)).rejects.toThrow(RangeError);
    expect(await readAll(stored, 100, 100)).toHaveLength(0);
  });

  it('is read alone where the chunks around it were compared a while ago', async () => {
    const { stored, io, time } = await storedBlob(10 * 64 * KIB);
    await readAll(stored, 70_000, 70_010);
    expect(io.bytes).toBe(64 * KIB);
    await readAll(stored, 70_000, 70_010);
    expect(io.bytes).toBe(64 * KIB + 10);
    time.nowMs += VERIFIED_MS;
    await readAll(stored, 70_000, 70_010);
    expect(io.bytes).toBe(2 * 64 * KIB + 10);
  });
});

describe('a file that changed after it was compared', () => {
  const SIZE = 4 * MIB;

  it.each([
    ['is found out at the next read', (stored: StoredBlob) => readAll(stored, 0, SIZE)],
    ['is found out by the next chunk for a peer', (stored: StoredBlob) => stored.readChunk(50)],
    ['is found out by a few bytes', (stored: StoredBlob) => readAll(stored, 50 * 64 * KIB, 50 * 64 * KIB + 1)],
  ])('%s', async (_, read) => {
    const { stored, blob, path } = await storedBlob(SIZE);
    expectBytes(await readAll(stored, 0, SIZE), blob.bytes);
    await flipByte(path, 50 * 64 * KIB + 1000);
    await expect(read(stored)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
  });

  it('is found out although its times of use and change were set back', async () => {
    const { stored, path } = await storedBlob(SIZE);
    await readAll(stored, 0, SIZE);
    const { atime, mtime } = await stat(path);
    await flipByte(path, 1000);
    await utimes(path, atime, mtime);
    await expect(stored.readChunk(0)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
  });

  it('while it is being read is found out before its bytes are given', async () => {
    const { stored, blob, path } = await storedBlob(SIZE);
    await readAll(stored, 0, SIZE);
    const pieces = stored.read({ start: 0, end: SIZE });
    const given: Uint8Array[] = [Uint8Array.from((await pieces.next()).value!)];
    // The fourth piece is read when the second is asked for.
    await flipByte(path, SIZE - 1);
    await expect(
      (async () => {
        for await (const piece of pieces) given.push(Uint8Array.from(piece));
      })(),
    ).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    const bytes = Buffer.concat(given);
    expect(bytes.length).toBeGreaterThan(0);
    expectBytes(bytes, blob.bytes.subarray(0, bytes.length));
  });

  it('in nothing but its times is compared again, and served', async () => {
    const { stored, blob, path, io } = await storedBlob(SIZE);
    await readAll(stored, 0, SIZE);
    await utimes(path, 1, 1);
    expectBytes(await readAll(stored, 0, SIZE), blob.bytes);
    io.bytes = 0;
    await readAll(stored, 5, 6);
    expect(io.bytes).toBe(1);
  });
});

it('bytes that rot without a trace are found out after a while', async () => {
  const { stored, time, io } = await storedBlob(100_000);
  await readAll(stored, 0, 100_000);
  io.read = async (file, into, position) => {
    const filled = await nodeDiskIo.read(file, into, position);
    into[0]! ^= 1;
    return filled;
  };
  time.nowMs += VERIFIED_MS;
  await expect(readAll(stored, 0, 100_000)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
});
