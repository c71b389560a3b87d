import { execFileSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { completionScript, SHELLS, type Shell } from './completion.ts';
import { createProgram } from './program.ts';

const program = createProgram({ out: () => undefined, err: () => undefined }, () => undefined);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-completion-'));
  mkdirSync(join(folder, 'some-folder'));
  writeFileSync(join(folder, 'some-file'), '');
});
afterEach(() => rmSync(folder, { recursive: true }));

function has(shell: Shell): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((each) => {
    try {
      accessSync(join(each, shell), constants.X_OK);
      return true;
    } catch (error) {
      if (error instanceof Error && 'code' in error) return false;
      throw error;
    }
  });
}

/** Starts the shell without anybody's own settings. */
function shell(name: Shell, args: readonly string[]): string {
  return execFileSync(name, args, { cwd: folder, env: { PATH: process.env['PATH'], HOME: folder, TERM: 'dumb', LANG: 'C.UTF-8' }, encoding: 'utf8', timeout: 20_000 });
}

function script(name: Shell): string {
  const file = join(folder, `completion.${name}`);
  writeFileSync(file, completionScript(name, program));
  return file;
}

/** What Tab offers behind these words, as the shell itself says. */
const offers: Record<Shell, (words: readonly string[]) => string[]> = {
  bash(words) {
    const list = words.map((word) => `'${word}'`).join(' ');
    return shell('bash', ['--norc', '-c', `shopt -s progcomp; compopt() { :; }; source ${script('bash')}; COMP_WORDS=(${list}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _flotilla; printf '%s\\n' "\${COMPREPLY[@]}"`])
      .split('\n')
      .filter((line) => line !== '');
  },
  // The shell in a terminal of its own, where Tab is pressed: what stands on the line afterwards.
  zsh(words) {
    const settings = [
      'unset zle_bracketed_paste',
      'autoload -Uz compinit && compinit -u -D',
      `source ${script('zsh')}`,
      'flotilla() { print -r -- "LINE:$*:END" }',
      'PS1=; precmd() { print READY }',
    ];
    writeFileSync(join(folder, '.zshrc'), `${settings.join('\n')}\n`);
    const typing = ['zmodload zsh/zpty', 'zpty shell ZDOTDIR=$HOME zsh -d -i', "zpty -r shell line '*READY*'", `zpty -w -n shell $'${words.join(' ')}\\t\\r'`, "zpty -r shell line '*LINE:*:END*'", 'print -r -- ${${line##*LINE:}%%:END*}', 'zpty -d shell'];
    return [shell('zsh', ['-f', '-c', typing.join('\n')]).trim().split(' ').at(-1)!];
  },
  fish(words) {
    return shell('fish', ['--no-config', '-c', `source ${script('fish')}; complete -C '${words.join(' ')}'`])
      .split('\n')
      .map((line) => line.split('\t')[0]!)
      .filter((word) => word !== '');
  },
};

describe.each(SHELLS.filter(has))('%s', (name) => {
  test('takes the script', () => {
    expect(shell(name, ['-n', script(name)])).toBe('');
  });

  test.each([
    [['flotilla', 'statu'], 'status'],
    [['flotilla', 'setup', 'containe'], 'containerd'],
    [['flotilla', 'setup', 'docker', '--und'], '--undo'],
    [['flotilla', 'doctor', '--client', 'podm'], 'podman'],
    [['flotilla', 'completion', 'fi'], 'fish'],
    [['flotilla', 'agent', '--p2p-lis'], '--p2p-listen'],
    [['flotilla', 'rollout', 'pau'], 'pause'],
    [['flotilla', 'status', '--data', 'some-f'], name === 'fish' ? 'some-folder/' : 'some-folder'],
  ])('completes %j', (words, word) => {
    expect(offers[name](words)).toEqual([word]);
  });
});

test.skipIf(!has('bash'))('offers nothing of another command, and files where a file is due', () => {
  expect(offers.bash(['flotilla', 'status', '--und'])).toEqual([]);
  expect(offers.bash(['flotilla', 'status', '--config', 'some-']).sort()).toEqual(['some-file', 'some-folder']);
  expect(offers.bash(['flotilla', 'agent', '--name', 'sta'])).toEqual([]);
  expect(offers.bash(['flotilla', ''])).toEqual(expect.arrayContaining(['agent', 'status', 'setup', 'doctor', 'completion']));
});

test.each(SHELLS.filter(has))('%s is not misled by what a description holds', (name) => {
  const hostile = new Command('flotilla');
  hostile.command('status').description(`it's "quoted" $(touch ${join(folder, 'touched')}) \`x\` [a] : b\\`);
  const file = join(folder, `hostile.${name}`);
  writeFileSync(file, completionScript(name, hostile));
  expect(shell(name, ['-n', file])).toBe('');
  if (name === 'fish') expect(shell('fish', ['--no-config', '-c', `source ${file}; complete -C 'flotilla st'`])).toContain('status');
  expect(() => accessSync(join(folder, 'touched'))).toThrow();
});
