import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SeenManifest } from '@flotilla/shared/agent-report';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { State, type Table } from '../state.ts';
import { ImageCatalogue, type ManifestRecord } from './image-catalogue.ts';

let dir: string;
let state: State;
let table: Table<ManifestRecord>;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-images-'));
  state = await State.open(join(dir, 'state'));
  table = state.table('images');
});

afterEach(async () => {
  await state.close();
  await rm(dir, { recursive: true });
});

const image = (digest: string, blobs: string[], more: Partial<SeenManifest> = {}): SeenManifest => ({ digest, size: 10, mediaType: 'm', origin: 'docker.io', repository: 'app', blobs: blobs.map((each) => ({ digest: each, size: 100, kind: 'blob' })), ...more });
const index = (digest: string, children: [string, string][], tag: string): SeenManifest => ({ digest, size: 10, mediaType: 'i', origin: 'docker.io', repository: 'app', tag, blobs: children.map(([each, platform]) => ({ digest: each, size: 10, kind: 'manifest', platform })) });

test('an image has the names of the indexes that list it, and its platform from there', async () => {
  const catalogue = await ImageCatalogue.open(table);
  catalogue.seen('p', image('arm', ['l1', 'l2']), 1);
  catalogue.seen('p', index('idx', [['arm', 'linux/arm64'], ['amd', 'linux/amd64']], 'v1'), 2);
  catalogue.seen('q', index('idx', [], 'latest'), 3);
  expect(catalogue.get('arm')).toMatchObject({ names: ['docker.io/app:latest', 'docker.io/app:v1', 'docker.io/app'], platform: 'linux/arm64', size: 210 });
  expect(catalogue.get('idx')).toBeUndefined();
  expect(catalogue.resolve('idx').map(({ digest }) => digest)).toEqual(['arm']);
  expect([...catalogue.of('l2')]).toEqual(['arm']);
  expect(catalogue.nameOf('l1')).toBe('docker.io/app:latest');
  expect([...catalogue.askers('arm').keys()]).toEqual(['p']);
});

test('the latest name stands first, and names that are kept back are none', async () => {
  const catalogue = await ImageCatalogue.open(table);
  catalogue.seen('p', image('a', ['l'], { tag: 'v1' }), 1);
  catalogue.seen('p', image('a', ['l'], { tag: 'v2' }), 2);
  catalogue.seen('p', { digest: 'b', size: 1, mediaType: 'm', blobs: [{ digest: 'l', size: 100, kind: 'blob' }] }, 3);
  expect(catalogue.get('a')?.names).toEqual(['docker.io/app:v2', 'docker.io/app:v1']);
  expect(catalogue.get('b')?.names).toEqual([]);
  expect([...catalogue.all()].map(({ digest }) => digest)).toEqual(['b', 'a']);
});

test('comes back as it was, and writes a use once a minute at most', async () => {
  const catalogue = await ImageCatalogue.open(table);
  catalogue.seen('p', image('a', ['l'], { tag: 'v1' }), 1_000);
  catalogue.seen('p', index('idx', [['a', 'linux/amd64']], 'v9'), 1_000);
  await catalogue.flush(2_000);
  catalogue.used('a', 30_000);
  expect(catalogue.flush(30_000)).toBeUndefined();
  catalogue.used('a', 90_000);
  await catalogue.flush(90_000);
  const again = await ImageCatalogue.open(table);
  expect(again.get('a')).toEqual(catalogue.get('a'));
  expect(again.get('a')?.usedAtMs).toBe(90_000);
});

test('who asked long ago is not at work any more', async () => {
  const catalogue = await ImageCatalogue.open(table);
  catalogue.seen('p', image('a', ['l']), 0);
  await catalogue.flush(3_600_001);
  expect(catalogue.askers('a').size).toBe(0);
});

test('a tag that a rollout has pinned names what hosts ask for by digest, where they tell its repository', async () => {
  const catalogue = await ImageCatalogue.open(table);
  catalogue.seen('p', image('one', ['l1']), 1);
  catalogue.seen('p', index('idx', [['amd', 'linux/amd64']], 'old'), 1);
  catalogue.seen('p', image('amd', ['l2']), 1);
  catalogue.seen('p', image('kept-back', ['l3'], { origin: undefined, repository: undefined }), 1);
  expect(catalogue.get('one')!.names).toEqual(['docker.io/app']);
  for (const digest of ['one', 'kept-back', 'unknown']) catalogue.named(digest, 'docker.io/app:v2');
  catalogue.named('one', 'docker.io/app');
  catalogue.named('one', 'docker.io/other:v2');
  expect([catalogue.get('one')!.names, catalogue.get('kept-back')!.names]).toEqual([['docker.io/app:v2', 'docker.io/app'], []]);
  await catalogue.flush(2);
  expect((await ImageCatalogue.open(table)).get('one')!.names).toEqual(['docker.io/app:v2', 'docker.io/app']);
});
