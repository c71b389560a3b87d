import { once } from 'node:events';
import http from 'node:http';
import { connect as tlsConnect } from 'node:tls';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import type { ServedBlob } from '../content/ports.ts';
import { AgentError, type ErrorCode } from '../errors.ts';
import { createRegistry } from './registry.ts';
import { ask, begin, BLOB, BLOB_PATH, cleanups, DIGEST_PATH, digestOf, MANIFEST, MANIFEST_TYPE, oci, readParts, REPOSITORY, say, serve, TAG_PATH } from './test-endpoint.ts';

describe('base', () => {
  test.each(['/v2/', '/v2'])('%s says that this is a registry', async (path) => {
    const reply = await ask(await serve(), path);
    expect(reply.status).toBe(200);
    expect(reply.headers['docker-distribution-api-version']).toBe('registry/2.0');
    expect(reply.headers['www-authenticate']).toBeUndefined();
  });
});

describe('manifests', () => {
  test.each([TAG_PATH, DIGEST_PATH, '/v2/library/nginx/manifests/latest?ns=docker.io'])('GET %s', async (path) => {
    const served = await serve();
    const reply = await ask(served, path, { headers: { accept: ` ${MANIFEST_TYPE} , application/json;q=0.5,,*/*` } });
    expect(reply).toMatchObject({ status: 200, body: MANIFEST });
    expect(reply.headers).toMatchObject({
      'content-type': MANIFEST_TYPE,
      'content-length': String(MANIFEST.length),
      'docker-content-digest': digestOf(MANIFEST),
      etag: `"${digestOf(MANIFEST)}"`,
    });
    expect(reply.headers.warning).toBeUndefined();
    expect(reply.headers['oci-namespace']).toBe(path.includes('?') ? 'docker.io' : undefined);
    expect(served.content.accepts).toEqual([[MANIFEST_TYPE, 'application/json;q=0.5', '*/*']]);
  });

  test('HEAD has the headers of GET and no body', async () => {
    const served = await serve();
    const [got, head] = [await ask(served, TAG_PATH), await ask(served, TAG_PATH, { method: 'HEAD' })];
    const { date: _, 'x-request-id': _id, ...expected } = got.headers;
    expect(head.headers).toMatchObject(expected);
    expect(head.body.length).toBe(0);
  });

  test('the Host header decides nothing', async () => {
    const reply = await ask(await serve(), TAG_PATH, { headers: { host: 'ghcr.io' } });
    expect(reply.status).toBe(200);
  });

  test('a stale one says so', async () => {
    const served = await serve();
    served.content.stale = true;
    expect((await ask(served, TAG_PATH)).headers.warning).toBe('110 - "Response is Stale"');
  });

  test('If-None-Match answers 304 without a body', async () => {
    const reply = await ask(await serve(), TAG_PATH, { headers: { 'if-none-match': `"x", W/"${digestOf(MANIFEST)}"` } });
    expect(reply).toMatchObject({ status: 304, body: Buffer.alloc(0) });
    expect(reply.headers.etag).toBe(`"${digestOf(MANIFEST)}"`);
  });
});

