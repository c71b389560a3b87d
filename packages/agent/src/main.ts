#!/usr/bin/env node
// The program `flotilla`. Exits when its command is done, with that command's code (cli/exit-codes.ts).
//
// The agent itself runs with a small young generation, few malloc arenas, and chunks in mappings of their own: each chunk and each
// socket read is an allocation outside of V8's heap; with the defaults it is freed late and its memory not given back
// (docs/decisions/0004). None of it can be set from within, so the process replaces itself once, before it has loaded anything.

import process from 'node:process';

const YOUNG_GENERATION_FLAG = '--max-semi-space-size=1';
const argv = process.argv.slice(2);

if (argv[0] === 'agent' && process.execve !== undefined && !process.execArgv.some((flag) => flag.startsWith('--max-semi-space-size'))) {
  const environment = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072', ...process.env } as Record<string, string>;
  process.execve(process.execPath, [process.execPath, ...process.execArgv, YOUNG_GENERATION_FLAG, '--expose-gc', ...process.argv.slice(1)], environment);
}

const { run } = await import('./cli/program.ts');
process.exit(await run(argv));
