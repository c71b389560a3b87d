import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CHUNK_PIECE_BYTES,
  encodeFrameHeader,
  ExchangeFrameError,
  FrameDecoder,
  MAX_BLOB_BYTES,
  MAX_HEADER_BYTES,
  MAX_INTERESTS,
  MAX_RANGES_PER_FRAME,
  PROTOCOL_ID,
  PROTOCOL_VERSION,
  YAMUX_WINDOW_BYTES,
  type ExchangeFrame,
} from './exchange.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

/** What goes on the stream: header, then payload. */
function wire(...frames: ExchangeFrame[]): Buffer {
  return Buffer.concat(frames.flatMap((frame) => [encodeFrameHeader(frame), frame.type === 'chunk' ? frame.payload : new Uint8Array(0)]));
}

function decode(bytes: Uint8Array, cuts: number[] = []): ExchangeFrame[] {
  const decoder = new FrameDecoder();
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return edges.slice(1).flatMap((edge, i) => [...decoder.push(bytes.subarray(edges[i], edge))]);
}

/** Buffers and plain arrays alike. */
function plain(frames: ExchangeFrame[]): unknown {
  return frames.map((frame) => Object.fromEntries(Object.entries(frame).map(([name, value]) => [name, value instanceof Uint8Array ? [...value] : value])));
}

describe('golden: a change here splits a fleet and needs a new protocol id', () => {
  test('constants', () => {
    expect({ PROTOCOL_ID, PROTOCOL_VERSION, CHUNK_PIECE_BYTES, MAX_HEADER_BYTES, YAMUX_WINDOW_BYTES, MAX_INTERESTS, MAX_BLOB_BYTES, MAX_RANGES_PER_FRAME }).toEqual({
      PROTOCOL_ID: '/flotilla/exchange/1',
      PROTOCOL_VERSION: 1,
      CHUNK_PIECE_BYTES: 65536,
      MAX_HEADER_BYTES: 65536,
      YAMUX_WINDOW_BYTES: 1048576,
      MAX_INTERESTS: 1024,
      MAX_BLOB_BYTES: 1099511627776,
      MAX_RANGES_PER_FRAME: 1024,
    });
  });

  const frames: [ExchangeFrame, string][] = [
    [{ type: 'hello', version: 1, membership: 'bWVtYmVy', capabilities: ['a', 'b'], agentVersion: '0.1.0' }, '1b0a190801120862575674596d56791a01611a01622205302e312e30'],
    [{ type: 'hello', version: 1, membership: 'bWVtYmVy', capabilities: [], agentVersion: '0.1.0', zone: 'eu-1' }, '1b0a190801120862575674596d56792205302e312e302a0465752d31'],
    [{ type: 'interest', channel: 3, digest: DIGEST, size: 2 ** 40 + 1 }, '541252080312477368613235363a3031323334353637383961626364656630313233343536373839616263646566303132333435363738396162636465663031323334353637383961626364656618818080808020'],
    [{ type: 'bitfield', channel: 3, bits: Uint8Array.of(0xff, 0x80) }, '081a0608031202ff80'],
    [{ type: 'have', channel: 3, ranges: [[0, 1], [300, 2]] }, '0f220d080312021001120508ac021002'],
    [{ type: 'reading', channel: 300, ranges: [] }, '052a0308ac02'],
    [{ type: 'request', channel: 3, index: 2047 }, '073205080310ff0f'],
    [{ type: 'chunk', channel: 3, index: 2047, offset: 0, digest: new Uint8Array(32).fill(0xaa), payload: new Uint8Array(65536) }, '2d3a2b080310ff0f208080042a20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
    [{ type: 'chunk', channel: 3, index: 2047, offset: 65536, payload: Uint8Array.of(1, 2, 3) }, '0d3a0b080310ff0f188080042003'],
    [{ type: 'cancel', channel: 3, index: 1 }, '06420408031001'],
    [{ type: 'busy', channel: 3, index: 1, retryAfterMs: 250 }, '094a070803100118fa01'],
    [{ type: 'leave', channel: 3 }, '0452020803'],
  ];
  test.each(frames)('$type', (frame, hex) => {
    expect(Buffer.from(encodeFrameHeader(frame)).toString('hex')).toBe(hex);
    expect(plain(decode(wire(frame)))).toEqual(plain([frame]));
  });

  test('defaults are not sent, and read as 0', () => {
    expect(Buffer.from(encodeFrameHeader({ type: 'request', channel: 0, index: 0 })).toString('hex')).toBe('023200');
    expect(decode(Buffer.from('023200', 'hex'))).toEqual([{ type: 'request', channel: 0, index: 0 }]);
  });
});

const uint = fc.nat(0x7fffffff);
const bytes = (max: number) => fc.uint8Array({ maxLength: max });
const ranges = fc.array(fc.tuple(uint, uint), { maxLength: 20 });
const frame: fc.Arbitrary<ExchangeFrame> = fc.oneof(
  fc.record({ type: fc.constant('hello' as const), version: uint, membership: fc.string(), capabilities: fc.array(fc.string(), { maxLength: 4 }), agentVersion: fc.string(), zone: fc.string({ minLength: 1 }) }),
  fc.record({ type: fc.constant('interest' as const), channel: uint, digest: fc.string(), size: fc.maxSafeNat() }),
  fc.record({ type: fc.constant('bitfield' as const), channel: uint, bits: bytes(300) }),
  fc.record({ type: fc.constantFrom('have' as const, 'reading' as const), channel: uint, ranges }),
  fc.record({ type: fc.constantFrom('request' as const, 'cancel' as const), channel: uint, index: uint }),
  fc.record({ type: fc.constant('busy' as const), channel: uint, index: uint, retryAfterMs: uint }),
  fc.record({ type: fc.constant('leave' as const), channel: uint }),
  fc.record({ type: fc.constant('chunk' as const), channel: uint, index: uint, offset: uint, payload: bytes(1000) }),
  fc.record({ type: fc.constant('chunk' as const), channel: uint, index: uint, offset: uint, digest: fc.uint8Array({ minLength: 32, maxLength: 32 }), payload: bytes(1000) }),
);

test('what was sent is what is read, however the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 10 }), (frames, cuts) => {
      expect(plain(decode(wire(...frames), cuts))).toEqual(plain(frames));
    }),
  );
});

