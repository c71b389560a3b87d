// Between question and answer: redirects, retries, waiting, other URLs, addresses.

import type { LookupFunction } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { ScriptedServer, reply, replyBlob } from './scripted-server.ts';
import { AGENT, LAB, LAB_BLOB, bytesOf, sha256, testOrigin, type TestOrigin, alwaysCredentials } from './test-origin.ts';

const BLOB = Buffer.from('the bytes of the blob');
const digest = sha256(BLOB);
const PATH = `/v2/team/app/blobs/${digest}`;

const open: AsyncDisposable[] = [];
afterEach(async () => {
  // The client first: servers wait for their sockets.
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});
async function serve(...args: Parameters<typeof ScriptedServer.start>): Promise<ScriptedServer> {
  const server = await ScriptedServer.start(...args);
  open.push(server);
  return server;
}
function origin(...args: Parameters<typeof testOrigin>): TestOrigin {
  const lab = testOrigin(...args);
  open.push(lab);
  return lab;
}
async function read({ client, signal }: TestOrigin): Promise<string> {
  return (await bytesOf(await client.read(LAB_BLOB, digest, undefined, AGENT, signal))).toString();
}
/** A port where nobody listens. */
async function deadPort(): Promise<number> {
  const server = await ScriptedServer.start(() => undefined);
  const { port } = server;
  await server[Symbol.asyncDispose]();
  return port;
}

describe('redirects', () => {
  test('are followed without Authorization; Range goes along; the target is remembered for runs of the same blob', async () => {
    const storage = await serve((_request, response) => replyBlob(response, BLOB));
    const server = await serve((_request, response, { path, headers }) => {
      if (path.startsWith('/token')) return reply(response, 200, '{"token":"secret"}');
      if (headers.authorization === undefined) return reply(response, 401, '', { 'www-authenticate': `Bearer realm="${server.url}/token"` });
      return reply(response, 307, '', { location: `${storage.url}/signed?x=1#part` });
    });
    const lab = origin([server.url]);
    for (const range of [{ start: 0, end: 5 }, { start: 5, end: 9 }]) {
      expect(await bytesOf(await lab.client.read(LAB_BLOB, digest, range, AGENT, lab.signal))).toEqual(BLOB.subarray(range.start, range.end));
    }
    expect(server.lines).toEqual([`GET ${PATH}`, expect.stringMatching(/^GET \/token\?/), `GET ${PATH}`]);
    expect(storage.asked.map(({ path, headers }) => [path, headers.authorization, headers.range])).toEqual([
      ['/signed?x=1', undefined, 'bytes=0-4'],
      ['/signed?x=1', undefined, 'bytes=5-8'],
    ]);
    // After a minute the origin is asked again.
    lab.clock.nowMs += 60_000;
    await bytesOf(await lab.client.read(LAB_BLOB, digest, { start: 0, end: 1 }, AGENT, lab.signal));
    expect(server.lines).toHaveLength(5);
  });

  test('a remembered target that fails is asked for anew', async () => {
    let signature = 1;
    const storage = await serve((_request, response, { path }) => (path === `/signed/${signature}` ? replyBlob(response, BLOB) : reply(response, 403)));
    const server = await serve((_request, response) => reply(response, 302, '', { location: `${storage.url}/signed/${signature}` }));
    const lab = origin([server.url]);
    await read(lab);
    signature = 2;
    expect(await read(lab)).toBe(BLOB.toString());
    expect(storage.lines).toEqual(['GET /signed/1', 'GET /signed/1', 'GET /signed/2']);
  });

  test('within the origin Authorization stays, and the way is asked each time', async () => {
    const server = await serve((_request, response, { path, headers }) => {
      if (path.startsWith('/token')) return reply(response, 200, '{"token":"secret"}');
      if (headers.authorization === undefined) return reply(response, 401, '', { 'www-authenticate': `Bearer realm="${server.url}/token"` });
      return path === PATH ? reply(response, 308, '', { location: '/moved' }) : replyBlob(response, BLOB);
    });
    const lab = origin([server.url]);
    await read(lab);
    await read(lab);
    expect(server.lines.filter((line) => line === `GET ${PATH}`)).toHaveLength(3);
  });

  test('back to the origin by way of another host, Authorization does not come along', async () => {
    const storage = await serve((_request, response) => reply(response, 302, '', { location: `${server.url}/back` }));
    const server = await serve((_request, response, { path, headers }) => {
      if (path === '/back') return replyBlob(response, BLOB);
      if (headers.authorization === undefined) return reply(response, 401, '', { 'www-authenticate': 'Basic realm="x"' });
      return reply(response, 302, '', { location: `${storage.url}/` });
    });
    const lab = origin([server.url], { deps: { credentials: alwaysCredentials({ kind: 'basic', username: 'ann', password: 'secret' }) } });
    await read(lab);
    expect(server.asked.at(-1)).toMatchObject({ path: '/back', headers: expect.not.objectContaining({ authorization: expect.anything() }) });
  });

  test('five are followed, six are too many', async () => {
    let hops = 5;
    const server = await serve((_request, response, { path }) => {
      const hop = path === PATH ? 0 : Number(path.slice(1));
      return hop === hops ? replyBlob(response, BLOB) : reply(response, 302, '', { location: `/${hop + 1}` });
    });
    const lab = origin([server.url]);
    expect(await read(lab)).toBe(BLOB.toString());
    hops = 6;
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_REDIRECT' });
  });

  test.each(['ftp://127.0.0.1/x', 'http://user:pass@127.0.0.1/x', 'http://', 'http://169.254.169.254/latest/meta-data', 'file:///etc/passwd'])('to %s is refused', async (location) => {
    const server = await serve((_request, response) => reply(response, 302, '', { location }));
    await expect(read(origin([server.url]))).rejects.toMatchObject({ code: 'ORIGIN_REDIRECT' });
    expect(server.lines).toHaveLength(1);
  });

  test('a HEAD that is refused where it was sent becomes a GET', async () => {
    const storage = await serve((_request, response, { method }) => (method === 'HEAD' ? reply(response, 403) : replyBlob(response, BLOB)));
    const server = await serve((_request, response) => reply(response, 307, '', { location: `${storage.url}/signed-for-get` }));
    const lab = origin([server.url]);
    expect(await lab.client.stat(LAB, digest, AGENT, lab.signal)).toMatchObject({ size: BLOB.length });
  });
});

