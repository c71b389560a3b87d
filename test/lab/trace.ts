// Puts the agents' traces together: one file in the order of time, hosts by name instead of peer ids.

import { readFile, writeFile } from 'node:fs/promises';
import type { Fleet } from './fleet.ts';

interface TraceLine {
  readonly atMs: number;
  readonly from?: string;
}

/** @param startedMs performance.now() at time zero: `atS` of each line counts from there */
export async function mergeTraces(fleet: Fleet, startedMs: number, file: string): Promise<void> {
  const lines: { atS: number; text: string }[] = [];
  for (const { traceFile, link } of fleet.agents) {
    for (const line of (await readFile(traceFile, 'utf8')).split('\n')) {
      const read = parse(line);
      if (read === undefined) continue;
      const { atMs, from, ...rest } = read;
      const atS = Math.round(atMs - performance.timeOrigin - startedMs) / 1000;
      lines.push({ atS, text: JSON.stringify({ atS, at: link.port, ...rest, ...(from !== undefined && { from: fleet.peers.get(from) ?? from }) }) });
    }
  }
  lines.sort((a, b) => a.atS - b.atS);
  await writeFile(file, lines.map(({ text }) => `${text}\n`).join(''));
}

/** undefined for the line that a killed agent did not finish. */
function parse(line: string): TraceLine | undefined {
  if (line === '') return undefined;
  try {
    return JSON.parse(line) as TraceLine;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
