import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseDigest } from '@flotilla/shared/digest';
import { Rights, type Fact } from './rights.ts';

const DAY = 24 * 3600_000;
const NGINX = { origin: 'docker.io', repository: 'library/nginx' };
const OTHER = { origin: 'docker.io', repository: 'library/nginx2' };
const digest = parseDigest(`sha256:${'a'.repeat(64)}`);
const blob: Fact = { digest, size: 5, mediaType: 'application/x', kind: 'blob' };
const manifest = { digest: parseDigest(`sha256:${'b'.repeat(64)}`), size: 9, mediaType: 'application/y' };

let dir: string;
let now: number;
let rights: Rights;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-rights-'));
  now = 1_800_000_000_000;
  rights = await Rights.open(dir, () => now);
});
afterEach(async () => {
  await rights.close();
  await rm(dir, { recursive: true, force: true });
});

async function reopen(): Promise<void> {
  await rights.close();
  rights = await Rights.open(dir, () => now);
}

describe('facts', () => {
  test('are of one repository, and fresh for a minute after any good answer in it', async () => {
    expect(await rights.lookup(NGINX, digest)).toBeUndefined();
    await rights.imply(NGINX, [blob]);
    expect(await rights.lookup(NGINX, digest)).toEqual({ fact: blob, fresh: false });
    await rights.resolved(NGINX, 'latest', manifest);
    expect(await rights.lookup(NGINX, digest)).toEqual({ fact: blob, fresh: true });
    expect(await rights.lookup(NGINX, manifest.digest)).toEqual({ fact: { ...manifest, kind: 'manifest' }, fresh: true });
    expect(await rights.lookup(OTHER, digest)).toBeUndefined();
    now += 60_000;
    expect(await rights.lookup(NGINX, digest)).toMatchObject({ fresh: true });
    now += 1;
    expect(await rights.lookup(NGINX, digest)).toMatchObject({ fresh: false });
    await rights.confirm(NGINX, blob);
    expect(await rights.lookup(NGINX, digest)).toMatchObject({ fresh: true });
  });

  test('of an empty list are none', async () => {
    await rights.imply(NGINX, []);
    expect(await rights.lookup(NGINX, digest)).toBeUndefined();
  });

  test('survive a restart, their freshness does not', async () => {
    await rights.confirm(NGINX, blob);
    await rights.resolved(NGINX, 'latest', manifest);
    await reopen();
    expect(await rights.lookup(NGINX, digest)).toEqual({ fact: blob, fresh: false });
    expect(await rights.lastResolution(NGINX, 'latest')).toEqual(manifest);
  });

  test('that nobody has confirmed for a month are gone after a restart, tags too', async () => {
    await rights.confirm(NGINX, blob);
    await rights.resolved(NGINX, 'old', manifest);
    now += 20 * DAY;
    await rights.resolved(NGINX, 'new', manifest);
    now += 11 * DAY;
    await reopen();
    expect(await rights.lookup(NGINX, digest)).toBeUndefined();
    expect(await rights.lastResolution(NGINX, 'old')).toBeUndefined();
    expect(await rights.lastResolution(NGINX, 'new')).toEqual(manifest);
    expect(await rights.lookup(NGINX, manifest.digest)).toBeDefined();
  });

  test('that the origin denies are gone', async () => {
    await rights.confirm(NGINX, blob);
    await rights.confirm(OTHER, blob);
    await rights.forget(NGINX, digest);
    expect(await rights.lookup(NGINX, digest)).toBeUndefined();
    expect(await rights.lookup(OTHER, digest)).toBeDefined();
  });
});

describe('tags', () => {
  test('are as the origin last said, until it says there is none', async () => {
    await rights.resolved(NGINX, 'latest', { ...manifest, size: 8 });
    await rights.resolved(NGINX, 'latest', manifest);
    expect(await rights.lastResolution(NGINX, 'latest')).toEqual(manifest);
    expect(await rights.lastResolution(NGINX, 'other')).toBeUndefined();
    await rights.forgetTag(NGINX, 'latest');
    expect(await rights.lastResolution(NGINX, 'latest')).toBeUndefined();
  });
});

test('a repository that is refused is forgotten whole, its neighbours are not', async () => {
  for (const repository of [NGINX, OTHER]) {
    await rights.confirm(repository, blob);
    await rights.resolved(repository, 'latest', manifest);
  }
  await rights.forgetRepository(NGINX);
  expect(await rights.lookup(NGINX, digest)).toBeUndefined();
  expect(await rights.lastResolution(NGINX, 'latest')).toBeUndefined();
  await rights.imply(NGINX, [blob]);
  expect(await rights.lookup(NGINX, digest)).toMatchObject({ fresh: false });
  expect(await rights.lookup(OTHER, digest)).toMatchObject({ fresh: true });
  expect(await rights.lastResolution(OTHER, 'latest')).toEqual(manifest);
});
