import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CommandFailure } from '../failure.ts';
import { CLIENT_NAMES, CLIENTS, type ClientName } from './clients.ts';
import { filesOnDisk, type Host } from './host.ts';
import { setUp, type SetupOptions, type SetupReport } from './setup.ts';
import { targetOf } from './target.ts';

const URL_HERE = 'http://127.0.0.1:5050';
const DROP_IN = '/etc/containers/registries.conf.d/50-flotilla.conf';
const SETTINGS = ['lab=http://10.0.0.1:5000', 'corp=https://registry.corp:5000'];

let root: string;
let host: Host;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-setup-'));
  host = { root, home: '/home/user', uid: 0 };
});
afterEach(() => rmSync(root, { recursive: true }));

function write(path: string, text: string | Buffer, mode = 0o644): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text, { mode });
  chmodSync(join(root, path), mode);
}

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

function run(client: ClientName, options: Omit<SetupOptions, 'json'> = {}, flags: Record<string, string | string[]> = {}, on = host): SetupReport {
  let out = '';
  const code = setUp(client, { ...options, json: true }, { env: {}, flags: { origin: SETTINGS, ...flags } }, on, { out: (text) => (out += text), err: () => undefined });
  expect(code).toBe(0);
  return JSON.parse(out) as SetupReport;
}

/** Every file and folder with its mode and content. */
function snapshot(folder = root): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    found[path.slice(root.length)] = `${stat.mode.toString(8)} ${stat.isFile() ? readFileSync(path).toString('base64') : ''}`;
    if (stat.isDirectory()) Object.assign(found, snapshot(path));
  }
  return found;
}

function refusal(client: ClientName, options: Omit<SetupOptions, 'json'> = {}): CommandFailure {
  const before = snapshot();
  try {
    run(client, options);
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    expect(snapshot()).toEqual(before);
    return error;
  }
  throw new Error('it was not refused');
}

