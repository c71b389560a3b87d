// The chain of sources with real files and real programs: who is asked, in which order, how often, and what a failure hides.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OriginEntry } from '../origins.ts';
import { Credentials, type CredentialSettings, type OriginCredentials } from './credentials.ts';
import type { SecretPlace } from './secret.ts';
import { ProgramFolder } from './test-programs.ts';

const never = new AbortController().signal;
const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
const basic = (username: string, password = 'pw') => ({ kind: 'basic', username, password });

let folder: ProgramFolder;
let nowMs: number;
beforeEach(() => {
  folder = new ProgramFolder();
  nowMs = 1_000_000;
});
afterEach(() => folder[Symbol.dispose]());

function chain(settings: Partial<CredentialSettings> = {}): Credentials {
  return new Credentials({ authFiles: [], env: folder.env, programs: { timeoutMs: 5_000 }, ...settings }, () => nowMs);
}

function place(host = 'quay.io', repository = 'acme/app', credentials?: OriginCredentials): SecretPlace {
  const base = new URL(`https://${host}`);
  const entry: OriginEntry = { name: 'lab', urls: [base], realms: [], tls: {}, credentials, privateAllowed: true };
  return { entry, base, repository };
}

/** A helper that knows one host, and counts. */
function helper(name: string, username: string): void {
  folder.add(`docker-credential-${name}`, `if [ "$input" = quay.io ]; then echo '{"ServerURL":"quay.io","Username":"${username}","Secret":"pw"}'; else echo 'credentials not found in native keychain'; exit 1; fi`);
}

describe('files', () => {
  test('the first that has some counts; one that is not there is passed over', async () => {
    const files = [folder.path + '/missing', folder.write('a.json', { auths: { 'ghcr.io': auth('a:pw') } }), folder.write('b.json', { auths: { 'quay.io': auth('b:pw'), 'ghcr.io': auth('c:pw') } })];
    const credentials = chain({ authFiles: files });
    expect(await credentials.find(place('ghcr.io'), never)).toEqual({ secret: basic('a'), from: files[1], failure: undefined });
    expect(await credentials.find(place('quay.io'), never)).toEqual({ secret: basic('b'), from: files[2], failure: undefined });
    expect(await credentials.find(place('gcr.io'), never)).toEqual({ secret: undefined, from: undefined, failure: undefined });
  });

  test('a login counts at once, and so does a logout', async () => {
    const file = folder.write('auth.json', {});
    const credentials = chain({ authFiles: [file] });
    expect((await credentials.find(place(), never)).secret).toBeUndefined();
    folder.write('auth.json', { auths: { 'quay.io': auth('ann:pw') } });
    expect((await credentials.find(place(), never)).secret).toEqual(basic('ann'));
    rmSync(file);
    expect((await credentials.find(place(), never)).secret).toBeUndefined();
  });

  test('one that cannot be read hides no other; it is told, without a word of it', async () => {
    const broken = folder.write('broken.json', '{"auths":{"quay.io":{"auth":"hunter2"');
    const files = [broken, folder.write('b.json', { auths: { 'quay.io': auth('b:pw') } })];
    expect(await chain({ authFiles: files }).find(place(), never)).toMatchObject({ secret: basic('b'), failure: { code: 'ORIGIN_CREDENTIALS', message: `${broken}: it is no JSON` } });
    const { secret, failure } = await chain({ authFiles: [broken] }).find(place(), never);
    expect([secret, failure?.code]).toEqual([undefined, 'ORIGIN_CREDENTIALS']);
    expect(JSON.stringify([failure?.message, failure?.detail, String(failure?.cause)])).not.toContain('hunter2');
  });
});

