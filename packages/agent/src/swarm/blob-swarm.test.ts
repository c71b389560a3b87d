// When a blob's peers are told what is new here, and how much is asked of them at a time.

import { describe, expect, test } from 'vitest';
import { Bitfield, type IndexRange } from '@flotilla/shared/bitfield';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { ExchangeFrame } from '@flotilla/shared/exchange';
import type { SwarmMember } from '../content/ports.ts';
import { BlobSwarm, NEWS_WAITS, type BlobLink } from './blob-swarm.ts';
import { Account } from './ledger.ts';
import { Link } from './link.ts';
import { Budget } from './picker.ts';

const CHUNKS = 1000;
const key: BlobKey = { digest: `sha256:${'a'.repeat(64)}` as Digest, size: CHUNKS * 64 * 1024 };

/** @param member fetches it; absent: it is only uploaded */
function setUp(member?: SwarmMember) {
  const clock = { nowMs: 0 };
  const have = new Bitfield(CHUNKS);
  const ignore = (): void => undefined;
  const woken: string[] = [];
  const blob = new BlobSwarm(1, { key, have, digestOf: () => undefined, readChunk: () => Promise.reject(new Error('not read here')) }, member, {
    budget: new Budget(),
    random: () => 0,
    nowMs: () => clock.nowMs,
    soon: (act) => act(),
    news: NEWS_WAITS,
    counters: { add: ignore },
    log: { debug: ignore, info: ignore, warn: ignore },
    wake: (link) => woken.push(link.peerId),
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
  return { clock, blob, gain, woken };
}

/** A peer that keeps what it would be told later. */
function peerOf(blob: BlobSwarm, peerId = 'peer') {
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
  const link: BlobLink = new Link({ peerId, closed: false, outbox, close: () => undefined }, new Account(), () => undefined, 0);
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

describe('where peers hold a little of it', () => {
  const wanting = (): SwarmMember => ({
    key,
    have: new Bitfield(CHUNKS),
    digestOf: () => undefined,
    readChunk: () => Promise.reject(new Error('not read here')),
    wants: () => true,
    urgent: () => undefined,
    accept: () => Promise.resolve('kept'),
    sourcesChanged: () => undefined,
  });
  /** Twenty peers hold twenty chunks. */
  const crowd = () => {
    const { blob, clock, woken } = setUp(wanting());
    const links = Array.from({ length: 20 }, (_, peer) => peerOf(blob, `p${peer}`).link);
    for (const link of links) blob.have(link, [[0, 20]]);
    /** Of each of them one. */
    const askAll = (): BlobLink[] =>
      links.filter((link) => {
        const fetch = link.intake.size === 0 ? blob.pick(link, clock.nowMs) : undefined;
        if (fetch !== undefined) link.intake.expect(fetch);
        return fetch !== undefined;
      });
    const deliver = (link: BlobLink): void => {
      const [fetch] = link.intake.fetches();
      link.intake.drop(fetch!.channel, fetch!.index);
      blob.arrived(link, { fetch: fetch!, digest: new Uint8Array(), bytes: new Uint8Array(64 * 1024) }, clock.nowMs);
    };
    woken.length = 0;
    return { blob, clock, woken, askAll, deliver };
  };

  test('few of them are asked at a time, and all are looked at again once a chunk has come', () => {
    const { askAll, deliver, woken, clock } = crowd();
    const asked = askAll();
    expect(asked).toHaveLength(8);
    clock.nowMs = 1000;
    deliver(asked[0]!);
    expect(new Set(woken).size).toBe(20);
    expect(askAll()).toHaveLength(1);
  });

  test('what is late keeps nobody from being asked', () => {
    const { askAll, clock, blob, woken } = crowd();
    askAll();
    clock.nowMs = 4999;
    expect(askAll()).toEqual([]);
    clock.nowMs = 5001;
    blob.tick();
    expect(new Set(woken).size).toBe(20);
    expect(askAll()).toHaveLength(8);
  });
});
