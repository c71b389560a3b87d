// `npm run bench -- [memory] [--size MiB] [--json]`: measures agents with a large blob.
// Progress on stderr, the result on stdout; exit code 1 where a stated limit is broken.

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { benchMemory } from './memory.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { size: { type: 'string', default: '2048' }, json: { type: 'boolean', default: false } },
});
const unknown = positionals.filter((name) => name !== 'memory');
const sizeMiB = Number(values.size);
if (unknown.length > 0 || !Number.isInteger(sizeMiB) || sizeMiB < 1) {
  console.error('usage: npm run bench -- [memory] [--size MiB] [--json]');
  process.exit(2);
}
const memory = await benchMemory(sizeMiB, (text) => console.error(`bench: ${text}`));
if (values.json) {
  console.log(JSON.stringify({ cores: cpus().length, memory }));
} else {
  console.log(`memory of an agent with a blob of ${memory.blobMiB} MiB, ${cpus().length} cores (limit ${memory.limitMiB} MiB resident):`);
  for (const { agent, what, seconds, highestMiB, cpuSecondsPerGiB } of memory.figures) {
    console.log(`  ${agent.padEnd(7)} ${what.padEnd(34)} ${String(highestMiB).padStart(4)} MiB  ${seconds.toFixed(1).padStart(6)} s  ${cpuSecondsPerGiB.toFixed(1).padStart(5)} CPU-s/GiB`);
  }
  console.log(`  copies out of the origin: ${memory.copiesOutOfTheOrigin.toFixed(3)}`);
}
process.exitCode = memory.ok ? 0 : 1;
