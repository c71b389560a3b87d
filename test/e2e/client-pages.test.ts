// docs/clients as they stand: what they say to write is what `flotilla setup` writes, in files that the clients' own formats allow; links and
// commands exist. client-pages.real.test.ts follows the pages with real clients.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createProgram } from '@flotilla/agent/cli/program';
import type { ClientName } from '@flotilla/agent/cli/setup/clients';
import { setUp } from '@flotilla/agent/cli/setup/setup';
import { loadConfig } from '@flotilla/agent/config';
import { parse as parseToml } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { readPage, type PageFile } from '../support/page.ts';
import { checkout } from '../support/processes.ts';

const FOLDER = join(checkout, 'docs/clients');
const PAGES = readdirSync(FOLDER);

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-pages-'));
});
afterEach(() => rmSync(root, { recursive: true }));

test('there is a page for each client', () => {
  expect(PAGES.toSorted()).toEqual(['README.md', 'containerd.md', 'crio.md', 'docker.md', 'kubernetes.md', 'others.md', 'podman.md', 'skopeo-buildah.md']);
});

describe.each(PAGES)('%s', (name) => {
  const page = readPage(`clients/${name}`);

  test('links to pages that exist', () => {
    for (const link of page.links) expect([link, existsSync(join(FOLDER, link))]).toEqual([link, true]);
  });

  test('has files that can be read', () => {
    for (const file of page.files) expect([file.path, parsed(file)]).toEqual([file.path, expect.objectContaining({})]);
  });

  test('names commands and options that exist', () => {
    for (const line of `${page.commands.join('\n')}\n${[...page.text.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]).join('\n')}`.split('\n')) {
      const words = line.replace(/^sudo /, '').split(/\s+/);
      if (words[0] === 'flotilla') expectCommand(words.slice(1));
    }
  });
});

/** What a page says to write, by client, and the registries that it has it for. */
describe.each<[ClientName, string, string[]]>([
  ['podman', 'podman.md', ['docker.io', 'quay.io']],
  ['podman', 'skopeo-buildah.md', ['docker.io']],
  ['crio', 'crio.md', ['docker.io', 'registry.k8s.io']],
  ['containerd', 'containerd.md', ['docker.io', 'quay.io']],
  ['docker', 'docker.md', ['docker.io', 'quay.io']],
])('flotilla setup %s and %s', (client, name, origins) => {
  test('agree to the letter, comments aside', () => {
    setUp(client, { origins }, { env: {} }, { root, home: '/root', uid: 0 }, { out: () => undefined, err: () => undefined });
    const written = new Map<string, string>();
    for (const entry of readdirSync(join(root, 'etc'), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isFile()) written.set(path.slice(root.length), withoutComments(readFileSync(path, 'utf8')));
    }
    expect(written.size).toBeGreaterThan(0);
    const { files } = readPage(`clients/${name}`);
    for (const [path, text] of written) expect([path, files.find((file) => file.path === path)?.text]).toEqual([path, text]);
  });
});

describe('single facts', () => {
  test('containerd: both forms of config_path', () => {
    const configs = readPage('clients/containerd.md').files.filter(({ path }) => path === '/etc/containerd/config.toml').map((file) => parsed(file));
    expect(configs).toEqual([
      { version: 2, plugins: { 'io.containerd.grpc.v1.cri': { registry: { config_path: '/etc/containerd/certs.d' } } } },
      { version: 3, plugins: { 'io.containerd.cri.v1.images': { registry: { config_path: '/etc/containerd/certs.d:/etc/docker/certs.d' } } } },
    ]);
  });

  test('K3s: every registry has the agent as its only endpoint', () => {
    const file = readPage('clients/kubernetes.md').files.find(({ path }) => path.endsWith('registries.yaml'))!;
    const { mirrors } = parsed(file) as { mirrors: Record<string, { endpoint: string[] }> };
    expect(Object.keys(mirrors)).toContain('docker.io');
    for (const { endpoint } of Object.values(mirrors)) expect(endpoint).toEqual(['http://127.0.0.1:5050']);
  });

  test("Docker: the agent's settings take what it says", () => {
    const [yaml = ''] = /(?<=```yaml\n)[^]*?(?=```)/.exec(readPage('clients/docker.md').text) ?? [];
    const flags = parseYaml(yaml) as Record<string, string>;
    expect(loadConfig({ env: {}, flags }).config.defaultOrigin).toBe('docker.io');
  });

  test('the README of the pages names what setup does by default', () => {
    let out = '';
    setUp('podman', { print: true, json: true }, { env: {} }, { root, home: '/root', uid: 0 }, { out: (text) => (out += text), err: () => undefined });
    const { origins } = JSON.parse(out) as { origins: string[] };
    const { text } = readPage('clients/README.md');
    for (const origin of origins) expect(text).toContain(origin);
  });
});

function parsed({ language, text }: PageFile): unknown {
  if (language === 'json') return JSON.parse(text);
  return language === 'yaml' ? parseYaml(text) : parseToml(text);
}

function withoutComments(text: string): string {
  return text.replaceAll(/^#.*\n/gm, '').replace(/^\n+/, '');
}

/** The command exists, with every option that is given to it. */
function expectCommand(words: readonly string[]): void {
  let command = createProgram({ out: () => undefined, err: () => undefined }, () => undefined);
  for (const word of words) {
    const next = command.commands.find((each) => each.name() === word);
    if (next === undefined) break;
    command = next;
  }
  expect([words.join(' '), command.name()]).not.toEqual([words.join(' '), 'flotilla']);
  const options = command.options.map((option) => option.long);
  for (const word of words.filter((each) => each.startsWith('--'))) expect([words.join(' '), options]).toEqual([words.join(' '), expect.arrayContaining([word])]);
}
