import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PartialBlob } from './ports.ts';
import { CHUNK, Gate, makeBlob, TestPartial } from './test-ports.ts';
import { HashPool } from './verification.ts';
import { WholeHash } from './whole-hash.ts';

let pool: HashPool;
let dir: string;
beforeAll(async () => {
  pool = new HashPool(2);
  dir = await mkdtemp(join(tmpdir(), 'flotilla-hash-'));
});
afterAll(async () => {
  await pool.close();
  await rm(dir, { recursive: true, force: true });
});

/** A partial whose bytes lie in a file. */
function onDisk(partial: TestPartial, path: string): PartialBlob {
  return new Proxy(partial, { get: (target, name) => (name === 'path' ? path : Reflect.get(target, name, target)) });
}

test.each(['sha256', 'sha512'] as const)('hashes %s from a file, in steps, as chunks come', async (algorithm) => {
  const blob = makeBlob(40 * CHUNK + 77, 'file', algorithm);
  const path = join(dir, algorithm);
  await writeFile(path, blob.bytes);
  const partial = new TestPartial(blob.key).resumed(blob, [...Array(20).keys()]);
  const hash = new WholeHash(onDisk(partial, path), pool.open(blob.key.digest), () => Promise.reject(new Error('read from the file')));
  await hash.advance();
  expect(hash.next).toBe(20);
  // Too little to be worth a message to the thread, and not the end.
  partial.resumed(blob, [20, 21]);
  await hash.advance();
  expect([hash.next, hash.due]).toEqual([20, false]);
  partial.resumed(blob, [...Array(40).keys()].slice(22, 39));
  await hash.advance();
  expect(hash.next).toBe(39);
  partial.resumed(blob, [39, 40]);
  await hash.advance();
  expect(hash.atEnd).toBe(true);
  expect(await hash.matches()).toBe(true);
  hash.close();
});

test('finds a file that is not the blob', async () => {
  const blob = makeBlob(3 * CHUNK);
  const path = join(dir, 'wrong');
  await writeFile(path, new Uint8Array(3 * CHUNK));
  const hash = new WholeHash(onDisk(new TestPartial(blob.key).resumed(blob, [0, 1, 2]), path), pool.open(blob.key.digest), () => Promise.reject(new Error('read from the file')));
  await hash.advance();
  expect(await hash.matches()).toBe(false);
  hash.close();
});

test('a file that is too short is an error', async () => {
  const blob = makeBlob(3 * CHUNK);
  const path = join(dir, 'short');
  await writeFile(path, blob.bytes.subarray(0, CHUNK));
  const hash = new WholeHash(onDisk(new TestPartial(blob.key).resumed(blob, [0, 1, 2]), path), pool.open(blob.key.digest), () => Promise.reject(new Error('read from the file')));
  await expect(hash.advance()).rejects.toThrow('file ends');
  hash.close();
});

test('what was read before a chunk was forgotten is not hashed after it', async () => {
  const blob = makeBlob(3 * CHUNK);
  const partial = new TestPartial(blob.key).resumed(blob, [0, 1, 2]);
  const gate = new Gate();
  let held = true;
  const hash = new WholeHash(partial, pool.open(blob.key.digest), async (index) => {
    const bytes = await partial.read(index);
    if (index === 1 && held) {
      held = false;
      await gate.pass(new AbortController().signal);
    }
    return bytes;
  });
  const advanced = hash.advance();
  await gate.reached;
  expect(hash.forget(2)).toBe(false);
  expect(hash.forget(1)).toBe(true);
  gate.open();
  await advanced;
  expect(hash.atEnd).toBe(true);
  expect(await hash.matches()).toBe(true);
  hash.close();
});

test('a verdict on what has been forgotten is none', async () => {
  const blob = makeBlob(2 * CHUNK);
  const partial = new TestPartial(blob.key).resumed(blob, [0, 1]);
  const hash = new WholeHash(partial, pool.open(blob.key.digest), (index) => partial.read(index));
  await hash.advance();
  const verdict = hash.matches();
  hash.forget(0);
  expect(await verdict).toBeUndefined();
  await hash.advance();
  expect(await hash.matches()).toBe(true);
  hash.close();
});

test('blobs on one thread do not mix, and a closed pool rejects', async () => {
  const one = new HashPool(1);
  const blobs = ['a', 'b', 'c'].map((seed) => makeBlob(3 * CHUNK + 5, seed));
  const hashes = blobs.map((blob) => {
    const partial = new TestPartial(blob.key).resumed(blob, [0, 1, 2, 3]);
    return new WholeHash(partial, one.open(blob.key.digest), (index) => partial.read(index));
  });
  await Promise.all(hashes.map((hash) => hash.advance()));
  expect(await Promise.all(hashes.map((hash) => hash.matches()))).toEqual([true, true, true]);
  await one.close();
  await expect(hashes[0]!.matches()).rejects.toThrow('ended');
});
