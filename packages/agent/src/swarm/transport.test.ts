import { createHash, randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import { Duplex, Readable } from 'node:stream';
import { afterEach, expect, test, vi } from 'vitest';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Stream } from '@libp2p/interface';
import { YAMUX_WINDOW_BYTES } from '@flotilla/shared/exchange';
import { pEvent } from 'p-event';
import { own, release, share } from '../chunk-memory.ts';
import type { ReadPace } from '../turn-rest.ts';
import { startNode, type PeerNode } from './node.ts';
import { updateWindowByHalves } from './window-updates.ts';

const PROTOCOL = '/flotilla/test/1';
const nodes: PeerNode[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  for (const node of nodes.splice(0)) await node.stop();
});

async function start(pace?: ReadPace): Promise<PeerNode> {
  const node = await startNode({ privateKey: await generateKeyPair('Ed25519'), listen: '127.0.0.1:0', banned: () => false, pace });
  nodes.push(node);
  return node;
}

/** Tells the digest of the first `total` bytes that come. */
function sha256Of(stream: Stream, total: number, tell: (hex: string) => void): void {
  const hash = createHash('sha256');
  let bytes = 0;
  stream.addEventListener('message', ({ data }) => {
    for (const part of data instanceof Uint8Array ? [data] : data) hash.update(part);
    bytes += data.byteLength;
    if (bytes === total) tell(hash.digest('hex'));
  });
}

/** Sends so many messages of 60,000 bytes, which arrive as they were sent. @returns the bytes */
async function transferred(from: PeerNode, to: PeerNode, messages: number): Promise<Buffer> {
  const total = messages * 60_000;
  const done = Promise.withResolvers<string>();
  await to.handle(PROTOCOL, (stream) => {
    sha256Of(stream, total, done.resolve);
  });
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  const sent = randomBytes(total);
  for (let at = 0; at < total; at += 60_000) if (!stream.send(sent.subarray(at, at + 60_000))) await pEvent(stream, 'drain');
  expect(await done.promise).toBe(createHash('sha256').update(sent).digest('hex'));
  return sent;
}

test('what is sent in one turn leaves in one system call, and arrives as it was sent', async () => {
  const [from, to] = [await start(), await start()];
  const received = Promise.withResolvers<Buffer>();
  const bytes = Buffer.alloc(60_000, 'flotilla');
  await to.handle(PROTOCOL, (stream) => {
    const parts: Uint8Array[] = [];
    stream.addEventListener('message', ({ data }) => {
      parts.push(data.subarray());
      if (parts.reduce((sum, part) => sum + part.length, 0) === bytes.length) received.resolve(Buffer.concat(parts));
    });
  });
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  const [connection] = from.getConnections();
  expect(connection?.multiplexer).toBe('/yamux/1.0.0');
  // Length, header, payload and tag are written while the socket is corked: they leave as one writev.
  const original = Object.getOwnPropertyDescriptor(Duplex.prototype, 'write')!.value as Duplex['write'];
  const uncorked: number[] = [];
  const write = vi.spyOn(Duplex.prototype, 'write').mockImplementation(function (this: Duplex, ...args: unknown[]) {
    if (this instanceof Socket && this.writableCorked === 0) uncorked.push((args[0] as Uint8Array).length);
    return Reflect.apply(original, this, args) as boolean;
  });
  const calls: number[] = [];
  const writev = Object.getOwnPropertyDescriptor(Socket.prototype, '_writev')!.value as NonNullable<Socket['_writev']>;
  vi.spyOn(Socket.prototype, '_writev').mockImplementation(function (this: Socket, pieces, told) {
    // Looked at now: what was encrypted is freed once it is written.
    calls.push(pieces.reduce((sum, { chunk }) => sum + (chunk as Uint8Array).length, 0));
    writev.call(this, pieces, told);
  });
  stream.send(bytes.subarray(0, 50_000));
  stream.send(bytes.subarray(50_000));
  expect((await received.promise).equals(bytes)).toBe(true);
  expect(write).toHaveBeenCalled();
  expect(uncorked).toEqual([]);
  expect(calls.filter((size) => size > 1000)).toEqual([expect.closeTo(bytes.length, -3)]);
});

test('what was encrypted is freed once it is written, and a whole message that was decrypted lends its memory to the next', async () => {
  const transfer = vi.spyOn(ArrayBuffer.prototype, 'transfer');
  const allocated = vi.spyOn(Buffer, 'allocUnsafeSlow');
  const [from, to] = [await start(), await start()];
  const sent = await transferred(from, to, 40);
  // Every large message, and what was sent is whole all the same: the sender's own bytes are never among what is freed.
  expect(transfer.mock.contexts.length).toBeGreaterThan(30);
  expect(allocated.mock.calls.filter(([bytes]) => bytes > 65_535).length).toBeLessThan(10);
  expect(sent.buffer.byteLength).toBeGreaterThan(0);
});

