import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { afterEach, expect, test, vi } from 'vitest';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { YAMUX_WINDOW_BYTES } from '@flotilla/shared/exchange';
import { startNode, type PeerNode } from './node.ts';

const PROTOCOL = '/flotilla/test/1';
const nodes: PeerNode[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  for (const node of nodes.splice(0)) await node.stop();
});

async function start(): Promise<PeerNode> {
  const node = await startNode({ privateKey: await generateKeyPair('Ed25519'), listen: '127.0.0.1:0', banned: () => false });
  nodes.push(node);
  return node;
}

test('a message leaves in one system call, and arrives as it was sent', async () => {
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
  stream.send(bytes);
  expect((await received.promise).equals(bytes)).toBe(true);
  expect(write).toHaveBeenCalled();
  expect(uncorked).toEqual([]);
});

test('streams open with the windows of the protocol', async () => {
  const [from, to] = [await start(), await start()];
  await to.handle(PROTOCOL, () => undefined);
  const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL);
  // What the other side may send before it hears of more, and what this side may send to it: both are the library's own fields.
  expect(stream).toMatchObject({ recvWindowCapacity: YAMUX_WINDOW_BYTES, maxStreamWindowSize: YAMUX_WINDOW_BYTES });
  expect((stream as unknown as { sendWindowCapacity: number }).sendWindowCapacity).toBeGreaterThan(YAMUX_WINDOW_BYTES / 2);
});
