// A page of docs/ as a reader follows it: the files that it says to write, and the commands that it says to run.
//
// A file is a fenced block behind a line that names its absolute path and ends in a colon; "the same file" stands for the path before. Several
// blocks for one path are alternatives.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from './processes.ts';

export interface PageFile {
  readonly path: string;
  /** toml, json, yaml */
  readonly language: string;
  readonly text: string;
}

export interface Page {
  readonly text: string;
  readonly files: readonly PageFile[];
  /** Whole shell blocks. */
  readonly commands: readonly string[];
  /** Relative links. */
  readonly links: readonly string[];
}

export function readPage(name: string): Page {
  const text = readFileSync(join(checkout, 'docs', name), 'utf8');
  const blocks = [...text.matchAll(/([^\n]*)\n\n```(\w+)\n([^]*?)^```$/gm)];
  const files: PageFile[] = [];
  for (const [, before = '', language = '', content = ''] of blocks) {
    if (language === 'sh') continue;
    const path = before.endsWith('the same file:') ? files.at(-1)?.path : pathOn(before);
    if (path !== undefined) files.push({ path, language, text: content });
  }
  return {
    text,
    files,
    commands: blocks.filter(([, , language]) => language === 'sh').map(([, , , content]) => content!.trim()),
    links: [...text.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]!),
  };
}

/** The first path in backticks on the line before the block. */
function pathOn(line: string): string | undefined {
  return line.endsWith(':') ? /`(\/[^`]+)`/.exec(line)?.[1] : undefined;
}
