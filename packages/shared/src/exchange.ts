// The exchange protocol's frames: what two agents say to one another about blobs.
//
// Everything here is bound to PROTOCOL_ID: a different value is a different protocol. Pinned by exchange.test.ts.
// Non-goals: image names (peers know digest and size only) and transport (the agent's swarm/ owns the sockets).

import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import type { IndexRange } from './bitfield.ts';

export const PROTOCOL_ID = '/flotilla/exchange/1';
export const PROTOCOL_VERSION = 1;

/** Payload bytes of one chunk message; larger chunks go out as several, so that control can pass between them. */
export const CHUNK_PIECE_BYTES = 64 * 1024;
/** Longest header accepted; a bitfield of 4 MiB chunks for a 64 GiB blob is 2 KiB, ranges are capped by the sender. */
export const MAX_HEADER_BYTES = 64 * 1024;
/** Yamux windows: equal on every agent, because the initial size is also the window assumed of the other side. */
export const YAMUX_WINDOW_BYTES = 1024 * 1024;

/** Blobs that one side may name to the other at a time: one more is a fault. */
export const MAX_INTERESTS = 1024;
/** Larger blobs are not shared, and interest in one is a fault. */
export const MAX_BLOB_BYTES = 1024 ** 4;

export interface Hello {
  readonly version: number;
  readonly membership: string;
  readonly capabilities: readonly string[];
  readonly agentVersion: string;
  /** Where the sender stands; absent: it does not say, or is of a release that has no word for it. */
  readonly zone?: string;
}

/** One frame, told apart by `type`; `chunk` carries its payload. Indexes are chunk indexes, bytes are bytes. */
export type ExchangeFrame =
  | ({ readonly type: 'hello' } & Hello)
  | { readonly type: 'interest'; readonly channel: number; readonly digest: string; readonly size: number }
  | { readonly type: 'bitfield'; readonly channel: number; readonly bits: Uint8Array }
  | { readonly type: 'have'; readonly channel: number; readonly ranges: readonly IndexRange[] }
  | { readonly type: 'reading'; readonly channel: number; readonly ranges: readonly IndexRange[] }
  | { readonly type: 'request'; readonly channel: number; readonly index: number }
  | ChunkPiece
  | { readonly type: 'cancel'; readonly channel: number; readonly index: number }
  | { readonly type: 'busy'; readonly channel: number; readonly index: number; readonly retryAfterMs: number }
  | { readonly type: 'leave'; readonly channel: number };

/** A piece of a chunk. `digest` (32 bytes) comes with the first piece, offset 0. */
export interface ChunkPiece {
  readonly type: 'chunk';
  readonly channel: number;
  readonly index: number;
  readonly offset: number;
  readonly digest?: Uint8Array;
  readonly payload: Uint8Array;
}

/** The other side sent what is no frame of this protocol: the stream must be aborted. */
export class ExchangeFrameError extends Error {
  readonly code = 'EXCHANGE_FRAME_INVALID';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ExchangeFrameError';
  }
}

const root = protobuf.parse(readFileSync(new URL('./exchange.proto', import.meta.url), 'utf8')).root;
const Frame = root.lookupType('Frame');

/** The bytes before the payload: varint length and header. A chunk's payload follows it on the stream, uncopied. */
export function encodeFrameHeader(frame: ExchangeFrame): Uint8Array {
  return Frame.encodeDelimited(toWire(frame)).finish();
}

/** Ranges that surely fit into one header; who has more to say sends several frames (or a bitfield). */
export const MAX_RANGES_PER_FRAME = 1024;

/**
 * Cuts a byte stream into frames. Feed it what the socket gives; it keeps at most one incomplete frame.
 * Bytes in a frame are views on the fed buffers where they arrived whole, copies where they were split: what outlives the handling of a frame is copied,
 * as whoever feeds may free its buffers then.
 */
export class FrameDecoder {
  #parts: Uint8Array[] = [];
  #buffered = 0;
  #pending: { header: WireFrame; payloadBytes: number } | undefined;
  /**
   * Called for frames of kinds that this release does not know, which are passed over: set where the other side is newer. They have no payload: what
   * needs one is another protocol id. Without it such a frame is an error.
   */
  onUnknown: (() => void) | undefined;

  /** Whether every byte that was fed has been given out in a frame. */
  get empty(): boolean {
    return this.#buffered === 0 && this.#pending === undefined;
  }

  /** @throws ExchangeFrameError */
  *push(bytes: Uint8Array): Generator<ExchangeFrame> {
    if (bytes.length > 0) {
      this.#parts.push(bytes);
      this.#buffered += bytes.length;
    }
    for (;;) {
      const frame = this.#next();
      if (frame === undefined) return;
      if (frame !== 'unknown') yield frame;
      else if (this.onUnknown === undefined) throw new ExchangeFrameError('frame of an unknown kind');
      else this.onUnknown();
    }
  }

