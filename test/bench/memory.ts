// Resident memory of agents while a large blob goes through them: from the origin, from a peer, and to a slow client.
// Figures come from the kernel (VmHWM, the highest since the start), of agents that run as programs of their own.

import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import { fetchBlob } from '../support/fetch.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { startPatternOrigin, type PatternOrigin } from './pattern-origin.ts';
import { cpuSeconds, highestMiB } from './proc.ts';

const MIB = 1024 * 1024;
/** 250 MB */
const LIMIT_MIB = 238;

interface MemoryFigure {
  readonly agent: string;
  readonly what: string;
  readonly seconds: number;
  readonly highestMiB: number;
  readonly cpuSecondsPerGiB: number;
}

export interface MemoryResult {
  readonly blobMiB: number;
  readonly limitMiB: number;
  readonly copiesOutOfTheOrigin: number;
  readonly figures: readonly MemoryFigure[];
  readonly ok: boolean;
}

/** One agent pulls from the origin and serves; a second pulls from it; a third gives it to a slow client; a fourth keeps nothing. */
export async function benchMemory(blobMiB: number, progress: (text: string) => void): Promise<MemoryResult> {
  progress(`making a blob of ${blobMiB} MiB`);
  const origin = await startPatternOrigin(blobMiB * MIB);
  const fleet = await FleetProcesses.start();
  try {
    const flags = ['--origin', `bench=${origin.url}`, '--store-limit', `${4 * blobMiB}MiB`];
    const agent = await fleet.addAgent('first', flags);
    const figures = [await measure(agent, 'pulls from the origin', blobMiB, progress, () => fetchWhole(agent, origin))];
    const second = await fleet.addAgent('second', flags);
    figures.push(await measure(second, 'pulls from the first', blobMiB, progress, () => fetchWhole(second, origin)));
    const third = await fleet.addAgent('third', flags);
    figures.push(await measure(third, 'pulls for a client of 50 MiB/s', blobMiB, progress, () => fetchSlowly(third, origin, 50 * MIB)));
    const fourth = await fleet.addAgent('fourth', [...flags.slice(0, 2), '--store-limit', '1MiB']);
    figures.push(await measure(fourth, 'pulls with no room on disk', blobMiB, progress, () => fetchWhole(fourth, origin)));
    figures.push(await measure(agent, 'has served all of them', blobMiB, progress, () => Promise.resolve()));
    const copies = origin.sent() / origin.size;
    return { blobMiB, limitMiB: LIMIT_MIB, copiesOutOfTheOrigin: copies, figures, ok: figures.every(({ highestMiB }) => highestMiB <= LIMIT_MIB) };
  } finally {
    await fleet.close();
    await origin.close();
  }
}

async function measure(agent: AgentProgram, what: string, blobMiB: number, progress: (text: string) => void, work: () => Promise<void>): Promise<MemoryFigure> {
  progress(`${agent.name} ${what}`);
  const cpuBefore = await cpuSeconds(agent.pid);
  const startedMs = performance.now();
  await work();
  const seconds = (performance.now() - startedMs) / 1000;
  const cpu = (await cpuSeconds(agent.pid)) - cpuBefore;
  return { agent: agent.name, what, seconds, highestMiB: await highestMiB(agent.pid), cpuSecondsPerGiB: (cpu * 1024) / blobMiB };
}

async function fetchWhole(agent: AgentProgram, origin: PatternOrigin): Promise<void> {
  const { digest, status } = await fetchBlob(agent.url, 'bench/blob', origin.digest);
  if (status !== 200 || digest !== origin.digest) throw new Error(`${agent.name} gave ${digest} with status ${status}`);
}

async function fetchSlowly(agent: AgentProgram, origin: PatternOrigin, bytesPerSecond: number): Promise<void> {
  const { body } = await request(`${agent.url}/v2/bench/blob/blobs/${origin.digest}`, { bodyTimeout: 0 });
  const startedMs = performance.now();
  let bytes = 0;
  for await (const piece of body as AsyncIterable<Buffer>) {
    bytes += piece.length;
    const aheadMs = (bytes / bytesPerSecond) * 1000 - (performance.now() - startedMs);
    if (aheadMs > 5) await delay(aheadMs);
  }
  if (bytes !== origin.size) throw new Error(`the slow client got ${bytes} of ${origin.size} bytes`);
}
