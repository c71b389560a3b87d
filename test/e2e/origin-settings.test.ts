// Settings of origins through a whole agent: a YAML file, a registry with TLS of its own and tokens, credential programs; what the status, the
// metrics and the log say of faults, and what they never say.

import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, type RunningAgent } from '@flotilla/agent/agent';
import { loadConfig } from '@flotilla/agent/config';
import { createLogger } from '@flotilla/agent/log';
import { ProgramFolder } from '@flotilla/agent/origin/credentials/test-programs';
import { ScriptedServer, reply, replyBlob } from '@flotilla/agent/origin/scripted-server';
import { TestCa } from '@flotilla/agent/origin/test-certificates';
import { TestProxy } from '@flotilla/agent/origin/test-proxy';
import { request } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';

const OCI = 'application/vnd.oci.image.manifest.v1+json';
const PASSWORD = 'correct-horse-battery';
const TOKEN = 'token-of-the-registry';
const LAYER = Buffer.alloc(100_000, 'layer');
const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const MANIFEST = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: OCI, config: { mediaType: 'a/b', digest: sha256(Buffer.from('{}')), size: 2 }, layers: [{ mediaType: 'a/c', digest: sha256(LAYER), size: LAYER.length }] }),
);

let dir: string;
let programs: ProgramFolder;
let ca: TestCa;
let registry: ScriptedServer;
let logged: string;
let path: string | undefined;
/** Closed after each test, the last one first. */
let opened: AsyncDisposableStack;

beforeEach(async () => {
  opened = new AsyncDisposableStack();
  dir = await mkdtemp(join(tmpdir(), 'flotilla-origin-settings-'));
  programs = new ProgramFolder();
  ca = await TestCa.create();
  registry = await ScriptedServer.start((_request, response, { path: asked, headers }) => {
    if (asked.startsWith('/token')) {
      const known = headers.authorization === `Basic ${Buffer.from(`robot:${PASSWORD}`).toString('base64')}`;
      return known ? reply(response, 200, JSON.stringify({ token: TOKEN, expires_in: 300 })) : reply(response, 401, '{}');
    }
    if (headers.authorization !== `Bearer ${TOKEN}`) return reply(response, 401, '{}', { 'www-authenticate': `Bearer realm="${registry.url}/token",service="x"` });
    if (asked.includes('/manifests/')) return reply(response, 200, MANIFEST, { 'content-type': OCI, 'docker-content-digest': sha256(MANIFEST) });
    return replyBlob(response, LAYER);
  }, await ca.issue('the registry'));
  logged = '';
  path = process.env['PATH'];
  // Credential programs are looked for where the agent's own environment says.
  process.env['PATH'] = `${programs.path}:${path}`;
});
afterEach(async () => {
  await opened.disposeAsync();
  process.env['PATH'] = path;
  await registry[Symbol.asyncDispose]();
  programs[Symbol.dispose]();
  await rm(dir, { recursive: true });
});

async function start(settings: object): Promise<RunningAgent> {
  const file = programs.write('agent.yaml', stringify({ data: join(dir, 'data'), listen: '127.0.0.1:0', adminListen: '127.0.0.1:0', storeLimit: '1GiB', storeMinFreeShare: 0, authFiles: [], ...settings }));
  const { config } = loadConfig({ env: {}, flags: { config: file } });
  return startAgent(config, createLogger('debug', { write: (line) => void (logged += line) }));
}
async function running(settings: object): Promise<RunningAgent> {
  const agent = await start(settings);
  opened.defer(() => agent.close());
  return agent;
}

async function get({ addresses: { registry: at } }: RunningAgent, what: string): Promise<{ status: number; body: string }> {
  const { statusCode, body } = await request(`http://${at.host}:${at.port}/v2/lab/team/app/${what}`);
  return { status: statusCode, body: await body.text() };
}
async function metrics({ addresses: { admin } }: RunningAgent): Promise<string> {
  return (await request(`http://${admin.host}:${admin.port}/metrics`)).body.text();
}
const originOf = async (agent: RunningAgent) => (await agent.status()).origins?.find(({ name }) => name === 'lab');

/** Everything that is written and shown while a private image is pulled. */
async function traces(agent: RunningAgent): Promise<string> {
  const files = await readdir(join(dir, 'data'), { recursive: true, withFileTypes: true });
  const texts = await Promise.all(files.filter((file) => file.isFile()).map((file) => readFile(join(file.parentPath, file.name), 'latin1')));
  return [logged, JSON.stringify(await agent.status()), await metrics(agent), ...texts].join('\n');
}

