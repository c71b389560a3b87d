import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { flagOf, loadConfig, nearest, SETTINGS, variableOf, type Flags, type SettingName } from './config.ts';
import { originConfig } from './config-origins.ts';

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-tracker-config-'));
});

afterAll(() => rm(dir, { recursive: true }));

async function file(text: string): Promise<string> {
  const path = join(dir, `${Math.random()}.yaml`);
  await writeFile(path, text);
  return path;
}

function load(flags: Flags = {}, env: Record<string, string> = {}): ReturnType<typeof loadConfig> {
  return loadConfig({ flags, env: { HOME: '/home/x', ...env } });
}

test('defaults', () => {
  const { config, warnings } = load({ data: '/data' });
  expect(config).toEqual({
    data: '/data',
    listen: { host: '0.0.0.0', port: 5052 },
    tlsCert: undefined,
    tlsKey: undefined,
    tlsName: [],
    insecureHttp: false,
    state: '/data/state',
    metricsPerHost: false,
    resolve: false,
    origin: [],
    httpProxy: undefined,
    httpsProxy: undefined,
    noProxy: undefined,
    heartbeatMs: 30_000,
    logLevel: 'info',
  });
  expect(warnings).toEqual([]);
});

test('flags win over the environment, that over the file, that over defaults; each value says where it is from', async () => {
  const config = await file('listen: 127.0.0.1:1\nheartbeatMs: 5000\nlogLevel: warn\ninsecureHttp: true\n');
  const loaded = load({ config, listen: '[::1]:3' }, { FLOTILLA_TRACKER_LISTEN: '127.0.0.1:2', FLOTILLA_TRACKER_LOG_LEVEL: 'error' });
  expect(loaded.config).toMatchObject({ listen: { host: '::1', port: 3 }, logLevel: 'error', heartbeatMs: 5000, insecureHttp: true });
  const where = Object.fromEntries(loaded.entries.map((entry) => [entry.setting, [entry.source, entry.where, entry.text]]));
  expect(where).toMatchObject({
    listen: ['flag', '--listen', '[::1]:3'],
    logLevel: ['environment', 'FLOTILLA_TRACKER_LOG_LEVEL', 'error'],
    heartbeatMs: ['file', config, '5000'],
    metricsPerHost: ['default', 'default', 'false'],
  });
  expect(load({}, { FLOTILLA_TRACKER_CONFIG: config }).config.heartbeatMs).toBe(5000);
});

test('lists: commas in the environment, YAML lists in the file, repeated flags', async () => {
  expect(load({}, { FLOTILLA_TRACKER_TLS_NAME: 'a.example, 10.0.0.1' }).config.tlsName).toEqual(['a.example', '10.0.0.1']);
  expect(load({ config: await file('tlsName: [a.example]') }).config.tlsName).toEqual(['a.example']);
  expect(load({ tlsName: ['x', 'y'] }).config.tlsName).toEqual(['x', 'y']);
});

