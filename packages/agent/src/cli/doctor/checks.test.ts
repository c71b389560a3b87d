import { describe, expect, test } from 'vitest';
import type { AgentStatus } from '../../control.ts';
import type { LoggedRequest } from '../../content/request-log.ts';
import { AGENT_VERSION } from '../../version.ts';
import { judgeCanary, noCanary } from './canary.ts';
import { judgeAgent, judgeClient, judgeClock, judgeDisk, judgeEndpoint, judgeOpenFiles, judgeOrigin, judgePeers, judgeTracker } from './checks.ts';
import type { Finding } from './finding.ts';

const STATUS: AgentStatus = {
  version: AGENT_VERSION,
  name: 'host-a',
  pid: 1,
  startedAt: '2026-01-01T00:00:00.000Z',
  state: 'ready',
  addresses: { registry: { host: '127.0.0.1', port: 5050 }, peers: { host: '0.0.0.0', port: 6051 }, admin: { host: '127.0.0.1', port: 5053 } },
  tracker: { state: 'connected', url: 'https://tracker:5052' },
  peers: { connected: 3, known: 4 },
  store: { bytes: 5e9, limitBytes: 50e9, blobs: 1, freeBytes: 100e9 },
  bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 },
  downloads: [],
  minFreeShare: 0.2,
};
const DISK = { totalBytes: 500e9, freeBytes: 200e9, volatile: false };
const LOST = { state: 'lost', url: 'https://t', lastError: { code: 'TRACKER_PIN', message: 'another CA' } } as const;
const PROBE = { origin: 'quay.io', answers: false, code: 'ORIGIN_TLS', message: 'expired', help: 'Name its CA.' } as const;
const ALONE = { ...STATUS, tracker: { state: 'none' as const }, peers: { connected: 0 } };

test.each<[string, Finding, Finding['verdict'], RegExp]>([
  ['ready', judgeAgent(STATUS), 'ok', /^host-a, version .*, ready$/],
  ['starting', judgeAgent({ ...STATUS, state: 'starting' }), 'warning', /starting/],
  ['of another release', judgeAgent({ ...STATUS, version: '9.9.9' }), 'warning', /9\.9\.9.*this command is of version/],
  ['endpoint', judgeEndpoint(STATUS, 200), 'ok', /127\.0\.0\.1:5050 answers/],
  ['somebody else at the endpoint', judgeEndpoint(STATUS, 404), 'problem', /answers 404/],
  ['nobody at the endpoint', judgeEndpoint(STATUS, 'refused'), 'problem', /does not answer: refused/],
  ['tracker', judgeTracker(STATUS), 'ok', /connected with https:\/\/tracker/],
  ['no tracker', judgeTracker(ALONE), 'ok', /runs alone/],
  ['tracker not yet there', judgeTracker({ ...STATUS, tracker: { state: 'connecting', url: 'https://t' } }), 'warning', /connecting: https/],
  ['tracker lost', judgeTracker({ ...STATUS, tracker: LOST }), 'problem', /lost: TRACKER_PIN: another CA/],
  ['peers', judgePeers(STATUS), 'ok', /3 connected/],
  ['no peers, no tracker', judgePeers(ALONE), 'skipped', /./],
  ['peers not named yet', judgePeers({ ...STATUS, peers: { connected: 0 } }), 'skipped', /./],
  ['the first agent', judgePeers({ ...STATUS, peers: { connected: 0, known: 0 } }), 'ok', /only agent/],
  ['peers behind a firewall', judgePeers({ ...STATUS, peers: { connected: 0, known: 4 } }), 'problem', /none of 4/],
  ['origin', judgeOrigin({ origin: 'quay.io', answers: true }, { configured: true, credentials: '/auth.json' }), 'ok', /credentials from \/auth\.json/],
  ['configured origin', judgeOrigin(PROBE, { configured: true, credentials: undefined }), 'problem', /ORIGIN_TLS: expired/],
  ['well-known origin', judgeOrigin(PROBE, { configured: false, credentials: undefined }), 'warning', /ORIGIN_TLS/],
  ['clock', judgeClock(1500), 'ok', /agrees/],
  ['clock a bit off', judgeClock(-7000), 'warning', /7 s behind/],
  ['clock far off', judgeClock(90_000), 'problem', /1 min 30 s ahead/],
  ['disk', judgeDisk(STATUS, '/data', DISK), 'ok', /200 GB of 500 GB free at \/data; the store holds 5\.00 GB of at most 50\.0 GB/],
  ['disk full', judgeDisk(STATUS, '/data', { ...DISK, freeBytes: 99e9 }), 'problem', /20 % are left free/],
  ['disk in memory', judgeDisk(STATUS, '/data', { ...DISK, volatile: true }), 'warning', /in memory/],
  ['small store', judgeDisk({ ...STATUS, store: { ...STATUS.store, limitBytes: 5e8 } }, '/data', DISK), 'warning', /500 MB/],
  ['open files', judgeOpenFiles('Limit  Soft\nMax open files            524288               524288               files     \n'), 'ok', /524288/],
  ['any number of open files', judgeOpenFiles('Max open files            unlimited            unlimited            files     \n'), 'ok', /unlimited/],
  ['few open files', judgeOpenFiles('Max open files            1024                 524288               files     \n'), 'warning', /1024/],
  ['limits that cannot be read', judgeOpenFiles(undefined), 'skipped', /./],
])('%s', (_what, finding, verdict, message) => {
  expect(finding.verdict).toBe(verdict);
  expect(finding.message).toMatch(message);
  // Whatever is wrong comes with what to do.
  expect(finding.help?.endsWith('.') ?? false).toBe(verdict === 'warning' || verdict === 'problem');
});

