// docs/rights.md says what the agent does: its samples load, its settings and codes are the agent's.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Callers } from '@flotilla/agent/access/callers';
import { loadConfig, type AgentConfig } from '@flotilla/agent/config';
import { ERRORS, type ErrorCode } from '@flotilla/agent/errors';

let dir: string;
let page: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-rights-docs-'));
  page = await readFile(new URL('../../docs/rights.md', import.meta.url), 'utf8');
});
afterAll(() => rm(dir, { recursive: true }));

async function sample(index: number): Promise<AgentConfig> {
  const text = [...page.matchAll(/^```yaml\n([^]*?)^```$/gm)].map((match) => match[1]!)[index]!;
  const file = join(dir, `${index}.yaml`);
  await writeFile(file, text);
  return loadConfig({ flags: { config: file }, env: { HOME: '/home/somebody' } }).config;
}

/** The rows of the table below a heading. */
function rows(heading: string): string[][] {
  const section = page.split(`## ${heading}\n`)[1]!.split('\n## ')[0]!;
  return section
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(2)
    .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
}

describe('the samples', () => {
  test("rules: the agent's own credentials for the repositories that are named, and no others", async () => {
    const config = await sample(0);
    expect(config).toMatchObject({ rights: 'agent', origin: { 'registry.example': { credentials: { kind: 'password-file', username: 'fleet' } } } });
    const callers = new Callers({ mode: config.rights, allow: config.allow }, new Uint8Array(32), () => true);
    const allowed = (origin: string, repository: string): boolean => callers.allows({ origin, repository });
    expect([allowed('registry.example', 'team/a'), allowed('registry.example', 'team/a/b'), allowed('docker.io', 'acme/app')]).toEqual([true, true, true]);
    expect([allowed('registry.example', 'other/a'), allowed('docker.io', 'acme/app2'), allowed('docker.io', 'library/nginx')]).toEqual([false, false, false]);
  });

  test('pass-through', async () => {
    expect(await sample(1)).toMatchObject({ rights: 'pass-through', challenge: true, allow: [] });
  });
});

test('the settings and their defaults', () => {
  const { entries } = loadConfig({ env: { HOME: '/home/somebody' } });
  for (const [setting = '', value = ''] of rows('Settings')) {
    const name = setting.replaceAll('`', '');
    const shown = value.replaceAll('`', '');
    expect(entries.find((entry) => entry.setting === name)?.text, name).toBe(shown === 'none' ? '' : shown);
  }
});

test('the codes', () => {
  const told = rows('What a client is told');
  expect(told).toHaveLength(4);
  for (const [, answer = ''] of told) {
    const [, status, ...codes] = /^(\d+)(?: `(\w+)`)?, in detail `(\w+)`$/.exec(answer)!;
    const row = ERRORS[codes[1] as ErrorCode];
    expect(row.status).toBe(Number(status));
    if (codes[0] !== undefined) expect(row.oci).toBe(codes[0]);
  }
});