describe('blobs', () => {
  test('GET is the exact bytes, never encoded', async () => {
    const reply = await ask(await serve(), BLOB_PATH, { headers: { 'accept-encoding': 'zstd,gzip,deflate' } });
    expect(reply.status).toBe(200);
    expect(reply.body.equals(BLOB)).toBe(true);
    expect(reply.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(BLOB.length),
      'docker-content-digest': digestOf(BLOB),
      'accept-ranges': 'bytes',
      etag: `"${digestOf(BLOB)}"`,
    });
    expect(reply.headers['content-encoding']).toBeUndefined();
  });

  test('HEAD says the same and opens nothing', async () => {
    const served = await serve();
    const reply = await ask(served, BLOB_PATH, { method: 'HEAD', headers: { range: 'bytes=0-1' } });
    expect(reply).toMatchObject({ status: 200, body: Buffer.alloc(0) });
    expect(reply.headers).toMatchObject({ 'content-length': String(BLOB.length), 'docker-content-digest': digestOf(BLOB) });
    expect(served.content.opened).toEqual([]);
  });

  test('an empty blob is served, with and without Range', async () => {
    const served = await serve();
    const path = `/v2/docker.io/library/nginx/blobs/${digestOf(Buffer.alloc(0))}`;
    for (const headers of [{}, { range: 'bytes=0-' }]) {
      const reply = await ask(served, path, { headers });
      expect(reply).toMatchObject({ status: 200, body: Buffer.alloc(0) });
      expect(reply.headers['content-length']).toBe('0');
    }
  });

  test('one range', async () => {
    const served = await serve();
    const reply = await ask(served, BLOB_PATH, { headers: { range: 'bytes=299990-400000' } });
    expect(reply.status).toBe(206);
    expect(reply.body.equals(BLOB.subarray(299_990))).toBe(true);
    expect(reply.headers).toMatchObject({ 'content-range': 'bytes 299990-299999/300000', 'content-length': '10' });
    expect(served.content.opened).toEqual([[{ start: 299_990, end: 300_000 }]]);
  });

  test('a range outside is 416 with the size', async () => {
    const reply = await ask(await serve(), BLOB_PATH, { headers: { range: 'bytes=300000-' } });
    expect(reply.status).toBe(416);
    expect(reply.headers['content-range']).toBe('bytes */300000');
    expect(oci(reply).detail).toMatchObject({ code: 'RANGE_INVALID', size: 300_000 });
  });

  test.each([
    [`"${digestOf(BLOB)}"`, 206],
    ['"other"', 200],
    [`W/"${digestOf(BLOB)}"`, 200],
    ['Wed, 21 Oct 2015 07:28:00 GMT', 200],
  ])('If-Range %s: %i', async (ifRange, status) => {
    expect((await ask(await serve(), BLOB_PATH, { headers: { range: 'bytes=0-9', 'if-range': ifRange } })).status).toBe(status);
  });

  test('1024 ranges come as multipart/byteranges of the announced length', async () => {
    const served = await serve();
    const ranges = Array.from({ length: 1024 }, (_, i) => [i * 280, i * 280 + (i % 200)] as const);
    const padding = ' '.repeat(40);
    const range = `bytes=${ranges.map(([a, b]) => `${a}-${b}`).join(`,${padding}`)}`;
    expect(range.length).toBeGreaterThan(50_000);
    const reply = await ask(served, BLOB_PATH, { headers: { range } });
    expect(reply.status).toBe(206);
    expect(reply.headers['content-length']).toBe(String(reply.body.length));
    expect(reply.headers['content-range']).toBeUndefined();
    const parts = readParts(reply);
    expect(parts.length).toBe(1024);
    for (const [i, [a, b]] of ranges.entries()) {
      expect(parts[i]!.head).toContain(`content-range: bytes ${a}-${b}/300000`);
      expect(parts[i]!.body.equals(BLOB.subarray(a, b + 1))).toBe(true);
    }
  });

  test('several ranges of which one remains are still a multipart', async () => {
    const parts = readParts(await ask(await serve(), BLOB_PATH, { headers: { range: 'bytes=5-9,400000-' } }));
    expect(parts.map(({ body }) => body)).toEqual([BLOB.subarray(5, 10)]);
  });

  test('a Range header over 64 KiB that asks for too much is refused, not cut off', async () => {
    const range = `bytes=${Array.from({ length: 5000 }, (_, i) => `${i * 20}-${i * 20 + 1}`).join(',')}`;
    const reply = await ask(await serve(), BLOB_PATH, { headers: { range } });
    expect(reply.status).toBe(400);
    expect(oci(reply).detail['code']).toBe('RANGES_REFUSED');
  });
});

