import type { SessionRequest } from '@flotilla/shared/tracker-api';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Stats } from './host.ts';
import { Hosts } from './hosts.ts';

const request = (peerId: string, timestampMs = 0): SessionRequest => ({ peerId, nonce: 'n', timestampMs, signature: '', addresses: [], name: peerId, labels: {}, agentVersion: '1' });
const stats = (peer: number, more: Partial<Stats> = {}): Stats => ({ type: 'stats', bytes: { peer, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, pulls: { active: 0, done: 0, failed: 0 }, store: { bytes: peer, limit: 100, blobs: 0 }, ...more });

test('sums are those of the connected hosts; what moved never falls, and begins with the first word of a session', () => {
  const step = fc.record({ peer: fc.constantFrom('a', 'b', 'c'), act: fc.constantFrom('open', 'close', 'stats', 'forget'), bytes: fc.nat(1000) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const hosts = new Hosts();
      const told = new Map<string, number>();
      let moved = 0;
      let nowMs = 0;
      for (const { peer, act, bytes } of steps) {
        nowMs += 1000;
        if (act === 'open') hosts.opened(request(peer), nowMs);
        if (act === 'close') hosts.closed(peer, false, nowMs);
        if (act === 'forget') hosts.forget(peer);
        if (act === 'stats' && hosts.stats(peer, stats(bytes), nowMs) !== undefined) {
          const before = told.get(peer);
          if (before !== undefined) moved += Math.max(0, bytes - before);
          told.set(peer, bytes);
        } else if (act !== 'stats') told.delete(peer);
        const connected = [...hosts.connected];
        expect(hosts.sums.bytes.peer).toBe(connected.reduce((sum, host) => sum + host.bytes.peer, 0));
        expect(hosts.sums.store.bytes).toBe(connected.reduce((sum, host) => sum + host.store.bytes, 0));
        expect(hosts.moved.peer).toBe(moved);
      }
    }),
  );
});

test('a number is of one host for ever', () => {
  const hosts = new Hosts();
  const first = hosts.opened(request('a'), 0).n;
  hosts.forget('a');
  expect(hosts.opened(request('b'), 0).n).not.toBe(first);
  expect([hosts.at(first), hosts.find('a'), hosts.size]).toEqual([undefined, undefined, 1]);
});

test('faults told at the first word of a session are old; later ones go on for a while', () => {
  const hosts = new Hosts();
  const host = hosts.opened(request('a'), 0);
  hosts.stats('a', stats(0, { faults: [['lab', 'throttled', 7]] }), 1_000);
  expect(host.faultsNow(1_000)).toEqual([]);
  hosts.stats('a', stats(0, { faults: [['lab', 'throttled', 8], ['lab', 'a kind of a newer release', 1]] }), 2_000);
  expect(host.faultsNow(2_000)).toMatchObject([{ origin: 'lab', kind: 'throttled', sinceMs: 2_000 }]);
  hosts.stats('a', stats(0, { faults: [['lab', 'throttled', 9]] }), 5_000);
  expect(host.faultsNow(15_000)).toMatchObject([{ sinceMs: 2_000, lastMs: 5_000 }]);
  expect(host.faultsNow(20_000)).toEqual([]);
});

test('who went without a word is lost for a minute, unless it comes back', () => {
  const hosts = new Hosts();
  for (const peer of ['a', 'b', 'c']) hosts.opened(request(peer), 0);
  hosts.closed('a', false, 0);
  hosts.closed('b', true, 0);
  hosts.closed('c', false, 0);
  hosts.opened(request('c'), 5_000);
  expect(hosts.lost(10_000, 9_999)).toEqual([]);
  expect(hosts.lost(10_000, 10_000).map(({ peerId }) => peerId)).toEqual(['a']);
  expect(hosts.lost(10_000, 60_000)).toEqual([]);
});

test('the clock of a host is known from its session', () => {
  expect(new Hosts().opened(request('a', 95_000), 5_000).clockSkewMs).toBe(90_000);
});
