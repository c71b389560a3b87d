// A process is killed with SIGKILL while it writes; what it leaves must be right, complete and tidy.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import * as fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { openStore, type BlobStore } from './blob-store.ts';
import { StorePaths } from './paths.ts';
import { readBlob, storeFiles, testFolder } from './store.test-support.ts';
import { CRASH_BLOBS, crashBlob, type TestBlob } from './test-blob.test-support.ts';

const CHILD = fileURLToPath(new URL('./crash.test-child.ts', import.meta.url));

/** Runs the child until it ends, or is killed as it prints its `lines`-th line. @returns its exit code or signal */
async function runChild(dir: string, mode: 'steps' | 'loop', argument: number, lines = Number.POSITIVE_INFINITY): Promise<number | string> {
  const child = spawn(process.execPath, [CHILD, dir, mode, String(argument)], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = once(child, 'close');
  let count = 0;
  createInterface(child.stdout).on('line', () => {
    count++;
    if (count === lines) child.kill('SIGKILL');
  });
  const [code, signal] = (await ended) as [number | null, string | null];
  return signal ?? code ?? 'nothing';
}

/** Every finished blob is right, every chunk of a partial is right, no file is left over. @returns chunks found in partials */
async function expectSound(store: BlobStore, dir: string, blobs: readonly TestBlob[]): Promise<number> {
  const paths = new StorePaths('');
  const files: string[] = [];
  let chunks = 0;
  const held = new Set((await store.list()).map(({ digest }) => digest));
  for (const blob of blobs) {
    if (held.delete(blob.key.digest)) {
      files.push(paths.blob(blob.key.digest));
      const stored = await store.find(blob.key.digest);
      expect(Buffer.compare(await readBlob(stored!), blob.bytes)).toBe(0);
      continue;
    }
    const partial = await store.openPartial(blob.key);
    for (const [index, { bytes }] of blob.chunks.entries()) {
      if (!partial.have.has(index)) continue;
      chunks++;
      expect(Buffer.compare(await partial.read(index), bytes)).toBe(0);
    }
    if (partial.have.count > 0) files.push(paths.partial(blob.key));
    await partial.close(true);
  }
  expect(held.size).toBe(0);
  expect(await storeFiles(dir)).toEqual(files.sort());
  return chunks;
}

it('leaves a partial that resumes or a blob that is found, whichever step is its last', async () => {
  const blob = crashBlob(0);
  const ends: string[] = [];
  for (let step = 1; ; step++) {
    const dir = await testFolder();
    const end = await runChild(dir, 'steps', step);
    const store = await openStore({ dir, minFreeShare: 0 });
    const found = await store.find(blob.key.digest);
    const chunks = await expectSound(store, dir, [blob]);
    ends.push(found === undefined ? `${chunks}` : 'found');
    if (found !== undefined) expect(found.mediaType).toBe('application/x-crash');
    const partial = await store.openPartial(blob.key);
    for (const [index, { digest, bytes }] of blob.chunks.entries()) await partial.write(index, digest, bytes);
    expect((await partial.finish(undefined))?.key).toEqual(blob.key);
    await partial.close(true);
    await expectSound(store, dir, [blob]);
    await store.close();
    if (end === 0) break;
    expect(end).toBe('SIGKILL');
  }
  // One chunk more survives with each write that was recorded; nothing is ever lost again.
  expect([...new Set(ends)]).toEqual([...Array(blob.chunks.length + 1).keys(), 'found'].map(String));
  expect(ends).toEqual(ends.toSorted((a, b) => Number(a.replace('found', '99')) - Number(b.replace('found', '99'))));
}, 120_000);

it('is sound after being killed at any moment, again and again', async () => {
  const blobs = Array.from({ length: CRASH_BLOBS }, (_, seed) => crashBlob(seed));
  const dir = await testFolder();
  let chunks = 0;
  let finished = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat(2 ** 31), fc.integer({ min: 1, max: 120 }), async (seed, lines) => {
      expect(await runChild(dir, 'loop', seed, lines)).toBe('SIGKILL');
      const store = await openStore({ dir, minFreeShare: 0, limitBytes: 1e9 });
      try {
        chunks += await expectSound(store, dir, blobs);
        finished += store.usage().blobs;
      } finally {
        await store.close();
      }
    }),
    { numRuns: 25, endOnFailure: true },
  );
  // Otherwise nothing was tested.
  expect(chunks).toBeGreaterThan(0);
  expect(finished).toBeGreaterThan(0);
}, 120_000);