describe('podman and CRI-O', () => {
  test('one drop-in puts the agent before each registry, which stays as the fall-back', () => {
    const { files } = run('podman', { origins: ['docker.io', 'registry.corp:5000', 'lab'] });
    expect(files).toEqual([{ path: DROP_IN, action: 'created' }]);
    expect(parse(read(DROP_IN))).toEqual({
      registry: [
        { prefix: 'docker.io', location: 'docker.io', mirror: [{ location: '127.0.0.1:5050/docker.io', insecure: true }] },
        { prefix: 'registry.corp:5000', location: 'registry.corp:5000', mirror: [{ location: '127.0.0.1:5050/corp', insecure: true }] },
        { prefix: '10.0.0.1:5000', location: '10.0.0.1:5000', mirror: [{ location: '127.0.0.1:5050/lab', insecure: true }] },
      ],
    });
    expect(statSync(join(root, DROP_IN)).mode & 0o777).toBe(0o644);
  });

  test('all registries that the agent knows, without being told', () => {
    const { origins } = run('podman');
    expect(origins).toEqual(expect.arrayContaining(['docker.io', 'quay.io', 'ghcr.io', 'gcr.io', 'registry.k8s.io', 'registry.corp:5000', '10.0.0.1:5000']));
  });

  test('a user without root configures what is read for that user', () => {
    const rootless = { ...host, uid: 1000 };
    const { files } = run('podman', { origins: ['quay.io'] }, {}, rootless);
    expect(files).toEqual([{ path: '/home/user/.config/containers/registries.conf.d/50-flotilla.conf', action: 'created' }]);
    run('podman', { undo: true }, {}, rootless);
    expect(snapshot()).toEqual({});
  });

  test("root's own registries.conf hides the host's, so the drop-in goes beside it; CRI-O's root is at home in /root", () => {
    write('/home/user/.config/containers/registries.conf', '');
    expect(run('podman', { origins: ['quay.io'] }).files[0]!.path).toBe('/home/user/.config/containers/registries.conf.d/50-flotilla.conf');
    expect(run('crio', { origins: ['quay.io'] }).files).toEqual([{ path: DROP_IN, action: 'created' }]);
    run('crio', { undo: true });
    expect(existsSync(join(root, '/home/user/.config/containers/registries.conf.d/50-flotilla.conf'))).toBe(true);
    write('/root/.config/containers/registries.conf', '');
    expect(run('crio', { origins: ['quay.io'] }).files).toEqual([{ path: '/root/.config/containers/registries.conf.d/50-flotilla.conf', action: 'created' }]);
    run('crio', { undo: true });
    // Who is not root cannot look there.
    expect(run('crio', { origins: ['quay.io'] }, {}, { ...host, uid: 1000 }).files).toEqual([{ path: DROP_IN, action: 'created' }]);
  });

  test('what the disk refuses to give is told with its path, and nothing is changed', () => {
    mkdirSync(join(root, '/home/user/.config/containers/registries.conf'), { recursive: true });
    expect(refusal('podman', { origins: ['quay.io'] }).message).toMatch(/^\/home\/user\/\.config\/containers\/registries\.conf cannot be read or written/);
  });

  test('the two share the file: what one wrote the other finds and takes away', () => {
    run('podman', { origins: ['quay.io'] });
    const { files, next } = run('crio', { origins: ['quay.io'] });
    expect({ files, next }).toEqual({ files: [{ path: DROP_IN, action: 'unchanged' }], next: [] });
    expect(run('crio', { undo: true }).next).toEqual([expect.stringContaining('reload crio')]);
    expect(snapshot()).toEqual({});
  });

  test('what an earlier file says of a registry is carried over, its mirrors behind the agent', () => {
    write('/etc/containers/registries.conf', '[[registry]]\nlocation = "quay.io"\ninsecure = true\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "mirror.corp/quay"\n');
    const { notes } = run('podman', { origins: ['quay.io'] });
    expect(parse(read(DROP_IN))).toEqual({
      registry: [
        {
          prefix: 'quay.io',
          location: 'quay.io',
          insecure: true,
          'mirror-by-digest-only': true,
          mirror: [{ location: '127.0.0.1:5050/quay.io', insecure: true }, { location: 'mirror.corp/quay' }],
        },
      ],
    });
    expect(notes.join()).toContain('/etc/containers/registries.conf');
  });

  test('a later file would win, so it is refused', () => {
    write('/etc/containers/registries.conf.d/99-corp.conf', '[[registry]]\nprefix = "quay.io"\nlocation = "quay.corp"\n');
    expect(refusal('podman', { origins: ['quay.io'] }).message).toContain('99-corp.conf');
    expect(refusal('podman').message).toContain('99-corp.conf');
    expect(run('podman', { origins: ['docker.io'] }).files[0]!.action).toBe('created');
  });

  test('a mirror written by hand is as good', () => {
    write('/etc/containers/registries.conf.d/flotilla.conf', '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "127.0.0.1:5050/quay.io"\ninsecure = true\n');
    const { files, notes } = run('podman', { origins: ['quay.io'] });
    expect(files).toEqual([]);
    expect(notes).toEqual([expect.stringContaining('flotilla.conf')]);
  });

  test('a blocked registry stays blocked', () => {
    write('/etc/containers/registries.conf', '[[registry]]\nlocation = "gcr.io"\nblocked = true\n');
    expect(refusal('podman', { origins: ['gcr.io'] }).message).toContain('blocks gcr.io');
    const { notes } = run('podman');
    expect(notes).toContainEqual(expect.stringContaining('gcr.io is left out'));
    expect(read(DROP_IN)).not.toContain('"gcr.io"');
  });

  test.each([
    ['a drop-in that setup did not write', '/etc/containers/registries.conf.d/50-flotilla.conf', '# mine\n', /no record/],
    ['the old format', '/etc/containers/registries.conf', '[registries.search]\nregistries = ["docker.io"]\n', /old format/],
    ['no TOML', '/etc/containers/registries.conf.d/10-x.conf', 'a = = 1\n', /10-x\.conf is no TOML/],
  ])('%s is refused', (_what, path, text, message) => {
    write(path, text);
    expect(refusal('podman').message).toMatch(message);
  });

  test('a port that the agent has no name for is refused with what to do', () => {
    expect(refusal('podman', { origins: ['other.corp:5000'] }).help).toContain('--origin NAME=https://other.corp:5000');
  });

  test('a drop-in that somebody changed is left, unless forced', () => {
    run('podman', { origins: ['quay.io'] });
    write(DROP_IN, `${read(DROP_IN)}# mine\n`);
    expect(refusal('podman', { origins: ['docker.io'] }).message).toContain('changed by somebody');
    expect(refusal('podman', { undo: true }).help).toContain('--force');
    run('podman', { undo: true, force: true });
    expect(snapshot()).toEqual({});
  });
});

