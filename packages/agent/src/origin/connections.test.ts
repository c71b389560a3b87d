// Over real sockets: private CAs, client certificates and who may show them, proxies, IPv6.

import { EventEmitter, once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createTcpServer, type LookupFunction } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TlsOptions, TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Authority } from '../content/ports.ts';
import type { OriginTls } from './origins.ts';
import { ScriptedServer, reply, replyBlob } from './scripted-server.ts';
import { TestCa, type Issued } from './test-certificates.ts';
import { AGENT, ANONYMOUS, LAB, LAB_BLOB, bytesOf, sha256, testOrigin, type TestOrigin } from './test-origin.ts';
import { TestProxy, type ProxyBehaviour } from './test-proxy.ts';

const BLOB = Buffer.from('the blob');
const digest = sha256(BLOB);
const PATH = `/v2/team/app/blobs/${digest}`;
const CALLER: Authority = { kind: 'caller', id: 'ann', authorization: 'Basic YW5uOng=' };

let folder: string;
let ca: TestCa;
let server: Issued;
let caFile: string;
let certFile: string;
let keyFile: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-tls-'));
  ca = await TestCa.create();
  server = await ca.issue('a server');
  const client = await ca.issue('this agent');
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  caFile = write('ca.pem', ca.cert);
  certFile = write('client.pem', client.cert);
  keyFile = write('client.key', client.key);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function serve(options: TlsOptions | undefined, handler: Parameters<typeof ScriptedServer.start>[0] = (_request, response) => replyBlob(response, BLOB), host = '127.0.0.1'): Promise<ScriptedServer> {
  const started = await ScriptedServer.start(handler, options, host);
  onTestFinished(() => started[Symbol.asyncDispose]());
  return started;
}
function origin(urls: readonly string[], options: Parameters<typeof testOrigin>[1] = {}): TestOrigin {
  const lab = testOrigin(urls, options);
  onTestFinished(() => lab[Symbol.asyncDispose]());
  return lab;
}
const withTls = (url: string, tls: OriginTls): TestOrigin => origin([url], { settings: { tls } });
const read = async ({ client, signal }: TestOrigin, authority = AGENT): Promise<string> => (await bytesOf(await client.read(LAB_BLOB, digest, undefined, authority, signal))).toString();

