// TLS on the local endpoint, for clients that insist on it: certificate and key from files, read again when these change.
//
// Invariant: what is in use is a pair that fits. A pair that does not (files are replaced one after the other) is logged, and the one before
// stays in use. Who speaks plain HTTP to the port is told so in plain HTTP, as a TLS alert would say nothing to a person.

import { readFile } from 'node:fs/promises';
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { AgentError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { watchFiles } from '../watched-files.ts';
import { errorReply } from './replies.ts';

/** PEM files. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

interface TlsPair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** A connection that says nothing at all, and a reply that nobody takes. */
const FIRST_BYTE_MS = 10_000;
/** The content type of a TLS handshake, the first byte of every connection. */
const HANDSHAKE = 0x16;

/** A certificate with its key, from files. */
export class EndpointTls {
  readonly #files: TlsFiles;
  readonly #log: Logger;
  readonly #connections = new Set<Socket>();
  #pair: TlsPair;
  #stopWatching: () => void = () => undefined;

  private constructor(files: TlsFiles, pair: TlsPair, log: Logger) {
    this.#files = files;
    this.#pair = pair;
    this.#log = log;
  }

  /** @throws AgentError CONFIG_INVALID naming the file, or that the two do not fit */
  static async open(files: TlsFiles, log: Logger): Promise<EndpointTls> {
    return new EndpointTls(files, await read(files), log);
  }

  /** The pair as it was read last. */
  get pair(): TlsPair {
    return this.#pair;
  }

  /** Answers plain HTTP on the server's port, and keeps its certificate up to date, until `close`. */
  guard(server: Server): void {
    const secured = server.listeners('connection');
    server.removeAllListeners('connection');
    server.on('connection', (socket) => this.#look(socket, () => secured.forEach((listener) => Reflect.apply(listener, server, [socket]))));
    let reading = Promise.resolve();
    this.#stopWatching = watchFiles([this.#files.certFile, this.#files.keyFile], () => {
      reading = reading.then(() => this.#readAgain(server));
    });
  }

  /** Stops watching, and cuts connections that have not said yet what they are. */
  close(): void {
    this.#stopWatching();
    for (const socket of this.#connections) socket.destroy();
  }

  async #readAgain(server: Server): Promise<void> {
    try {
      this.#pair = await read(this.#files);
      server.setSecureContext(this.#pair);
      this.#log.info({ file: this.#files.certFile }, 'certificate read again');
    } catch (error) {
      this.#log.warn({ err: error }, 'the certificate in use stays');
    }
  }

  /** Looks at the first byte of a connection and puts it back. */
  #look(socket: Socket, secure: () => void): void {
    this.#connections.add(socket);
    const settle = (): void => {
      this.#connections.delete(socket);
      socket.off('readable', look).off('error', settle).off('close', settle).off('timeout', giveUp);
      socket.setTimeout(0);
    };
    const giveUp = (): void => {
      socket.destroy();
    };
    const look = (): void => {
      const first = socket.read(1) as Buffer | null;
      if (first === null) return;
      settle();
      if (first[0] === HANDSHAKE) {
        socket.unshift(first);
        secure();
      } else this.#refuse(socket);
    };
    socket.setTimeout(FIRST_BYTE_MS);
    socket.on('readable', look).on('error', settle).on('close', settle).on('timeout', giveUp);
  }

  #refuse(socket: Socket): void {
    const { status, headers, body } = errorReply(new AgentError('PLAIN_ON_TLS_PORT', 'this port speaks TLS: write https:// in front of it'));
    const lines = Object.entries({ ...headers, connection: 'close' }).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#connections.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => this.#connections.delete(socket));
    socket.setTimeout(FIRST_BYTE_MS, () => socket.destroy());
    // What else was sent is read off: closing over it would take the reply back.
    socket.resume();
    socket.end(`HTTP/1.1 ${status} Refused\r\n${lines.join('')}\r\n${body.toString()}`);
  }
}

async function read({ certFile, keyFile }: TlsFiles): Promise<TlsPair> {
  const [cert, key] = await Promise.all([readPem(certFile, '--tls-cert'), readPem(keyFile, '--tls-key')]);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `--tls-cert ${certFile} and --tls-key ${keyFile} are no certificate and its key, in PEM`, { cause: error });
  }
  return { cert, key };
}

async function readPem(file: string, flag: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `${flag}: ${file} cannot be read`, { cause: error });
  }
}