describe('containerd', () => {
  const CERTS = '/etc/containerd/certs.d';
  const CONFIG = '/etc/containerd/config.toml';
  const HOST = { [URL_HERE]: { capabilities: ['pull', 'resolve'] } };

  test('a hosts.toml for each registry, and config_path', () => {
    run('containerd', { origins: ['docker.io', 'quay.io', 'lab'] });
    expect(parse(read(`${CERTS}/docker.io/hosts.toml`))).toEqual({ server: 'https://registry-1.docker.io', host: HOST });
    expect(parse(read(`${CERTS}/quay.io/hosts.toml`))).toEqual({ server: 'https://quay.io', host: HOST });
    expect(parse(read(`${CERTS}/10.0.0.1:5000/hosts.toml`))).toEqual({ server: 'http://10.0.0.1:5000', host: HOST });
    expect(parse(read(CONFIG))).toEqual({ version: 2, plugins: { 'io.containerd.grpc.v1.cri': { registry: { config_path: CERTS } } } });
  });

  test('_default stands for every registry without a folder of its own', () => {
    run('containerd', { origins: ['_default'] });
    expect(parse(read(`${CERTS}/_default/hosts.toml`))).toEqual({ host: HOST });
    expect(() => run('podman', { origins: ['_default'] })).toThrow(CommandFailure);
  });

  test.each([
    ["Debian's", 'version = 2\n\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri"]\n    [plugins."io.containerd.grpc.v1.cri".cni]\n      bin_dir = "/usr/lib/cni" # here\n', CERTS],
    ['the default one, where the value is empty', 'version = 2\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri"]\n    [plugins."io.containerd.grpc.v1.cri".registry]\n      config_path = "" # none\n', CERTS],
    ['a table without the key', "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n  # nothing yet\n[plugins.'io.containerd.grpc.v1.cri'.registry.headers]\nx = ['y']\n", CERTS],
    ['version 3', "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = ''\n", `${CERTS}:/etc/docker/certs.d`],
  ])('config.toml is merged, all else kept: %s', (_what, text, value) => {
    write(CONFIG, text);
    run('containerd', { origins: ['quay.io'] });
    const result = read(CONFIG);
    const lines = text.split('\n').filter((line) => !line.includes('config_path'));
    expect(result.split('\n')).toEqual(expect.arrayContaining(lines));
    const { plugins } = parse(result) as { plugins: Record<string, { registry: { config_path: string } }> };
    expect(Object.values(plugins).map(({ registry }) => registry.config_path)).toEqual([value]);
    expect(run('containerd', { undo: true }).next).toEqual([expect.stringContaining('restart containerd')]);
    expect(read(CONFIG)).toBe(text);
  });

  test('a config_path that is set is used, and config.toml left alone', () => {
    write(CONFIG, 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/opt/certs:/etc/docker/certs.d"\n');
    const { files, next } = run('containerd', { origins: ['quay.io'] });
    expect(files).toEqual([{ path: '/opt/certs/quay.io/hosts.toml', action: 'created' }]);
    expect(next).toEqual([]);
  });

  test('where CRI is disabled, nothing is needed in config.toml', () => {
    write(CONFIG, 'disabled_plugins = ["cri"]\n');
    const { files, notes } = run('containerd', { origins: ['quay.io'] });
    expect(files.map(({ path }) => path)).toEqual([`${CERTS}/quay.io/hosts.toml`]);
    expect(notes).toEqual([expect.stringContaining('--hosts-dir')]);
  });

  test.each([
    ['mirrors in the old way', 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["https://x"]\n', /registry\.mirrors/],
    ['certificates in the old way', 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.configs."x".tls]\nca_file = "x"\n', /registry\.configs/],
    ['version 1 with plugins', '[plugins.cri]\nsystemd_cgroup = true\n', /version 1/],
    ['an inline table', 'version = 2\nplugins = { "io.containerd.grpc.v1.cri" = { registry = {} } }\n', /without rewriting/],
  ])('%s are refused', (_what, text, message) => {
    write(CONFIG, text);
    expect(refusal('containerd').message).toMatch(message);
  });

  test('credentials in the old way may stay', () => {
    write(CONFIG, 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.configs."x".auth]\nauth = "x"\n');
    expect(run('containerd', { origins: ['quay.io'] }).files.map(({ action }) => action)).toEqual(['created', 'changed']);
  });

  test('a hosts.toml that is there keeps its hosts, behind the agent', () => {
    const text = 'server = "https://quay.io" # itself\n\n[host."https://mirror.corp"]\n  capabilities = ["pull"]\n  [host."https://mirror.corp".header]\n    x = "y"\n';
    write(`${CERTS}/quay.io/hosts.toml`, text);
    run('containerd', { origins: ['quay.io'] });
    const merged = read(`${CERTS}/quay.io/hosts.toml`);
    const parsed = parse(merged) as { host: Record<string, unknown> };
    expect(Object.keys(parsed.host)).toEqual([URL_HERE, 'https://mirror.corp']);
    expect(merged).toContain('# itself');
    expect(run('containerd', { origins: ['quay.io'] }).files.map(({ action }) => action)).toEqual(['unchanged', 'unchanged']);
    write(`${CERTS}/quay.io/hosts.toml`, `${merged}# later\n`);
    run('containerd', { undo: true });
    expect(read(`${CERTS}/quay.io/hosts.toml`)).toBe(`${text}# later\n`);
  });

  test('a host that comes later stays where it is, with word of it', () => {
    write(`${CERTS}/quay.io/hosts.toml`, `[host."https://a"]\n[host."${URL_HERE}"]\n`);
    expect(refusal('containerd', { origins: ['quay.io'] }).message).toContain('cannot be added');
  });

  test('certificates that a hosts.toml would hide are named in it', () => {
    write(`${CERTS}/quay.io/ca.crt`, 'x');
    write(`${CERTS}/quay.io/me.cert`, 'x');
    write(`${CERTS}/quay.io/me.key`, 'x');
    run('containerd', { origins: ['quay.io'] });
    expect(parse(read(`${CERTS}/quay.io/hosts.toml`))).toMatchObject({ server: 'https://quay.io', ca: ['ca.crt'], client: [['me.cert', 'me.key']] });
  });

  test('the folder that containerd takes for a port is the one that is there', () => {
    write(`${CERTS}/registry.corp_5000_/ca.crt`, 'x');
    expect(run('containerd', { origins: ['registry.corp:5000'] }).files[0]!.path).toBe(`${CERTS}/registry.corp_5000_/hosts.toml`);
  });
});

describe('docker', () => {
  const DAEMON = '/etc/docker/daemon.json';

  test('a mirror of Docker Hub in daemon.json, hosts.toml for the others', () => {
    const { next } = run('docker', { origins: ['docker.io', 'quay.io'] });
    expect(JSON.parse(read(DAEMON))).toEqual({ 'registry-mirrors': [URL_HERE] });
    expect(parse(read('/etc/docker/certs.d/quay.io/hosts.toml'))).toMatchObject({ server: 'https://quay.io' });
    expect(existsSync(join(root, '/etc/docker/certs.d/docker.io'))).toBe(false);
    expect(next).toEqual([expect.stringContaining('reload docker'), expect.stringContaining('--default-origin docker.io')]);
    expect(run('docker', { origins: ['docker.io'] }, { defaultOrigin: 'docker.io' }).next).toEqual([]);
  });

  test('daemon.json keeps what it says, as it is written', () => {
    write(DAEMON, '{\n\t"log-driver": "journald",\n\t"registry-mirrors": ["https://mirror.corp"],\n\t"big": 12345678901234567890\n}');
    run('docker', { origins: ['docker.io'] });
    const text = read(DAEMON);
    expect(text).toContain('\t"log-driver": "journald",');
    expect(text).toContain('12345678901234567890');
    expect((JSON.parse(text) as Record<string, unknown>)['registry-mirrors']).toEqual([URL_HERE, 'https://mirror.corp']);
  });

  test('what was changed since stays; only the mirror goes', () => {
    write(DAEMON, '{\n  "debug": true\n}\n');
    run('docker', { origins: ['docker.io'] });
    write(DAEMON, read(DAEMON).replace('"debug": true', '"debug": false'));
    expect(run('docker', { origins: ['docker.io'] }).files).toEqual([{ path: DAEMON, action: 'unchanged' }]);
    expect(run('docker', { undo: true }).files).toEqual([{ path: DAEMON, action: 'restored' }]);
    expect(JSON.parse(read(DAEMON))).toEqual({ debug: false });
    expect(existsSync(join(root, 'var/lib/flotilla-setup'))).toBe(false);
  });

  test('a file that only setup wrote goes, even when reformatted', () => {
    run('docker', { origins: ['docker.io'] });
    write(DAEMON, `{"registry-mirrors":["${URL_HERE}/"]}`);
    expect(run('docker', { undo: true }).files).toEqual([{ path: DAEMON, action: 'removed' }]);
  });

  test.each([
    ['comments', '{ // no\n}', /no JSON object/],
    ['a list', '[]', /no JSON object/],
    ['mirrors that are no list', '{"registry-mirrors": "x"}', /no list/],
  ])('%s: refused', (_what, text, message) => {
    write(DAEMON, text);
    expect(refusal('docker').message).toMatch(message);
  });

  test('a flag of the service would keep Docker from starting', () => {
    write('/etc/systemd/system/docker.service.d/10.conf', '[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --registry-mirror=https://x\n');
    expect(refusal('docker', { origins: ['docker.io'] }).message).toContain('10.conf');
    expect(run('docker', { origins: ['quay.io'] }).files).toHaveLength(1);
  });
});

describe('files', () => {
  test('--print changes nothing and shows all', () => {
    write('/etc/docker/daemon.json', '{}');
    const before = snapshot();
    const { files } = run('docker', { print: true, origins: ['docker.io'] });
    expect(files).toEqual([{ path: '/etc/docker/daemon.json', action: 'changed', text: expect.stringContaining(URL_HERE) }]);
    expect(snapshot()).toEqual(before);
  });

  test('for a person', () => {
    let out = '';
    const terminal = { out: (text: string) => (out += text), err: () => undefined };
    setUp('podman', { origins: ['quay.io'], print: true }, { env: {} }, host, terminal);
    expect(parse(out)).toMatchObject({ registry: [{ prefix: 'quay.io' }] });
    out = '';
    setUp('podman', { origins: ['quay.io'] }, { env: {} }, host, terminal);
    expect(out).toBe(`created  ${DROP_IN}\npodman asks 127.0.0.1:5050 first for quay.io. "flotilla doctor" checks that it does.\n`);
    out = '';
    setUp('docker', { undo: true }, { env: {} }, host, terminal);
    expect(out).toBe('note: Nothing was set up for docker.\n');
  });

  test('the endpoint is the one of the settings, or the one that is named', () => {
    run('podman', { origins: ['quay.io'] }, { listen: '[::]:6000' });
    expect(read(DROP_IN)).toContain('"[::1]:6000/quay.io"');
    run('podman', { origins: ['quay.io'], endpoint: 'https://127.0.0.1:7000' });
    expect(parse(read(DROP_IN))).toMatchObject({ registry: [{ mirror: [{ location: '127.0.0.1:7000/quay.io' }] }] });
    expect(read(DROP_IN)).not.toContain('insecure');
    expect(run('podman', { origins: ['quay.io'] }, { tlsCert: '/c.pem', tlsKey: '/k.pem' }).notes).toEqual([expect.stringContaining('/etc/containers/certs.d/127.0.0.1:5050/ca.crt')]);
    expect(read(DROP_IN)).not.toContain('insecure');
    expect(run('containerd', { origins: ['quay.io'] }, { tlsCert: '/c.pem', tlsKey: '/k.pem' }).notes).toEqual([expect.stringContaining('as "ca" below [host."https://127.0.0.1:5050"]')]);
    expect(() => run('podman', { endpoint: 'http://x/path' })).toThrow(CommandFailure);
  });

  test('mode and owner of what was there stay', () => {
    write('/etc/docker/daemon.json', '{}', 0o640);
    run('docker', { origins: ['docker.io'] });
    expect(statSync(join(root, '/etc/docker/daemon.json')).mode & 0o777).toBe(0o640);
    const [backup] = readdirSync(join(root, '/var/lib/flotilla-setup/docker')).filter((name) => name.endsWith('daemon.json'));
    expect(statSync(join(root, '/var/lib/flotilla-setup/docker', backup!)).mode & 0o777).toBe(0o640);
  });

  test('a link belongs to something else', () => {
    write('/real.json', '{}');
    mkdirSync(join(root, '/etc/docker'), { recursive: true });
    symlinkSync('../../real.json', join(root, '/etc/docker/daemon.json'));
    expect(refusal('docker', { origins: ['docker.io'] }).message).toContain('no plain file');
  });

  test('bytes that are no text are not touched', () => {
    write('/etc/docker/daemon.json', Buffer.from([0x7b, 0xff, 0x7d]));
    expect(refusal('docker', { origins: ['docker.io'] }).message).toContain('cannot be read');
  });

  test('what somebody put into a folder of ours keeps it', () => {
    run('containerd', { origins: ['quay.io'] });
    write('/etc/containerd/certs.d/quay.io/note', 'x');
    run('containerd', { undo: true });
    expect(Object.keys(snapshot()).filter((path) => path.startsWith('/etc'))).toEqual(['/etc', '/etc/containerd', '/etc/containerd/certs.d', '/etc/containerd/certs.d/quay.io', '/etc/containerd/certs.d/quay.io/note']);
  });

  test('cut off between two files, the next run knows what is whose', () => {
    write('/etc/containerd/config.toml', 'version = 2\n');
    const before = snapshot();
    run('containerd', { origins: ['quay.io', 'docker.io'] });
    // As if the process had been killed after the first file: the rest is as it was.
    rmSync(join(root, '/etc/containerd/certs.d/docker.io/hosts.toml'));
    write('/etc/containerd/config.toml', 'version = 2\n');
    expect(run('containerd', { origins: ['quay.io', 'docker.io'] }).files.map(({ action }) => action).sort()).toEqual(['changed', 'created', 'unchanged']);
    run('containerd', { undo: true });
    expect(ofEtc(snapshot())).toEqual(ofEtc(before));
  });
});

function ofEtc(tree: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(tree).filter(([path]) => path.startsWith('/etc')));
}

describe('any host', () => {
  const spaces = fc.constantFrom('', ' ', '\n', '\t', '  ');
  const daemon = fc
    .tuple(fc.dictionary(fc.constantFrom('debug', 'log-driver', 'registry-mirrors', 'x y'), fc.oneof(fc.boolean(), fc.string(), fc.array(fc.constantFrom('https://a', 'https://b', `${URL_HERE}/`)))), fc.constantFrom(undefined, 1, 2, 4, '\t'), spaces)
    .map(([value, indent, end]) => JSON.stringify(value, null, indent) + end);
  const registry = fc
    .record({ registry: fc.constantFrom('docker.io', 'quay.io', 'docker.io/library', 'other.example'), insecure: fc.boolean(), blocked: fc.boolean(), mirror: fc.option(fc.constantFrom('m.example', '127.0.0.1:5050/quay.io')) })
    .map(({ registry, insecure, blocked, mirror }) => `# ${registry}\n[[registry]]\nlocation = "${registry}"\ninsecure=${insecure}\nblocked = ${blocked}\n${mirror === null ? '' : `[[registry.mirror]]\nlocation = "${mirror}"\n`}`);
  const registries = fc.array(registry, { maxLength: 3 }).map((tables) => tables.join(''));
  const hosts = fc
    .tuple(fc.boolean(), fc.uniqueArray(fc.constantFrom('https://a', 'https://b', URL_HERE), { maxLength: 3 }), spaces)
    .map(([server, urls, space]) => `${server ? `server = 'https://quay.io'\n${space}\n` : ''}${urls.map((url) => `[host."${url}"]\n${space}capabilities = ['pull']\n`).join('\n')}`);
  const config = fc.constantFrom(
    '', 'version = 2', '# c\nversion = 3\n', 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n', 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path=""', 'root = "/x"\n', 'disabled_plugins = ["cri"]',
  );
  const files = fc.record(
    {
      '/etc/docker/daemon.json': daemon,
      '/etc/docker/certs.d/quay.io/hosts.toml': hosts,
      '/etc/containers/registries.conf': registries,
      '/etc/containers/registries.conf.d/10-a.conf': registries,
      '/etc/containers/registries.conf.d/99-z.conf': registries,
      '/etc/containerd/config.toml': config,
      '/etc/containerd/certs.d/quay.io/hosts.toml': hosts,
      '/etc/containerd/certs.d/docker.io/ca.crt': fc.constant('x'),
    },
    { requiredKeys: [] },
  );
  const steps = fc.array(
    fc.record({ client: fc.constantFrom(...CLIENT_NAMES), origins: fc.uniqueArray(fc.constantFrom('docker.io', 'quay.io', 'lab', 'registry.corp:5000'), { minLength: 1 }) }),
    { minLength: 1, maxLength: 4 },
  );

  test('set up in any order, again and again, then undone: everything is as it was', () => {
    fc.assert(
      fc.property(files, steps, (tree, all) => {
        for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
        mkdirSync(join(root, 'var/lib'), { recursive: true });
        for (const [path, text] of Object.entries(tree)) write(path, text);
        const before = snapshot();
        for (const { client, origins } of all) {
          try {
            run(client, { origins });
          } catch (error) {
            if (error instanceof CommandFailure) continue;
            throw error;
          }
          const once = snapshot();
          expect(run(client, { origins }).files.every(({ action }) => action === 'unchanged')).toBe(true);
          expect(snapshot()).toEqual(once);
          const target = targetOf({ listen: { host: '127.0.0.1', port: 5050 }, origin: { lab: { urls: ['http://10.0.0.1:5000'] }, corp: { urls: ['https://registry.corp:5000'] } } }, { origins });
          const routes = CLIENTS[client].routes(filesOnDisk(host), host, target);
          expect(routes.filter(({ viaAgent }) => !viaAgent)).toEqual([]);
        }
        for (const client of CLIENT_NAMES) run(client, { undo: true });
        expect(snapshot()).toEqual(before);
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});
