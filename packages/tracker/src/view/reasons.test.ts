// Eight faults, injected into a fleet of hosts as their agents report them: five seconds later at most the view names the right one, for the right
// host, and says it in one line. Time is that of the reports.

import type { Vitals } from '@flotilla/shared/agent-report';
import type { Brake, SlowReason } from '@flotilla/shared/live-api';
import type { SessionRequest } from '@flotilla/shared/tracker-api';
import { describe, expect, test } from 'vitest';
import { gatherFacts, originFacts } from './facts.ts';
import type { Stats } from './host.ts';
import { Hosts, type Fetching } from './hosts.ts';
import { Verdicts } from './verdict.ts';

const MB = 1_000_000;
const HOSTS = 12;
const VICTIM = 5;

interface Told {
  readonly vitals: Partial<Vitals>;
  readonly limits?: Stats['limits'];
  /** Faults of the origin in this second. */
  readonly fault?: string;
  readonly active?: number;
  readonly fetching?: Partial<Fetching>;
}

class Fleet {
  readonly hosts = new Hosts();
  readonly verdicts = new Verdicts();
  nowMs = 1_000_000;
  readonly #bytes = new Map<number, number>();
  readonly #faults = new Map<string, number>();

  constructor() {
    for (let n = 0; n < HOSTS; n++) {
      const request: SessionRequest = { peerId: `peer-${n}`, nonce: 'n', timestampMs: this.nowMs, signature: '', addresses: [], name: `host-${n}`, zone: n < 6 ? 'a' : 'b', labels: {}, agentVersion: '1' };
      this.hosts.opened(request, this.nowMs);
    }
  }

  /** A second passes. @param told what a host says that is not like the others */
  second(told: ReadonlyMap<number, Told> = new Map()): string {
    this.nowMs += 1_000;
    const fetching = new Map<string, Fetching>();
    for (let n = 0; n < HOSTS; n++) {
      const own = told.get(n);
      const vitals: Vitals = { atMs: this.nowMs, peerRate: 40 * MB + n, originRate: 0, uploadRate: 40 * MB, loop: 0.4, cpu: 0.5, diskWriteMs: 6, diskBusy: 0.3, peers: 14, sources: 9, missingBytes: 1e9, freeBytes: 1e12, memoryBytes: 2e8, ...own?.vitals };
      const bytes = (this.#bytes.get(n) ?? 0) + vitals.peerRate;
      this.#bytes.set(n, bytes);
      if (own?.fault !== undefined) this.#faults.set(`${n} ${own.fault}`, (this.#faults.get(`${n} ${own.fault}`) ?? 0) + 1);
      const faults = [...this.#faults].filter(([key]) => key.startsWith(`${n} `)).map(([key, count]): [string, string, number] => ['lab', key.split(' ')[1]!, count]);
      const stats: Stats = { type: 'stats', bytes: { peer: bytes, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, pulls: { active: own?.active ?? 1, done: 0, failed: 0 }, store: { bytes: 0, limit: 0, blobs: 0 }, vitals, ...(own?.limits && { limits: own.limits }), ...(faults.length > 0 && { faults }) };
      this.hosts.stats(`peer-${n}`, stats, this.nowMs);
      if ((own?.active ?? 1) > 0) fetching.set(`peer-${n}`, { held: 5e8, size: 1.5e9, heldElsewhere: true, origins: new Set(['lab']), ...own?.fetching });
    }
    const origins = originFacts({ hosts: this.hosts, fetching, throttled: [] }, this.nowMs);
    const none: readonly Brake[] = [];
    this.hosts.judge(fetching, origins, () => none, this.nowMs);
    return this.verdicts.decide(gatherFacts({ hosts: this.hosts, quarantined: [], stale: 0, brakes: [], stateFailed: false }, origins, this.nowMs), this.nowMs).text;
  }

  reasons(): SlowReason[] {
    return Array.from({ length: HOSTS }, (_, n) => this.hosts.at(n)!.verdict.reason);
  }
}

const slowly = { peerRate: 2 * MB };
const nothing = { peerRate: 0, sources: 0 };
const FAULTS: readonly [SlowReason, Told, string][] = [
  ['link', { vitals: slowly }, '1 host: link full'],
  ['disk', { vitals: { ...slowly, diskBusy: 0.97, diskWriteMs: 310 } }, '1 host: disk slow'],
  ['cpu', { vitals: { ...slowly, loop: 0.98, diskBusy: 0.8, diskWriteMs: 120 } }, '1 host: CPU full'],
  ['dns', { vitals: nothing, fault: 'dns', active: 0 }, 'the name of origin lab is not found on 1 host'],
  ['429', { vitals: nothing, fault: 'throttled', fetching: { heldElsewhere: false } }, 'origin lab slow: 429'],
  ['credentials', { vitals: nothing, fault: 'credentials', active: 0 }, 'origin lab refuses the credentials of 1 host'],
  ['no-peers', { vitals: { ...nothing, peers: 0 } }, '1 host: no peers'],
  ['throttled', { vitals: { peerRate: 4.9 * MB }, limits: { download: 5 * MB } }, '1 host: held back by a limit'],
];

describe('one host of twelve', () => {
  test.each(FAULTS)('%s', (reason, told, text) => {
    const fleet = new Fleet();
    for (let second = 0; second < 10; second++) expect(fleet.second()).toBe('nothing wrong');
    expect(fleet.reasons().every((each) => each === '')).toBe(true);
    let line = '';
    for (let second = 0; second < 5; second++) line = fleet.second(new Map([[VICTIM, told]]));
    const expected = fleet.reasons().map((_, n) => (n === VICTIM ? reason : ''));
    expect(fleet.reasons()).toEqual(expected);
    expect(line).toMatch(new RegExp(`^${text}( since .*)?$`));
    // And it is over when it is over: what origins refused speaks a little longer.
    for (let second = 0; second < 25; second++) line = fleet.second();
    expect(fleet.reasons().every((each) => each === '')).toBe(true);
    expect(line).toBe('nothing wrong');
  });
});

describe('a whole zone', () => {
  test('is named, and the rest is not blamed', () => {
    const fleet = new Fleet();
    for (let second = 0; second < 5; second++) fleet.second();
    const zone = new Map(Array.from({ length: 6 }, (_, n): [number, Told] => [n, { vitals: slowly }]));
    zone.delete(5);
    let line = '';
    for (let second = 0; second < 5; second++) line = fleet.second(zone);
    expect(line).toBe('5 hosts of zone a: link full');
    expect(fleet.reasons().filter((reason) => reason === 'link')).toHaveLength(5);
  });

  test('an origin that throttles all is named before what follows from it', () => {
    const fleet = new Fleet();
    for (let second = 0; second < 5; second++) fleet.second();
    const all = new Map(Array.from({ length: HOSTS }, (_, n): [number, Told] => [n, { vitals: nothing, fetching: { heldElsewhere: false }, ...(n < 3 && { fault: 'throttled' }) }]));
    let line = '';
    for (let second = 0; second < 5; second++) line = fleet.second(all);
    expect(line).toMatch(/^origin lab slow: 429 since \d\d:\d\d UTC$/);
    expect(fleet.reasons()).toEqual(Array.from({ length: HOSTS }, () => '429'));
  });
});
