import { expect, test } from 'vitest';
import type { ChunkPiece } from '@flotilla/shared/exchange';
import { Intake, type Fetch } from './intake.ts';
import { PeerFault } from './peer-fault.ts';

const owner = {};
const digest = new Uint8Array(32).fill(7);
const fetchOf = (index: number, bytes: number): Fetch<object> => ({ owner, channel: 1, index, bytes, sinceMs: 0 });
const piece = (index: number, offset: number, payload: Uint8Array): ChunkPiece => ({ type: 'chunk', channel: 9, index, offset, payload, ...(offset === 0 && { digest }) });

test('pieces of two chunks in turn become the two chunks', () => {
  const intake = new Intake<object>(() => undefined);
  intake.expect(fetchOf(0, 4));
  intake.expect(fetchOf(1, 3));
  expect(intake.take(piece(0, 0, Uint8Array.of(1, 2)), 1, 5)).toBeUndefined();
  expect(intake.take(piece(1, 0, Uint8Array.of(9, 8, 7)), 1, 6)).toMatchObject({ fetch: { index: 1 }, digest, bytes: Buffer.from([9, 8, 7]) });
  expect(intake.take(piece(0, 2, Uint8Array.of(3, 4)), 1, 7)).toMatchObject({ fetch: { index: 0 }, bytes: Buffer.from([1, 2, 3, 4]) });
  expect(intake.size).toBe(0);
  expect(intake.movedAtMs).toBe(7);
});

test('what a cancelled request left behind does not spoil the next one for the same chunk', () => {
  let stray = 0;
  const intake = new Intake<object>((bytes) => (stray += bytes));
  intake.expect(fetchOf(0, 4));
  expect(intake.drop(1, 0)).toMatchObject({ index: 0 });
  intake.expect(fetchOf(0, 4));
  // The first request's start and middle cross the cancel, then the second request is answered.
  expect(intake.take(piece(0, 2, Uint8Array.of(0)), 1, 1)).toBeUndefined();
  expect(intake.take(piece(0, 0, Uint8Array.of(5, 5)), 1, 1)).toBeUndefined();
  expect(intake.take(piece(0, 0, Uint8Array.of(1, 2)), 1, 1)).toBeUndefined();
  expect(intake.take(piece(0, 2, Uint8Array.of(3, 4)), 1, 1)).toMatchObject({ bytes: Buffer.from([1, 2, 3, 4]) });
  expect(stray).toBe(3);
});

test('starting over for ever is a fault', () => {
  const intake = new Intake<object>(() => undefined);
  intake.expect(fetchOf(0, 128 * 1024));
  const start = piece(0, 0, new Uint8Array(64 * 1024));
  expect(() => {
    for (let i = 0; i < 100; i++) intake.take(start, 1, i);
  }).toThrow(PeerFault);
});

test('the quiet begins with the first request of an idle peer', () => {
  const intake = new Intake<object>(() => undefined);
  intake.expect({ ...fetchOf(0, 4), sinceMs: 100 });
  intake.expect({ ...fetchOf(1, 4), sinceMs: 200 });
  expect(intake.movedAtMs).toBe(100);
});
