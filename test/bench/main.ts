// `npm run bench -- [NAME...] [flags]`: measures agents, and the tracker's view; without a name, all of it. See `--help`.
// Progress on stderr, the result on stdout; exit code 1 where a stated limit is broken.

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { benchMemory, type MemoryResult } from './memory.ts';
import { benchPair, MAX_PAIR_CPU_PER_GIB, MIN_PAIR_MBPS, type PairResult } from './pair.ts';
import { benchPage, MAX_UPDATE_MS, type PageResult } from './page.ts';
import { benchView, MAX_CORE_SHARE, type ViewResult } from './view.ts';
import { benchServing, MAX_FIRST_BYTE_MS, MAX_MANIFEST_ADDED_MS, MIN_SHARE_OF_NGINX, type ServingResult } from './serving.ts';

const USAGE = `npm run bench -- [NAME...] [flags]      without a name, all of them

  serving          the local endpoint against nginx with the same file; manifests against their origin
  memory           resident memory of agents while a large blob goes through them
  pair             two agents on loopback, one pulls from the other: MB/s, CPU-s per GiB of each end and of each part
  view             what the operators' view costs the tracker
  page             what the dashboard's page costs a real browser (chromium)

  --size MIB       the blob of memory (2048) and of pair (512)
  --runs N         runs of pair, after one to warm up (5); figures are medians
  --hosts N        hosts of view and page (2000)
  --json           one JSON line instead of text
`;
const NAMES = ['serving', 'memory', 'pair', 'view', 'page'];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string' },
    runs: { type: 'string', default: '5' },
    hosts: { type: 'string', default: '2000' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const sizes = { memory: Number(values.size ?? 2048), pair: Number(values.size ?? 512) };
const hosts = Number(values.hosts);
const runs = Number(values.runs);
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
if (positionals.some((name) => !NAMES.includes(name)) || ![sizes.memory, hosts, runs].every((count) => Number.isInteger(count) && count >= 1)) {
  console.error(USAGE);
  process.exit(2);
}
const wanted = positionals.length === 0 ? NAMES : positionals;
const progress = (text: string): void => console.error(`bench: ${text}`);
const serving = wanted.includes('serving') ? await benchServing(progress) : undefined;
const memory = wanted.includes('memory') ? await benchMemory(sizes.memory, progress) : undefined;
const pair = wanted.includes('pair') ? await benchPair(sizes.pair, runs, progress) : undefined;
const view = wanted.includes('view') ? await benchView(hosts, progress) : undefined;
const page = wanted.includes('page') ? await benchPage(hosts, progress) : undefined;
if (values.json) {
  console.log(JSON.stringify({ cores: cpus().length, serving, memory, pair, view, page }));
} else {
  if (serving !== undefined) printServing(serving);
  if (memory !== undefined) printMemory(memory);
  if (pair !== undefined) printPair(pair);
  if (view !== undefined) printView(view);
  if (page !== undefined) printPage(page);
}
process.exitCode = [serving, memory, pair, view, page].every((result) => result?.ok !== false) ? 0 : 1;

function printServing({ throughput, firstByteMs, manifests }: ServingResult): void {
  console.log(`a blob in the store, ${cpus().length} cores, medians (limit ${MIN_SHARE_OF_NGINX} of nginx with the same file):`);
  for (const { blobMiB, clients, agentMBps, nginxMBps, share } of throughput) {
    console.log(`  ${`${blobMiB} MiB`.padEnd(8)} ${clients} ${(clients === 1 ? 'client' : 'clients').padEnd(8)} agent ${mbps(agentMBps)}  nginx ${mbps(nginxMBps)}  share ${share.toFixed(2)}`);
  }
  console.log(`first byte of it, on a new connection (limit ${MAX_FIRST_BYTE_MS} ms):`);
  for (const { blobMiB, agentMs, nginxMs } of firstByteMs) console.log(`  ${`${blobMiB} MiB`.padEnd(8)} agent ${ms(agentMs)}  nginx ${ms(nginxMs)}`);
  console.log(`a manifest, against its origin (limit ${MAX_MANIFEST_ADDED_MS} ms more):`);
  for (const { what, originMs, agentMs, addedMs } of manifests) console.log(`  ${what.padEnd(15)} agent ${ms(agentMs)}  origin ${ms(originMs)}  added ${ms(addedMs)}`);
}

function printMemory(memory: MemoryResult): void {
  console.log(`memory of an agent with a blob of ${memory.blobMiB} MiB, ${cpus().length} cores (limit ${memory.limitMiB} MiB resident):`);
  for (const { agent, what, seconds, highestMiB, cpuSecondsPerGiB } of memory.figures) {
    console.log(`  ${agent.padEnd(7)} ${what.padEnd(34)} ${String(highestMiB).padStart(4)} MiB  ${seconds.toFixed(1).padStart(6)} s  ${cpuSecondsPerGiB.toFixed(1).padStart(5)} CPU-s/GiB`);
  }
  console.log(`  copies out of the origin: ${memory.copiesOutOfTheOrigin.toFixed(3)}`);
}

function printPair({ blobMiB, runs: pulls, mbps: rate, sender, receiver, together, parts }: PairResult): void {
  console.log(`one agent pulls ${blobMiB} MiB from another over loopback, ${cpus().length} cores, medians of ${pulls.length} (limits ${MIN_PAIR_MBPS} MB/s, ${MAX_PAIR_CPU_PER_GIB} CPU-s/GiB of both):`);
  console.log(`  ${mbps(rate)}  CPU-s/GiB: sender ${sender.toFixed(2)}, receiver ${receiver.toFixed(2)}, both ${together.toFixed(2)}`);
  console.log('CPU-s/GiB of the parts, each alone:');
  console.log(`  both ends in memory ${parts.memory.toFixed(2)}, with noise ${parts.noise.toFixed(2)}, with yamux ${parts.yamux.toFixed(2)}; tcp ${parts.tcp.toFixed(2)}  sha256 ${parts.hash.toFixed(2)} (a chunk is hashed twice: alone and with the whole)`);
  console.log(`  disk: write with fsync ${parts.diskWrite.toFixed(2)}, read ${parts.diskRead.toFixed(2)}  HTTP: a stored blob to a client ${parts.http.toFixed(2)}, its disk reads within`);
}

function printView({ hosts: count, seconds, listeners, cpuMs, longestLookMs, coreShare, deltaBytes, snapshotBytes }: ViewResult): void {
  console.log(`the operators' view of ${count} hosts that pull, ${listeners} pages open, over ${seconds} s (limit ${MAX_CORE_SHARE * 100} % of a core):`);
  console.log(`  ${(coreShare * 100).toFixed(1)} % of a core: longer stats ${ms(cpuMs.read)}, taking them ${ms(cpuMs.intake)}, looking and telling ${ms(cpuMs.look)} each second, at most ${ms(longestLookMs)}, lists ${ms(cpuMs.lists)}`);
  console.log(`  to each page: ${(snapshotBytes / 1000).toFixed(0)} kB at first, ${(deltaBytes / 1000).toFixed(0)} kB each second`);
}

function mbps(rate: number): string {
  return `${rate.toFixed(0).padStart(5)} MB/s`;
}

function ms(time: number): string {
  return `${time.toFixed(2).padStart(6)} ms`;
}

function printPage({ hosts, seconds, updateMs, ageMs }: PageResult): void {
  console.log(`the dashboard's page of an image that ${hosts} hosts pull, in chromium without a GPU, over ${seconds} s (limit ${MAX_UPDATE_MS} ms an update, figures at most 1 s old):`);
  console.log(`  main thread for each update: ${updateMs.median.toFixed(0)} ms in the median, ${updateMs.longest.toFixed(0)} ms at most; figures ${ageMs} ms old when they come`);
}
