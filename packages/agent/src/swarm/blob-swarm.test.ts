// When a blob's peers are told what is new here.

import { expect, test } from 'vitest';
import { Bitfield, type IndexRange } from '@flotilla/shared/bitfield';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { ExchangeFrame } from '@flotilla/shared/exchange';
import { BlobSwarm, NEWS_WAITS, type BlobLink } from './blob-swarm.ts';
import { Account } from './ledger.ts';
import { Link } from './link.ts';
import { Budget } from './picker.ts';

const CHUNKS = 1000;
const key: BlobKey = { digest: `sha256:${'a'.repeat(64)}` as Digest, size: CHUNKS * 64 * 1024 };

function setUp() {
  const clock = { nowMs: 0 };
  const have = new Bitfield(CHUNKS);
  const ignore = (): void => undefined;
  const blob = new BlobSwarm(1, { key, have, digestOf: () => undefined, readChunk: () => Promise.reject(new Error('not read here')) }, undefined, {
    budget: new Budget(),
    random: () => 0,
    nowMs: () => clock.nowMs,
    soon: (act) => act(),
    news: NEWS_WAITS,
    counters: { add: ignore },
    log: { debug: ignore, info: ignore, warn: ignore },
    wake: ignore,
    delivered: ignore,
    wakeAll: ignore,
    forged: ignore,
    connect: ignore,
    left: ignore,
  });
  const gain = (index: number): void => {
    have.set(index);
    blob.announce([index]);
  };
  return { clock, blob, gain };
}

/** A peer that keeps what it would be told later. */
function peerOf(blob: BlobSwarm) {
  const waits: number[] = [];
  let make: (() => ExchangeFrame[]) | undefined;
  const outbox = {
    send: () => undefined,
    later: (_channel: number, withinMs: number, then: () => ExchangeFrame[]) => {
      waits.push(withinMs);
      make = then;
    },
    sendChunk: () => undefined,
    dropChunk: () => false,
    blockedMs: () => 0,
  };
  const link: BlobLink = new Link({ peerId: 'peer', closed: false, outbox, close: () => undefined }, new Account(), () => undefined, 0);
  blob.pair(link);
  const told = (): readonly IndexRange[] => make!().flatMap((frame) => (frame.type === 'have' ? frame.ranges : []));
  return { link, waits, told };
}

test('news waits once, however much comes meanwhile', () => {
  const { blob, gain } = setUp();
  const { waits, told } = peerOf(blob);
  for (let index = 0; index < CHUNKS; index += 2) gain(index);
  expect(waits).toEqual([NEWS_WAITS.freshMs]);
  expect(told()).toHaveLength(CHUNKS / 2);
  gain(1);
  expect(waits).toEqual([NEWS_WAITS.freshMs, NEWS_WAITS.freshMs]);
  expect(told()).toEqual([[1, 1]]);
});

test('what the peer holds is no news, whether it held it before or got it meanwhile', () => {
  const { blob, gain } = setUp();
  const { link, waits, told } = peerOf(blob);
  blob.have(link, [[0, 10]]);
  gain(5);
  expect(waits).toEqual([]);
  for (const index of [20, 6, 21, 30]) gain(index);
  blob.have(link, [[21, 1]]);
  expect(told()).toEqual([[20, 1], [30, 1]]);
});
