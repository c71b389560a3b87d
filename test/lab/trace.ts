// Puts the agents' traces together: one file in the order of time, hosts by name instead of peer ids.

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import type { Fleet } from './fleet.ts';
import type { TraceEvent } from './trace-summary.ts';

interface TraceLine extends Omit<TraceEvent, 'at' | 'atS'> {
  /** Unix */
  readonly atMs: number;
  /** Peer id */
  readonly from?: string;
}

/** @param startedMs performance.now() at time zero: `atS` of each line counts from there */
export async function mergeTraces(fleet: Fleet, startedMs: number, file: string): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  for (const { traceFile, link } of fleet.agents) {
    // An agent that never had anything to note.
    if (!existsSync(traceFile)) continue;
    for (const line of (await readFile(traceFile, 'utf8')).split('\n')) {
      const read = parse(line);
      if (read === undefined) continue;
      const { atMs, from, ...rest } = read;
      const atS = Math.round(atMs - performance.timeOrigin - startedMs) / 1000;
      events.push({ atS, at: link.port, ...rest, ...(from !== undefined && { from: fleet.peers.get(from) ?? from }) });
    }
  }
  events.sort((a, b) => a.atS - b.atS);
  await writeFile(file, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  return events;
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
