#!/usr/bin/env node
// The program `flotilla`. Exits when its command is done, with that command's code (cli/exit-codes.ts).

import { run } from './cli/program.ts';

process.exit(await run(process.argv.slice(2)));
