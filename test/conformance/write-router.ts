// One registry for a client that both reads and writes: reads go to an agent, writes past it to the origin.

import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface WriteRouter {
  /** 127.0.0.1:PORT */
  readonly host: string;
  close(): Promise<void>;
}

/** @param reads base URL of the agent @param writes base URL of the origin */
export async function startWriteRouter(reads: string, writes: string): Promise<WriteRouter> {
  const server = createServer((request, response) => forward(request, response, isWrite(request) ? writes : reads));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** An upload is asked after with GET. */
function isWrite({ method, url = '' }: IncomingMessage): boolean {
  return (method !== 'GET' && method !== 'HEAD') || /\/blobs\/uploads\//.test(url);
}

/** Everything goes on as it came, the Host too: registries make Locations of it. */
function forward(request: IncomingMessage, response: ServerResponse, to: string): void {
  const onward = httpRequest(new URL(request.url ?? '/', to), { method: request.method, headers: request.headers, agent: false });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
    answer.on('error', () => response.destroy());
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}
