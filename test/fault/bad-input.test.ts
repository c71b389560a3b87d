// What bad input gets, through a whole agent on real sockets and a real disk: the right status and OCI code, a log line with fields,
// and nothing stored. Settings are in the tests of config.ts, join tokens in those of tracker/ and of the tracker.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, type RunningAgent } from '@flotilla/agent/agent';
import { loadConfig } from '@flotilla/agent/config';
import { createLogger } from '@flotilla/agent/log';
import { request } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../support/fleet.ts';

const BLOB = Buffer.alloc(500, 7);
const DIGEST = `sha256:${createHash('sha256').update(BLOB).digest('hex')}`;
const BLOB_PATH = `lab/team/app/blobs/${DIGEST}`;
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

interface LogLine {
  readonly msg: string;
  readonly status?: number;
  readonly code?: string;
  readonly kind?: string;
  readonly method?: string;
}

let dir: string;
let origin: Server;
let answer: RequestListener;
let agent: RunningAgent;
let lines: LogLine[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-bad-input-'));
  answer = (_request, response) => response.writeHead(404).end();
  origin = createServer((incoming, response) => answer(incoming, response)).listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const nobody = createServer().listen(0, '127.0.0.1');
  await once(nobody, 'listening');
  const urls = { lab: urlOf(origin), gone: urlOf(nobody) };
  nobody.close();
  lines = [];
  const { config } = loadConfig({
    env: {},
    flags: { data: dir, listen: '127.0.0.1:0', adminListen: '127.0.0.1:0', storeLimit: '1GiB', origin: Object.entries(urls).map(([name, url]) => `${name}=${url}`) },
  });
  const log = createLogger('info', { write: (line) => void lines.push(JSON.parse(line) as LogLine) });
  agent = await startAgent({ ...config, storeMinFreeShare: 0 }, log);
});

afterEach(async () => {
  await agent.close();
  origin.closeAllConnections();
  origin.close();
  await rm(dir, { recursive: true });
});

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function get(path: string, headers: Record<string, string> = {}): Promise<{ status: number; oci: string | undefined; code: string | undefined }> {
  const { host, port } = agent.addresses.registry;
  const { statusCode, body } = await request(`http://${host}:${port}/v2/${path}`, { headers });
  const text = await body.text();
  const [error] = (JSON.parse(text) as { errors: { code: string; detail: { code: string } }[] }).errors;
  return { status: statusCode, oci: error?.code, code: error?.detail.code };
}

/** One log line says what happened, and no byte was kept. */
async function expectLoggedAndNothingStored(path: string, status: number, code: string): Promise<void> {
  await until(`log line of ${path}`, () => lines.some((line) => line.msg.startsWith('request') && line.code === code));
  expect(lines.filter((line) => line.msg.startsWith('request'))).toEqual([expect.objectContaining({ method: 'GET', status, code, kind: expect.any(String), ms: expect.any(Number) })]);
  await until('no download', async () => (await agent.status()).downloads.length === 0);
  expect((await agent.status()).store).toMatchObject({ blobs: 0, bytes: 0 });
  expect(await readdir(join(dir, 'partials', 'sha256'))).toEqual([]);
}

describe('refused before anybody is asked', () => {
  test.each([
    ['a malformed digest of a manifest', 'lab/team/app/manifests/sha256:bad', 400, 'DIGEST_INVALID', 'DIGEST_INVALID'],
    ['a malformed digest of a blob', 'lab/team/app/blobs/latest', 400, 'DIGEST_INVALID', 'DIGEST_INVALID'],
    ['a malformed name', 'lab/Team/app/manifests/v1', 400, 'NAME_INVALID', 'NAME_INVALID'],
    ['a malformed tag', 'lab/team/app/manifests/-v1', 404, 'MANIFEST_UNKNOWN', 'TAG_INVALID'],
    ['an unknown origin', 'nowhere/team/app/manifests/v1', 404, 'NAME_UNKNOWN', 'NAME_UNKNOWN'],
    ['an address as origin', '127.0.0.1/team/app/manifests/v1', 404, 'NAME_UNKNOWN', 'ORIGIN_FORBIDDEN'],
  ])('%s', async (_what, path, status, oci, code) => {
    let asked = 0;
    answer = (_request, response) => {
      asked++;
      response.writeHead(500).end();
    };
    expect(await get(path)).toEqual({ status, oci, code });
    expect(asked).toBe(0);
    // A URL that cannot be read has no kind of its own, but its line all the same.
    await expectLoggedAndNothingStored(path, status, code);
  });
});