describe('a private CA', () => {
  test('is trusted by the origin that names it, and by no other', async () => {
    const { url } = await serve(server);
    expect(await read(withTls(url, { caFile }))).toBe('the blob');
    await expect(read(withTls(url, {}))).rejects.toMatchObject({ code: 'ORIGIN_TLS', detail: { systemCode: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' } });
  });

  test('that changes is read again, what is open goes on, and nonsense changes nothing', async () => {
    const next = await TestCa.create('the next CA');
    const file = join(folder, 'changing.pem');
    writeFileSync(file, ca.cert);
    const told = new EventEmitter();
    const release = Promise.withResolvers<void>();
    const slow = await serve(server, (request, response) => {
      if (request.method === 'HEAD') return replyBlob(response, BLOB);
      response.writeHead(200, { 'content-length': BLOB.length });
      response.write(BLOB.subarray(0, 3));
      return void release.promise.then(() => response.end(BLOB.subarray(3)));
    });
    const { url } = await serve(await next.issue('a server'));
    const lab = origin([slow.url], { settings: { tls: { caFile: file } }, deps: { tlsRead: (...read) => void told.emit('read', ...read) } });
    const open = await lab.client.read(LAB_BLOB, digest, undefined, AGENT, lab.signal);
    const change = async (text: string): Promise<unknown[]> => {
      const read = once(told, 'read');
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
      return read;
    };
    expect(await change('-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n')).toEqual(['lab', expect.objectContaining({ code: 'CONFIG_INVALID' })]);
    expect((await lab.client.stat({ ...LAB, repository: 'other' }, digest, AGENT, lab.signal)).size).toBe(BLOB.length);
    expect(await change(next.cert)).toEqual(['lab', undefined]);
    release.resolve();
    expect((await bytesOf(open)).toString()).toBe('the blob');
    await expect(lab.client.stat(LAB, digest, AGENT, lab.signal)).rejects.toMatchObject({ code: 'ORIGIN_TLS' });
    expect(await read(withTls(url, { caFile: file }))).toBe('the blob');
  });

  test('does not make a certificate good for another host', async () => {
    const { port } = await serve(server);
    const lookup: LookupFunction = (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]);
    const lab = origin([`https://other.example:${port}`], { settings: { tls: { caFile } }, deps: { lookup } });
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_TLS', detail: { systemCode: 'ERR_TLS_CERT_ALTNAME_INVALID' } });
    expect(await read(origin([`https://registry.test.example:${port}`], { settings: { tls: { caFile } }, deps: { lookup } }))).toBe('the blob');
  });

  test('that is missing or no certificate is a mistake in the settings', () => {
    writeFileSync(join(folder, 'nonsense.pem'), '-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n');
    for (const file of ['missing.pem', 'nonsense.pem']) {
      expect(() => testOrigin(['https://a.example'], { settings: { tls: { caFile: join(folder, file) } } })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    }
  });

  test('an unknown certificate is refused at once: nothing is tried again', async () => {
    const { url } = await serve(server);
    const lab = withTls(url, {});
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_TLS' });
    expect(lab.counts.requests).toHaveLength(1);
  });

  test('https to a port that speaks plain HTTP', async () => {
    const { port } = await serve(undefined);
    await expect(read(withTls(`https://127.0.0.1:${port}`, {}))).rejects.toMatchObject({ code: 'ORIGIN_TLS' });
  });

  test('from https to http no redirect is followed', async () => {
    const storage = await serve(undefined);
    const { url } = await serve(server, (_request, response) => reply(response, 302, '', { location: `${storage.url}/plain` }));
    await expect(read(withTls(url, { caFile }))).rejects.toMatchObject({ code: 'ORIGIN_REDIRECT' });
    expect(storage.lines).toEqual([]);
  });

  test('insecure takes any certificate of its own origin', async () => {
    const { url } = await serve(server);
    expect(await read(withTls(url, { insecure: true }))).toBe('the blob');
  });
});

describe('a client certificate', () => {
  const demanding = (version: 'TLSv1.2' | 'TLSv1.3'): TlsOptions => ({ ...server, ca: ca.cert, requestCert: true, rejectUnauthorized: true, minVersion: version, maxVersion: version });
  const asking: () => TlsOptions = () => ({ ...server, ca: ca.cert, requestCert: true, rejectUnauthorized: false });
  const own = (): OriginTls => ({ caFile, certFile, keyFile });
  /** A server that notes who connected for each request. */
  async function noting(answer?: Parameters<typeof serve>[1]): Promise<{ server: ScriptedServer; names: (string | undefined)[] }> {
    const names: (string | undefined)[] = [];
    const started = await serve(asking(), (request, response, asked) => {
      const socket = request.socket as TLSSocket;
      names.push(socket.getPeerCertificate().subject?.CN?.toString());
      if (answer === undefined) replyBlob(response, BLOB);
      else answer(request, response, asked);
    });
    return { server: started, names };
  }

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('is shown to an origin that demands it (%s)', async (version) => {
    const { url } = await serve(demanding(version));
    expect(await read(withTls(url, own()))).toBe('the blob');
  });

  // TLS 1.2 has no word for it; OpenSSL's own server says the same (test/e2e/client-certificate.real.test.ts).
  test.each([['TLSv1.2', 'ORIGIN_TLS'], ['TLSv1.3', 'ORIGIN_CLIENT_CERT']] as const)('that only the agent has is a refusal to anybody else (%s)', async (version, code) => {
    const { url } = await serve(demanding(version));
    const lab = withTls(url, own());
    for (const authority of [ANONYMOUS, CALLER]) await expect(read(lab, authority)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED', message: 'lab asks for a client certificate' });
    expect(await read(lab)).toBe('the blob');
    await expect(read(withTls(url, { caFile }))).rejects.toMatchObject({ code });
  });

  test('missing as nginx says it, in a page', async () => {
    const page = await serve(server, (_request, response) => reply(response, 400, '<html><center>No required SSL certificate was sent</center>'));
    await expect(read(withTls(page.url, { caFile }))).rejects.toMatchObject({ code: 'ORIGIN_CLIENT_CERT', detail: { status: 400 } });
    await expect(read(withTls(page.url, { caFile }), ANONYMOUS)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
  });

  test("is the agent's: nobody else's requests go by its connections", async () => {
    const { server: { url }, names } = await noting();
    const lab = withTls(url, own());
    for (const authority of [AGENT, ANONYMOUS, CALLER, AGENT]) await read(lab, authority);
    expect(names).toEqual(['this agent', undefined, undefined, 'this agent']);
  });

  test('is shown to token servers that the settings name, and to no host that it was redirected to', async () => {
    const storage = await noting();
    const tokens = await noting((_request, response) => reply(response, 200, '{"token":"t"}'));
    const registry = await noting((_request, response, { headers }) =>
      headers.authorization === 'Bearer t' ? reply(response, 307, '', { location: `${storage.server.url}/x` }) : reply(response, 401, '', { 'www-authenticate': `Bearer realm="${tokens.server.url}/token"` }),
    );
    const at = (realms: string[]): TestOrigin => origin([registry.server.url], { settings: { tls: own(), realms } });
    expect(await read(at([new URL(tokens.server.url).host]))).toBe('the blob');
    expect([registry.names, tokens.names, storage.names]).toEqual([['this agent', 'this agent'], ['this agent'], [undefined]]);
    tokens.names.length = 0;
    expect(await read(at([]))).toBe('the blob');
    expect(tokens.names).toEqual([undefined]);
  });

  test('without its key, or with one that is not its own, is a mistake in the settings', () => {
    const made = (tls: OriginTls) => (): unknown => testOrigin(['https://a.example'], { settings: { tls } });
    expect(made({ certFile })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('both clientCert and clientKey') }));
    writeFileSync(join(folder, 'server.key'), server.key);
    expect(made({ certFile, keyFile: join(folder, 'server.key') })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(made({ certFile, keyFile: join(folder, 'missing') })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('missing') }));
  });
});

describe('a proxy', () => {
  async function proxied(urls: string[], behaviour: ProxyBehaviour = {}, { tls, no, user }: { tls?: OriginTls; no?: string; user?: string } = {}) {
    const proxy = await TestProxy.start(behaviour);
    onTestFinished(() => proxy[Symbol.asyncDispose]());
    const url = user === undefined ? proxy.url : proxy.url.replace('//', `//${user}@`);
    const lab = origin(urls, { settings: { tls: tls ?? {} }, config: { proxy: { http: url, https: url, ...(no !== undefined && { no }) } } });
    return { proxy, lab };
  }

  test('forwards plain requests', async () => {
    const { port } = await serve(undefined);
    const { proxy, lab } = await proxied([`http://registry.test.example:${port}`]);
    expect(await read(lab)).toBe('the blob');
    expect(proxy.seen).toEqual([`GET http://registry.test.example:${port}${PATH}`]);
  });

  test('opens a tunnel for https; the certificate is checked through it', async () => {
    const { port } = await serve(server);
    const urls = [`https://registry.test.example:${port}`];
    const { proxy, lab } = await proxied(urls, {}, { tls: { caFile } });
    expect(await read(lab)).toBe('the blob');
    expect(proxy.seen).toEqual([`CONNECT registry.test.example:${port}`]);
    await expect(read((await proxied(urls)).lab)).rejects.toMatchObject({ code: 'ORIGIN_TLS' });
    await expect(read((await proxied([`https://other.example:${port}`], {}, { tls: { caFile } })).lab)).rejects.toMatchObject({ code: 'ORIGIN_TLS' });
  });

  test('lets a client certificate through', async () => {
    const { port } = await serve({ ...server, ca: ca.cert, requestCert: true, rejectUnauthorized: true });
    const { lab } = await proxied([`https://registry.test.example:${port}`], {}, { tls: { caFile, certFile, keyFile } });
    expect(await read(lab)).toBe('the blob');
    await expect(read(lab, ANONYMOUS)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
  });

  test.each(['http', 'https'])('gets its own name and password, the origin does not (%s)', async (scheme) => {
    const started = await serve(scheme === 'https' ? server : undefined);
    const urls = [`${scheme}://registry.test.example:${started.port}`];
    const { proxy, lab } = await proxied(urls, { auth: 'ann:p@ss' }, { tls: { caFile }, user: 'ann:p%40ss' });
    expect(await read(lab)).toBe('the blob');
    expect(proxy.authorizations).toEqual([`Basic ${Buffer.from('ann:p@ss').toString('base64')}`]);
    expect(started.asked.every(({ headers }) => headers['proxy-authorization'] === undefined)).toBe(true);
    const without = await proxied(urls, { auth: 'ann:p@ss' }, { tls: { caFile } });
    await expect(read(without.lab)).rejects.toMatchObject({ code: 'ORIGIN_PROXY', detail: { proxy: `127.0.0.1:${without.proxy.port}` } });
  });

  test('is left out for what NO_PROXY names, and for this host', async () => {
    const started = await serve(undefined);
    const lookup: LookupFunction = (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]);
    const proxy = await TestProxy.start();
    onTestFinished(() => proxy[Symbol.asyncDispose]());
    const at = (url: string): TestOrigin => origin([url], { config: { proxy: { http: proxy.url, no: '.corp.example' } }, deps: { lookup } });
    expect(await read(at(`http://registry.corp.example:${started.port}`))).toBe('the blob');
    expect(await read(at(started.url))).toBe('the blob');
    expect(proxy.seen).toEqual([]);
  });

  test.each<[string, ProxyBehaviour]>([
    ['refuses', { tunnels: 403 }],
    ['cannot reach the origin', { tunnels: 502 }],
  ])('that %s has its own code', async (_name, behaviour) => {
    const { lab } = await proxied(['https://registry.test.example'], behaviour);
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_PROXY' });
    expect(lab.client.status()[0]).toMatchObject({ faults: [{ code: 'ORIGIN_PROXY', host: 'registry.test.example', count: 1 }] });
  });

  test('that is not there has its own code, for both schemes', async () => {
    const { proxy, lab } = await proxied(['https://registry.test.example', 'http://registry.test.example']);
    await proxy[Symbol.asyncDispose]();
    await expect(read(lab)).rejects.toMatchObject({ code: 'ORIGIN_PROXY' });
    expect(lab.counts.faults).toEqual(['ORIGIN_PROXY', 'ORIGIN_PROXY']);
  });

  test('that never opens its tunnel is given up', async () => {
    const proxy = await TestProxy.start({ tunnels: 'silent' });
    onTestFinished(() => proxy[Symbol.asyncDispose]());
    const lab = origin(['https://registry.test.example'], { config: { proxy: { https: proxy.url }, limits: { headersTimeoutMs: 300, connectTimeoutMs: 300 } } });
    await expect(read(lab)).rejects.toMatchObject({ code: expect.stringMatching(/^ORIGIN_(PROXY|TIMEOUT)$/) });
  });

  test("never leads to a metadata service, nor a host that nobody configured into the host's own network", async () => {
    const proxy = await TestProxy.start();
    onTestFinished(() => proxy[Symbol.asyncDispose]());
    const config = { proxy: { http: proxy.url, https: proxy.url } };
    await expect(read(origin(['http://169.254.169.254'], { config }))).rejects.toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
    const answers: Record<string, string> = { 'inside.example': '10.0.0.7', 'rebound.example': '169.254.169.254' };
    const lookup: LookupFunction = (host, _options, callback) => {
      const address = answers[host];
      if (address === undefined) callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), []);
      else callback(null, [{ address, family: 4 }]);
    };
    const { client, signal } = origin(['http://lab.example'], { config, deps: { lookup } });
    for (const name of Object.keys(answers)) {
      await expect(client.stat({ origin: name, repository: 'a' }, digest, AGENT, signal)).rejects.toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
    }
    expect(proxy.seen).toEqual([]);
    // The proxy may know more names than this host.
    await expect(client.stat({ origin: 'outside.example', repository: 'a' }, digest, AGENT, signal)).rejects.toThrow();
    expect(proxy.seen).toEqual(['CONNECT outside.example:443']);
  });
});

