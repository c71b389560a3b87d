// For tests: an HTTP proxy that forwards plain requests and opens tunnels, as real ones do, and notes both.

import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

export interface ProxyBehaviour {
  /** Every name is this address for the proxy. @default 127.0.0.1 */
  readonly address?: string;
  /** NAME:PASSWORD that it asks for. */
  readonly auth?: string;
  /** Answers tunnels with this status, or with nothing at all. */
  readonly tunnels?: number | 'silent';
}

export class TestProxy implements AsyncDisposable {
  readonly seen: string[] = [];
  /** What came as Proxy-Authorization. */
  readonly authorizations: (string | undefined)[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(behaviour: ProxyBehaviour) {
    const { address = '127.0.0.1', auth, tunnels } = behaviour;
    const expected = auth === undefined ? undefined : `Basic ${Buffer.from(auth).toString('base64')}`;
    const admitted = (request: IncomingMessage): boolean => {
      const given = request.headers['proxy-authorization'];
      this.authorizations.push(given);
      return expected === undefined || given === expected;
    };
    this.#server = createServer((request, response) => {
      this.seen.push(`${request.method} ${request.url}`);
      if (!admitted(request)) return void response.writeHead(407, { 'proxy-authenticate': 'Basic' }).end();
      const url = new URL(request.url ?? '');
      const headers = { ...request.headers };
      delete headers['proxy-authorization'];
      const onward = httpRequest({ host: address, port: url.port, method: request.method, path: `${url.pathname}${url.search}`, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onward.on('error', () => response.writeHead(502).end());
      request.pipe(onward);
      return undefined;
    });
    this.#server.on('connect', (request: IncomingMessage, socket: Socket) => {
      this.seen.push(`CONNECT ${request.url}`);
      if (tunnels === 'silent') return;
      const status = admitted(request) ? (tunnels ?? 200) : 407;
      if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`);
      const onward = connect(Number(request.url?.replace(/^.*:/, '')), address, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
      this.#sockets.add(onward);
      onward.on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
      onward.pipe(socket).pipe(onward);
      return undefined;
    });
    this.#server.on('connection', (socket: Socket) => this.#sockets.add(socket));
  }

  static async start(behaviour: ProxyBehaviour = {}): Promise<TestProxy> {
    const proxy = new TestProxy(behaviour);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
