// For tests: a local HTTP(S) server that answers as the test says and keeps what it was asked and which sockets are open.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import type { AddressInfo, Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** Of a POST. */
  readonly body: string;
}

type Handler = (request: IncomingMessage, response: ServerResponse, asked: Asked) => void;

export class ScriptedServer implements AsyncDisposable {
  readonly asked: Asked[] = [];
  readonly #server: Server;
  readonly #scheme: 'http' | 'https';
  readonly #sockets = new Set<Socket>();
  #connections = 0;

  private constructor(server: Server, scheme: 'http' | 'https') {
    this.#server = server;
    this.#scheme = scheme;
    server.on('connection', (socket: Socket) => {
      this.#connections++;
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(handler: Handler, tls?: TlsOptions, host = '127.0.0.1'): Promise<ScriptedServer> {
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      const answer = (body: string): void => {
        const asked = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body };
        scripted.asked.push(asked);
        handler(request, response, asked);
      };
      if (request.method === 'POST') void text(request).then(answer);
      else answer('');
    };
    const scripted = new ScriptedServer(tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest), tls === undefined ? 'http' : 'https');
    scripted.#server.listen(0, host);
    await once(scripted.#server, 'listening');
    return scripted;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    const { address, family } = this.#server.address() as AddressInfo;
    return `${this.#scheme}://${family === 'IPv6' ? `[${address}]` : address}:${this.port}`;
  }

  /** Connections made since the start. */
  get connections(): number {
    return this.#connections;
  }

  get openSockets(): number {
    return this.#sockets.size;
  }

  /** `METHOD path` of every request. */
  get lines(): string[] {
    return this.asked.map(({ method, path }) => `${method} ${path}`);
  }

  /** Waits until no client is connected. */
  async idle(): Promise<void> {
    for (const socket of this.#sockets) if (!socket.closed) await once(socket, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** Answers with a body and its length. */
export function reply(response: ServerResponse, status: number, body: string | Uint8Array = '', headers: Record<string, string | string[]> = {}): void {
  const bytes = Buffer.from(body as string);
  response.writeHead(status, { 'content-length': String(bytes.length), ...headers });
  response.end(response.req.method === 'HEAD' ? undefined : bytes);
}

/** Serves `bytes` as registries do: whole, or the one range that was asked for. */
export function replyBlob(response: ServerResponse, bytes: Uint8Array): void {
  const match = /^bytes=(\d+)-(\d+)$/.exec(response.req.headers.range ?? '');
  if (match === null) return reply(response, 200, bytes);
  const start = Number(match[1]);
  const end = Math.min(Number(match[2]) + 1, bytes.length);
  if (start >= bytes.length) return reply(response, 416, '', { 'content-range': `bytes */${bytes.length}` });
  return reply(response, 206, bytes.subarray(start, end), { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` });
}
