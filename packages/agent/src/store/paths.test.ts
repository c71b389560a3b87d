import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { parseDigest } from '@flotilla/shared/digest';
import { describe, expect, it } from 'vitest';
import { openStore } from './blob-store.ts';
import { StorePaths, digestOfBlobFile, keyOfPartialFile } from './paths.ts';
import { testFolder } from './store.test-support.ts';

const hex = (length: number) => fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: length, maxLength: length });
const digest = fc.oneof(
  hex(64).map((text) => parseDigest(`sha256:${text}`)),
  hex(128).map((text) => parseDigest(`sha512:${text}`)),
);

describe('StorePaths', () => {
  const paths = new StorePaths('/data');

  it('gives names that are read back', () => {
    fc.assert(
      fc.property(digest, fc.maxSafeNat(), (digest, size) => {
        const [, , , algorithm = '', folder = '', name = ''] = paths.blob(digest).split('/');
        expect(digestOfBlobFile(algorithm, folder, name)).toBe(digest);
        const [, , , kind = '', file = ''] = paths.partial({ digest, size }).split('/');
        expect(keyOfPartialFile(kind, file)).toEqual({ digest, size });
      }),
    );
  });

  it.each(['', 'x', '.5', 'a'.repeat(64), `${'a'.repeat(64)}.`, `${'a'.repeat(64)}.05`, `${'a'.repeat(64)}.-1`, `${'a'.repeat(64)}.1e3`, `${'A'.repeat(64)}.1`])(
    'gives no partial the name "%s"',
    (name) => expect(keyOfPartialFile('sha256', name)).toBeUndefined(),
  );

  it('knows a blob only in its own folder', () => {
    expect(digestOfBlobFile('sha256', 'ab', 'a'.repeat(64))).toBeUndefined();
    expect(digestOfBlobFile('sha256', 'aa', 'a'.repeat(63))).toBeUndefined();
    expect(digestOfBlobFile('md5', 'aa', 'a'.repeat(32))).toBeUndefined();
  });
});

describe('layout', () => {
  it('marks a new data folder and is content with it later', async () => {
    const dir = await testFolder();
    await (await openStore({ dir })).close();
    expect(await readFile(join(dir, 'layout'), 'utf8')).toBe('1\n');
    await (await openStore({ dir })).close();
  });

  it.each(['2\n', '999999\n', 'x\n', ''])('refuses the mark %j and leaves it alone', async (mark) => {
    const dir = await testFolder();
    await writeFile(join(dir, 'layout'), mark);
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LAYOUT' });
    expect(await readFile(join(dir, 'layout'), 'utf8')).toBe(mark);
  });
});
