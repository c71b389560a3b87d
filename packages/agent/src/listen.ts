// TCP addresses as settings write them, and listening on one with an error that says what to change.

import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { AgentError } from './errors.ts';

/** Where to listen. `host` is an IP address without brackets. */
export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

export function formatAddress({ host, port }: SocketAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Starts the server. Port 0 takes a free one; the address in use is returned.
 * @param flag what the operator changes to choose another address
 * @throws AgentError PORT_IN_USE, CONFIG_INVALID
 */
export async function listenOn(app: FastifyInstance, address: SocketAddress, flag: string): Promise<SocketAddress> {
  try {
    await app.listen({ host: address.host, port: address.port });
  } catch (error) {
    throw listenError(error, address, flag);
  }
  const { address: host, port } = app.server.address() as AddressInfo;
  return { host, port };
}

/** What kept a socket from being bound, in one line. */
export function listenError(error: unknown, address: SocketAddress, flag: string): AgentError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const where = formatAddress(address);
  switch (code) {
    case 'EADDRINUSE':
      return new AgentError('PORT_IN_USE', `port ${address.port} is in use (${where}); choose another with ${flag}`, { cause: error });
    case 'EACCES':
      return new AgentError('CONFIG_INVALID', `${flag}: port ${address.port} needs privileges; choose one over 1023`, { cause: error });
    case 'EADDRNOTAVAIL':
      return new AgentError('CONFIG_INVALID', `${flag}: ${address.host} is no address of this machine`, { cause: error });
    default:
      return new AgentError('INTERNAL', `cannot listen on ${where}`, { cause: error });
  }
}