describe('errors', () => {
  test.each([
    ['/v2/docker.io/library/nginx/manifests/other', 404, 'MANIFEST_UNKNOWN'],
    [`/v2/docker.io/library/nginx/blobs/${digestOf(MANIFEST)}`, 404, 'BLOB_UNKNOWN'],
    ['/v2/nginx/manifests/latest', 404, 'NAME_UNKNOWN'],
    ['/v2/docker.io/Nginx/manifests/latest', 400, 'NAME_INVALID'],
    ['/v2/docker.io/x/manifests/sha256:baddigest', 400, 'DIGEST_INVALID'],
    // As at a registry: there is none, and the conformance suite (v1.1.1) asks for such a one.
    ['/v2/docker.io/x/manifests/.INVALID_MANIFEST_NAME', 404, 'MANIFEST_UNKNOWN'],
    ['/v2/docker.io/x/manifests/%', 400, 'NAME_INVALID'],
    [`/v2/docker.io/${'x'.repeat(5000)}/manifests/a`, 400, 'NAME_INVALID'],
    ['/v2/docker.io/x/tags/list?n=many', 400, 'UNSUPPORTED'],
    ['/v2/docker.io/x/tags/list?n=-1', 400, 'UNSUPPORTED'],
    [`/v2/docker.io/x/tags/list?last=${'x'.repeat(2000)}`, 400, 'UNSUPPORTED'],
    ['/v2/docker.io/x/tags/other', 404, 'NAME_UNKNOWN'],
    ['/v2/docker.io/x/referrers/bad', 400, 'DIGEST_INVALID'],
    ['/elsewhere', 404, 'NAME_UNKNOWN'],
  ])('%s: %i %s', async (path, status, code) => {
    const served = await serve();
    const reply = await ask(served, path);
    expect(reply.status).toBe(status);
    expect(oci(reply).code).toBe(code);
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8');
    const head = await ask(served, path, { method: 'HEAD' });
    expect(head).toMatchObject({ status, body: Buffer.alloc(0) });
  });

  test.each([
    ['POST', '/v2/docker.io/x/blobs/uploads/'],
    ['POST', `/v2/docker.io/x/blobs/uploads/?digest=${digestOf(BLOB)}`],
    ['PUT', `/v2/docker.io/x/blobs/uploads/1?digest=${digestOf(BLOB)}`],
    ['DELETE', '/v2/docker.io/x/blobs/uploads/1'],
    ['DELETE', BLOB_PATH],
    ['PUT', DIGEST_PATH],
    ['DELETE', DIGEST_PATH],
    ['PUT', '/v2/docker.io/x/manifests/latest'],
    ['PATCH', '/v2/docker.io/x/blobs/uploads/1'],
    ['DELETE', '/v2/docker.io/x/manifests/latest'],
    ['OPTIONS', '/v2/'],
    ['PROPFIND', '/v2/%'],
  ])('%s is 405 with Allow', async (method, path) => {
    const reply = await ask(await serve(), path, { method, headers: { 'content-type': 'application/octet-stream', 'content-length': 100_000 }, body: 'x'.repeat(100_000) });
    expect(reply.status).toBe(405);
    expect(reply.headers.allow).toBe('GET, HEAD');
    expect(oci(reply).code).toBe('UNSUPPORTED');
  });

  test('an error before the first byte is a status, with the wait that the origin asked for', async () => {
    const served = await serve();
    served.content.open = async () => {
      throw new AgentError('ORIGIN_THROTTLED', 'the origin says 429', { retryAfterMs: 1500, detail: { origin: 'docker.io' } });
    };
    const reply = await ask(served, BLOB_PATH, { headers: { range: 'bytes=0-9' } });
    expect(reply.status).toBe(503);
    expect(reply.headers['retry-after']).toBe('2');
    expect(reply.headers['content-range']).toBeUndefined();
    expect(oci(reply)).toMatchObject({ code: 'UNAVAILABLE', detail: { code: 'ORIGIN_THROTTLED', origin: 'docker.io' } });
    expect(served.codes).toEqual(['ORIGIN_THROTTLED']);
  });

  test('a fault without a row is INTERNAL; its text stays in the log', async () => {
    const served = await serve();
    served.content.open = async () => {
      throw new TypeError('secret path /root/x');
    };
    const line = served.line();
    const reply = await ask(served, BLOB_PATH);
    expect(reply.status).toBe(503);
    expect(reply.body.toString()).not.toContain('secret');
    expect(JSON.stringify(await line)).toContain('secret path');
  });

  test.each<[string, (bytes: Buffer) => AsyncGenerator<Uint8Array>, ErrorCode]>([
    [
      'breaks',
      async function* (bytes) {
        yield bytes.subarray(0, 1000);
        throw new AgentError('PULL_STALLED', 'no source');
      },
      'PULL_STALLED',
    ],
    [
      'fails after its last byte',
      async function* (bytes) {
        yield bytes;
        throw new AgentError('DIGEST_MISMATCH', 'the whole is wrong');
      },
      'DIGEST_MISMATCH',
    ],
    [
      'is short',
      async function* (bytes) {
        yield bytes.subarray(0, 1000);
      },
      'INTERNAL',
    ],
    [
      'is long',
      async function* (bytes) {
        yield bytes;
        yield bytes;
      },
      'INTERNAL',
    ],
  ])('a body that %s is broken off, never ended', async (_name, body, code) => {
    const served = await serve();
    served.content.open = async () => body(BLOB);
    const line = served.line();
    const outcome = await ask(served, BLOB_PATH).then(
      () => 'complete',
      () => 'broken',
    );
    expect(outcome).toBe('broken');
    expect(await line).toMatchObject({ code, status: 200 });
    expect(served.codes).toEqual([code]);
    expect(served.registry.openCalls).toBe(0);
  });
});

