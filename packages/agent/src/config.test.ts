import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { flagOf, loadConfig, SETTINGS, variable, type ConfigInput, type SettingName } from './config.ts';
import { AgentError } from './errors.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function fileWith(text: string): string {
  const path = join(folder, `${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}

function load({ file, flags = {}, env = {} }: ConfigInput & { file?: string }) {
  return loadConfig({ flags: { ...flags, ...(file !== undefined && { config: fileWith(file) }) }, env: { HOME: '/home/somebody', ...env } });
}

function refusal(input: ConfigInput & { file?: string }): string {
  try {
    load(input);
  } catch (error) {
    if (error instanceof AgentError && error.code === 'CONFIG_INVALID') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('defaults', () => {
  test('are those of the design', () => {
    const { config } = load({});
    expect(config).toMatchObject({
      listen: { host: '127.0.0.1', port: 5050 },
      p2pListen: { host: '0.0.0.0', port: 5051 },
      adminListen: { host: '127.0.0.1', port: 5053 },
      advertise: [],
      tracker: [],
      origin: {},
      label: {},
      rolloutHookTimeoutMs: 300_000,
      drainTimeoutMs: 60_000,
      storeMinFreeShare: 0.2,
      rights: 'agent',
      allow: [],
      originDown: 'same-repository',
      challenge: false,
      tellPrivateNames: false,
      resolveBy: 'agent',
      prefetch: true,
      logLevel: 'info',
      data: process.getuid?.() === 0 ? '/var/lib/flotilla' : '/home/somebody/.local/share/flotilla',
    });
    for (const unset of ['zone', 'uploadLimit', 'storeLimit', 'defaultOrigin', 'joinTokenFile'] as const) expect(config).not.toHaveProperty(unset);
  });

  test('every setting has an entry that says so', () => {
    const { entries, warnings } = load({});
    expect(entries.map(({ setting }) => setting)).toEqual(Object.keys(SETTINGS));
    expect(entries.every(({ source }) => source === 'default')).toBe(true);
    expect(warnings).toEqual([]);
  });
});

describe('layers', () => {
  test('defaults < file < environment < flags, each with its provenance', () => {
    const file = 'listen: 127.0.0.1:1\np2pListen: 127.0.0.1:1\nadminListen: 127.0.0.1:1\nstoreLimit: 200MB\nprefetch: false\n';
    const { config, entries } = load({
      file,
      env: { FLOTILLA_P2P_LISTEN: '127.0.0.1:2', FLOTILLA_ADMIN_LISTEN: '127.0.0.1:2', FLOTILLA_UPLOAD_LIMIT: '50MB/s' },
      flags: { adminListen: '127.0.0.1:3' },
    });
    expect([config.listen.port, config.p2pListen.port, config.adminListen.port]).toEqual([1, 2, 3]);
    expect(config).toMatchObject({ storeLimit: 200_000_000, uploadLimit: 50_000_000, prefetch: false });
    const from = Object.fromEntries(entries.map(({ setting, source, where, text }) => [setting, [source, where, text]]));
    expect(from['listen']).toEqual(['file', expect.stringMatching(/\.yaml$/), '127.0.0.1:1']);
    expect(from['p2pListen']).toEqual(['environment', 'FLOTILLA_P2P_LISTEN', '127.0.0.1:2']);
    expect(from['adminListen']).toEqual(['flag', '--admin-listen', '127.0.0.1:3']);
    expect(from['drainTimeoutMs']).toEqual(['default', 'default', '60000']);
    expect(from['uploadLimit']).toEqual(['environment', 'FLOTILLA_UPLOAD_LIMIT', '50MB/s']);
  });

  test('maps are merged entry by entry; one name may have several URLs', () => {
    const { config, entries } = load({
      file: 'origin:\n  docker.io: [https://a.example, https://b.example/]\n  mine: http://127.0.0.1:5000\nlabel: {rack: 7}\n',
      env: { FLOTILLA_ORIGIN: 'mine=http://127.0.0.1:5001, mine=http://127.0.0.1:5002' },
      flags: { origin: ['other=https://c.example'], label: ['role=db=1'] },
    });
    expect(config.origin).toEqual({
      'docker.io': { urls: ['https://a.example', 'https://b.example'] },
      mine: { urls: ['http://127.0.0.1:5001', 'http://127.0.0.1:5002'] },
      other: { urls: ['https://c.example'] },
    });
    expect(config.label).toEqual({ rack: '7', role: 'db=1' });
    expect(entries.find(({ setting }) => setting === 'origin.mine')).toMatchObject({ source: 'environment', text: 'http://127.0.0.1:5001, http://127.0.0.1:5002' });
    expect(entries.find(({ setting }) => setting === 'origin.docker.io')).toMatchObject({ source: 'file' });
  });

  test('lists are replaced as a whole', () => {
    const { config } = load({ file: 'tracker: [http://a:1, http://b:1]', flags: { tracker: ['https://c:5052', 'https://d:5052'], advertise: ['10.0.0.7'] } });
    expect(config.tracker).toEqual(['https://c:5052', 'https://d:5052']);
    expect(config.advertise).toEqual([{ host: '10.0.0.7' }]);
  });

  test('rules of rights', () => {
    const file = 'rights: pass-through\nallow: [docker.io/acme/**, "lab/{a,b}/*", "**"]\noriginDown: deny\nchallenge: true\ntellPrivateNames: true\n';
    expect(load({ file }).config).toMatchObject({ rights: 'pass-through', allow: ['docker.io/acme/**', 'lab/{a,b}/*', '**'], originDown: 'deny', challenge: true, tellPrivateNames: true });
    expect(load({ env: { FLOTILLA_ALLOW: 'lab/a, lab/b/**' } }).config.allow).toEqual(['lab/a', 'lab/b/**']);
  });

  test('the file may be named in the environment, and be empty', () => {
    expect(load({ env: { FLOTILLA_CONFIG: fileWith('zone: z1') } }).config.zone).toBe('z1');
    expect(load({ file: '# nothing\n' }).config.zone).toBeUndefined();
  });

  test('paths are made absolute', () => {
    expect(load({ flags: { data: 'some/where', joinTokenFile: './t' } }).config).toMatchObject({ data: join(process.cwd(), 'some/where'), joinTokenFile: join(process.cwd(), 't') });
  });
});

describe('refusals', () => {
  test.each<[ConfigInput & { file?: string }, RegExp]>([
    [{ file: 'listn: 127.0.0.1:1' }, /\.yaml: unknown setting "listn"; did you mean "listen"\?$/],
    [{ file: 'p2p-listen: 127.0.0.1:1' }, /did you mean "p2pListen"\?$/],
    [{ file: 'colour: red' }, /unknown setting "colour"$/],
    [{ file: '__proto__: {x: 1}' }, /unknown setting "__proto__"/],
    [{ file: '- a' }, /must be a mapping/],
    [{ file: 'a: [' }, /is no YAML/],
    [{ file: 'zone: a\nzone: b' }, /is no YAML/],
    [{ file: 'prefetch: yes' }, /^prefetch: "yes" is not allowed \(.*\.yaml\); write true or false$/],
    [{ flags: { listen: '5050' } }, /^listen: "5050" is not allowed \(--listen\); write ADDRESS:PORT/],
    [{ env: { FLOTILLA_UPLOAD_LIMIT: 'fast' } }, /^uploadLimit: "fast" is not allowed \(FLOTILLA_UPLOAD_LIMIT\); write a rate/],
    [{ flags: { uploadLimit: '0' } }, /^uploadLimit: "0B\/s" is not allowed \(--upload-limit\)/],
    [{ file: 'storeMinFreeShare: 2' }, /^storeMinFreeShare: "2" .*0 to 0\.95$/],
    [{ file: 'drainTimeoutMs: 1.5' }, /^drainTimeoutMs: "1\.5"/],
    [{ file: 'logLevel: loud' }, /^logLevel: "loud" .*debug, info/],
    [{ file: 'rights: everybody' }, /^rights: "everybody" is not allowed \(.*\); write agent or pass-through$/],
    [{ file: 'originDown: serve' }, /^originDown: "serve" .*same-repository, allow or deny$/],
    [{ file: 'allow: [nginx]' }, /^allow: "nginx" .*; write ORIGIN\/REPOSITORY/],
    [{ env: { FLOTILLA_ALLOW: 'lab/**, docker.io/Acme/app' } }, /^allow: "docker.io\/Acme\/app" is not allowed \(FLOTILLA_ALLOW\)/],
    [{ file: 'zone: [a]' }, /^zone: "\["a"\]"/],
    [{ file: 'origin: {Docker: "https://x"}' }, /^origin: "Docker" is not allowed/],
    [{ file: 'origin: {a: {url: "https://x"}}' }, /^origin\.a: unknown key "url"; did you mean "urls"\? \(.*\.yaml\)$/],
    [{ flags: { origin: ['a'] } }, /^origin: "a" is not allowed \(--origin\); write NAME=URL/],
    [{ flags: { origin: ['a=ftp://x'] } }, /^origin: "ftp:\/\/x" is not allowed/],
    [{ flags: { tracker: ['https://user:pass@t'] } }, /^tracker: .*without credentials/],
    [{ flags: { defaultOrigin: 'A/B' } }, /^defaultOrigin: "A\/B"/],
    [{ flags: { label: [`k=${'x'.repeat(256)}`] } }, /^label: /],
    [{ flags: { config: '/nowhere/at/all.yaml' } }, /\/nowhere\/at\/all\.yaml cannot be read/],
  ])('%j', (input, message) => {
    expect(refusal(input)).toMatch(message);
  });
});

test('a misspelt variable is warned about; those of a cluster are not', () => {
  const { warnings } = load({ env: { FLOTILLA_LISTN: 'x', FLOTILLA_AGENT_SERVICE_HOST: '10.0.0.1', FLOTILLA_TEST_REAL: '1' } });
  expect(warnings).toEqual(['unknown variable FLOTILLA_LISTN; did you mean FLOTILLA_LISTEN?']);
});

test('the flags are those of the design', () => {
  const flags = Object.entries(SETTINGS).flatMap(([name, { flag }]) => (flag === undefined ? [] : [flagOf(name as SettingName)]));
  expect(flags).toEqual(
    '--data --listen --p2p-listen --admin-listen --tls-cert --tls-key --advertise --tracker --join-token-file --origin --default-origin --name --zone --label --upload-limit --download-limit --origin-limit --zone-limit --store-limit --trace-to'.split(' '),
  );
  expect(variable('p2pListen')).toBe('FLOTILLA_P2P_LISTEN');
});