test('unknown keys are refused with the nearest known one', async () => {
  const config = await file('lisen: 127.0.0.1:1\n');
  expect(() => load({ config })).toThrow(/unknown setting "lisen"; did you mean "listen"\?/);
  expect(() => load({ config: join(dir, 'none') })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  const list = await file('- a\n');
  expect(() => load({ config: list })).toThrow(/must be a mapping/);
  const broken = await file('a: [');
  expect(() => load({ config: broken })).toThrow(/is no YAML/);
});

test('misspelt variables are warned about, those that a cluster sets are not', () => {
  const { warnings } = load({}, { FLOTILLA_TRACKER_LISTENN: 'x', FLOTILLA_TRACKER_SERVICE_HOST: '10.0.0.1', FLOTILLA_TRACKER_PORT_5052_TCP: 'tcp://10.0.0.1:5052' });
  expect(warnings).toEqual(['unknown variable FLOTILLA_TRACKER_LISTENN; did you mean FLOTILLA_TRACKER_LISTEN?']);
});

test.each<[string, Flags]>([
  ['a host name to listen on', { listen: 'localhost:5052' }],
  ['a port over 65535', { listen: '0.0.0.0:70000' }],
  ['no port', { listen: '0.0.0.0' }],
  ['a level that is none', { logLevel: 'loud' }],
  ['a heartbeat that is no number', { heartbeatMs: 'soon' }],
  ['an empty folder', { data: '' }],
  ['a certificate without its key', { tlsCert: 'cert.pem' }],
  ['plain HTTP with a certificate', { insecureHttp: true, tlsCert: 'cert.pem', tlsKey: 'key.pem' }],
  ['a state of no kind', { state: '/var/lib/x' }],
])('%s is refused', (_, flags) => {
  expect(() => load(flags)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

test('Redis is for later, and its password is not repeated', () => {
  expect(() => load({ state: 'redis://user:secret@host/0' })).toThrow(expect.objectContaining({ code: 'STATE_UNSUPPORTED', message: 'state in Redis (host/0) is not supported yet' }));
});

test('every setting has a variable and a name of its own', () => {
  const names = Object.keys(SETTINGS) as SettingName[];
  expect(new Set(names.map(variableOf)).size).toBe(names.length);
  expect(variableOf('tlsCert')).toBe('FLOTILLA_TRACKER_TLS_CERT');
  expect(flagOf('metricsPerHost')).toBe('--metrics-per-host');
  expect(nearest('metrics-per-hots', names)).toBe('metricsPerHost');
  expect(nearest('colour', names)).toBeUndefined();
});

test.each([['200MB/s', 200_000_000], ['1Gbit/s', 125_000_000], ['10MiB', 10_485_760], ['4096', 4096]])('an origin limit of %s', (text, expected) => {
  expect(load({ originLimit: text }).config.originLimit).toBe(expected);
});

test.each(['fast', '1', '-5MB/s', '5 furlongs'])('an origin limit of %s is refused', (text) => {
  expect(() => load({ originLimit: text })).toThrow('200MB/s');
});

describe('origins that are asked for the fleet', () => {
  const shown = (loaded: ReturnType<typeof load>): string | undefined => loaded.entries.find(({ setting }) => setting === 'origin')?.text;

  test('are written as in the settings of agents: by flag, with several URLs, or as a mapping in the file', async () => {
    const flags = load({ resolve: true, origin: ['corp=https://a.example', 'corp=https://b.example:5000', 'lab=http://10.0.0.1'] });
    expect(flags.config.resolve).toBe(true);
    expect(shown(flags)).toBe('corp=https://a.example, https://b.example:5000, lab=http://10.0.0.1');
    expect(originConfig(flags.config.origin, {}).origins).toEqual([
      { name: 'corp', urls: ['https://a.example', 'https://b.example:5000'], tls: {} },
      { name: 'lab', urls: ['http://10.0.0.1'], tls: {} },
    ]);
    const config = await file('resolve: true\norigin:\n  corp:\n    urls: https://a.example\n    ca: /etc/corp.pem\n    realms: [sso.example]\n  lab: [http://10.0.0.1, http://10.0.0.2]\n');
    expect(originConfig(load({ config }).config.origin, { https: 'http://proxy:3128', no: '10.0.0.0/8' })).toEqual({
      origins: [
        { name: 'corp', urls: ['https://a.example'], realms: ['sso.example'], tls: { caFile: '/etc/corp.pem' } },
        { name: 'lab', urls: ['http://10.0.0.1', 'http://10.0.0.2'], tls: {} },
      ],
      proxy: { https: 'http://proxy:3128', no: '10.0.0.0/8' },
    });
  });

  test.each([
    ['origin:\n  corp:\n    credentials: { username: fleet, password: secret }\n', /credentials is not for the tracker/],
    ['origin:\n  corp:\n    urls: https://a.example\n    clientCert: a.pem\n    clientKey: b.pem\n', /clientCert is not for the tracker/],
    ['origin:\n  corp:\n    url: https://a.example\n', /unknown key "url"; did you mean "urls"/],
    ['origin:\n  Corp: https://a.example\n', /NAME=URL/],
    ['origin: corp\n', /NAME=URL/],
  ])('%j is refused', async (text, message) => {
    const config = await file(text);
    expect(() => load({ config })).toThrow(message);
    expect(() => load({ config })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.not.stringContaining('secret') }));
  });

  test('are reached by the proxies that other programs use; a password in one is not shown', () => {
    const { config, entries } = load({}, { HTTPS_PROXY: 'http://fleet:secret@proxy:3128', no_proxy: '.example' });
    expect(config).toMatchObject({ httpsProxy: 'http://fleet:secret@proxy:3128', noProxy: '.example' });
    expect(entries.find(({ setting }) => setting === 'httpsProxy')?.text).toBe('http://(hidden)@proxy:3128');
  });
});
