// An unshaped pair of agents on loopback: one has a blob, the other pulls it for a client. Speed, processor time of each end, and what
// the parts of a transfer cost alone (parts.ts). Agents are programs of their own with a tracker; each run has a new puller.
//
// The client is curl: the puller verifies what it gives out. Both agents, tracker and curl share the machine's cores.

import { rm } from 'node:fs/promises';
import { run } from '../support/command.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { median } from './median.ts';
import { benchParts, runtimeOf, type AgentRuntime, type PartCosts } from './parts.ts';
import { startPatternOrigin } from './pattern-origin.ts';
import { cpuSeconds } from './proc.ts';

const MIB = 1024 * 1024;
/** The stated limits. */
export const MIN_PAIR_MBPS = 200;
export const MAX_PAIR_CPU_PER_GIB = 9;

interface PairRun {
  readonly seconds: number;
  readonly mbps: number;
  /** CPU-seconds per GiB. */
  readonly sender: number;
  readonly receiver: number;
  readonly together: number;
  /** Bytes that the puller got from elsewhere than its peer. */
  readonly originBytes: number;
  /** CPU-seconds per GiB of an agent that gives a stored blob to a client: HTTP, and reading the disk. */
  readonly http: number;
}

export interface PairResult {
  readonly blobMiB: number;
  readonly runs: readonly PairRun[];
  readonly mbps: number;
  readonly sender: number;
  readonly receiver: number;
  readonly together: number;
  readonly parts: PartCosts & { readonly http: number };
  readonly ok: boolean;
}

/** Medians of `runs` pulls. Needs curl. */
export async function benchPair(blobMiB: number, runs: number, progress: (text: string) => void): Promise<PairResult> {
  const { all, runtime } = await pulls(blobMiB, runs, progress);
  const of = (figure: 'mbps' | 'sender' | 'receiver' | 'together' | 'http'): number => median(all.map((each) => each[figure]));
  // Only now: the parts are measured with nothing else at work.
  const parts = { ...(await benchParts(runs, runtime, progress)), http: of('http') };
  const ok = of('mbps') >= MIN_PAIR_MBPS && of('together') <= MAX_PAIR_CPU_PER_GIB && all.every(({ originBytes }) => originBytes === 0);
  return { blobMiB, runs: all, mbps: of('mbps'), sender: of('sender'), receiver: of('receiver'), together: of('together'), parts, ok };
}

async function pulls(blobMiB: number, runs: number, progress: (text: string) => void): Promise<{ all: PairRun[]; runtime: AgentRuntime }> {
  await using opened = new AsyncDisposableStack();
  progress(`making a blob of ${blobMiB} MiB`);
  const origin = await startPatternOrigin(blobMiB * MIB);
  opened.defer(() => origin.close());
  const fleet = await FleetProcesses.start();
  opened.defer(() => fleet.close());
  const flags = ['--origin', `bench=${origin.url}`, '--store-limit', `${4 * blobMiB}MiB`];
  const path = `/v2/bench/blob/blobs/${origin.digest}`;
  const seed = await fleet.addAgent('seed', flags);
  await download(seed, path, origin.size);
  const all: PairRun[] = [];
  // The first puller warms the seed's code.
  for (let each = 0; each <= runs; each++) {
    progress(each === 0 ? 'a pull to warm up' : `pull ${each} of ${runs}`);
    const puller = await fleet.addAgent(`puller${each}`, flags);
    const figures = await pull(seed, puller, path, origin.size);
    if (each > 0) all.push(figures);
    await puller.stop();
    await rm(puller.dataDir, { recursive: true, force: true });
  }
  return { all, runtime: await runtimeOf(seed.pid) };
}

async function pull(seed: AgentProgram, puller: AgentProgram, path: string, size: number): Promise<PairRun> {
  const perGiB = 1024 / (size / MIB);
  const before = { seed: await cpuSeconds(seed.pid), puller: await cpuSeconds(puller.pid) };
  const seconds = await download(puller, path, size);
  const sender = ((await cpuSeconds(seed.pid)) - before.seed) * perGiB;
  const stored = await cpuSeconds(puller.pid);
  const receiver = (stored - before.puller) * perGiB;
  const { origin: originBytes } = await puller.blobBytes();
  await download(puller, path, size);
  const http = ((await cpuSeconds(puller.pid)) - stored) * perGiB;
  return { seconds, mbps: size / 1e6 / seconds, sender, receiver, together: sender + receiver, originBytes, http };
}

/** @returns seconds */
async function download({ url, name }: AgentProgram, path: string, size: number): Promise<number> {
  const told = await run('curl', ['--silent', '--fail', '--output', '/dev/null', '--write-out', '%{size_download} %{time_total}', url + path]);
  const [bytes, seconds] = told.split(' ').map(Number);
  if (bytes !== size) throw new Error(`${name} gave ${bytes} of ${size} bytes`);
  return seconds!;
}
