import { Bitfield } from '@flotilla/shared/bitfield';
import { expect, test } from 'vitest';
import { Provenance } from './provenance.ts';
import { CHUNK, makeBlob } from './test-ports.ts';

const { key } = makeBlob(3 * CHUNK + 7);

test('names what most bytes came from, and the peers that gave the most', () => {
  const provenance = new Provenance(key, new Bitfield(4));
  provenance.count('origin', 100);
  expect(provenance.summary()).toEqual({ from: 'origin', peerBytes: 0, originBytes: 100, resumedBytes: 0, duplicateBytes: 0, peers: {} });
  for (const [peerId, bytes] of [['a', 10], ['b', 20], ['c', 30], ['d', 40], ['e', 50], ['f', 60], ['a', 45]] as const) {
    provenance.count('peer', bytes);
    provenance.gave(peerId, bytes);
  }
  provenance.count('duplicate', 1000);
  const summary = provenance.summary();
  expect(summary).toMatchObject({ from: 'peer', peerBytes: 255, originBytes: 100, duplicateBytes: 1000 });
  expect(Object.entries(summary.peers)).toEqual([['f', 60], ['a', 55], ['e', 50], ['d', 40], ['c', 30]]);
});

test('what an earlier pull has left counts, the short last chunk as what it is', () => {
  const have = new Bitfield(4);
  have.set(0);
  have.setRange([2, 2]);
  const provenance = new Provenance(key, have);
  provenance.count('peer', CHUNK);
  expect(provenance.summary()).toMatchObject({ from: 'resumed', resumedBytes: 2 * CHUNK + 7 });
});
