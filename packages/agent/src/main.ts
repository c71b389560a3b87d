#!/usr/bin/env node
// The program `flotilla`. Exits when its command is done, with that command's code (cli/exit-codes.ts).
//
// The agent itself runs with a collector and a malloc that are set for buffers outside of V8's heap: each chunk and each socket read is
// one; with the defaults they are freed late, their memory is not given back, and collecting costs more than the transfer itself
// (docs/decisions/0004). None of it can be set from within, so the process replaces itself once, before it has loaded anything.

import process from 'node:process';
import { COLLECTOR_FLAGS, MALLOC_ENVIRONMENT } from './node-flags.ts';

const argv = process.argv.slice(2);

if (argv[0] === 'agent' && process.execve !== undefined && !process.execArgv.includes('--expose-gc')) {
  const environment = { ...MALLOC_ENVIRONMENT, ...process.env } as Record<string, string>;
  process.execve(process.execPath, [process.execPath, ...COLLECTOR_FLAGS, ...process.execArgv, ...process.argv.slice(1)], environment);
}

const { run } = await import('./cli/program.ts');
process.exit(await run(argv));
