// docs/origins.md as it stands: every file on it is read by the agent's own loader and means what the page says.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadConfig, SETTINGS, type AgentConfig } from '@flotilla/agent/config';
import { OriginSchema } from '@flotilla/agent/config-origins';
import { originConfig } from '@flotilla/agent/configured-origin';
import { ERRORS } from '@flotilla/agent/errors';
import { OriginTable } from '@flotilla/agent/origin/origins';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readPage } from '../support/page.ts';
import { checkout } from '../support/processes.ts';

const page = readPage('origins.md');
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-page-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The page's file with this text in it. */
function configWith(text: string): AgentConfig {
  const found = page.files.filter((each) => each.text.includes(text));
  expect(found).toHaveLength(1);
  return load(found[0]!.text);
}

function load(text: string): AgentConfig {
  const config = join(folder, 'agent.yaml');
  writeFileSync(config, text);
  return loadConfig({ flags: { config }, env: { HOME: '/root' } }).config;
}

test('every YAML block is a settings file that is read, with origins that can be used', () => {
  const blocks = [...page.text.matchAll(/^```yaml$/gm)].length;
  expect([page.files.length, new Set(page.files.map(({ path }) => path))]).toEqual([blocks, new Set(['/etc/flotilla/agent.yaml'])]);
  expect(blocks).toBe(9);
  for (const { text } of page.files) {
    const { origins } = originConfig(load(text));
    expect(new OriginTable(origins).names()).toEqual(expect.arrayContaining(origins.map(({ name }) => name)));
  }
});

test('names and URLs', () => {
  const { origin, defaultOrigin } = configWith('mirror.corp.example');
  expect([origin, defaultOrigin]).toEqual([
    {
      corp: { urls: ['https://registry.corp.example:5000'] },
      'docker.io': { urls: ['https://mirror.corp.example', 'https://registry-1.docker.io'] },
      'registry.example': { credentials: { kind: 'password-file', username: 'fleet', passwordFile: '/etc/flotilla/registry.password' } },
    },
    'docker.io',
  ]);
  expect(new OriginTable(originConfig(configWith('mirror.corp.example')).origins).entry('registry.example').urls.map(String)).toEqual(['https://registry.example/']);
});

test('certificates', () => {
  const { origins } = originConfig(configWith('clientCert'));
  expect(origins.map(({ name, tls }) => [name, tls])).toEqual([
    ['corp', { caFile: '/etc/flotilla/corp-ca.pem' }],
    ['vault', { caFile: '/etc/flotilla/corp-ca.pem', certFile: '/etc/flotilla/vault.pem', keyFile: '/etc/flotilla/vault.key' }],
    ['lab', { insecure: true }],
  ]);
});

test('credentials', () => {
  expect(configWith('authFiles:').authFiles).toEqual(['/etc/flotilla/auth.json']);
  expect(Object.values(configWith('ecr-login').origin).map(({ credentials }) => credentials?.kind)).toEqual(['password-file', 'auth-file', 'helper', 'password', 'none']);
  expect(configWith('credentialProviderConfig')).toMatchObject({ credentialProviderConfig: expect.stringMatching(/^\//), credentialProviderBinDir: expect.stringMatching(/^\//) });
  expect(configWith('realms:').origin['corp']?.realms).toEqual(['login.other.example', 'sso.corp.example:8443']);
});

test('proxies and the policy', () => {
  expect(originConfig(configWith('httpsProxy')).proxy).toEqual({ http: '', https: 'http://proxy.corp.example:3128', no: '10.0.0.0/8, .corp.example, registry.example:5000' });
  expect(originConfig(configWith('origins: listed')).unlisted).toBe('refuse');
});

test('the built-in origins are all of them', () => {
  const named = [...(/well-known ones are built in: ([^]*?)\. Any/.exec(page.text)?.[1] ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
  expect(named.toSorted()).toEqual(new OriginTable([]).names().toSorted());
});

test('the table has every setting of an origin, and none that does not exist', () => {
  const rows = [...page.text.slice(page.text.indexOf('## All settings')).matchAll(/^\| (`.*?) \|/gm)].flatMap((match) => [...match[1]!.matchAll(/`([^`]+)`/g)].map((code) => code[1]!));
  const [own, general] = [rows.filter((name) => name.startsWith('origin.') || name === 'clientKey'), rows.filter((name) => !name.startsWith('origin.') && name !== 'clientKey')];
  expect(own.map((name) => name.replace('origin.NAME.', '')).toSorted()).toEqual(Object.keys(OriginSchema.properties).toSorted());
  for (const name of general) expect(Object.keys(SETTINGS)).toContain(name);
});

test('links, codes and counters exist', () => {
  for (const link of page.links) expect([link, existsSync(join(checkout, 'docs', dirname(link), link.split('/').at(-1)!))]).toEqual([link, true]);
  for (const [, code = ''] of page.text.matchAll(/`(ORIGIN_[A-Z_]+)`/g)) expect(Object.keys(ERRORS)).toContain(code);
});
