import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import { Mesh } from './mesh.ts';

const peer = (peerId: string, address = '/ip4/10.0.0.1/tcp/1'): PeerInfo => ({ peerId, addresses: [address] });

/** A mesh whose dials end as `reachable` says; `m` sorts between `a` and `z`. */
function setUp() {
  const connected = new Set<string>();
  const reachable = new Set<string>();
  const banned = new Set<string>();
  const dialled: { peerId: string; atMs: number }[] = [];
  const failed: string[] = [];
  const mesh = new Mesh({
    selfId: 'm',
    random: () => 1,
    nowMs: () => Date.now(),
    isConnected: (id) => connected.has(id),
    mayDial: (id) => !banned.has(id),
    dial: ({ peerId }) => {
      dialled.push({ peerId, atMs: Date.now() });
      if (!reachable.has(peerId)) return Promise.reject(new Error('unreachable'));
      connected.add(peerId);
      return Promise.resolve();
    },
    failed: (id) => failed.push(id),
  });
  const times = (id: string): number[] => dialled.filter(({ peerId }) => peerId === id).map(({ atMs }) => atMs);
  return { mesh, connected, reachable, banned, times, failed };
}

beforeEach(() => void vi.useFakeTimers({ now: 0 }));
afterEach(() => void vi.useRealTimers());

test('the lower id dials at once, the higher waits for it', async () => {
  const { mesh, reachable, times } = setUp();
  reachable.add('a').add('z');
  mesh.set([peer('a'), peer('z'), peer('m')]);
  await vi.advanceTimersByTimeAsync(1000);
  expect([times('z'), times('a'), times('m')]).toEqual([[0], [200], []]);
});

test('a standing peer is dialled for ever, ever more rarely; new addresses are tried at once', async () => {
  const { mesh, times, reachable, failed } = setUp();
  mesh.set([peer('z')]);
  await vi.advanceTimersByTimeAsync(120_000);
  expect(times('z').slice(0, 4)).toEqual([0, 500, 1500, 3500]);
  const gaps = times('z').map((ms, i, all) => ms - (all[i - 1] ?? 0));
  expect(Math.max(...gaps)).toBe(30_000);
  expect(failed).toHaveLength(times('z').length);
  reachable.add('z');
  mesh.set([peer('z', '/ip4/10.0.0.2/tcp/1')]);
  expect(times('z').at(-1)).toBe(Date.now());
  mesh.close();
});

test('a lost peer of the mesh is dialled again, one that fell out is not', async () => {
  const { mesh, connected, reachable, times } = setUp();
  reachable.add('y').add('z');
  mesh.set([peer('y'), peer('z')]);
  await vi.advanceTimersByTimeAsync(20_000);
  mesh.set([peer('z')]);
  connected.clear();
  mesh.lost('y', false);
  mesh.lost('z', false);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([times('y').length, times('z')]).toEqual([1, [0, 20_250]]);
});

test('a session that does not last counts as a failure: no storm of dials', async () => {
  const { mesh, connected, reachable, times } = setUp();
  reachable.add('z');
  const lose = (): void => {
    connected.clear();
    mesh.lost('z', false);
  };
  mesh.set([peer('z')]);
  for (const waitMs of [500, 1000, 2000]) {
    await vi.advanceTimersByTimeAsync(0);
    lose();
    await vi.advanceTimersByTimeAsync(waitMs - 1);
    expect(connected.size).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(connected.size).toBe(1);
  }
  // One that lasts is forgiven.
  await vi.advanceTimersByTimeAsync(10_000);
  lose();
  await vi.advanceTimersByTimeAsync(250);
  expect(times('z')).toHaveLength(5);
});

test('one that refused us is left alone for a while', async () => {
  const { mesh, connected, reachable, times } = setUp();
  reachable.add('z');
  mesh.set([peer('z')]);
  await vi.advanceTimersByTimeAsync(0);
  connected.clear();
  mesh.lost('z', true);
  await vi.advanceTimersByTimeAsync(29_999);
  expect(times('z')).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(times('z')).toHaveLength(2);
});

test('extra holders are tried three times, and bounded', async () => {
  const { mesh, times } = setUp();
  mesh.connect(Array.from({ length: 100 }, (_, i) => peer(`z${i}`)));
  await vi.advanceTimersByTimeAsync(120_000);
  expect(times('z0')).toHaveLength(3);
  expect(times('z63')).toHaveLength(3);
  expect(times('z64')).toHaveLength(0);
});

test('nobody banned is dialled, until the ban is over', async () => {
  const { mesh, banned, reachable, times } = setUp();
  banned.add('z');
  reachable.add('z');
  mesh.set([peer('z')]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(times('z')).toEqual([]);
  banned.clear();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(times('z')).toHaveLength(1);
});

test('after close nothing is dialled', async () => {
  const { mesh, times } = setUp();
  mesh.set([peer('z')]);
  mesh.close();
  const before = times('z').length;
  await vi.advanceTimersByTimeAsync(60_000);
  mesh.connect([peer('y')]);
  expect([times('z').length - before, times('y').length]).toEqual([0, 0]);
});
