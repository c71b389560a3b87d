// How long a blob is, by origins that know HEAD, ranges and lengths, and by those that do not.

import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import type { OriginDeps } from './client.ts';
import { ScriptedServer, reply, replyBlob } from './scripted-server.ts';
import { AGENT, ANONYMOUS, LAB, sha256, testOrigin } from './test-origin.ts';

const MIB = 1024 * 1024;
const bytes = randomBytes(1000);
const digest = sha256(bytes);

async function origin(answer: (response: ServerResponse, method: string) => void, deps: Partial<OriginDeps> = {}) {
  const server = await ScriptedServer.start((_request, response, { method }) => answer(response, method));
  const lab = testOrigin([server.url], { deps });
  onTestFinished(async () => {
    await lab[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  const stat = (authority = AGENT) => lab.client.stat(LAB, digest, authority, lab.signal);
  return { ...lab, server, stat };
}

/** Neither Content-Length nor Content-Range. */
function unmeasured(response: ServerResponse, method: string, body: Uint8Array = bytes): void {
  response.writeHead(200, { 'transfer-encoding': 'chunked' });
  response.end(method === 'HEAD' ? undefined : body);
}

test('one HEAD', async () => {
  const { stat, server } = await origin((response) => reply(response, 200, bytes));
  expect(await stat()).toEqual({ size: 1000, right: { anonymous: true, lifetimeMs: undefined } });
  expect(server.lines).toEqual([`HEAD /v2/team/app/blobs/${digest}`]);
});

test.each([404, 405])('HEAD %i is followed by a GET of one byte', async (status) => {
  const { stat, server, counts } = await origin((response, method) => (method === 'HEAD' ? reply(response, status) : replyBlob(response, bytes)));
  expect(await stat()).toMatchObject({ size: 1000 });
  expect(server.asked[1]).toMatchObject({ method: 'GET', headers: { range: 'bytes=0-0' } });
  expect(counts.bytes).toBe(0);
});

test('an origin without Range and without HEAD: a GET, cut', async () => {
  const { stat, server } = await origin((response, method) => (method === 'HEAD' ? reply(response, 405) : response.writeHead(200, { 'content-length': 50 * MIB }).write('x')));
  expect(await stat()).toMatchObject({ size: 50 * MIB });
  expect(server.lines).toHaveLength(2);
});

test('an empty blob has no first byte', async () => {
  const { client, signal } = await origin((response, method) => (method === 'HEAD' ? reply(response, 405) : replyBlob(response, Buffer.alloc(0))));
  expect(await client.stat(LAB, sha256(''), AGENT, signal)).toMatchObject({ size: 0 });
});

test('missing is missing, refused is refused', async () => {
  let status = 404;
  const { stat, server } = await origin((response) => reply(response, status));
  await expect(stat()).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  status = 403;
  await expect(stat()).rejects.toMatchObject({ code: 'ORIGIN_DENIED' });
  expect(server.lines).toHaveLength(3);
});

test('a length that is said nowhere is what the fleet knows; nothing is read for it', async () => {
  const asked: unknown[] = [];
  const { stat, counts } = await origin(unmeasured, {
    knownSize: async (repository, known) => {
      asked.push(repository, known);
      return 1000;
    },
  });
  expect(await stat()).toMatchObject({ size: 1000 });
  expect(asked).toEqual([LAB, digest]);
  expect(counts).toMatchObject({ bytes: 0, fallbacks: [] });
});

test('what nobody knows is read once, whoever asks and however often', async () => {
  const { stat, counts, server } = await origin(unmeasured);
  expect(await Promise.all([stat(), stat(), stat(ANONYMOUS)])).toMatchObject([{ size: 1000 }, { size: 1000 }, { size: 1000 }]);
  expect(await stat()).toMatchObject({ size: 1000 });
  expect(counts).toMatchObject({ bytes: 1000, fallbacks: ['origin-size-by-reading'] });
  expect(server.asked.filter(({ method, headers }) => method === 'GET' && headers.range === undefined)).toHaveLength(1);
});

test('a length known from elsewhere opens nothing', async () => {
  const { stat } = await origin((response) => reply(response, 404), { knownSize: async () => 1000 });
  await expect(stat()).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
});

test.each<[string, (response: ServerResponse) => void]>([
  ['other bytes', (response) => unmeasured(response, 'GET', randomBytes(1000))],
  ['fewer bytes', (response) => unmeasured(response, 'GET', bytes.subarray(0, 999))],
])('%s have no length', async (_name, send) => {
  const { stat } = await origin((response, method) => (method === 'HEAD' ? unmeasured(response, method) : send(response)));
  await expect(stat()).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
});
