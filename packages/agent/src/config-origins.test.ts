// Settings of origins, proxies and credentials through the real loader: what is read, what is refused, and that no secret is ever printed.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { readOrigin, SettingRefused } from './config-origins.ts';
import { loadConfig, programEnvironment, type LoadedConfig } from './config.ts';
import { AgentError } from './errors.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function load(file: string, env: Record<string, string> = {}, flags: Record<string, string[]> = {}): LoadedConfig {
  const path = join(folder, `${files++}.yaml`);
  writeFileSync(path, file);
  return loadConfig({ flags: { ...flags, config: path }, env: { HOME: '/home/somebody', ...env } });
}

function refusal(file: string): string {
  try {
    load(file);
  } catch (error) {
    if (error instanceof AgentError && error.code === 'CONFIG_INVALID') return error.message;
    throw error;
  }
  return 'accepted';
}

const textsOf = ({ entries }: LoadedConfig): Record<string, string> => Object.fromEntries(entries.map(({ setting, text }) => [setting, text]));

describe('an origin', () => {
  test('has all of its settings', () => {
    const loaded = load(`
origin:
  corp:
    urls: [https://registry.corp.example, "https://[2001:db8::7]:5000/"]
    ca: /etc/corp/ca.pem
    clientCert: /etc/corp/client.pem
    clientKey: /etc/corp/client.key
    realms: [Auth.corp.example, "login.corp.example:8443", "[2001:db8::8]:5001"]
    credentials: {username: robot, passwordFile: /etc/corp/password}
  lab: {urls: "https://lab.example:5000", insecure: true, credentials: none}
  docker.io: {credentials: {helper: pass}}
  quay.io: {credentials: {authFile: /etc/quay.json}}
`);
    expect(loaded.config.origin).toEqual({
      corp: {
        urls: ['https://registry.corp.example', 'https://[2001:db8::7]:5000'],
        ca: '/etc/corp/ca.pem',
        clientCert: '/etc/corp/client.pem',
        clientKey: '/etc/corp/client.key',
        realms: ['auth.corp.example', 'login.corp.example:8443', '[2001:db8::8]:5001'],
        credentials: { kind: 'password-file', username: 'robot', passwordFile: '/etc/corp/password' },
      },
      lab: { urls: ['https://lab.example:5000'], insecure: true, credentials: { kind: 'none' } },
      'docker.io': { credentials: { kind: 'helper', name: 'pass' } },
      'quay.io': { credentials: { kind: 'auth-file', path: '/etc/quay.json' } },
    });
    expect(textsOf(loaded)).toMatchObject({
      'origin.corp': 'https://registry.corp.example, https://[2001:db8::7]:5000; realms auth.corp.example login.corp.example:8443 [2001:db8::8]:5001; ca /etc/corp/ca.pem; clientCert /etc/corp/client.pem; credentials robot /etc/corp/password',
      'origin.lab': 'https://lab.example:5000; insecure; credentials none',
      'origin.docker.io': 'credentials docker-credential-pass',
    });
  });

  test('given on the command line replaces the whole of the file: its credentials stay with its URL', () => {
    const file = 'origin:\n  corp: {urls: https://a.example, credentials: {username: robot, password: hunter2}}\n';
    expect(load(file, {}, { origin: ['corp=https://b.example'] }).config.origin).toEqual({ corp: { urls: ['https://b.example'] } });
  });

  test.each<[string, RegExp]>([
    ['{urls: https://x, clientcert: /a, clientKey: /b}', /unknown key "clientcert"; did you mean "clientCert"\?/],
    ['{urls: https://x, colour: red}', /unknown key "colour"; known are urls, realms, ca, /],
    ['{urls: https://x, __proto__: {a: 1}}', /unknown key "__proto__"/],
    ['{urls: https://x, clientCert: /a}', /clientCert and clientKey are given together/],
    ['{urls: []}', /urls are http/],
    ['{urls: ["https://ann:hunter2@x"]}', /urls are http/],
    ['{urls: https://x, realms: ["https://auth"]}', /realms are hosts/],
    ['{urls: https://x, insecure: "yes"}', /insecure is true or false/],
    ['{urls: https://x, ca: [hunter2]}', /ca is a file/],
    ['{urls: https://x, credentials: all}', /credentials are "none", or a mapping/],
    ['{urls: https://x, credentials: {usernme: a, password: hunter2}}', /unknown key "credentials.usernme"; did you mean "credentials.username"\?/],
    ['{urls: https://x, credentials: {username: a}}', /credentials are either/],
    ['{urls: https://x, credentials: {username: a, password: hunter2, passwordFile: /x}}', /credentials are either/],
    ['{urls: https://x, credentials: {username: a, password: [hunter2]}}', /credentials.password is no text/],
    ['{urls: https://x, credentials: {username: "a:hunter2", password: hunter2}}', /username has a colon/],
    ['{urls: https://x, credentials: {helper: ../hunter2}}', /credentials.helper is the word/],
    ['https://ann:hunter2@x', /^origin: "https:\/\/\(hidden\)@x" is not allowed/],
    ['7', /^origin: "7" is not allowed/],
  ])('%s is refused', (value, message) => {
    const said = refusal(`origin: {corp: ${value}}`);
    expect(said).toMatch(message);
    expect(said).not.toContain('hunter2');
  });

  test('a file that is no YAML is not quoted', () => {
    const said = refusal('origin:\n  corp: {credentials: {username: a, password: "hunter2}}\n');
    expect(said).toMatch(/is no YAML: .* \(line \d\)$/);
    expect(said).not.toContain('hunter2');
  });

  test('property: whatever stands there is read or refused, and no text but a key is repeated', () => {
    const value = fc.oneof(fc.string(), fc.boolean(), fc.constant(null), fc.array(fc.string()), fc.dictionary(fc.string(), fc.string()));
    const keys = fc.constantFrom('urls', 'realms', 'ca', 'clientCert', 'clientKey', 'insecure', 'credentials');
    fc.assert(
      fc.property(fc.oneof(value, fc.dictionary(keys, value)), (raw) => {
        try {
          const read = readOrigin(raw);
          expect(read === undefined || typeof read === 'object').toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(SettingRefused);
        }
      }),
    );
  });
});