describe('a private image of a registry with its own CA', () => {
  const lab = (more: object = {}): object => ({ lab: { urls: registry.url, ca: programs.write('ca.pem', ca.cert), ...more } });
  const helper = (): void => void programs.add('docker-credential-lab', `echo '{"Username":"robot","Secret":"${PASSWORD}"}'`);

  test.each<[string, () => object, string]>([
    ['a password file', () => ({ origin: lab({ credentials: { username: 'robot', passwordFile: programs.write('password', `${PASSWORD}\n`) } }) }), 'password'],
    ['a password in the settings', () => ({ origin: lab({ credentials: { username: 'robot', password: PASSWORD } }) }), 'the settings of the origin'],
    ['what podman login left', () => ({ origin: lab(), authFiles: [programs.write('auth.json', { auths: { [`127.0.0.1:${registry.port}`]: { auth: Buffer.from(`robot:${PASSWORD}`).toString('base64') } } })] }), 'auth.json'],
    ['a credential helper', () => {
      helper();
      return { origin: lab(), authFiles: [programs.write('config.json', { credHelpers: { [`127.0.0.1:${registry.port}`]: 'lab' } })] };
    }, 'docker-credential-lab'],
    ["the kubelet's provider", () => {
      const apiVersion = 'credentialprovider.kubelet.k8s.io/v1';
      programs.add('provider', `echo '${JSON.stringify({ apiVersion, kind: 'CredentialProviderResponse', cacheKeyType: 'Registry', auth: { [`127.0.0.1:${registry.port}`]: { username: 'robot', password: PASSWORD } } })}'`);
      const providers = [{ name: 'provider', apiVersion, matchImages: [`127.0.0.1:${registry.port}`], defaultCacheDuration: '1h' }];
      return { origin: lab(), credentialProviderConfig: programs.write('providers.yaml', { apiVersion: 'kubelet.config.k8s.io/v1', kind: 'CredentialProviderConfig', providers }), credentialProviderBinDir: programs.path };
    }, 'provider'],
  ])('with %s', async (_name, settings, from) => {
    const agent = await running({ ...settings(), allow: ['lab/team/**'] });
    expect(await get(agent, 'manifests/v1')).toEqual({ status: 200, body: MANIFEST.toString() });
    expect(await get(agent, `blobs/${sha256(LAYER)}`)).toEqual({ status: 200, body: LAYER.toString() });
    expect(await originOf(agent)).toMatchObject({ credentials: expect.stringContaining(from), faults: [] });
    const everything = await traces(agent);
    for (const secret of [PASSWORD, TOKEN, Buffer.from(`robot:${PASSWORD}`).toString('base64')]) expect(everything.includes(secret)).toBe(false);
  });

  test('is not served where no rule says so, although the agent could read it', async () => {
    helper();
    const agent = await running({ origin: lab({ credentials: { helper: 'lab' } }) });
    expect((await get(agent, 'manifests/v1')).status).toBe(404);
    expect(programs.asked('docker-credential-lab')).toEqual([]);
  });

  test('comes by a proxy that the settings name', async () => {
    const proxy = await TestProxy.start({ auth: `ann:${PASSWORD}` });
    opened.use(proxy);
    const urls = `https://registry.test.example:${registry.port}`;
    // The realm is where the registry says it is: on loopback, which no proxy leads to.
    const agent = await running({
      origin: lab({ urls, realms: ['127.0.0.1'], credentials: { username: 'robot', password: PASSWORD } }),
      allow: ['lab/**'],
      httpsProxy: proxy.url.replace('//', `//ann:${PASSWORD}@`),
    });
    expect((await get(agent, 'manifests/v1')).status).toBe(200);
    expect(new Set(proxy.seen)).toEqual(new Set([`CONNECT registry.test.example:${registry.port}`]));
    expect((await traces(agent)).includes(PASSWORD)).toBe(false);
  });
});

