// Plain HTTP beside HTTPS on the tracker's one port, for this machine alone: a browser on loopback needs no certificate, and would warn of ours.
//
//   first byte 0x16 (a TLS hello, RFC 8446 §5.1): HTTPS, as ever
//   anything else: over loopback, the same routes by plain HTTP; from elsewhere 400 with what to use instead, before anything is read of it
//
// Bound: a connection that says nothing is ended after FIRST_BYTE_MS.

import { createServer, STATUS_CODES } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import { BlockList, isIP, isIPv6, type Socket } from 'node:net';

const TLS_HANDSHAKE = 0x16;
const FIRST_BYTE_MS = 10_000;
const REFUSAL = 'This port speaks HTTPS to other machines: use https:// in the address.\n';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** @param address IP; IPv4 may come as IPv6 (`::ffff:127.0.0.1`) @returns whether only this machine can be there */
export function isLoopback(address: string): boolean {
  return isIP(address) !== 0 && LOOPBACK.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

export interface PlainLoopback {
  /** Ends what is open; before the HTTPS server is closed, which waits for all connections of its port. */
  close(): void;
}

/** Takes over the connections of a server that does not listen yet. */
export function servePlainOnLoopback(server: HttpsServer): PlainLoopback {
  const secure = server.listeners('connection') as ((this: HttpsServer, socket: Socket) => void)[];
  const plain = createServer((request, response) => void server.emit('request', request, response));
  // Of this class alone: the HTTP server does not listen, and so keeps no account of its connections.
  const open = new Set<Socket>();

  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    const timer = setTimeout(() => socket.destroy(), FIRST_BYTE_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      open.delete(socket);
    });
    // Whoever gives up before saying a word is no matter.
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    socket.once('data', (first: Buffer) => {
      socket.pause();
      clearTimeout(timer);
      socket.off('error', onError);
      if (first[0] !== TLS_HANDSHAKE && !isLoopback(socket.remoteAddress ?? '')) {
        socket.on('error', onError).end(`HTTP/1.1 400 ${STATUS_CODES[400]}\r\ncontent-type: text/plain\r\ncontent-length: ${REFUSAL.length}\r\nconnection: close\r\n\r\n${REFUSAL}`);
        socket.resume();
        return;
      }
      socket.unshift(first);
      if (first[0] === TLS_HANDSHAKE) {
        // TLS reads what came already by itself, and the HTTPS server ends its own.
        open.delete(socket);
        for (const listener of secure) listener.call(server, socket);
      } else {
        plain.emit('connection', socket);
        socket.resume();
      }
    });
  });
  return {
    close: () => {
      for (const socket of open) socket.destroy();
    },
  };
}