describe('connections', () => {
  test('a client waits until its answer has begun', async () => {
    const served = await serve();
    const given = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    served.content.open = async () => {
      asked.resolve();
      await given.promise;
      return (async function* () {
        yield BLOB;
      })();
    };
    expect(served.registry.clientWaits).toBe(false);
    const answer = begin(served, BLOB_PATH, {});
    await asked.promise;
    expect(served.registry.clientWaits).toBe(true);
    given.resolve();
    const response = await answer;
    expect(served.registry.clientWaits).toBe(false);
    response.destroy();
  });

  test('a client that goes away aborts the work, which is no failure', async () => {
    const served = await serve();
    const aborted = Promise.withResolvers<void>();
    served.content.open = async (_range, signal) => {
      signal.addEventListener('abort', () => aborted.resolve());
      return (async function* () {
        yield BLOB.subarray(0, 1000);
        await aborted.promise;
        signal.throwIfAborted();
      })();
    };
    const line = served.line();
    const response = await begin(served, BLOB_PATH, {});
    response.destroy();
    await aborted.promise;
    expect(await line).toMatchObject({ aborted: true });
    expect(await line).not.toHaveProperty('code');
    expect(served.codes).toEqual([]);
    expect(served.requests).toEqual([['blob', 'aborted']]);
  });

  test('a client that does not read holds the source back', async () => {
    const served = await serve();
    let given = 0;
    const total = 64 * 1024 * 1024;
    const big: ServedBlob = {
      key: { digest: digestOf(BLOB), size: total },
      open: async () =>
        (async function* () {
          for (; given < total; given += 65_536) yield Buffer.alloc(65_536);
        })(),
    };
    served.content.blob = async () => big;
    const response = await begin(served, BLOB_PATH, {});
    // Other requests are answered while it waits, so the loop turned many times: what was not taken was held back, not just late.
    for (let i = 0; i < 50; i++) await ask(served, '/v2/');
    expect(given).toBeLessThan(total / 2);
    let read = 0;
    for await (const chunk of response) read += (chunk as Buffer).length;
    expect(read).toBe(total);
  });

  test('a TLS hello on the plain port fails at once', async () => {
    const served = await serve();
    const tls = tlsConnect({ ...served.address, rejectUnauthorized: false });
    const [error] = (await once(tls, 'error')) as [Error];
    expect(error.message).toMatch(/wrong version number|packet length|SSL/i);
    expect(served.codes).toEqual(['TLS_ON_PLAIN_PORT']);
  });

  test('Go clients recognise the answer to a TLS hello as HTTP', async () => {
    const served = await serve();
    const answer = await say(served, Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 1, 0, 0, 1, 0]));
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('TLS_ON_PLAIN_PORT');
  });

  test('headers beyond the bound are 431, garbage is 400', async () => {
    const served = await serve({ maxHeaderBytes: 8192 });
    expect(await say(served, Buffer.from(`GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`))).toMatch(/^HTTP\/1\.1 431 /);
    expect(await say(served, Buffer.from('hello there\r\n\r\n'))).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('garbage behind a request is not answered into its body', async () => {
    const served = await serve();
    const release = Promise.withResolvers<void>();
    served.content.open = async () =>
      (async function* () {
        yield BLOB.subarray(0, 1000);
        await release.promise;
        yield BLOB.subarray(1000);
      })();
    const line = served.line();
    const answer = say(served, Buffer.from(`GET ${BLOB_PATH} HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03garbage\r\n\r\n`));
    await line;
    release.resolve();
    expect(await answer).not.toContain('HTTP_INVALID');
  });

  test('a port in use is named with its flag', async () => {
    const served = await serve();
    const second = createRegistry({ content: served.content, resolveImage: () => REPOSITORY, log: pino({ level: 'silent' }), metrics: { request() {}, error() {} } });
    cleanups.push(() => second.close());
    const { port } = served.address;
    await expect(second.listen(served.address)).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: `port ${port} is in use (127.0.0.1:${port}); choose another with --listen`,
    });
  });
});

