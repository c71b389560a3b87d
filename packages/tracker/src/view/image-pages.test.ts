import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Holdings } from '../holdings.ts';
import { State } from '../state.ts';
import { ImageCatalogue } from './image-catalogue.ts';
import { ImagePages } from './image-pages.ts';

let dir: string;
let state: State;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-image-pages-'));
  state = await State.open(join(dir, 'state'));
});

afterEach(async () => {
  await state.close();
  await rm(dir, { recursive: true });
});

class CountedHoldings extends Holdings {
  asked = 0;

  override get seeds(): ReadonlySet<string> {
    this.asked++;
    return super.seeds;
  }
}

test('copies are those of now, and counted anew only where somebody has got or lost something', async () => {
  const catalogue = await ImageCatalogue.open(state.table('images'));
  const held = new Map<string, CountedHoldings>();
  const pages = new ImagePages(catalogue, { find: (digest) => (held.has(digest) ? ({ book: { holdings: held.get(digest)! } } as never) : undefined) });
  for (const [digest, layer] of [['one', 'l1'], ['two', 'l2']] as const) {
    catalogue.seen('p', { digest, size: 1, mediaType: 'm', origin: 'lab', repository: digest, blobs: [{ digest: layer, size: 100, kind: 'blob' }] }, 1);
  }
  const counts = (): (readonly [string, number, number])[] => pages.page({ sort: 'name' }).images.map(({ digest, copies, partial }) => [digest, copies, partial]);
  expect(counts()).toEqual([['one', 0, 0], ['two', 0, 0]]);
  for (const blob of ['one', 'l1', 'two', 'l2']) held.set(blob, new CountedHoldings(4));
  const [manifest, layer, other] = [held.get('one')!, held.get('l1')!, held.get('l2')!];
  manifest.seed('a');
  layer.seed('a');
  layer.add('b', [0, 2]);
  expect(counts()).toEqual([['one', 1, 1], ['two', 0, 0]]);
  const asked = other.asked;
  manifest.seed('b');
  layer.seed('b');
  expect(counts()).toEqual([['one', 2, 0], ['two', 0, 0]]);
  layer.drop('a', [0, 1]);
  expect(counts()).toEqual([['one', 1, 1], ['two', 0, 0]]);
  layer.remove('b');
  manifest.remove('b');
  expect(counts()).toEqual([['one', 0, 1], ['two', 0, 0]]);
  expect(other.asked).toBe(asked);
  // A swarm that ended and began anew starts to count at nought.
  held.set('l1', new CountedHoldings(4));
  expect(counts()).toEqual([['one', 0, 1], ['two', 0, 0]]);
  held.delete('one');
  expect(counts()).toEqual([['one', 0, 0], ['two', 0, 0]]);
});
