import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NoiseFrames } from './noise-frames.ts';

const GREETING = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n', 'latin1');

const message = fc.uint8Array({ maxLength: 400 }).map((body) => Buffer.concat([Buffer.from([body.length >> 8, body.length & 0xff]), body]));

/** Cuts bytes at the given places, as sockets do. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((start, i) => bytes.slice(start, at[i] ?? bytes.length)).filter((piece) => piece.length > 0);
}

test('however the bytes come, whole messages go on, in order, nothing added and nothing lost', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 40 }), (messages, places) => {
      const bytes = Buffer.concat([GREETING, ...messages]);
      const frames = new NoiseFrames();
      const out = cut(bytes, places).flatMap((piece) => frames.push(piece));
      expect(Buffer.concat(out).equals(bytes)).toBe(true);
      const ends = new Set<number>();
      let end = GREETING.length;
      for (const { length } of messages) ends.add((end += length));
      let passed = 0;
      for (const piece of out) {
        passed += piece.length;
        expect(passed <= GREETING.length || ends.has(passed), `cut at ${passed}`).toBe(true);
      }
    }),
  );
});

test('a part of a message is kept back until the rest has come', () => {
  const frames = new NoiseFrames();
  frames.push(GREETING);
  expect(frames.push(Buffer.from([0]))).toEqual([]);
  expect(frames.push(Buffer.from([3, 1]))).toEqual([]);
  expect(frames.push(Buffer.from([2, 3, 0]))).toEqual([Buffer.from([0, 3, 1, 2, 3])]);
  expect(frames.push(Buffer.from([1, 9]))).toEqual([Buffer.from([0, 1, 9])]);
});

test('memory that was given back is used again, and never while somebody may look at it', () => {
  const large = fc.record({ bytes: fc.integer({ min: 0, max: 65_535 }), fill: fc.nat(255) }).map(({ bytes, fill }) => Buffer.concat([Buffer.from([bytes >> 8, bytes & 0xff]), Buffer.alloc(bytes, fill)]));
  fc.assert(
    fc.property(fc.array(large, { minLength: 2, maxLength: 6 }), fc.integer({ min: 500, max: 40_000 }), (messages, readBytes) => {
      const bytes = Buffer.concat([GREETING, ...messages]);
      const frames = new NoiseFrames();
      const out: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += readBytes) {
        for (const message of frames.push(bytes.subarray(at, at + readBytes))) {
          out.push(Buffer.from(message));
          message.fill(0xee);
          frames.reclaim(message);
        }
      }
      expect(Buffer.concat(out).equals(bytes)).toBe(true);
    }),
  );
  const frames = new NoiseFrames();
  frames.push(GREETING);
  const whole = (): Uint8Array => {
    frames.push(Buffer.from([0xff, 0xff]));
    return frames.push(Buffer.alloc(0xffff))[0]!;
  };
  const first = whole();
  expect(whole().buffer).not.toBe(first.buffer);
  frames.reclaim(first);
  expect(whole().buffer).toBe(first.buffer);
});

test.each(['\x13/multistream/1.0.0\n\x03na\n', 'GET / HTTP/1.1\r\n\r\n', '\x13/multistream/1.0.0\n\x05/tls\n'])('%j is passed through as it comes', (greeting) => {
  const frames = new NoiseFrames();
  const pieces = cut(Buffer.from(`${greeting}more`, 'latin1'), [3, 20, 21, 24]);
  expect(pieces.map((piece) => Buffer.concat(frames.push(piece)))).toEqual(pieces.map((piece) => Buffer.from(piece)));
});