describe('log', () => {
  test('a request has the client\'s id, or gets one', async () => {
    const served = await serve();
    const [first, mine] = [served.line(), await ask(served, TAG_PATH, { headers: { 'x-request-id': 'build-17/a' } })];
    expect(mine.headers['x-request-id']).toBe('build-17/a');
    expect(await first).toMatchObject({ requestId: 'build-17/a' });
    const [second, given] = [served.line(), await ask(served, BLOB_PATH, { headers: { 'x-request-id': 'a b"' } })];
    expect(given.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(await second).toMatchObject({ requestId: given.headers['x-request-id'] });
  });

  test('the line names what the bytes came from', async () => {
    const served = await serve();
    served.content.open = async (_asked, _signal, onBytes) =>
      (async function* () {
        onBytes?.('store', 1000);
        yield BLOB.subarray(0, 1000);
        onBytes?.('peer', 299_000);
        yield BLOB.subarray(1000);
      })();
    const line = served.line();
    await ask(served, BLOB_PATH);
    expect(await line).toMatchObject({ bytes: 300_000, source: 'peer', storeBytes: 1000, peerBytes: 299_000, originBytes: 0 });
  });

  test('one line per request, in fields', async () => {
    const served = await serve();
    const line = served.line();
    await ask(served, BLOB_PATH, { headers: { range: 'bytes=0-9' } });
    expect(await line).toMatchObject({ method: 'GET', kind: 'blob', ...REPOSITORY, digest: digestOf(BLOB), status: 206, bytes: 10, ms: expect.any(Number) });
    const failed = served.line();
    await ask(served, '/v2/docker.io/library/nginx/manifests/other');
    expect(await failed).toMatchObject({ reference: 'other', status: 404, code: 'MANIFEST_UNKNOWN' });
    expect(served.lines.length).toBe(2);
    expect(served.requests).toEqual([
      ['blob', 206],
      ['manifest', 404],
    ]);
  });
});

describe('drain', () => {
  test('idle, the port closes at once', async () => {
    const served = await serve();
    await served.registry.drain(new AbortController().signal);
    await expect(ask(served, '/v2/')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('a pull under way is finished with all that it still asks for by digest; new pulls are refused', async () => {
    const served = await serve({ drainPauseMs: 20 });
    const release = Promise.withResolvers<void>();
    served.content.open = async () =>
      (async function* () {
        yield BLOB.subarray(0, 1000);
        await release.promise;
        yield BLOB.subarray(1000);
      })();
    const agent = new http.Agent({ keepAlive: true });
    cleanups.push(async () => agent.destroy());
    const open = await begin(served, BLOB_PATH, { agent });
    let drained = false;
    const draining = served.registry.drain(new AbortController().signal).then(() => (drained = true));
    for (const path of ['/v2/', TAG_PATH]) {
      const refused = await ask(served, path);
      expect(refused.status).toBe(503);
      expect(oci(refused).detail['code']).toBe('DRAINING');
    }
    expect((await ask(served, DIGEST_PATH)).status).toBe(200);
    expect(drained).toBe(false);
    release.resolve();
    const chunks: Buffer[] = [];
    for await (const chunk of open) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(BLOB)).toBe(true);
    await draining;
    await expect(ask(served, DIGEST_PATH)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('its signal ends the wait, and close() cuts what is open', async () => {
    const served = await serve();
    served.content.open = async (_range, signal) =>
      (async function* () {
        yield BLOB.subarray(0, 1000);
        await once(signal, 'abort');
        signal.throwIfAborted();
      })();
    const open = await begin(served, BLOB_PATH, {});
    const stop = new AbortController();
    const draining = served.registry.drain(stop.signal);
    stop.abort();
    await draining;
    const broken = once(open, 'error');
    open.resume();
    await served.registry.close();
    await broken;
    expect(served.registry.openCalls).toBe(0);
  });
});
