// One port that speaks HTTPS to all and plain HTTP to this machine: real sockets.

import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server as HttpsServer } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from './config.ts';
import { createLogger } from './log.ts';
import { isLoopback, servePlainOnLoopback, type PlainLoopback } from './plain-loopback.ts';
import { startTracker, type Tracker } from './server.ts';
import { call } from './test-agent.ts';
import { certificateNames, ensureOwnTls } from './tls.ts';

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-plain-'));
});

afterEach(() => rm(dir, { recursive: true, force: true }));

describe('a tracker with its own certificate', () => {
  let tracker: Tracker;

  beforeEach(async () => {
    const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0' }, env: {} });
    tracker = await startTracker(config, { log: createLogger('silent') });
  });

  afterEach(() => tracker.close());

  const plain = (path: string, init?: RequestInit): Promise<Response> => fetch(tracker.url.replace('https:', 'http:') + path, init);

  test('answers this machine by HTTPS and by plain HTTP on one port', async () => {
    expect(tracker.url).toMatch(/^https:/);
    expect((await call(`${tracker.url}/readyz`, { ca: tracker.caPem })).status).toBe(200);
    expect((await plain('/readyz')).status).toBe(200);
  });

  test('signs in by each with a cookie of its own, Secure where it is encrypted', async () => {
    const token = (await readFile(tracker.operatorTokenFile, 'utf8')).trim();
    const body = JSON.stringify({ token });
    const headers = { 'content-type': 'application/json' };
    const [unencrypted] = (await plain('/api/v1/sign-in', { method: 'POST', headers, body })).headers.getSetCookie();
    expect(unencrypted).toMatch(/^flotilla-[0-9a-f]{8}-plain=/);
    expect(unencrypted).not.toContain('Secure');
    const cookie = unencrypted!.split(';')[0]!;
    expect((await plain('/api/v1/me', { headers: { cookie } })).status).toBe(200);
    // What went over the wire in plain text opens nothing that is encrypted.
    expect((await call(`${tracker.url}/api/v1/me`, { ca: tracker.caPem, headers: { cookie } })).status).toBe(401);
  });

  test('closes while plain connections are open, silent ones as well', async () => {
    const { port } = new URL(tracker.url);
    const silent = connect(Number(port), '127.0.0.1');
    await once(silent, 'connect');
    expect((await plain('/readyz')).status).toBe(200);
    const ended = once(silent, 'close');
    await tracker.close();
    await ended;
  });
});

describe('from another address', () => {
  const outside = Object.values(networkInterfaces()).flatMap((found) => found ?? []).find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
  let server: HttpsServer;
  let plain: PlainLoopback;

  afterEach(async () => {
    plain.close();
    server.close();
    await once(server, 'close');
  });

  test.skipIf(outside === undefined)('plain HTTP is refused with what to use, and no route hears of it', async () => {
    const { cert, key } = await ensureOwnTls(dir, certificateNames('0.0.0.0', []), Date.now());
    const heard: string[] = [];
    server = createServer({ cert, key }, (request, response) => {
      heard.push(request.url!);
      response.end();
    });
    plain = servePlainOnLoopback(server);
    server.listen(0, outside);
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, outside);
    socket.write('GET /#code=secret HTTP/1.1\r\nhost: here\r\n\r\n');
    const answer = await text(socket);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer).toContain('use https://');
    expect(heard).toEqual([]);
  });
});

test.each([
  ['127.0.0.1', true],
  ['127.8.9.1', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['::ffff:10.0.0.1', false],
  ['10.0.0.1', false],
  ['', false],
  ['localhost', false],
])('%s is loopback: %s', (address, loopback) => {
  expect(isLoopback(address)).toBe(loopback);
});
