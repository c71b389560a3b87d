import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { State } from '../state.ts';
import { AuditLog } from './audit-log.ts';
import { OperatorSessions } from './operator-sessions.ts';

async function withState(act: (state: State) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-audit-'));
  const state = await State.open(join(dir, 'state'));
  try {
    await act(state);
  } finally {
    await state.close();
    await rm(dir, { recursive: true });
  }
}

test('the audit log keeps its bound, and numbers go on after it was opened anew', async () => {
  await withState(async (state) => {
    let nowMs = 0;
    const told: number[] = [];
    const log = await AuditLog.open(state.table('audit-log'), () => ++nowMs, 3);
    const stop = log.onEntry(({ id }) => told.push(id));
    for (let id = 1; id <= 5; id++) await log.record('ada', 'thing.do', `t${id}`);
    stop();
    expect((await log.entries(10)).map(({ id, atMs, target }) => [id, atMs, target])).toEqual([[5, 5, 't5'], [4, 4, 't4'], [3, 3, 't3']]);
    const again = await AuditLog.open(state.table('audit-log'), () => ++nowMs, 3);
    await again.record('ada', 'thing.do', 't6');
    expect((await again.entries(10)).map(({ id }) => id)).toEqual([6, 5, 4]);
    expect((await again.entries(10, 5)).map(({ id }) => id)).toEqual([4]);
    expect(told).toEqual([1, 2, 3, 4, 5]);
  });
});

test('a session ends unused after 12 hours, and after a week in any case', async () => {
  await withState(async (state) => {
    const hourMs = 3_600_000;
    const writes: Promise<void>[] = [];
    const sessions = await OperatorSessions.open(state.table('operator-sessions'));
    const find = (secret: string, nowMs: number): unknown => sessions.find(secret, nowMs, (write) => writes.push(write));
    const [idle, busy] = [await sessions.start({ name: 'a', role: 'read' }, undefined, 0), await sessions.start({ name: 'b', role: 'read' }, undefined, 0)];
    for (let hour = 0; hour < 7 * 24; hour += 11) expect(find(busy, hour * hourMs)).toEqual({ name: 'b', role: 'read' });
    expect(find(busy, 7 * 24 * hourMs)).toBeUndefined();
    expect(find(idle, 12 * hourMs - 1)).toBeDefined();
    expect(find(idle, 24 * hourMs)).toBeUndefined();
    await Promise.all(writes);
    await sessions.start({ name: 'c', role: 'read' }, undefined, 30 * 24 * hourMs);
    expect(sessions.size).toBe(1);
  });
});

test('of too many sessions the longest unused goes', async () => {
  await withState(async (state) => {
    const sessions = await OperatorSessions.open(state.table('operator-sessions'));
    const first = await sessions.start({ name: 'a', role: 'read' }, undefined, 0);
    for (let count = 1; count <= 1_000; count++) await sessions.start({ name: 'a', role: 'read' }, undefined, count);
    expect(sessions.size).toBe(1_000);
    expect(sessions.find(first, 1_001, () => undefined)).toBeUndefined();
  });
});