describe('secrets', () => {
  test('property: a password is used and never printed', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 12, unit: 'grapheme-ascii' }).filter((text) => /[^0-9.\s]/.test(text)), (password) => {
        const loaded = load(stringify({ origin: { corp: { urls: 'https://x.example', credentials: { username: 'robot', password } } } }));
        expect(loaded.config.origin['corp']?.credentials).toEqual({ kind: 'password', username: 'robot', password });
        expect(JSON.stringify(loaded.entries)).not.toContain(JSON.stringify(password).slice(1, -1));
        expect(textsOf(loaded)['origin.corp']).toBe('https://x.example; credentials robot (hidden)');
      }),
      { numRuns: 50 },
    );
  });

  test('the password of a proxy is used and never printed', () => {
    const loaded = load('httpsProxy: http://ann:hunter2@proxy.example:3128\n');
    expect(loaded.config.httpsProxy).toBe('http://ann:hunter2@proxy.example:3128');
    expect(JSON.stringify(loaded.entries)).not.toContain('hunter2');
    expect(textsOf(loaded)['httpsProxy']).toBe('http://(hidden)@proxy.example:3128');
    const said = refusal('httpsProxy: ftp://ann:hunter2@proxy\n');
    expect(said).toMatch(/^httpsProxy: .* is not allowed/);
    expect(said).not.toContain('hunter2');
  });
});

describe('proxies', () => {
  const environment = { HTTP_PROXY: 'proxy:3128', https_proxy: 'https://proxy:3129', HTTPS_PROXY: 'http://other', NO_PROXY: '10.0.0.0/8,.corp.example' };

  test('come from the variables that all programs know, and say so', () => {
    const { config, entries } = load('', environment);
    expect(config).toMatchObject({ httpProxy: 'http://proxy:3128', httpsProxy: 'https://proxy:3129', noProxy: '10.0.0.0/8,.corp.example' });
    expect(entries.find(({ setting }) => setting === 'httpsProxy')).toMatchObject({ source: 'environment', where: 'https_proxy' });
  });

  test('the file counts more, and may say that there is none', () => {
    const { config } = load('httpProxy: none\nhttpsProxy: http://mine:1\nnoProxy: ""\n', environment);
    expect(config).toMatchObject({ httpProxy: '', httpsProxy: 'http://mine:1', noProxy: '' });
    expect(textsOf(load('httpProxy: none'))['httpProxy']).toBe('none');
  });

  test.each(['socks5://proxy', 'http://proxy/path', 'http://', 'http://proxy?x'])('%s is refused', (url) => {
    expect(refusal(`httpProxy: "${url}"`)).toMatch(/^httpProxy: .*; write http:\/\/HOST:PORT/);
  });
});

describe('credentials', () => {
  test('lie where podman and docker leave them', () => {
    expect(load('', { XDG_RUNTIME_DIR: '/run/user/7', DOCKER_CONFIG: '/d' }).config.authFiles).toEqual(['/run/user/7/containers/auth.json', '/home/somebody/.config/containers/auth.json', '/d/config.json']);
    expect(load('').config.authFiles).toEqual([`/run/containers/${process.getuid?.()}/containers/auth.json`, '/home/somebody/.config/containers/auth.json', '/home/somebody/.docker/config.json']);
  });

  test('or where REGISTRY_AUTH_FILE or the settings say, and nowhere else', () => {
    expect(load('', { REGISTRY_AUTH_FILE: '/a.json' }).config.authFiles).toEqual(['/a.json']);
    expect(load('authFiles: [/b.json, /c.json]', { REGISTRY_AUTH_FILE: '/a.json' }).config.authFiles).toEqual(['/b.json', '/c.json']);
    expect(load('authFiles: []', { REGISTRY_AUTH_FILE: '/a.json' }).config.authFiles).toEqual([]);
  });

  test("programs see the environment without the agent's own settings", () => {
    expect(programEnvironment({ PATH: '/bin', FLOTILLA_ORIGIN: 'a=b', HOME: '/' })).toEqual({ PATH: '/bin', HOME: '/' });
  });
});

test('which hosts may be origins', () => {
  expect(load('').config.origins).toBe('any-public');
  expect(load('origins: listed').config.origins).toBe('listed');
  expect(refusal('origins: none')).toMatch(/^origins: "none" .* write any-public or listed$/);
});