  #next(): ExchangeFrame | 'unknown' | undefined {
    if (this.#pending === undefined) {
      const header = this.#header();
      if (header === undefined) return undefined;
      const payloadBytes = header.chunk?.payloadLength ?? 0;
      if (payloadBytes > CHUNK_PIECE_BYTES) throw new ExchangeFrameError(`piece of ${payloadBytes} bytes`);
      this.#pending = { header, payloadBytes };
    }
    const { header, payloadBytes } = this.#pending;
    if (this.#buffered < payloadBytes) return undefined;
    this.#pending = undefined;
    return fromWire(header, this.#take(payloadBytes));
  }

  #header(): WireFrame | undefined {
    const prefix = this.#varint();
    if (prefix === undefined) return undefined;
    if (prefix.value > MAX_HEADER_BYTES) throw new ExchangeFrameError(`header of ${prefix.value} bytes`);
    if (this.#buffered < prefix.length + prefix.value) return undefined;
    this.#take(prefix.length);
    try {
      return Frame.toObject(Frame.decode(this.#take(prefix.value)), { longs: Number });
    } catch (error) {
      throw new ExchangeFrameError('header is no frame', { cause: error });
    }
  }

  /** Reads the length prefix without consuming it. */
  #varint(): { value: number; length: number } | undefined {
    let value = 0;
    let length = 0;
    for (const part of this.#parts) {
      for (const byte of part) {
        value += (byte & 0x7f) * 2 ** (7 * length);
        length++;
        if (byte < 0x80) return { value, length };
        if (length === 4) throw new ExchangeFrameError('length prefix is too long');
      }
    }
    return undefined;
  }

  #take(length: number): Uint8Array {
    if (length === 0) return new Uint8Array(0);
    this.#buffered -= length;
    const first = this.#parts[0]!;
    if (first.length >= length) {
      if (first.length === length) this.#parts.shift();
      else this.#parts[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const whole = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const part = this.#parts[0]!;
      const used = Math.min(part.length, length - filled);
      whole.set(part.subarray(0, used), filled);
      filled += used;
      if (used === part.length) this.#parts.shift();
      else this.#parts[0] = part.subarray(used);
    }
    return whole;
  }
}

interface WireRange {
  first?: number;
  count?: number;
}

interface WireFrame {
  hello?: { version?: number; membership?: string; capabilities?: string[]; agentVersion?: string; zone?: string };
  interest?: { channel?: number; digest?: string; size?: number };
  bitfield?: { channel?: number; bits?: Uint8Array };
  have?: { channel?: number; ranges?: WireRange[] };
  reading?: { channel?: number; ranges?: WireRange[] };
  request?: { channel?: number; index?: number };
  chunk?: { channel?: number; index?: number; offset?: number; payloadLength?: number; digest?: Uint8Array };
  cancel?: { channel?: number; index?: number };
  busy?: { channel?: number; index?: number; retryAfterMs?: number };
  leave?: { channel?: number };
}

function toWire(frame: ExchangeFrame): Record<string, object> {
  switch (frame.type) {
    case 'have':
    case 'reading':
      return {
        [frame.type]: { channel: frame.channel, ranges: frame.ranges.map(([first, count]) => ({ first, count })) },
      };
    case 'chunk': {
      const { channel, index, offset, digest, payload } = frame;
      return { chunk: { channel, index, offset, payloadLength: payload.length, ...(digest && { digest }) } };
    }
    default: {
      const { type, ...body } = frame;
      return { [type]: body };
    }
  }
}

function fromWire(wire: WireFrame, payload: Uint8Array): ExchangeFrame | 'unknown' {
  const ranges = (list: WireRange[] = []): IndexRange[] => list.map((r) => [r.first ?? 0, r.count ?? 0]);
  if (wire.chunk) {
    const { channel = 0, index = 0, offset = 0, digest } = wire.chunk;
    // A copy: a view would keep the whole received buffer alive for as long as somebody remembers the digest.
    return { type: 'chunk', channel, index, offset, payload, ...(digest && digest.length > 0 && { digest: digest.slice() }) };
  }
  if (wire.have) return { type: 'have', channel: wire.have.channel ?? 0, ranges: ranges(wire.have.ranges) };
  if (wire.request) return { type: 'request', channel: wire.request.channel ?? 0, index: wire.request.index ?? 0 };
  if (wire.cancel) return { type: 'cancel', channel: wire.cancel.channel ?? 0, index: wire.cancel.index ?? 0 };
  if (wire.reading) return { type: 'reading', channel: wire.reading.channel ?? 0, ranges: ranges(wire.reading.ranges) };
  if (wire.busy) {
    const { channel = 0, index = 0, retryAfterMs = 0 } = wire.busy;
    return { type: 'busy', channel, index, retryAfterMs };
  }
  if (wire.interest) {
    const { channel = 0, digest = '', size = 0 } = wire.interest;
    return { type: 'interest', channel, digest, size };
  }
  if (wire.bitfield) {
    return { type: 'bitfield', channel: wire.bitfield.channel ?? 0, bits: wire.bitfield.bits ?? new Uint8Array(0) };
  }
  if (wire.leave) return { type: 'leave', channel: wire.leave.channel ?? 0 };
  if (wire.hello) {
    const { version = 0, membership = '', capabilities = [], agentVersion = '', zone = '' } = wire.hello;
    return { type: 'hello', version, membership, capabilities, agentVersion, ...(zone !== '' && { zone }) };
  }
  return 'unknown';
}
