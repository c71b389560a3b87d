// What two exchanges say to one another, frame by frame.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Bitfield } from '@flotilla/shared/bitfield';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { ExchangeFrame } from '@flotilla/shared/exchange';
import type { SwarmHandle } from '../content/ports.ts';
import type { BlobLink } from './blob-swarm.ts';
import { Exchange } from './exchange.ts';
import { Account } from './ledger.ts';
import { TokenBucket } from './limits.ts';
import { Link } from './link.ts';
import { MemoryMember } from './memory-member.ts';
import type { ReadyFrame } from './session.ts';

const key: BlobKey = { digest: `sha256:${'a'.repeat(64)}` as Digest, size: 64 * 1024 };

/** A host that holds the blob, and what it says to its one peer. */
function holder(peerId: string, isStanding = () => true) {
  const have = new Bitfield(1);
  have.set(0);
  const said: ExchangeFrame[] = [];
  const timers: (() => void)[] = [];
  const ignore = (): void => undefined;
  const exchange = new Exchange({
    holdings: { find: async () => ({ key, have, digestOf: () => undefined, readChunk: () => Promise.reject(new Error('not read here')) }) },
    counters: { add: ignore },
    log: { debug: ignore, info: ignore, warn: ignore },
    nowMs: () => 0,
    random: () => 0,
    timers: {
      soon: () => ignore,
      after: (_ms, act) => {
        timers.push(act);
        return ignore;
      },
      every: () => ignore,
    },
    downloadLimit: new TokenBucket(undefined),
    forged: ignore,
    connect: ignore,
    isStanding,
  });
  const outbox = { send: (frame: ExchangeFrame) => void said.push(frame), later: ignore, sendChunk: ignore, dropChunk: () => false, blockedMs: () => 0 };
  const link: BlobLink = new Link({ peerId, closed: false, outbox, close: ignore }, new Account(), ignore, 0);
  exchange.opened(link);
  const hear = async (frame: ExchangeFrame): Promise<void> => {
    exchange.frame(link, frame as ReadyFrame);
    await nextTurn();
  };
  return { exchange, said, timers, hear, link };
}

test('an interest that crosses a leave is not answered for ever by two who hold the blob', async () => {
  const [a, b] = [holder('b'), holder('a')];
  // As b said, which had fetched it and left before a's answer came.
  await a.hear({ type: 'interest', channel: 1, digest: key.digest, size: key.size });
  await a.hear({ type: 'leave', channel: 1 });
  let frames = 0;
  for (let round = 0; round < 40; round++) {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      for (const frame of from.said.splice(0)) {
        frames++;
        await to.hear(frame);
      }
    }
  }
  expect(frames).toBeLessThan(10);
  for (const { timers } of [a, b]) for (const act of timers) act();
  await nextTurn();
  expect([...a.said, ...b.said]).toEqual([]);
});

test('who comes just after this side has left the blob is answered a moment later', async () => {
  const a = holder('b');
  await a.hear({ type: 'interest', channel: 1, digest: key.digest, size: key.size });
  await a.hear({ type: 'leave', channel: 1 });
  a.said.length = 0;
  await a.hear({ type: 'interest', channel: 2, digest: key.digest, size: key.size });
  expect(a.said).toEqual([]);
  for (const act of a.timers) act();
  await nextTurn();
  expect(a.said.map(({ type }) => type)).toEqual(['interest', 'bitfield']);
});

test('a blob that is fetched is named to the standing mesh and to whom the tracker introduced, to nobody else', () => {
  let standing = false;
  const { exchange, said } = holder('b', () => standing);
  const fetch = (digest: string): SwarmHandle => exchange.join(new MemoryMember({ digest: `sha256:${digest.repeat(64)}` as Digest, size: key.size }));
  const named = (): string[] => said.flatMap((frame) => (frame.type === 'interest' ? [frame.digest.slice(7, 8)] : []));
  const first = fetch('1');
  fetch('2');
  expect(named()).toEqual([]);
  first.connect([{ peerId: 'b', addresses: [] }]);
  expect(named()).toEqual(['1']);
  standing = true;
  exchange.meshChanged();
  expect(named()).toEqual(['1', '2']);
  fetch('3');
  expect(named()).toEqual(['1', '2', '3']);
});

test('who was introduced before it was connected, who has asked before, and without a tracker everybody, is named what is fetched', async () => {
  const { exchange, said, hear, link } = holder('b', () => false);
  const fetch = (digest: string): SwarmHandle => exchange.join(new MemoryMember({ digest: `sha256:${digest.repeat(64)}` as Digest, size: key.size }));
  const named = (): string[] => said.flatMap((frame) => (frame.type === 'interest' ? [frame.digest.slice(7, 8)] : []));
  exchange.closed(link);
  fetch('1').connect([{ peerId: 'b', addresses: [] }]);
  exchange.opened(link);
  expect(named()).toEqual(['1']);
  await hear({ type: 'interest', channel: 5, digest: `sha256:${'2'.repeat(64)}`, size: key.size });
  said.length = 0;
  fetch('2');
  fetch('3');
  expect(named()).toEqual(['2']);
  exchange.tradeWithAll(true);
  expect(named()).toEqual(['2', '3']);
  exchange.tradeWithAll(false);
  fetch('4');
  expect(named()).toEqual(['2', '3']);
});

test('a connection is of use while one of the two fetches', async () => {
  const { exchange, hear, link } = holder('b');
  expect(exchange.isOfUse(link)).toBe(false);
  await hear({ type: 'interest', channel: 1, digest: key.digest, size: key.size });
  expect(exchange.isOfUse(link), 'the peer lacks what is here').toBe(true);
  const full = new Bitfield(1);
  full.set(0);
  await hear({ type: 'bitfield', channel: 1, bits: full.bytes() });
  expect(exchange.isOfUse(link), 'both hold it').toBe(false);
});
