// An origin with one large blob that is made while it is sent, so that its size costs no memory here.

import { createHash } from 'node:crypto';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { randomBytes } from 'node:crypto';
import { pEvent } from 'p-event';

const BLOCK_BYTES = 1024 * 1024;

export interface PatternOrigin {
  readonly url: string;
  readonly digest: string;
  readonly size: number;
  /** Payload bytes sent so far. */
  sent(): number;
  close(): Promise<void>;
}

/** @param size bytes, a multiple of 1 MiB */
export async function startPatternOrigin(size: number): Promise<PatternOrigin> {
  const pattern = randomBytes(BLOCK_BYTES);
  const block = (index: number): Buffer => {
    const bytes = Buffer.from(pattern);
    bytes.writeUInt32BE(index, 0);
    return bytes;
  };
  const hash = createHash('sha256');
  for (let index = 0; index < size / BLOCK_BYTES; index++) hash.update(block(index));
  const digest = `sha256:${hash.digest('hex')}`;
  let sent = 0;

  const send = async (response: ServerResponse, start: number, end: number): Promise<void> => {
    for (let at = start; at < end && !response.destroyed; ) {
      const index = Math.floor(at / BLOCK_BYTES);
      const piece = block(index).subarray(at - index * BLOCK_BYTES, Math.min(BLOCK_BYTES, end - index * BLOCK_BYTES));
      sent += piece.length;
      at += piece.length;
      if (!response.write(piece)) await pEvent(response, ['drain', 'close']);
    }
    response.end();
  };
  const server: Server = createServer((request, response) => {
    if (request.url?.endsWith(`/blobs/${digest}`) !== true) {
      response.writeHead(404).end();
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const start = range === null ? 0 : Number(range[1]);
    const end = range === null ? size : Number(range[2]) + 1;
    response.writeHead(range === null ? 200 : 206, {
      'content-length': end - start,
      'docker-content-digest': digest,
      ...(range !== null && { 'content-range': `bytes ${start}-${end - 1}/${size}` }),
    });
    if (request.method === 'HEAD') response.end();
    else send(response, start, end).catch((error: unknown) => response.destroy(error as Error));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    digest,
    size,
    sent: () => sent,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
