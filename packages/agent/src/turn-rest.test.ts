import { expect, test } from 'vitest';
import fc from 'fast-check';
import { MAX_REST_MS, TurnRest, turnRest } from './turn-rest.ts';

const KIB = 1024;

/** A loop whose turns the test ends. */
function loop(): { rest: TurnRest; slept: number[]; turn: (bytes: number, reads?: number) => number } {
  const slept: number[] = [];
  const ends: (() => void)[] = [];
  const rest = new TurnRest({ sleep: (ms) => slept.push(ms), afterTurn: (act) => ends.push(act) });
  return {
    rest,
    slept,
    /** @returns how long it rested */
    turn: (bytes, reads = 1) => {
      const before = slept.length;
      for (let read = 0; read < reads; read++) rest.read(bytes / reads);
      expect(ends).toHaveLength(1);
      ends.pop()!();
      return slept.slice(before).reduce((sum, ms) => sum + ms, 0);
    },
  };
}

test('a slow link that hands over little at a time is rested for longer and longer, up to the most', () => {
  const { rest, slept, turn } = loop();
  rest.midway(1);
  for (let at = 0; at < 40; at++) turn(3 * KIB, 3);
  expect(slept).toEqual(slept.toSorted((a, b) => a - b));
  expect(slept.at(-1)).toBe(MAX_REST_MS);
  expect(rest.restedMs).toBeCloseTo(slept.reduce((sum, ms) => sum + ms, 0));
});

test('where nothing is half read it never rests: a request or an announcement is answered at once', () => {
  const { rest, turn } = loop();
  for (let at = 0; at < 100; at++) expect(turn(100)).toBe(0);
  rest.midway(1);
  rest.midway(-1);
  expect(turn(100)).toBe(0);
});

test('peers that have sent all they were asked for have waited: the rest is halved until it is none', () => {
  const { rest, turn } = loop();
  rest.midway(1);
  for (let at = 0; at < 40; at++) turn(KIB);
  rest.midway(-1);
  for (let at = 0; at < 10; at++) expect(turn(200 * KIB)).toBe(0);
  rest.midway(1);
  // What was learned is forgotten: it begins as low as at first.
  expect(turn(KIB)).toBeLessThan(1);
});

test('a fast link, which fills a turn by itself, is not held up', () => {
  const { rest, turn } = loop();
  rest.midway(1);
  for (let at = 0; at < 40; at++) turn(KIB);
  for (let at = 0; at < 7; at++) turn(512 * KIB);
  for (let at = 0; at < 100; at++) expect(turn(512 * KIB)).toBe(0);
});

test('what comes from the origin, goes to clients or is sent on, and is much, ends the rests as well', () => {
  const { rest, turn } = loop();
  rest.midway(1);
  for (let at = 0; at < 40; at++) turn(KIB);
  for (let at = 0; at < 8; at++) {
    rest.moved(512 * KIB);
    turn(KIB);
  }
  rest.moved(512 * KIB);
  expect(turn(KIB)).toBe(0);
});

test('nothing rests while a client waits for an answer to begin', () => {
  const { rest, turn } = loop();
  let waits = false;
  rest.attend(() => waits);
  rest.midway(1);
  for (let at = 0; at < 40; at++) turn(KIB);
  waits = true;
  expect(turn(KIB)).toBe(0);
  waits = false;
  expect(turn(KIB)).toBe(MAX_REST_MS);
});

test('at any rate of a link a turn is left with the bytes it is meant to have, or with all that the longest rest gives', () => {
  fc.assert(
    fc.property(fc.double({ min: 10, max: 1_000_000, noNaN: true }), (bytesPerMs) => {
      const { rest, turn } = loop();
      rest.midway(1);
      let restedMs = 0;
      // What came in the rest before, and in a turn of 0.1 ms.
      for (let at = 0; at < 200; at++) restedMs = turn(bytesPerMs * (restedMs + 0.1));
      expect(restedMs).toBeLessThanOrEqual(MAX_REST_MS);
      const bytes = bytesPerMs * restedMs;
      if (restedMs === MAX_REST_MS) expect(bytes).toBeLessThan(384 * KIB + bytesPerMs);
      else if (restedMs > 0) expect(bytes).toBeGreaterThan(75 * KIB);
      expect(bytes).toBeLessThan(780 * KIB);
    }),
  );
});

test('in a process it begins after what the turn has put off', async () => {
  const order: string[] = [];
  const rest = turnRest();
  rest.attend(() => {
    order.push('rest');
    return true;
  });
  rest.midway(1);
  for (let at = 0; at < 10; at++) {
    rest.read(KIB);
    setImmediate(() => order.push('put off'));
    await new Promise((resolve) => setTimeout(resolve, 0));
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(order.indexOf('put off')).toBe(0);
  const last = order.lastIndexOf('rest');
  expect(last).toBeGreaterThan(0);
  expect(order[last - 1]).toBe('put off');
});
