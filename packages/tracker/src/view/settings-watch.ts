// What the tracker was started with: starts, and settings that differ from the last start, go into the audit log.

import type { TrackerConfig } from '../config.ts';
import type { AuditLog } from '../operators/audit-log.ts';
import type { State } from '../state.ts';
import { TRACKER_VERSION } from '../version.ts';

export async function noteStart(config: TrackerConfig, state: State, audit: AuditLog): Promise<void> {
  const table = state.table<string>('settings');
  const now = new Map(Object.entries(config).flatMap(([name, value]) => (value === undefined ? [] : [[name, JSON.stringify(value)] as const])));
  const before = new Map<string, string>();
  for await (const [name, value] of table.entries()) before.set(name, value);
  await audit.record('tracker', 'tracker.start', TRACKER_VERSION);
  if (before.size > 0) {
    for (const name of new Set([...before.keys(), ...now.keys()])) {
      const [from, to] = [before.get(name), now.get(name)];
      if (from !== to) await audit.record('tracker', 'settings.change', name, { from: from ?? '', to: to ?? '' });
    }
  }
  const changes = new Map<string, string | undefined>([...before.keys()].filter((name) => !now.has(name)).map((name) => [name, undefined]));
  for (const [name, value] of now) if (before.get(name) !== value) changes.set(name, value);
  if (changes.size > 0) await table.write(changes);
}