test('byte by byte is the same as at once', () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 4 }), (frames) => {
      const all = wire(...frames);
      const cuts = Array.from(all, (_, index) => index);
      expect(plain(decode(all, cuts))).toEqual(plain(decode(all)));
    }),
    { numRuns: 50 },
  );
});

test('garbage is refused or read, nothing else is thrown', () => {
  fc.assert(
    fc.property(bytes(200), (noise) => {
      try {
        decode(noise);
      } catch (error) {
        expect(error).toBeInstanceOf(ExchangeFrameError);
      }
    }),
    { numRuns: 500 },
  );
});

test('a payload that came whole is not copied', () => {
  const all = wire({ type: 'chunk', channel: 1, index: 2, offset: 0, payload: new Uint8Array(100).fill(9) });
  const [piece] = decode(all);
  expect(piece?.type === 'chunk' && piece.payload.buffer === all.buffer).toBe(true);
});

describe('refused at once', () => {
  test.each([
    ['a length prefix of five bytes', [0xff, 0xff, 0xff, 0xff, 0x01]],
    ['a header longer than is allowed', [0x81, 0x80, 0x04]],
    ['a header that is no protobuf', [0x01, 0x07]],
    ['an empty header', [0x00]],
    ['a kind that is unknown', [0x02, 0x7a, 0x00]],
  ])('%s', (_what, start) => {
    expect(() => decode(Uint8Array.from(start))).toThrow(ExchangeFrameError);
  });

  test('a piece larger than 64 KiB, before its payload comes', () => {
    const header = encodeFrameHeader({ type: 'chunk', channel: 1, index: 0, offset: 0, payload: new Uint8Array(CHUNK_PIECE_BYTES + 1) });
    expect(() => decode(header)).toThrow(ExchangeFrameError);
  });
});
