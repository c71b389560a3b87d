// The dashboard as a browser meets it: built from its sources into a folder of its own, on loopback, with a tracker's API behind it.
//
// Files and API have one origin, as the tracker's own port has. Non-goals: what the tracker itself sends with the page (its policies).

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Tracker } from '@flotilla/tracker/server';

const PACKAGE = fileURLToPath(new URL('../../packages/tracker', import.meta.url));
const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };

export interface DashboardPreview {
  readonly url: string;
  close(): Promise<void>;
}

export async function previewDashboard(tracker: Tracker): Promise<DashboardPreview> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-dashboard-'));
  await promisify(execFile)(process.execPath, [join(PACKAGE, 'node_modules/vite/bin/vite.js'), 'build', 'web', '--outDir', dir], { cwd: PACKAGE });
  const server = createServer((request, response) => {
    const answered = request.url!.startsWith('/api/') ? toTracker(tracker, request, response) : sendFile(dir, request.url!, response);
    answered.catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await rm(dir, { recursive: true });
    },
  };
}

/** Any address that is no file is a page of the dashboard. */
async function sendFile(dir: string, url: string, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(url, 'http://dashboard');
  const path = pathname.startsWith('/assets/') ? pathname : '/index.html';
  const bytes = await readFile(join(dir, path));
  response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream' }).end(bytes);
}

function toTracker(tracker: Tracker, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const asked = httpsRequest(new URL(request.url!, tracker.url), { method: request.method, headers: request.headers, ca: tracker.caPem, servername: 'localhost', agent: false }, (answer) => {
    response.writeHead(answer.statusCode!, answer.headers);
    pipeline(answer, response).then(resolve, () => resolve());
  });
  asked.once('error', reject);
  response.once('close', () => asked.destroy());
  request.pipe(asked);
  return promise;
}
