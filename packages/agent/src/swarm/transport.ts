// The tcp transport of libp2p, with cheaper reads and writes: what comes is read into one buffer (socket-reads.ts) and handed on by whole
// noise messages (noise-frames.ts), what goes leaves with one system call per message instead of one per piece of it.
//
// Invariant: the bytes on the wire are those of @libp2p/tcp. The connection objects of the library are adapted from outside, as it
// has no other way in; transport.test.ts fails where a new version of it has other insides.

import type { Socket } from 'node:net';
import type { MultiaddrConnection, Transport, Upgrader } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import type { Uint8ArrayList } from 'uint8arraylist';
import { free, LARGE_BYTES } from '../chunk-memory.ts';
import type { ReadPace } from '../turn-rest.ts';
import { NoiseFrames } from './noise-frames.ts';
import { readIntoShared } from './socket-reads.ts';

/** What is used of the library's connection beyond its interface. */
interface TcpConnection extends MultiaddrConnection {
  readonly socket: Socket;
  onData(bytes: Uint8Array): void;
  sendData(data: Uint8ArrayList): { sentBytes: number; canSendMore: boolean };
}

/** More waits for the kernel's next 'drain'. Not below the socket's own mark, or there would be none to wait for. */
const MAX_UNWRITTEN_BYTES = 128 * 1024;
/** @libp2p/tcp with whole messages. @param pace told of what is read. @default nobody */
export function wholeMessageTcp(pace?: ReadPace): ReturnType<typeof tcp> {
  const make = tcp();
  return (components) => {
    const transport: Transport = make(components);
    const dial = transport.dial.bind(transport);
    const createListener = transport.createListener.bind(transport);
    transport.dial = (address, options) => dial(address, { ...options, upgrader: adapting(options.upgrader, pace) });
    transport.createListener = (options) => createListener({ ...options, upgrader: adapting(options.upgrader, pace) });
    return transport;
  };
}

/** The same upgrader; the connections that it is given are adapted first. */
function adapting(upgrader: Upgrader, pace: ReadPace | undefined): Upgrader {
  return {
    upgradeOutbound: async (connection, options) => {
      const { adapted, known } = adapt(connection, pace);
      const upgraded = await upgrader.upgradeOutbound(adapted, options);
      known();
      return upgraded;
    },
    upgradeInbound: async (connection, options) => {
      const { adapted, known } = adapt(connection, pace);
      await upgrader.upgradeInbound(adapted, options);
      known();
    },
    createInboundAbortSignal: (signal) => upgrader.createInboundAbortSignal(signal),
    getStreamMuxers: () => upgrader.getStreamMuxers(),
    getConnectionEncrypters: () => upgrader.getConnectionEncrypters(),
  };
}

/** `known` is to be called once the other side has shown who it is: before, nobody here waits for what it sends. */
function adapt(given: MultiaddrConnection, pace: ReadPace | undefined): { adapted: MultiaddrConnection; known: () => void } {
  const connection = given as TcpConnection;
  const { socket } = connection;
  const frames = new NoiseFrames();
  const onData = connection.onData.bind(connection);
  connection.onData = (bytes) => {
    for (const message of frames.push(bytes)) {
      onData(message);
      // Events are dispatched at once: unless it waits for whoever has paused the connection, it has been decrypted.
      if (connection.readBufferLength === 0) frames.reclaim(message);
    }
  };
  let isKnown = false;
  let midway = false;
  const tellMidway = (now: boolean): void => {
    if (now === midway) return;
    midway = now;
    pace?.midway(now ? 1 : -1);
  };
  socket.once('close', () => tellMidway(false));
  readIntoShared(socket, (bytes) => {
    connection.onData(bytes);
    pace?.read(bytes.length);
    // What comes in the last turn of a socket is read after its end.
    tellMidway(isKnown && frames.midway && !socket.destroyed);
  });
  let corked = false;
  connection.sendData = (data) => {
    if (!corked) {
      corked = true;
      socket.cork();
      process.nextTick(() => {
        corked = false;
        socket.uncork();
      });
    }
    pace?.moved(data.byteLength);
    // What was encrypted for this message is nobody's once it is written.
    for (const piece of data) socket.write(piece, isWholeBuffer(piece) ? () => free(piece.buffer) : undefined);
    return { sentBytes: data.byteLength, canSendMore: socket.writableLength < MAX_UNWRITTEN_BYTES };
  };
  const known = (): void => {
    isKnown = true;
  };
  return { adapted: connection, known };
}

function isWholeBuffer({ byteLength, buffer }: Uint8Array): boolean {
  return byteLength >= LARGE_BYTES && byteLength === buffer.byteLength;
}