/** Whether nobody listens on this port of 127.0.0.1. */
async function isFree(port: number): Promise<boolean> {
  const probe = createTcpServer().listen(port, '127.0.0.1');
  const free = await once(probe, 'listening').then(() => true, () => false);
  if (free) await new Promise((resolve) => probe.close(resolve));
  return free;
}

describe('IPv6', () => {
  test('an origin at an IPv6 address, plain and with TLS', async () => {
    const plain = await serve(undefined, undefined, '::1');
    expect(plain.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
    expect(await read(origin([plain.url]))).toBe('the blob');
    const secure = await serve(server, undefined, '::1');
    expect(await read(withTls(secure.url, { caFile }))).toBe('the blob');
    expect(plain.asked[0]!.headers.host).toBe(new URL(plain.url).host);
  });

  test('a name with addresses of both families is reached at the one that answers', async () => {
    let { port } = await serve(undefined, undefined, '::1');
    while (!(await isFree(port))) ({ port } = await serve(undefined, undefined, '::1'));
    const lookup: LookupFunction = (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }, { address: '::1', family: 6 }]);
    expect(await read(origin([`http://both.example:${port}`], { deps: { lookup } }))).toBe('the blob');
  });

  test('a configured address is found by ns, in brackets and with its port', async () => {
    const { url } = await serve(undefined, undefined, '::1');
    const { client, signal } = origin([url]);
    const repository = client.resolveImage('team/app', new URL(url).host);
    expect(repository).toEqual(LAB);
    expect(await client.stat(repository, digest, AGENT, signal)).toMatchObject({ size: BLOB.length });
    expect(() => client.resolveImage('team/app', '[::1]:1')).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  });
});