describe('helpers', () => {
  test('of a host, before the store of all, before what stands in the file', async () => {
    helper('special', 'special');
    helper('store', 'store');
    const file = (content: object): string[] => [folder.write('config.json', { auths: { 'quay.io': auth('file:pw'), 'ghcr.io': auth('file:pw') }, ...content })];
    expect(await chain({ authFiles: file({ credHelpers: { 'quay.io': 'special' }, credsStore: 'store' }) }).find(place(), never)).toMatchObject({ secret: basic('special'), from: 'docker-credential-special' });
    expect((await chain({ authFiles: file({ credsStore: 'store' }) }).find(place(), never)).secret).toEqual(basic('store'));
    // The store does not know it.
    expect((await chain({ authFiles: file({ credsStore: 'store' }) }).find(place('ghcr.io'), never)).secret).toEqual(basic('file'));
    expect(folder.asked('docker-credential-special')).toEqual(['get quay.io']);
  });

  test('Docker Hub has its own spelling', async () => {
    folder.add('docker-credential-hub', `echo '{"Username":"<token>","Secret":"refresh"}'`);
    const credentials = chain({ authFiles: [folder.write('config.json', { credHelpers: { 'https://index.docker.io/v1/': 'hub' } })] });
    expect((await credentials.find(place('registry-1.docker.io', 'library/nginx'), never)).secret).toEqual({ kind: 'identity', token: 'refresh' });
    expect(folder.asked('docker-credential-hub')).toEqual(['get https://index.docker.io/v1/']);
  });

  test('are asked once a minute, once at a time, and again when what they said was refused', async () => {
    helper('store', 'ann');
    const credentials = chain({ authFiles: [folder.write('config.json', { credsStore: 'store' })] });
    const asked = (): number => folder.asked('docker-credential-store').length;
    await Promise.all([credentials.find(place(), never), credentials.find(place('quay.io', 'other'), never)]);
    expect(asked()).toBe(1);
    nowMs += 59_000;
    await credentials.find(place(), never);
    expect(asked()).toBe(1);
    nowMs += 1_000;
    await credentials.find(place(), never);
    expect(asked()).toBe(2);
    // At once it would say the same.
    credentials.refused(place());
    await credentials.find(place(), never);
    expect(asked()).toBe(2);
    nowMs += 10_000;
    credentials.refused(place('gcr.io'));
    await credentials.find(place(), never);
    expect(asked()).toBe(2);
    credentials.refused(place());
    await credentials.find(place(), never);
    expect(asked()).toBe(3);
  });

  test.each([
    ['is not there', undefined, /ENOENT/],
    ['fails', 'echo hunter2; echo hunter2 >&2; exit 1', /it ended with code 1/],
    ['prints no JSON', 'echo hunter2', /it is no JSON/],
    ['prints something else', `echo '{"Token":"hunter2"}'`, /no Username and Secret/],
    ['does not end', 'sleep 1000', /did not end within 300 ms/],
  ])('one that %s is told, and left alone for ten seconds', async (_name, body, message) => {
    if (body !== undefined) folder.add('docker-credential-bad', body);
    const credentials = chain({ authFiles: [folder.write('config.json', { auths: { 'quay.io': auth('file:pw') }, credHelpers: { 'quay.io': 'bad' } })], programs: { timeoutMs: body === 'sleep 1000' ? 300 : 5_000 } });
    const find = () => credentials.find(place(), never);
    const { secret, failure } = await find();
    expect(secret).toBeUndefined();
    expect(failure).toMatchObject({ code: 'ORIGIN_CREDENTIALS', message: expect.stringMatching(message) });
    expect(`${failure?.message}${JSON.stringify(failure?.detail)}${String(failure?.cause)}`).not.toContain('hunter2');
    await find();
    if (body === undefined) return;
    expect(folder.asked('docker-credential-bad')).toHaveLength(1);
    nowMs += 10_000;
    await find();
    expect(folder.asked('docker-credential-bad')).toHaveLength(2);
  });

  test('giving up while one runs is not kept as its failure', async () => {
    folder.add('docker-credential-slow', `if [ -e '${join(folder.path, 'fast')}' ]; then echo '{"Username":"ann","Secret":"pw"}'; else exec sleep 1000; fi`);
    const credentials = chain({ authFiles: [folder.write('config.json', { credsStore: 'slow' })] });
    const controller = new AbortController();
    const waiting = expect(credentials.find(place(), controller.signal)).rejects.toThrow('enough');
    while (folder.asked('docker-credential-slow').length === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort(new Error('enough'));
    await waiting;
    folder.write('fast', '');
    expect((await credentials.find(place(), never)).secret).toEqual(basic('ann'));
  });
});

describe("the kubelet's providers", () => {
  const provider = (change: object = {}): object => ({ name: 'plugin', matchImages: ['quay.io', '*.corp.example'], defaultCacheDuration: '1h', apiVersion: 'credentialprovider.kubelet.k8s.io/v1', ...change });
  function kubelet(...providers: object[]): Credentials {
    const config = folder.write('providers.yaml', { apiVersion: 'kubelet.config.k8s.io/v1', kind: 'CredentialProviderConfig', providers });
    return chain({ kubelet: { config, binDir: folder.path } });
  }
  function plugin(change: object = {}, name = 'plugin'): void {
    const answer = { apiVersion: 'credentialprovider.kubelet.k8s.io/v1', kind: 'CredentialProviderResponse', cacheKeyType: 'Image', auth: { 'quay.io': { username: 'ann', password: 'pw' }, '*.corp.example': { username: 'bob', password: 'pw' } }, ...change };
    folder.add(name, `echo '${JSON.stringify(answer)}'`);
  }
  const asked = (): number => folder.asked('plugin').length;

  test('get the image, their arguments and their environment; only those that match are asked', async () => {
    plugin();
    const credentials = kubelet(provider({ args: ['get', '--x'], env: [{ name: 'A', value: 'b' }] }));
    expect(await credentials.find(place(), never)).toEqual({ secret: basic('ann'), from: 'plugin', failure: undefined });
    expect((await credentials.find(place('gcr.io'), never)).secret).toBeUndefined();
    const [line = ''] = folder.asked('plugin');
    expect(line.slice(0, 8)).toBe('get --x ');
    expect(JSON.parse(line.slice(8))).toEqual({ apiVersion: 'credentialprovider.kubelet.k8s.io/v1', kind: 'CredentialProviderRequest', image: 'quay.io/acme/app' });
    expect(asked()).toBe(1);
  });

  test.each([
    ['Image', 3],
    ['Registry', 2],
    ['Global', 1],
  ])('are asked again by cacheKeyType: %s', async (cacheKeyType, times) => {
    plugin({ cacheKeyType });
    const credentials = kubelet(provider());
    for (const where of [place(), place('quay.io', 'acme/other'), place('a.corp.example'), place()]) expect((await credentials.find(where, never)).secret).toBeDefined();
    expect(asked()).toBe(times);
  });

  test.each([
    ['what the answer says', { cacheDuration: '30s' }, 30_000],
    ['the default of the provider', {}, 3_600_000],
    ['no time at all', { cacheDuration: '0s' }, 0],
  ])('are asked again after %s', async (_name, change, cacheMs) => {
    plugin(change);
    const credentials = kubelet(provider());
    await credentials.find(place(), never);
    nowMs += Math.max(0, cacheMs - 1);
    await credentials.find(place(), never);
    expect(asked()).toBe(cacheMs === 0 ? 2 : 1);
    nowMs += 1;
    await credentials.find(place(), never);
    expect(asked()).toBe(cacheMs === 0 ? 3 : 2);
  });

  test('one that fails hides no other', async () => {
    plugin({}, 'second');
    folder.add('plugin', 'exit 7');
    const both = kubelet(provider(), provider({ name: 'second' }));
    expect(await both.find(place(), never)).toMatchObject({ secret: basic('ann'), from: 'second' });
    expect(await kubelet(provider()).find(place(), never)).toMatchObject({ secret: undefined, failure: { code: 'ORIGIN_CREDENTIALS', message: 'plugin: it ended with code 7' } });
  });

  test('come after the files', async () => {
    plugin();
    const config = folder.write('providers.yaml', { apiVersion: 'kubelet.config.k8s.io/v1', kind: 'CredentialProviderConfig', providers: [provider()] });
    const credentials = chain({ authFiles: [folder.write('auth.json', { auths: { 'quay.io': auth('file:pw') } })], kubelet: { config, binDir: folder.path } });
    expect((await credentials.find(place(), never)).secret).toEqual(basic('file'));
    expect((await credentials.find(place('a.corp.example'), never)).secret).toEqual(basic('bob'));
  });
});

describe("an origin's own", () => {
  test('are used instead of all others', async () => {
    const authFiles = [folder.write('auth.json', { auths: { 'quay.io': auth('file:pw') } })];
    const own = folder.write('own.json', { auths: { 'quay.io': auth('own:pw') } });
    const password = folder.write('password', ' p w\n');
    helper('pass', 'helper');
    const credentials = chain({ authFiles });
    const find = async (settings: OriginCredentials) => (await credentials.find(place('quay.io', 'app', settings), never)).secret;
    expect(await find({ kind: 'none' })).toBeUndefined();
    expect(await find({ kind: 'password', username: 'a', password: 'b' })).toEqual(basic('a', 'b'));
    expect(await find({ kind: 'password-file', username: 'a', passwordFile: password })).toEqual(basic('a', ' p w'));
    expect(await find({ kind: 'auth-file', path: own })).toEqual(basic('own'));
    expect(await find({ kind: 'helper', name: 'pass' })).toEqual(basic('helper'));
  });

  test('whose file is missing are told', async () => {
    const missing = join(folder.path, 'missing');
    expect(await chain().find(place('quay.io', 'app', { kind: 'password-file', username: 'a', passwordFile: missing }), never)).toMatchObject({
      secret: undefined,
      failure: { code: 'ORIGIN_CREDENTIALS', message: `${missing}: there is no such file` },
    });
  });
});
