import type { Brake } from '@flotilla/shared/live-api';
import { expect, test } from 'vitest';
import { Alerts, type AlertFacts } from './alerts.ts';

const NONE: AlertFacts = { origins: [], stateFailed: false, noProgress: [], diskFull: [], skewed: [], quarantined: [], lost: [], brakes: [] };
const BRAKE: Brake = { id: 'b1', scope: { kind: 'zone', zone: 'b' }, stopUploads: true, originOnly: false, uploadLimit: 5e6, zoneLimit: 1e6, reason: 'switch dying', setBy: 'ada', setAtMs: 500, untilMs: 3_600_000, hosts: 3 };

test('each has its cause, its next step and its hosts; the worst and oldest first; none stays', () => {
  const alerts = new Alerts();
  const facts: AlertFacts = {
    ...NONE,
    diskFull: [{ n: 1, name: 'web-1', freeBytes: 1.5e9 }, { n: 2, name: 'web-2', freeBytes: 2e8 }],
    skewed: [{ n: 3, name: 'web-3', skewMs: -95_000 }],
    quarantined: [{ n: 4, name: 'web-4', reason: 'two members got wrong bytes from it' }],
    brakes: [BRAKE],
  };
  alerts.decide({ ...NONE, skewed: facts.skewed }, 1_000);
  const told = alerts.decide(facts, 9_000);
  expect(told.map(({ code, sinceMs, hosts, examples }) => [code, sinceMs, hosts, examples])).toEqual([
    ['quarantined', 9_000, 1, [4]],
    ['clock-skew', 1_000, 1, [3]],
    ['disk-nearly-full', 9_000, 2, [1, 2]],
    ['brake', 500, 0, []],
  ]);
  for (const { title, cause, next } of told) for (const text of [cause, next]) expect(text, title).toMatch(/\.$/);
  expect(told[1]!.cause).toBe('The clock of web-3 is 95 s behind; beyond 5 minutes it cannot enrol.');
  expect(told[2]!.cause).toContain('web-2 has 200 MB left');
  expect(told[3]!.title).toBe('A brake is on: no uploads, 5.0 MB/s up, 1.0 MB/s between zones for zone b');
  expect(alerts.decide(NONE, 10_000)).toEqual([]);
  expect(alerts.decide({ ...NONE, skewed: facts.skewed }, 11_000)[0]!.sinceMs).toBe(11_000);
});

test.each(['throttled', 'credentials', 'dns', 'unreachable', 'other'] as const)('an origin: %s', (kind) => {
  const [alert] = new Alerts().decide({ ...NONE, origins: [{ origin: 'docker.io', kind, sinceMs: 77, hosts: [{ n: 6, zone: '' }], served: 0 }] }, 1_000);
  expect(alert).toMatchObject({ id: `origin docker.io ${kind}`, code: 'origin-errors', sinceMs: 77, examples: [6] });
  expect(alert!.title).toContain('docker.io');
});
