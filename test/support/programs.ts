// Real programs that tests need. Where one is missing the tests are skipped, with the reason in their name (scripts/test.mjs prints it);
// with CI=true they fail instead, so that a green CI has run them all.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, it } from 'vitest';

/** `root` stands for the user, everything else for a program on PATH (or in the sbin folders). */
export type Need = 'root' | (string & {});

/**
 * A `describe` for tests that need these: `needs('root', 'podman')('a pull', () => { ... })`.
 */
export function needs(...all: readonly Need[]): (name: string, body: () => void) => void {
  const missing = all.filter((need) => !isHere(need));
  if (missing.length === 0) return describe;
  const reason = missing.map((need) => (need === 'root' ? 'needs root' : `${need} is not installed`)).join(', ');
  if (process.env['CI'] === 'true') {
    return (name) => {
      describe(name, () => {
        it('finds the programs it needs', () => {
          throw new Error(reason);
        });
      });
    };
  }
  return (name, body) => {
    describe.skip(`${name} (${reason})`, body);
  };
}

/** The same for programs that Debian does not have: without them the tests are skipped, with CI=true as well. */
export function optionally(...all: readonly Need[]): (name: string, body: () => void) => void {
  const missing = all.filter((need) => !isHere(need));
  if (missing.length === 0) return describe;
  return (name, body) => {
    describe.skip(`${name} (${missing.join(', ')}: not on PATH, and not in Debian)`, body);
  };
}

function isHere(need: Need): boolean {
  return need === 'root' ? process.getuid?.() === 0 : programPath(need) !== undefined;
}

/** Where a program lies, or undefined. */
export function programPath(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