test('what to open for peers is the port in use', () => {
  expect(judgePeers({ ...STATUS, peers: { connected: 0, known: 1 } }).help).toContain('6051');
});

describe('a client', () => {
  const via = { registry: 'docker.io', viaAgent: true, why: '/etc/x' };
  const past = { registry: 'quay.io', viaAgent: false, why: 'there is no /etc/y' };

  test('says for which registries it asks the agent, and for which not', () => {
    expect(judgeClient('podman', [via, past], { others: false })).toMatchObject({ verdict: 'ok', message: 'asks the agent for docker.io; not for quay.io' });
  });

  test('that asks for none is told how to', () => {
    expect(judgeClient('podman', [past], { others: false })).toMatchObject({ verdict: 'problem', message: expect.stringContaining('/etc/y'), help: 'Run "flotilla setup podman".' });
  });

  test('beside one that is set up it may be meant so', () => {
    expect(judgeClient('podman', [past], { others: true }).verdict).toBe('skipped');
  });
});

describe('a canary', () => {
  const IMAGE = 'docker.io/library/hello-world:latest';
  const request = (outcome: string): LoggedRequest => ({ atMs: 1, kind: 'manifest', origin: 'docker.io', repository: 'library/hello-world', reference: 'latest', outcome });

  test.each<[string, string | undefined, string[], Finding['verdict'], RegExp]>([
    ['by the agent', undefined, ['served', 'served'], 'ok', /came by the agent/],
    ['past the agent', undefined, [], 'problem', /past the agent/],
    ['past the agent in the end', undefined, ['served', 'ORIGIN_TIMEOUT'], 'warning', /ORIGIN_TIMEOUT/],
    ['still on its way', undefined, ['pending'], 'warning', /answered nothing/],
    ['not at all, and nobody asked the agent', 'no such host', [], 'problem', /no such host\); and did not ask the agent/],
    ['not at all, by fault of the origin', 'failed', ['ORIGIN_UNREACHABLE'], 'problem', /the agent answered ORIGIN_UNREACHABLE/],
    ['not at all, although it was served', 'no space left', ['served'], 'problem', /although the agent served it/],
  ])('that came %s', (_what, error, outcomes, verdict, message) => {
    const finding = judgeCanary('podman', IMAGE, error, outcomes.map(request));
    expect(finding).toMatchObject({ verdict, message: expect.stringMatching(message) });
    expect(finding.help === undefined).toBe(verdict === 'ok');
  });

  test.each(['podman', 'containerd', 'docker', 'crio'] as const)('%s past the agent: what to do', (client) => {
    expect(judgeCanary(client, IMAGE, undefined, []).help).toMatch(/\.$/);
  });

  test('none to try with: how to name one', () => {
    expect(noCanary('podman', [], 'lab/team/app:7')).toMatchObject({ verdict: 'warning', message: 'not tried: no small image is known for its registries', help: 'Name a small image of yours with --canary IMAGE, such as lab/team/app:7.' });
    expect(noCanary('podman', ['a', 'b'], undefined).message).toBe('not tried: a and b are not there');
  });
});
