// What the client makes of answers: descriptors, sizes, ranges and lengths. One scripted origin per test.

import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createOrigin } from './client.ts';
import type { ConnectionLimits } from './connections.ts';
import { ScriptedServer, reply, replyBlob } from './scripted-server.ts';
import { AGENT, LAB, LAB_BLOB, LAB_MANIFEST, bytesOf, sha256, testOrigin } from './test-origin.ts';

const OCI = 'application/vnd.oci.image.manifest.v1+json';
const MANIFEST = JSON.stringify({ schemaVersion: 2, mediaType: OCI });
const MIB = 1024 * 1024;

async function origin(answer: (response: ServerResponse, method: string, path: string) => void, limits: Partial<ConnectionLimits> = {}) {
  const server = await ScriptedServer.start((_request, response, { method, path }) => answer(response, method, path));
  const lab = testOrigin([server.url], { config: { limits } });
  onTestFinished(async () => {
    await lab[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  return { ...lab, server };
}

describe('resolve', () => {
  test('by tag: one HEAD with the accepted types, the rest from its headers', async () => {
    const digest = sha256(MANIFEST);
    const { client, server, signal, counts } = await origin((response) => reply(response, 200, MANIFEST, { 'content-type': `${OCI}; charset=utf-8`, 'docker-content-digest': digest }));
    expect(await client.resolve(LAB, 'v1', ['a/b', 'c/d'], AGENT, signal)).toMatchObject({ digest, size: MANIFEST.length, mediaType: OCI });
    expect(server.lines).toEqual(['HEAD /v2/team/app/manifests/v1']);
    expect(server.asked[0]!.headers).toMatchObject({ accept: 'a/b, c/d', 'accept-encoding': 'identity', 'user-agent': 'flotilla' });
    expect(counts).toMatchObject({ bytes: 0, requests: ['manifest 200'] });
  });

  test('without accepted types all that are known are asked for', async () => {
    const { client, server, signal } = await origin((response) => reply(response, 200, MANIFEST, { 'content-type': OCI, 'docker-content-digest': sha256(MANIFEST) }));
    await client.resolve(LAB, 'v1', [], AGENT, signal);
    expect(server.asked[0]!.headers.accept).toContain('application/vnd.oci.image.index.v1+json, ');
  });

  test('HEADs keep their connections', async () => {
    const { client, server, signal } = await origin((response) => reply(response, 200, MANIFEST, { 'content-type': OCI, 'docker-content-digest': sha256(MANIFEST) }));
    for (let i = 0; i < 8; i++) await client.resolve(LAB, `v${i}`, [], AGENT, signal);
    // The pool may take a second one when the first has not yet seen the end of its answer.
    expect(server.connections).toBeLessThanOrEqual(2);
  });

  test.each<[string, Record<string, string>, boolean]>([
    ['digest', { 'content-type': OCI }, false],
    ['a well-formed digest', { 'content-type': OCI, 'docker-content-digest': 'sha256:1234' }, false],
    ['type', { 'docker-content-digest': sha256(MANIFEST) }, false],
    ['length', { 'content-type': OCI, 'docker-content-digest': sha256(MANIFEST), 'transfer-encoding': 'chunked' }, true],
  ])('a HEAD without %s is followed by a GET, hashed', async (_what, headers, chunked) => {
    const { client, server, signal, counts } = await origin((response, method) => {
      if (!chunked) return reply(response, 200, MANIFEST, headers);
      response.writeHead(200, headers);
      return response.end(method === 'HEAD' ? undefined : MANIFEST);
    });
    expect(await client.resolve(LAB, 'v1', [], AGENT, signal)).toMatchObject({ digest: sha256(MANIFEST), size: MANIFEST.length, mediaType: OCI });
    expect(server.lines).toEqual(['HEAD /v2/team/app/manifests/v1', 'GET /v2/team/app/manifests/v1']);
    expect(counts.bytes).toBe(MANIFEST.length);
  });

  test.each([400, 405, 501])('HEAD %i is followed by a GET', async (status) => {
    const { client, signal } = await origin((response, method) => reply(response, method === 'HEAD' ? status : 200, MANIFEST, { 'content-type': OCI }));
    expect((await client.resolve(LAB, 'v1', [], AGENT, signal)).digest).toBe(sha256(MANIFEST));
  });

  test('by digest: the digest is the authority, whatever a header says', async () => {
    const other = `sha512:${'ab'.repeat(64)}`;
    const { client, signal } = await origin((response) => reply(response, 200, MANIFEST, { 'content-type': OCI, 'docker-content-digest': other }));
    expect((await client.resolve(LAB, sha256(MANIFEST), [], AGENT, signal)).digest).toBe(sha256(MANIFEST));
  });

  test.each([
    ['by digest', sha256('other'), {}],
    ['by its own header', 'v1', { 'docker-content-digest': sha256('other') }],
  ])('a body with another digest than said %s is refused', async (_name, reference, headers) => {
    const { client, signal } = await origin((response, method) => reply(response, method === 'HEAD' ? 405 : 200, MANIFEST, { 'content-type': OCI, ...headers }));
    await expect(client.resolve(LAB, reference, [], AGENT, signal)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  test.each([
    ['said by HEAD', (response: ServerResponse) => response.writeHead(200, { 'content-type': OCI, 'content-length': 4 * MIB + 1, 'docker-content-digest': sha256('') }).end()],
    ['said by GET', (response: ServerResponse, method: string) => (method === 'HEAD' ? reply(response, 405) : response.writeHead(200, { 'content-length': 4 * MIB + 1 }).write('x'))],
    ['sent without a length', (response: ServerResponse, method: string) => (method === 'HEAD' ? reply(response, 405) : response.writeHead(200).end(Buffer.alloc(4 * MIB + 1)))],
  ])('a manifest over 4 MiB (%s) is refused', async (_name, answer) => {
    const { client, signal } = await origin(answer);
    await expect(client.resolve(LAB, 'v1', [], AGENT, signal)).rejects.toMatchObject({ code: 'MANIFEST_TOO_LARGE' });
  });

  test('4 MiB exactly are taken', async () => {
    const bytes = Buffer.alloc(4 * MIB, ' ');
    const { client, signal } = await origin((response, method) => reply(response, method === 'HEAD' ? 405 : 200, bytes, { 'content-type': OCI }));
    expect(await client.resolve(LAB, 'v1', [], AGENT, signal)).toMatchObject({ digest: sha256(bytes), size: 4 * MIB, mediaType: OCI });
  });

  test('the type stands in the manifest where no header says it; a manifest without any is malformed', async () => {
    let body = MANIFEST;
    const { client, signal } = await origin((response) => reply(response, 200, body));
    expect((await client.resolve(LAB, 'v1', [], AGENT, signal)).mediaType).toBe(OCI);
    for (body of ['{}', 'no json', '[]', '"x"']) await expect(client.resolve(LAB, 'v1', [], AGENT, signal)).rejects.toMatchObject({ code: 'MANIFEST_MALFORMED' });
  });

  test('bad names, references and origins ask nobody', async () => {
    const { client, server, signal } = await origin((response) => reply(response, 200));
    await expect(client.resolve({ origin: 'lab', repository: '../x' }, 'v1', [], AGENT, signal)).rejects.toMatchObject({ code: 'NAME_INVALID' });
    await expect(client.resolve(LAB, 'a/../b', [], AGENT, signal)).rejects.toMatchObject({ code: 'TAG_INVALID' });
    await expect(client.resolve({ origin: 'nowhere', repository: 'a' }, 'v1', [], AGENT, signal)).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
    expect(server.asked).toEqual([]);
  });
});

describe('what a status means', () => {
  test.each<[number, 'manifest' | 'blob', string]>([
    [404, 'manifest', 'MANIFEST_UNKNOWN'], [404, 'blob', 'BLOB_UNKNOWN'], [403, 'blob', 'ORIGIN_DENIED'],
    [418, 'blob', 'ORIGIN_STATUS'], [500, 'manifest', 'ORIGIN_STATUS'], [204, 'blob', 'ORIGIN_STATUS'],
  ])('%i for a %s is %s', async (status, kind, code) => {
    const error = JSON.stringify({ errors: [{ code: 'NAME_UNKNOWN', message: 'no such repository' }] });
    const { client, signal } = await origin((response) => (status === 204 ? response.writeHead(204).end() : reply(response, status, error)));
    const failure = await client.read({ ...LAB, kind }, sha256(''), undefined, AGENT, signal).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code, detail: { origin: 'lab', status, ...(status === 204 ? {} : { originCode: 'NAME_UNKNOWN', originMessage: 'no such repository' }) } });
  });

  test('401 without a challenge that is known here is ORIGIN_UNAUTHORIZED', async () => {
    const { client, signal } = await origin((response) => reply(response, 401, '', { 'www-authenticate': 'Negotiate' }));
    await expect(client.resolve(LAB, 'v1', [], AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
  });

  test('a HEAD that finds no manifest', async () => {
    const { client, signal } = await origin((response) => reply(response, 404));
    await expect(client.resolve(LAB, 'v1', [], AGENT, signal)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN', detail: { status: 404 } });
  });

  test.each([
    ['long', 10 * MIB],
    ['without end', 100],
  ])('a page as error body, %s, does not hold the error back', async (_name, length) => {
    const { client, server, signal } = await origin((response) => response.writeHead(403, { 'content-length': length }).write('<html>'));
    await expect(client.read(LAB_BLOB, sha256(''), undefined, AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_DENIED', detail: { status: 403 } });
    await server.idle();
  });
});

describe('read', () => {
  const bytes = randomBytes(300_000);
  const digest = sha256(bytes);

  test('the whole, counted', async () => {
    const { client, server, signal, counts } = await origin((response) => replyBlob(response, bytes));
    const answer = await client.read(LAB_BLOB, digest, undefined, AGENT, signal);
    expect(answer).toMatchObject({ start: 0, size: bytes.length, ranged: false });
    expect(await bytesOf(answer)).toEqual(bytes);
    expect(server.asked[0]!.headers.range).toBeUndefined();
    expect(counts).toMatchObject({ bytes: bytes.length, requests: ['blob 200'] });
    expect(client.status().find(({ name }) => name === 'lab')).toMatchObject({ requests: 1, bytes: bytes.length, faults: [] });
  });

  test('one bounded range', async () => {
    const { client, server, signal } = await origin((response) => replyBlob(response, bytes));
    const answer = await client.read(LAB_BLOB, digest, { start: 1000, end: 200_000 }, AGENT, signal);
    expect(answer).toMatchObject({ start: 1000, size: bytes.length, ranged: true });
    expect(await bytesOf(answer)).toEqual(bytes.subarray(1000, 200_000));
    expect(server.asked[0]!.headers).toMatchObject({ range: 'bytes=1000-199999', 'accept-encoding': 'identity' });
  });

  test('ranges one after the other keep their connections', async () => {
    const { client, server, signal } = await origin((response) => replyBlob(response, bytes));
    for (let start = 0; start < 8000; start += 1000) await bytesOf(await client.read(LAB_BLOB, digest, { start, end: start + 1000 }, AGENT, signal));
    // The pool may take a second one when the first has not yet seen the end of its answer.
    expect(server.connections).toBeLessThanOrEqual(2);
  });

  test('an origin without Range answers from the start', async () => {
    const { client, signal } = await origin((response) => reply(response, 200, bytes));
    const answer = await client.read(LAB_BLOB, digest, { start: 1000, end: 2000 }, AGENT, signal);
    expect(answer).toMatchObject({ start: 0, size: bytes.length, ranged: false });
    expect(await bytesOf(answer)).toEqual(bytes);
  });

  test('a manifest is asked for with its type', async () => {
    const { client, server, signal } = await origin((response) => reply(response, 200, MANIFEST, { 'content-type': OCI }));
    expect((await bytesOf(await client.read(LAB_MANIFEST, sha256(MANIFEST), undefined, AGENT, signal))).toString()).toBe(MANIFEST);
    expect(server.lines).toEqual([`GET /v2/team/app/manifests/${sha256(MANIFEST)}`]);
    expect(server.asked[0]!.headers.accept).toBe(OCI);
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ['said', (response) => response.writeHead(200, { 'content-length': 4 * MIB + 1 }).write('x')],
    ['sent', (response) => response.writeHead(200).end(Buffer.alloc(4 * MIB + 1))],
  ])('a manifest over 4 MiB (%s) is refused', async (_name, answer) => {
    const { client, signal } = await origin(answer);
    await expect(client.read(LAB_MANIFEST, sha256(''), undefined, AGENT, signal).then(bytesOf)).rejects.toMatchObject({ code: 'MANIFEST_TOO_LARGE' });
  });

  const part = (response: ServerResponse, contentRange: string | undefined, body: Uint8Array, chunked = false): void => {
    response.writeHead(206, { ...(contentRange === undefined ? {} : { 'content-range': contentRange }), ...(chunked ? {} : { 'content-length': body.length }) });
    response.end(body);
  };
  test.each<[string, (response: ServerResponse) => void]>([
    ['206 of another range', (response) => part(response, 'bytes 0-999/300000', bytes.subarray(0, 1000))],
    ['206 of a shorter range', (response) => part(response, 'bytes 1000-1499/300000', bytes.subarray(1000, 1500))],
    ['206 of a longer range', (response) => part(response, 'bytes 1000-2999/300000', bytes.subarray(1000, 3000))],
    ['206 without Content-Range', (response) => part(response, undefined, bytes.subarray(1000, 2000))],
    ['206 with an impossible Content-Range', (response) => part(response, 'bytes 1000-1999/1500', bytes.subarray(1000, 2000))],
    ['Content-Length against Content-Range', (response) => part(response, 'bytes 1000-1999/300000', bytes.subarray(1000, 2500))],
    ['more bytes than the range', (response) => part(response, 'bytes 1000-1999/300000', bytes.subarray(1000, 2500), true)],
    ['fewer bytes than the range', (response) => part(response, 'bytes 1000-1999/300000', bytes.subarray(1000, 1500), true)],
    ['416', (response) => reply(response, 416, '', { 'content-range': 'bytes */500' })],
    ['a connection cut in the body', (response) => {
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 1000), () => response.destroy());
    }],
  ])('%s is ORIGIN_LENGTH', async (_name, answer) => {
    const { client, signal } = await origin(answer);
    await expect(client.read(LAB_BLOB, digest, { start: 1000, end: 2000 }, AGENT, signal).then(bytesOf)).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
    expect(client.status().find(({ name }) => name === 'lab')?.faults[0]?.code).toBe('ORIGIN_LENGTH');
  });

  test('an unasked 206 is refused', async () => {
    const { client, signal } = await origin((response) => part(response, 'bytes 0-999/300000', bytes.subarray(0, 1000)));
    await expect(client.read(LAB_BLOB, digest, undefined, AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
  });

  test('an encoded body is refused, not decoded', async () => {
    const { client, signal } = await origin((response) => reply(response, 200, bytes, { 'content-encoding': 'gzip' }));
    await expect(client.read(LAB_BLOB, digest, undefined, AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_STATUS', detail: { contentEncoding: 'gzip' } });
  });

  test('a body that stalls is ORIGIN_TIMEOUT', async () => {
    const { client, signal } = await origin((response) => response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 1000)), { stallTimeoutMs: 300 });
    await expect(client.read(LAB_BLOB, digest, undefined, AGENT, signal).then(bytesOf)).rejects.toMatchObject({ code: 'ORIGIN_TIMEOUT' });
  });

  test('an answer that never comes is ORIGIN_TIMEOUT, asked once', async () => {
    const { client, server, signal } = await origin(() => undefined, { headersTimeoutMs: 300 });
    await expect(client.read(LAB_BLOB, digest, undefined, AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_TIMEOUT' });
    expect(server.lines).toHaveLength(1);
  });

  test('a reader that takes its time is no stall', async () => {
    const { client, signal } = await origin((response) => replyBlob(response, Buffer.concat(Array.from({ length: 10 }, () => bytes))), { stallTimeoutMs: 1500 });
    const answer = await client.read(LAB_BLOB, digest, undefined, AGENT, signal);
    let size = 0;
    for await (const piece of answer.body) {
      // Longer than the stall timeout, once.
      if (size === 0) await new Promise((resolve) => setTimeout(resolve, 2500));
      size += piece.length;
    }
    expect(size).toBe(3_000_000);
  });

  test.each(['cancelled', 'left', 'aborted'])('a read that is %s leaves no socket open', async (how) => {
    const { client, server, signal, abort } = await origin((response) => response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 1000)));
    const answer = await client.read(LAB_BLOB, digest, undefined, AGENT, signal);
    expect(server.openSockets).toBe(1);
    if (how === 'cancelled') answer.cancel();
    if (how === 'left') for await (const _piece of answer.body) break;
    if (how === 'aborted') {
      abort(new Error('enough'));
      await expect(bytesOf(answer)).rejects.toThrow('enough');
    }
    await server.idle();
  });

  test('abort while waiting for the answer rejects with its reason and cuts the connection', async () => {
    const arrived = Promise.withResolvers<void>();
    const { client, server, signal, abort } = await origin(() => arrived.resolve());
    const reading = client.read(LAB_BLOB, digest, undefined, AGENT, signal);
    await arrived.promise;
    abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    await server.idle();
  });

  test('close ends what is open with DRAINING and leaves no socket', async () => {
    const arrived = Promise.withResolvers<void>();
    const { client, server, signal } = await origin((response, _method, path) => {
      if (path.endsWith(digest)) response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 1000));
      else arrived.resolve();
    });
    const half = bytesOf(await client.read(LAB_BLOB, digest, undefined, AGENT, signal));
    const waiting = client.resolve(LAB, 'v1', [], AGENT, signal);
    const settled = Promise.allSettled([half, waiting]);
    await arrived.promise;
    await client.close();
    expect(await settled).toMatchObject([{ reason: { code: 'DRAINING' } }, { reason: { code: 'DRAINING' } }]);
    await expect(client.stat(LAB, digest, AGENT, signal)).rejects.toMatchObject({ code: 'DRAINING' });
    await server.idle();
  });

  test('an empty range is a mistake of the caller', async () => {
    const { client, signal } = await origin((response) => reply(response, 200));
    expect(() => client.read(LAB_BLOB, digest, { start: 5, end: 5 }, AGENT, signal)).toThrow(RangeError);
  });
});

test('a default origin must exist', () => {
  const metrics = { originBytes: () => undefined, originRequest: () => undefined, originFault: () => undefined, fallback: () => undefined };
  expect(() => createOrigin({ origins: [], defaultOrigin: 'lab' }, { metrics })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  const origin = createOrigin({ origins: [], defaultOrigin: 'registry.example.org' }, { metrics });
  expect(origin.resolveImage('a/b', undefined)).toEqual({ origin: 'registry.example.org', repository: 'a/b' });
  expect(origin.status().map(({ name }) => name)).toContain('docker.io');
});
