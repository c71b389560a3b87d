// Hosts grouped by why they are slow, by zone and by version. Pure.

import type { Group, SlowGroups } from '@flotilla/shared/live-api';
import type { Host } from './host.ts';

const MAX_GROUPS = 20;

/** A host, and how far it is with what is looked at. */
export interface Grouped {
  readonly host: Host;
  readonly held: number;
  readonly size: number;
  readonly whole: boolean;
  readonly fetching: boolean;
}

interface Sum {
  hosts: number;
  pulling: number;
  done: number;
  slow: number;
  rate: number;
  held: number;
  size: number;
}

/** `byReason` counts only those that are slow. The rest counts all. */
export function groupsOf(all: Iterable<Grouped>, nowMs: number): SlowGroups {
  const byReason = new Map<string, Sum>();
  const byZone = new Map<string, Sum>();
  const byVersion = new Map<string, Sum>();
  for (const each of all) {
    const { info, verdict } = each.host;
    const rate = each.fetching && !each.whole ? each.host.rate(nowMs) : 0;
    if (verdict.slow && each.fetching && !each.whole) add(byReason, verdict.reason, each, rate);
    add(byZone, info.zone, each, rate);
    add(byVersion, info.version, each, rate);
  }
  return { byReason: toGroups(byReason), byZone: toGroups(byZone), byVersion: toGroups(byVersion) };
}

function add(table: Map<string, Sum>, key: string, { host, held, size, whole, fetching }: Grouped, rate: number): void {
  let sum = table.get(key);
  if (sum === undefined) table.set(key, (sum = { hosts: 0, pulling: 0, done: 0, slow: 0, rate: 0, held: 0, size: 0 }));
  const pulling = fetching && !whole;
  sum.hosts++;
  sum.pulling += Number(pulling);
  sum.done += Number(whole);
  sum.slow += Number(pulling && host.verdict.slow);
  sum.rate += rate;
  sum.held += held;
  sum.size += size;
}

/** Those with most slow hosts first. */
function toGroups(table: ReadonlyMap<string, Sum>): Group[] {
  return [...table]
    .map(([key, { held, size, ...sum }]) => ({ key, ...sum, share: size === 0 ? 0 : Math.min(1000, Math.floor((1000 * held) / size)) }))
    .sort((a, b) => b.slow - a.slow || b.hosts - a.hosts)
    .slice(0, MAX_GROUPS);
}