test('a counted chunk is freed once it is encrypted and its owner is done; no message costs an error', async () => {
  const [from, to] = [await start(), await start()];
  const total = 4 * YAMUX_WINDOW_BYTES;
  const done = Promise.withResolvers<string>();
  await to.handle(PROTOCOL, (stream) => {
    sha256Of(stream, total, done.resolve);
  });
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  const chunk = new Uint8Array(randomBytes(total));
  const sha256 = createHash('sha256').update(chunk).digest('hex');
  const errors = vi.fn<() => void>();
  vi.stubGlobal('RangeError', class extends RangeError {
    constructor(message?: string) {
      super(message);
      errors();
    }
  });
  own(chunk);
  // More than a window: pieces wait in the stream, and are cut where it ends.
  for (let at = 0; at < total; at += 50_000) {
    const piece = chunk.subarray(at, at + 50_000);
    share(piece, piece.length);
    stream.send(piece);
  }
  release(chunk);
  expect(chunk.length).toBe(total);
  expect(await done.promise).toBe(sha256);
  expect(chunk.length).toBe(0);
  expect(errors).not.toHaveBeenCalled();
});

test('chunks that are freed on their way leave what is sent with them as it was, also where a window cuts it', async () => {
  const [from, to] = [await start(), await start()];
  const chunks = Array.from({ length: 80 }, () => new Uint8Array(randomBytes(50_000)));
  const done = Promise.withResolvers<string>();
  await to.handle(PROTOCOL, (stream) => {
    sha256Of(stream, 80 * 50_000, done.resolve);
  });
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  const sha256 = createHash('sha256');
  for (const chunk of chunks) sha256.update(chunk);
  const expected = sha256.digest('hex');
  // More than a window, so that several chunks wait together and leave in one frame, or a part of them does.
  for (const chunk of chunks) {
    own(chunk);
    share(chunk, chunk.length);
    stream.send(chunk);
    release(chunk);
  }
  expect(await done.promise).toBe(expected);
  expect(chunks.map(({ length }) => length)).toEqual(chunks.map(() => 0));
});

test('both sides read into one buffer, and the peer is told of a taken window by halves', async () => {
  const reading = vi.spyOn(Readable.prototype, 'push');
  const [from, to] = [await start(), await start()];
  const total = YAMUX_WINDOW_BYTES * 4;
  const done = Promise.withResolvers<string>();
  const updates: number[] = [];
  await to.handle(PROTOCOL, (stream) => {
    updateWindowByHalves(stream);
    const inside = stream as unknown as { sendFrame: (header: { length: number }, data?: unknown) => boolean };
    const send = inside.sendFrame;
    inside.sendFrame = (header, data) => {
      if (header.length > 0 && data === undefined) updates.push(header.length);
      return send(header, data);
    };
    sha256Of(stream, total, done.resolve);
  });
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  const sent = randomBytes(total);
  for (let at = 0; at < total; at += 100_000) {
    if (!stream.send(sent.subarray(at, at + 100_000))) await pEvent(stream, 'drain');
  }
  expect(await done.promise).toBe(createHash('sha256').update(sent).digest('hex'));
  // What the library's own way of reading would have pushed.
  expect(reading.mock.contexts.filter((context) => context instanceof Socket)).toEqual([]);
  // The first one may go before the stream is established.
  expect(updates.slice(1).every((bytes) => bytes >= YAMUX_WINDOW_BYTES / 2)).toBe(true);
  expect(updates.length).toBeGreaterThan(2);
});

test('a reader is told of every read, and of connections in the middle of a long message until they end', async () => {
  const told: { bytes: number; midway: number; least: number; most: number } = { bytes: 0, midway: 0, least: 0, most: 0 };
  const pace: ReadPace = {
    read: (bytes) => void (told.bytes += bytes),
    moved: () => undefined,
    midway: (by) => {
      told.midway += by;
      told.least = Math.min(told.least, told.midway);
      told.most = Math.max(told.most, told.midway);
    },
  };
  const connect = vi.spyOn(Socket.prototype, 'connect');
  const [from, to] = [await start(), await start(pace)];
  const { length: total } = await transferred(from, to, 60);
  expect(told.bytes).toBeGreaterThan(total);
  // Reads of 64 KiB, messages of 60,000 bytes: one ends where the next has begun.
  expect(told).toMatchObject({ midway: 0, least: 0, most: 1 });

  // One that is cut in the middle is in the middle of nothing.
  const socket = connect.mock.contexts[0] as Socket;
  const frame = Buffer.alloc(40_000);
  frame.writeUInt16BE(60_000);
  socket.write(frame);
  await vi.waitFor(() => expect(told.midway).toBe(1));
  socket.destroy();
  await vi.waitFor(() => expect(told.midway).toBe(0));
});

test('streams open with the windows of the protocol', async () => {
  const [from, to] = [await start(), await start()];
  await to.handle(PROTOCOL, () => undefined);
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  // What the other side may send before it hears of more, and what this side may send to it: both are the library's own fields.
  expect(stream).toMatchObject({ recvWindowCapacity: YAMUX_WINDOW_BYTES, maxStreamWindowSize: YAMUX_WINDOW_BYTES });
  expect((stream as unknown as { sendWindowCapacity: number }).sendWindowCapacity).toBeGreaterThan(YAMUX_WINDOW_BYTES / 2);
});
