// What arrives on the port and is no HTTP request. Answered at once and closed, because clients probe: podman says a TLS hello to a plain
// port first and tries http only after that has failed; it must fail in a moment, with a reply that Go's TLS recognises as plain HTTP.

import type { Socket } from 'node:net';
import { AgentError, type ErrorCode } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { RegistryMetrics } from '../metrics.ts';
import { errorReply } from './replies.ts';

interface ParseError extends Error {
  readonly code?: string;
  readonly rawPacket?: unknown;
}

/** First bytes of a TLS record that carries a handshake, of SSL 3.0 to TLS 1.3. */
function isTlsHello(packet: unknown): boolean {
  return packet instanceof Uint8Array && packet[0] === 0x16 && packet[1] === 0x03;
}

/** @param replyBegun a reply is being written to this connection: text of ours would become part of a blob */
export function refuseConnection(error: ParseError, socket: Socket, replyBegun: boolean, log: Logger, metrics: RegistryMetrics): void {
  if (error.code === 'ECONNRESET' || !socket.writable || replyBegun) {
    socket.destroy();
    return;
  }
  const code = codeOf(error);
  metrics.error(code);
  log.debug({ code, parser: error.code }, 'connection refused');
  const { status, headers, body } = errorReply(new AgentError(code, messageOf(code, error), { cause: error }));
  const lines = Object.entries({ ...headers, connection: 'close' }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} Refused\r\n${lines.join('')}\r\n${body.toString()}`, () => socket.destroy());
}

function codeOf(error: ParseError): ErrorCode {
  if (isTlsHello(error.rawPacket)) return 'TLS_ON_PLAIN_PORT';
  if (error.code === 'HPE_HEADER_OVERFLOW') return 'HEADERS_TOO_LARGE';
  return 'HTTP_INVALID';
}

function messageOf(code: ErrorCode, error: ParseError): string {
  switch (code) {
    case 'TLS_ON_PLAIN_PORT':
      return 'this port speaks plain HTTP, not TLS';
    case 'HEADERS_TOO_LARGE':
      return 'the request headers are too large';
    default:
      return `this is no HTTP request (${error.code ?? error.message})`;
  }
}
