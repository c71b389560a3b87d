// What README.md tells people to type exists: scripts, flags, and the texts that the programs print themselves.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { mirrorDropIn, parseOptions, planFleet, welcomeText } from '../../scripts/start-plan.mjs';
import { run } from '../support/command.ts';
import { checkout } from '../support/processes.ts';

const readme = readFileSync(join(checkout, 'README.md'), 'utf8');
const commands = [...readme.matchAll(/^```sh\n([^]*?)^```$/gm)].map((match) => match[1]!.replaceAll(/\\\n\s*/g, '').trim());

describe('README.md', () => {
  it('names npm scripts that exist', () => {
    const { scripts } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
    const named = [...readme.matchAll(/npm (?:run )?(start|test|[a-z]+(?::[a-z]+)?)\b(?=[`\s])/g)].map((match) => match[1]!);
    expect(named).toEqual(expect.arrayContaining(['start', 'test', 'test:all', 'setup', 'bench']));
    for (const name of named.filter((name) => name !== 'in')) expect(scripts).toHaveProperty(name);
  });

  it('has the pull line and the mirror that npm start prints', () => {
    const options = parseOptions([]);
    if (options === 'help') throw new Error('no help was asked for');
    const pullLine = commands.find((command) => command.startsWith('podman pull'));
    expect(welcomeText(options, planFleet(options), 'docker.io/library/alpine:3.22', undefined)).toContain(`  ${pullLine}\n`);
    expect(readme).toContain(mirrorDropIn('docker.io', '127.0.0.1:5050'));
  });

  it('starts a fleet with options that npm start takes', () => {
    const [, flags] = commands.find((command) => command.startsWith('npm start --'))?.split(' -- ') ?? [];
    expect(parseOptions(flags?.split(' ') ?? [])).toMatchObject({ agents: 3, origins: [{ name: 'lab', url: 'http://127.0.0.1:5000' }] });
  });

  it.each(['packages/tracker/src/main.ts', 'packages/agent/src/main.ts'])('gives %s flags that it has', async (program) => {
    const command = commands.find((text) => text.includes(program)) ?? '';
    const [node, ...words] = command.split(' ');
    expect(node).toBe('node_modules/.bin/node');
    const flags = words.filter((word) => word.startsWith('--'));
    expect(flags).toContain('--data');
    const help = await run(process.execPath, [...words.slice(0, words.findIndex((word) => word.startsWith('--'))), '--help'], { cwd: checkout });
    for (const flag of flags) expect(help).toMatch(new RegExp(`^ *(-\\w, )?${flag} `, 'm'));
  });
});