describe('trying again', () => {
  test.each([502, 503, 504])('%i twice, then the answer', async (status) => {
    const server = await serve((_request, response) => (server.asked.length <= 2 ? reply(response, status) : replyBlob(response, BLOB)));
    expect(await read(origin([server.url]))).toBe(BLOB.toString());
    expect(server.lines).toHaveLength(3);
  });

  test('after the third 503 it is an error', async () => {
    const server = await serve((_request, response) => reply(response, 503));
    await expect(read(origin([server.url]))).rejects.toMatchObject({ code: 'ORIGIN_STATUS', detail: { status: 503 } });
    expect(server.lines).toHaveLength(3);
  });

  test('500 is not asked again', async () => {
    const server = await serve((_request, response) => reply(response, 500));
    await expect(read(origin([server.url]))).rejects.toMatchObject({ code: 'ORIGIN_STATUS' });
    expect(server.lines).toHaveLength(1);
  });

  test('a connection that breaks before the answer is made anew', async () => {
    const server = await serve((request, response) => (server.asked.length === 1 ? request.socket.destroy() : replyBlob(response, BLOB)));
    expect(await read(origin([server.url]))).toBe(BLOB.toString());
  });

  test('once bytes were handed out nothing is asked again', async () => {
    const server = await serve((_request, response) => {
      response.writeHead(200, { 'content-length': BLOB.length });
      response.write(BLOB.subarray(0, 3), () => response.destroy());
    });
    await expect(read(origin([server.url]))).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
    expect(server.lines).toHaveLength(1);
  });

  test('nobody listens', async () => {
    const lab = origin([`http://127.0.0.1:${await deadPort()}`]);
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE', detail: { origin: 'lab', systemCode: 'ECONNREFUSED' } });
    expect(lab.counts.requests).toEqual(['blob ORIGIN_UNREACHABLE', 'blob ORIGIN_UNREACHABLE', 'blob ORIGIN_UNREACHABLE']);
    expect(lab.client.status()[0]).toMatchObject({ name: 'lab', faults: [{ code: 'ORIGIN_UNREACHABLE' }] });
  });

  test('no such host: asked once', async () => {
    const lookup: LookupFunction = (_host, _options, callback) => callback(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' }), []);
    const lab = origin(['http://registry.invalid'], { deps: { lookup } });
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE', detail: { systemCode: 'ENOTFOUND' } });
    expect(lab.counts.requests).toHaveLength(1);
  });

  test('a pause is cut short by the abort', async () => {
    const server = await serve((_request, response) => reply(response, 503));
    const lab = origin([server.url], { config: { backoffMs: 1_000_000 } });
    const reading = read(lab);
    while (lab.counts.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    lab.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
  });
});

test('a 401 that nobody can answer gives its connection back, however long its page for people is', async () => {
  const server = await serve((_request, response) => reply(response, 401, 'x'.repeat(1024 * 1024), { 'www-authenticate': 'Negotiate' }));
  const lab = origin([server.url], { config: { limits: { blobConnections: 1 } } });
  for (let times = 0; times < 2; times++) await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
});

describe('several URLs', () => {
  test('the next is asked when one is dead, and asked first for a while', async () => {
    const server = await serve((_request, response) => replyBlob(response, BLOB));
    const lab = origin([`http://127.0.0.1:${await deadPort()}`, server.url]);
    expect(await read(lab)).toBe(BLOB.toString());
    expect(lab.counts.requests).toHaveLength(4);
    await read(lab);
    expect(lab.counts.requests).toHaveLength(5);
    lab.clock.nowMs += 10_000;
    await read(lab);
    expect(lab.counts.requests).toHaveLength(9);
  });

  type Answer = Parameters<typeof ScriptedServer.start>[0];
  const says = (status: number, code?: string): Answer => (_request, response) => reply(response, status, code === undefined ? '' : JSON.stringify({ errors: [{ code }] }));
  const asks: Answer = (_request, response) => reply(response, 401, '', { 'www-authenticate': 'Basic realm="x"' });
  const gives: Answer = (_request, response) => replyBlob(response, BLOB);

  test.each<[string, Answer]>([
    ['does not have it', says(404)],
    ['refuses', says(403)],
    ['wants a password', asks],
    ['names a foreign token server', (_request, response) => reply(response, 401, '', { 'www-authenticate': 'Bearer realm="http://evil.example/"' })],
    ['redirects to nowhere', (_request, response) => reply(response, 302, '', { location: 'ftp://x' })],
  ])('the next is asked when one %s, each time', async (_name, answer) => {
    const [mirror, registry] = [await serve(answer), await serve(gives)];
    const lab = origin([mirror.url, registry.url]);
    expect([await read(lab), await read(lab)]).toEqual([BLOB.toString(), BLOB.toString()]);
    expect([mirror.lines.length, registry.lines.length]).toEqual([2, 2]);
    expect(lab.counts).toMatchObject({ fallbacks: ['origin-next-url', 'origin-next-url'], faults: [] });
  });

  test.each<[string, Answer, Answer, string]>([
    ['both do not have it', says(404, 'FIRST'), says(404, 'SECOND'), 'BLOB_UNKNOWN'],
    ['the last does not have it, the first refuses', says(403, 'FIRST'), says(404, 'SECOND'), 'BLOB_UNKNOWN'],
    ['the last refuses', says(404, 'FIRST'), says(403, 'SECOND'), 'ORIGIN_DENIED'],
    ['the last wants a password', says(404), asks, 'ORIGIN_UNAUTHORIZED'],
    ['the last does not answer', says(404), says(500), 'ORIGIN_STATUS'],
    ['the first does not answer', says(500), says(404, 'SECOND'), 'BLOB_UNKNOWN'],
  ])('where none has it the last one in the settings is believed: %s', async (_name, first, second, code) => {
    const [mirror, registry] = [await serve(first), await serve(second)];
    const lab = origin([mirror.url, registry.url]);
    // The second time what failed is asked last.
    for (let time = 0; time < 2; time++) await expect(read(lab)).rejects.toMatchObject({ code, detail: expect.not.objectContaining({ originCode: 'FIRST' }) });
    expect([mirror.lines.length, registry.lines.length]).toEqual([2, 2]);
  });

  test('giving up at the second leaves nothing of the first open', async () => {
    const [mirror, registry] = [await serve(says(404)), await serve(() => undefined)];
    const lab = origin([mirror.url, registry.url]);
    const reading = expect(read(lab)).rejects.toThrow('enough');
    while (registry.asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    lab.abort(new Error('enough'));
    await reading;
    await registry.idle();
  });

  test('all dead: the last failure', async () => {
    const lab = origin([`http://127.0.0.1:${await deadPort()}`, `http://127.0.0.1:${await deadPort()}`]);
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
  });
});

describe('429', () => {
  test('is not asked again until it may be; the wait is told', async () => {
    const server = await serve((_request, response) => (server.asked.length === 1 ? reply(response, 429, '', { 'retry-after': '5' }) : replyBlob(response, BLOB)));
    const lab = origin([server.url]);
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_THROTTLED', retryAfterMs: 5000 });
    lab.clock.nowMs += 2000;
    await expect(lab.client.resolve(LAB, 'v1', [], AGENT, lab.signal)).rejects.toMatchObject({ code: 'ORIGIN_THROTTLED', retryAfterMs: 3000 });
    expect(lab.client.status()[0]).toMatchObject({ throttledUntilMs: 1_005_000, faults: [{ code: 'ORIGIN_THROTTLED' }] });
    expect(server.lines).toHaveLength(1);
    lab.clock.nowMs += 3000;
    expect(await read(lab)).toBe(BLOB.toString());
  });
});

describe('addresses', () => {
  const resolvesTo = (...answers: string[]): LookupFunction => {
    let calls = 0;
    return (_host, _options, callback) => callback(null, [{ address: answers[Math.min(calls++, answers.length - 1)]!, family: 4 }]);
  };
  const foreign = { origin: 'registry.example.org', repository: 'a', kind: 'blob' as const };

  test.each(['127.0.0.1', '10.0.0.1', '169.254.169.254'])('a host that nobody configured may not be %s', async (address) => {
    const lab = origin([], { config: { origins: [] }, deps: { lookup: resolvesTo(address) } });
    await expect(lab.client.read(foreign, digest, undefined, AGENT, lab.signal)).rejects.toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
  });

  test('the address is checked at every connection, so that a changed answer gains nothing', async () => {
    const server = await serve((_request, response) => reply(response, 200, BLOB, { connection: 'close' }));
    const lab = origin([`http://registry.local:${server.port}`], { deps: { lookup: resolvesTo('127.0.0.1', '169.254.169.254') } });
    expect(await read(lab)).toBe(BLOB.toString());
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
    expect(server.connections).toBe(1);
  });

  test('a configured name may be private, but never a metadata service', async () => {
    const server = await serve((_request, response) => replyBlob(response, BLOB));
    expect(await read(origin([`http://registry.local:${server.port}`], { deps: { lookup: resolvesTo('127.0.0.1') } }))).toBe(BLOB.toString());
    await expect(read(origin(['http://registry.local'], { deps: { lookup: resolvesTo('169.254.169.254') } }))).rejects.toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
    await expect(read(origin(['http://169.254.169.254']))).rejects.toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
  });

  test('a realm at an address that is not allowed is refused', async () => {
    const server = await serve((_request, response) => reply(response, 401, '', { 'www-authenticate': 'Bearer realm="http://169.254.169.254/token"' }));
    const lab = origin([server.url], { settings: { realms: ['169.254.169.254'] } });
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_REALM_REFUSED' });
  });
});