describe('of the origin', () => {
  test('unreachable', async () => {
    const path = 'gone/team/app/manifests/v1';
    expect(await get(path)).toEqual({ status: 503, oci: 'UNAVAILABLE', code: 'ORIGIN_UNREACHABLE' });
    await expectLoggedAndNothingStored(path, 503, 'ORIGIN_UNREACHABLE');
  });

  test('a token that it refuses: not found, and no challenge', async () => {
    answer = ({ url = '' }, response) => {
      if (url.startsWith('/token')) response.writeHead(200, { 'content-type': 'application/json' }).end('{"token":"wrong"}');
      else response.writeHead(401, { 'www-authenticate': `Bearer realm="${urlOf(origin)}/token",service="lab"` }).end();
    };
    const path = 'lab/team/app/manifests/v1';
    expect(await get(path)).toEqual({ status: 404, oci: 'NAME_UNKNOWN', code: 'ACCESS_DENIED' });
    await expectLoggedAndNothingStored(path, 404, 'ACCESS_DENIED');
  });

  test.each(['HEAD', 'GET'])('a manifest over 4 MiB, said or found out by %s', async (method) => {
    answer = (incoming, response) => {
      if (method === 'HEAD') response.writeHead(200, { 'content-type': OCI_MANIFEST, 'content-length': MAX_MANIFEST_BYTES + 1, 'docker-content-digest': DIGEST }).end();
      else if (incoming.method === 'HEAD') response.writeHead(200).end();
      else response.writeHead(200, { 'content-type': OCI_MANIFEST }).end(Buffer.alloc(MAX_MANIFEST_BYTES + 1, ' '));
    };
    const path = 'lab/team/app/manifests/v1';
    expect(await get(path)).toEqual({ status: 502, oci: 'MANIFEST_INVALID', code: 'MANIFEST_TOO_LARGE' });
    await expectLoggedAndNothingStored(path, 502, 'MANIFEST_TOO_LARGE');
  });

  test.each([
    ['fewer bytes than it said', BLOB.subarray(0, 400)],
    ['more bytes than it said', Buffer.concat([BLOB, BLOB])],
  ])('%s', async (_what, body) => {
    answer = (incoming, response) => {
      if (incoming.method === 'HEAD') response.writeHead(200, { 'content-length': BLOB.length }).end();
      else response.writeHead(200, { 'content-length': body.length }).end(body);
    };
    expect(await get(BLOB_PATH)).toEqual({ status: 503, oci: 'UNAVAILABLE', code: 'ORIGIN_LENGTH' });
    await expectLoggedAndNothingStored(BLOB_PATH, 503, 'ORIGIN_LENGTH');
  });

  test('what follows the right bytes without having been said is dropped', async () => {
    answer = (incoming, response) => {
      if (incoming.method === 'HEAD') response.writeHead(200, { 'content-length': BLOB.length }).end();
      else response.writeHead(200).end(Buffer.concat([BLOB, BLOB]));
    };
    const { host, port } = agent.addresses.registry;
    const { statusCode, body } = await request(`http://${host}:${port}/v2/${BLOB_PATH}`);
    expect(statusCode).toBe(200);
    expect(Buffer.from(await body.arrayBuffer())).toEqual(BLOB);
  });
});

test('a range outside of the blob', async () => {
  answer = (incoming, response) => response.writeHead(200, { 'content-length': BLOB.length }).end(incoming.method === 'HEAD' ? undefined : BLOB);
  expect(await get(BLOB_PATH, { range: 'bytes=500-600' })).toEqual({ status: 416, oci: 'SIZE_INVALID', code: 'RANGE_INVALID' });
  await expectLoggedAndNothingStored(BLOB_PATH, 416, 'RANGE_INVALID');
});