describe('a fault', () => {
  test('has its code in the reply, the status and the metrics', async () => {
    const agent = await running({ origin: { lab: { urls: registry.url } } });
    const { status, body } = await get(agent, 'manifests/v1');
    expect(status).toBe(503);
    expect(body).toContain('ORIGIN_TLS');
    expect(await originOf(agent)).toMatchObject({ faults: [{ code: 'ORIGIN_TLS', host: `127.0.0.1:${registry.port}`, count: expect.any(Number), lastAtMs: expect.any(Number) }] });
    expect(await metrics(agent)).toMatch(/^flotilla_origin_faults_total\{code="ORIGIN_TLS"\} [1-9]/m);
  });

  test('of credentials is told, and what anybody may read is served', async () => {
    const open = await ScriptedServer.start((_request, response, { path: asked, headers }) => {
      if (asked.startsWith('/token')) return reply(response, 200, '{"token":"for-anybody"}');
      if (headers.authorization !== 'Bearer for-anybody') return reply(response, 401, '', { 'www-authenticate': `Bearer realm="${open.url}/token"` });
      return reply(response, 200, MANIFEST, { 'content-type': OCI, 'docker-content-digest': sha256(MANIFEST) });
    });
    opened.use(open);
    const agent = await running({ origin: { lab: { urls: open.url, credentials: { helper: 'nobody' } } }, allow: ['lab/**'] });
    expect((await get(agent, 'manifests/v1')).status).toBe(200);
    expect((await originOf(agent))?.faults).toEqual([]);
  });

  test('of credentials that are needed has its own code', async () => {
    const agent = await running({ origin: { lab: { urls: registry.url, ca: programs.write('ca.pem', ca.cert), credentials: { helper: 'nobody' } } }, allow: ['lab/**'] });
    const { status, body } = await get(agent, 'manifests/v1');
    expect([status, body]).toEqual([503, expect.stringContaining('ORIGIN_CREDENTIALS')]);
    expect(await originOf(agent)).toMatchObject({ credentials: 'none', faults: [{ code: 'ORIGIN_CREDENTIALS', message: expect.stringContaining('docker-credential-nobody') }] });
    expect(await metrics(agent)).toMatch(/^flotilla_fallbacks_total\{kind="origin-without-credentials"\} [1-9]/m);
  });
});

describe('a mistake in the settings ends the start', () => {
  test.each<[string, () => object, RegExp]>([
    ['a CA that is not there', () => ({ origin: { lab: { urls: 'https://a.example', ca: '/nowhere/ca.pem' } } }), /\/nowhere\/ca\.pem of origin "lab" cannot be read/],
    ['providers without their folder', () => ({ credentialProviderConfig: '/nowhere' }), /given together/],
    ['a provider file that is not there', () => ({ credentialProviderConfig: '/nowhere', credentialProviderBinDir: '/bin' }), /credentialProviderConfig: \/nowhere: ENOENT/],
    ['a provider file that is none', () => ({ credentialProviderConfig: programs.write('x.yaml', 'kind: Pod'), credentialProviderBinDir: '/bin' }), /is no CredentialProviderConfig/],
    ['a path in the URL', () => ({ origin: { lab: { urls: 'https://a.example/v2' } } }), /the URL of origin "lab"/],
  ])('%s', async (_name, settings, message) => {
    await expect(start(settings())).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) });
  });
});

test.each([
  ['neither lengths nor ranges', false],
  ['no HEAD, no lengths, no ranges', true],
])('a registry that knows %s', async (_name, noHead) => {
  const poor = await ScriptedServer.start((_request, response, { method, path: asked }) => {
    if (method === 'HEAD' && noHead) return void response.writeHead(405).end();
    const manifest = asked.includes('/manifests/');
    response.writeHead(200, { 'content-type': manifest ? OCI : 'application/octet-stream', 'transfer-encoding': 'chunked' });
    const bytes = manifest ? MANIFEST : LAYER;
    // In pieces, so that no length is known before the end.
    if (method !== 'HEAD') for (let at = 0; at < bytes.length; at += 30_000) response.write(bytes.subarray(at, at + 30_000));
    response.end();
    return undefined;
  });
  opened.use(poor);
  const agent = await running({ origin: { lab: poor.url } });
  const blobs = (): number => poor.asked.filter(({ method, path: asked, headers }) => method === 'GET' && asked.includes('/blobs/') && headers.range === undefined).length;
  expect(await get(agent, 'manifests/v1')).toEqual({ status: 200, body: MANIFEST.toString() });
  expect(await get(agent, `blobs/${sha256(LAYER)}`)).toEqual({ status: 200, body: LAYER.toString() });
  // The manifest says how long the blob is: it was read for its bytes alone.
  expect([blobs(), await metrics(agent)]).toEqual([1, expect.not.stringContaining('origin-size-by-reading')]);
  expect(await get(agent, `blobs/${sha256(LAYER)}`)).toEqual({ status: 200, body: LAYER.toString() });
  expect(blobs()).toBe(1);
});

test('with origins: listed no other host is asked', async () => {
  const agent = await running({ origins: 'listed', origin: { lab: registry.url } });
  const { host, port } = agent.addresses.registry;
  const { statusCode, body } = await request(`http://${host}:${port}/v2/other.example/app/manifests/v1`);
  expect([statusCode, await body.text()]).toEqual([404, expect.stringContaining('ORIGIN_FORBIDDEN')]);
});
