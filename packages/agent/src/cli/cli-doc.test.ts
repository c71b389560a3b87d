import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CLI_DOC, cliPage } from '../../../../scripts/cli-doc.ts';

test('docs/cli.md is made from the program', () => {
  expect(readFileSync(CLI_DOC, 'utf8')).toBe(cliPage());
});
