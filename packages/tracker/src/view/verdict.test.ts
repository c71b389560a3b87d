import type { Brake } from '@flotilla/shared/live-api';
import { describe, expect, test } from 'vitest';
import { Verdicts, type FleetFacts, type OriginFact } from './verdict.ts';

const BRAKE: Brake = { id: 'b1', scope: { kind: 'zone', zone: 'b' }, stopUploads: true, originOnly: false, downloadLimit: 5_000_000, reason: '', setBy: 'ada', setAtMs: 0, untilMs: 1, hosts: 3 };
const QUIET: FleetFacts = { up: 100, stale: 0, pulling: 50, rate: 1e9, peerRate: 9.6e8, slow: [], origins: [], lost: [], brakes: [], diskFull: [], stateFailed: false };
const T0 = Date.UTC(2026, 0, 1, 2, 14);
const hosts = (count: number, zone: string): { n: number; zone: string }[] => Array.from({ length: count }, (_, n) => ({ n, zone }));

/** Says it for three seconds. */
function decide(facts: Partial<FleetFacts>, verdicts = new Verdicts()): ReturnType<Verdicts['decide']> {
  for (const ms of [0, 1000, 2000]) verdicts.decide({ ...QUIET, ...facts }, T0 + ms);
  return verdicts.decide({ ...QUIET, ...facts }, T0 + 3000);
}

function origin(kind: OriginFact['kind'], count: number, more: Partial<OriginFact> = {}): OriginFact {
  return { origin: 'docker.io', kind, sinceMs: T0, hosts: hosts(count, 'a'), served: 0, ...more };
}

test('nothing wrong says how well it goes', () => {
  expect(decide({})).toMatchObject({ severity: 'ok', blamed: 'nobody', code: 'ok', text: 'nothing wrong', evidence: [{ text: '50 hosts pull 1.0 GB/s, 96 % from peers' }] });
  expect(decide({ pulling: 0, rate: 0, peerRate: 0 })).toMatchObject({ code: 'quiet', evidence: [{ text: '100 hosts up, nobody pulls' }] });
});

describe('us, the registry or the network?', () => {
  const slow = (reason: FleetFacts['slow'][number]['reason'], count: number, zone = 'b'): FleetFacts['slow'] => hosts(count, zone).map((host) => ({ ...host, reason, evidence: 'x' }));
  test.each([
    ['registry', 'warning', 'origin docker.io slow: 429 since 02:14 UTC', { origins: [origin('throttled', 40)], slow: slow('429', 40) }],
    ['registry', 'bad', 'origin docker.io slow: 429 since 02:14 UTC', { origins: [origin('throttled', 40)], slow: slow('429', 40), rate: 0 }],
    ['registry', 'notice', 'origin docker.io slow: 429 since 02:14 UTC', { origins: [origin('throttled', 40)] }],
    ['registry', 'warning', 'origin docker.io does not answer since 02:14 UTC', { origins: [origin('unreachable', 40)], slow: slow('origin', 40) }],
    ['network', 'warning', '40 hosts of zone a: no way to origin docker.io since 02:14 UTC', { origins: [origin('unreachable', 40, { served: 20 })], slow: slow('origin', 40) }],
    ['network', 'warning', 'the name of origin docker.io is not found on 40 hosts of zone a since 02:14 UTC', { origins: [origin('dns', 40)], slow: slow('dns', 40) }],
    ['us', 'warning', 'origin docker.io refuses the credentials of 40 hosts of zone a since 02:14 UTC', { origins: [origin('credentials', 40)], slow: slow('credentials', 40) }],
    ['us', 'notice', 'origin docker.io refuses the credentials of 1 host since 02:14 UTC', { origins: [origin('credentials', 1)], slow: slow('credentials', 1) }],
    ['network', 'warning', '12 hosts of zone b: link full', { slow: slow('link', 12) }],
    ['network', 'notice', '3 hosts of zone b: link full', { slow: slow('link', 3) }],
    ['us', 'notice', '1 host: disk slow', { slow: slow('disk', 1) }],
    ['us', 'warning', '12 hosts of zone b: CPU full', { slow: slow('cpu', 12) }],
    ['us', 'notice', '50 hosts of zone b: held back by a limit', { slow: slow('throttled', 50) }],
    ['network', 'warning', '20 hosts lost within a minute', { lost: [...hosts(10, 'a'), ...hosts(10, 'b')] }],
    ['us', 'bad', 'the tracker cannot write its state since 02:14 UTC', { stateFailed: true, slow: slow('link', 12) }],
    ['us', 'notice', '2 hosts of zone a: disk nearly full', { diskFull: hosts(2, 'a') }],
    ['us', 'notice', '2 brakes are on since 02:14 UTC', { brakes: [BRAKE, BRAKE] }],
  ] as const)('%s, %s: %s', (blamed, severity, text, facts) => {
    expect(decide(facts)).toMatchObject({ blamed, severity, text });
  });

  test('a brake is told with what it does and by whom', () => {
    expect(decide({ brakes: [BRAKE] })).toMatchObject({ text: 'a brake is on since 02:14 UTC', evidence: [{ text: 'no uploads, 5.0 MB/s down for zone b, by ada' }] });
  });

  test('two lost of a hundred are no news', () => {
    expect(decide({ lost: hosts(2, 'a') }).text).toBe('nothing wrong');
  });

  test('the worst speaks, the rest stands behind it', () => {
    const { text, evidence } = decide({ origins: [origin('throttled', 40)], slow: [...slow('429', 40), ...slow('disk', 2, 'c')] });
    expect(text).toBe('origin docker.io slow: 429 since 02:14 UTC');
    expect(evidence).toEqual([{ text: '429 Too Many Requests, told by 40 hosts', hosts: 40, examples: [0, 1, 2, 3, 4] }, { text: 'also: 2 hosts of zone c: disk slow' }]);
  });
});

test('the line does not flicker: a moment is nothing, and what was wrong is said a little longer', () => {
  const verdicts = new Verdicts();
  const slow = [{ n: 1, zone: 'a', reason: 'link' as const, evidence: 'x' }];
  expect(verdicts.decide({ ...QUIET, slow }, T0).text).toBe('nothing wrong');
  expect(verdicts.decide(QUIET, T0 + 1000).text).toBe('nothing wrong');
  expect(verdicts.decide({ ...QUIET, slow }, T0 + 2000)).toMatchObject({ text: '1 host: link full', sinceMs: T0 });
  expect(verdicts.decide(QUIET, T0 + 9000).text).toBe('1 host: link full');
  expect(verdicts.decide(QUIET, T0 + 10_500).text).toBe('nothing wrong');
});
