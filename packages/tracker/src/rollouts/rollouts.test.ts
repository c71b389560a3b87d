import { describe, expect, test } from 'vitest';
import { CATCH_UP_MS, SILENT_MS } from './rollout.ts';
import { AWAY_MS } from './rollouts.ts';
import { DIGEST, IMAGE, TestRollouts } from './test-rollouts.ts';

const HOUR_MS = 3_600_000;

/** All hosts do at once what they are told. */
async function obedient(count: number): Promise<TestRollouts> {
  const fleet = TestRollouts.of(count);
  fleet.answer = () => ({ ok: true });
  await fleet.connectAll();
  return fleet;
}

/** A rollout that is resolved, with a connected fleet that answers nothing more by itself. */
async function resolved(count: number, request: Parameters<TestRollouts['create']>[0] = {}): Promise<{ fleet: TestRollouts; id: string }> {
  const fleet = TestRollouts.of(count);
  fleet.answer = (_peer, { task }) => (task === 'resolve' ? { ok: true } : undefined);
  await fleet.connectAll();
  const id = await fleet.create(request);
  await fleet.pass(200);
  return { fleet, id };
}

describe('resolving', () => {
  test('one host asks the origin, is the canary, and all get the digest that it found', async () => {
    const fleet = TestRollouts.of(4);
    const told: string[] = [];
    fleet.onTold = (peerId, tasks) => told.push(...tasks.map(({ task, digest }) => `${task} ${peerId} ${digest ?? '-'}`));
    fleet.answer = () => ({ ok: true });
    await fleet.connectAll();
    const id = await fleet.create({ waves: '1,100%' });
    await fleet.pass(5_000);
    expect(told.filter((line) => line.startsWith('resolve'))).toHaveLength(1);
    const [, canary] = told[0]!.split(' ');
    expect(told[1]).toBe(`pull ${canary} ${DIGEST}`);
    expect(told.slice(2).every((line) => line.startsWith('pull') && line.endsWith(DIGEST))).toBe(true);
    expect(fleet.record(id)).toMatchObject({ state: 'done', digest: DIGEST, resolvedBy: canary });
  });

  test('a digest needs no resolving', async () => {
    const fleet = TestRollouts.of(2);
    await fleet.connectAll();
    const id = await fleet.create({ image: `docker.io/library/nginx@${DIGEST}` });
    expect(fleet.record(id).state).toBe('running');
    expect(fleet.pulling(id)).toHaveLength(1);
  });

  test('where a host cannot, the next is asked; after three it pauses and says why; resume asks anew', async () => {
    const fleet = TestRollouts.of(5);
    const asked: string[] = [];
    fleet.onTold = (peerId, tasks) => asked.push(...tasks.map(() => peerId));
    fleet.answer = () => ({ ok: false, error: { code: 'ORIGIN_UNREACHABLE', message: 'refused' } });
    await fleet.connectAll();
    const id = await fleet.create();
    await fleet.pass(5_000);
    expect(new Set(asked).size).toBe(3);
    expect(asked).toHaveLength(3);
    expect(fleet.record(id)).toMatchObject({ state: 'paused', reason: { code: 'ORIGIN_UNREACHABLE', host: asked[2] } });
    fleet.answer = () => ({ ok: true });
    await fleet.rollouts.command(id, 'resume', 'op', fleet.nowMs);
    await fleet.pass(8_000);
    expect(fleet.record(id).state).toBe('done');
  });

  test('a host that goes, or says nothing, is not waited for', async () => {
    const fleet = TestRollouts.of(3);
    const asked: string[] = [];
    fleet.onTold = (peerId, tasks) => asked.push(...tasks.map(() => peerId));
    await fleet.connectAll();
    const id = await fleet.create();
    await fleet.disconnect(asked[0]!);
    await fleet.pass(200);
    expect(new Set(asked).size).toBe(2);
    await fleet.pass(SILENT_MS + 2_000);
    expect(new Set(asked).size).toBe(3);
    const third = asked.at(-1)!;
    await fleet.say(third, id);
    expect(fleet.record(id)).toMatchObject({ digest: DIGEST, resolvedBy: third });
  });
});

describe('waves', () => {
  test('the next begins when the former is done', async () => {
    const { fleet, id } = await resolved(10, { waves: '1,30%,100%' });
    expect(fleet.pulling(id)).toHaveLength(1);
    await fleet.say(fleet.pulling(id)[0]!, id);
    const second = fleet.pulling(id);
    expect(second).toHaveLength(2);
    await fleet.say(second[0]!, id);
    expect(fleet.pulling(id)).toEqual([second[1]]);
    await fleet.say(second[1]!, id);
    expect(fleet.pulling(id)).toHaveLength(7);
    for (const peerId of fleet.pulling(id)) await fleet.say(peerId, id);
    expect(fleet.record(id)).toMatchObject({ state: 'done', wave: 2 });
    const { waves, hosts } = fleet.rollouts.detail(id, fleet.nowMs);
    expect(waves.map(({ target, started, done, state }) => [target, started, done, state])).toEqual([[1, 1, 1, 'over'], [3, 2, 2, 'over'], [10, 7, 7, 'over']]);
    expect(hosts).toEqual({ total: 10, waiting: 0, working: 0, done: 10, failed: 0, away: 0 });
  });

  test('a host that is away is not waited for, another takes its place, and it catches up', async () => {
    const { fleet, id } = await resolved(6, { waves: '2,100%', pauseOnFailure: 1 });
    const [first, second] = fleet.pulling(id) as [string, string];
    await fleet.say(first, id);
    await fleet.disconnect(second);
    await fleet.pass(AWAY_MS - 5_000);
    expect(fleet.pulling(id)).toEqual([]);
    await fleet.pass(10_000);
    expect(fleet.pulling(id)).toHaveLength(1);
    await fleet.say(fleet.pulling(id)[0]!, id);
    expect(fleet.pulling(id)).toHaveLength(3);
    for (const peerId of fleet.pulling(id)) await fleet.say(peerId, id);
    await fleet.pass(2_000);
    expect(fleet.record(id).state).toBe('done');
    expect(fleet.rollouts.detail(id, fleet.nowMs).hosts).toMatchObject({ done: 5, working: 1, away: 1 });
    await fleet.connect(second);
    expect(fleet.pulling(id)).toEqual([second]);
    await fleet.say(second, id);
    expect(fleet.counts(id).done).toBe(6);
  });

  test('hosts that were away all the time get it when they come, until the time for that is over', async () => {
    const fleet = TestRollouts.of(4);
    fleet.answer = () => ({ ok: true });
    await fleet.connect('h0', 'h1');
    const id = await fleet.create({ waves: '100%' });
    await fleet.pass(AWAY_MS + 5_000);
    expect(fleet.record(id).state).toBe('done');
    expect(fleet.counts(id)).toMatchObject({ done: 2, waiting: 2 });
    await fleet.connect('h2');
    await fleet.pass(1_000);
    expect(fleet.host(id, 'h2').state).toBe('done');
    fleet.nowMs += CATCH_UP_MS;
    await fleet.pass(11_000);
    await fleet.connect('h3');
    await fleet.pass(1_000);
    expect(fleet.host(id, 'h3').state).toBe('waiting');
  });

  test('nobody is away right after a restart of the tracker', async () => {
    const { fleet, id } = await resolved(4, { waves: '1,2,100%' });
    const [canary] = fleet.pulling(id);
    await fleet.restart();
    const others = [...fleet.hosts.keys()].filter((peerId) => peerId !== canary);
    await fleet.connect(...others);
    await fleet.pass(AWAY_MS - 5_000);
    expect(fleet.pulling(id)).toEqual([]);
    await fleet.connect(canary!);
    expect(fleet.pulling(id)).toEqual([canary]);
  });

  test('without a result of its own no wave but the last is over', async () => {
    const { fleet, id } = await resolved(5, { waves: '1,2,100%' });
    const [canary] = fleet.pulling(id);
    await fleet.disconnect(...[...fleet.hosts.keys()].filter((peerId) => peerId !== canary));
    await fleet.say(canary!, id);
    await fleet.pass(AWAY_MS + 2_000);
    expect(fleet.record(id)).toMatchObject({ state: 'running', wave: 1 });
    await fleet.connectAll();
    expect(fleet.pulling(id)).toHaveLength(1);
  });
});

describe('failures', () => {
  test('a canary that fails stops it; retry goes on', async () => {
    const { fleet, id } = await resolved(10);
    const [canary] = fleet.pulling(id);
    await fleet.say(canary!, id, { ok: false });
    expect(fleet.record(id)).toMatchObject({ state: 'paused', reason: { code: 'FAILURES', host: canary } });
    expect(fleet.rollouts.detail(id, fleet.nowMs).failures).toEqual([{ code: 'PULL_STALLED', message: 'nothing came', hosts: 1, names: [canary] }]);
    await fleet.pass(5_000);
    expect(fleet.pulling(id)).toEqual([]);
    const { state, hosts } = await fleet.rollouts.command(id, 'retry', 'op', fleet.nowMs);
    expect({ state, hosts }).toMatchObject({ state: 'running', hosts: { failed: 0, working: 1 } });
    fleet.answer = () => ({ ok: true });
    await fleet.say(canary!, id);
    await fleet.pass(2_000);
    expect(fleet.counts(id).done).toBe(10);
  });

  test('the share is of the hosts that the open wave reaches to', async () => {
    const { fleet, id } = await resolved(100, { waves: '50,100%', pauseOnFailure: 0.04 });
    const [a, b, c] = fleet.pulling(id) as [string, string, string];
    await fleet.say(a, id, { ok: false });
    await fleet.say(b, id, { ok: false });
    expect(fleet.record(id).state).toBe('running');
    await fleet.say(c, id, { ok: false });
    expect(fleet.record(id).state).toBe('paused');
  });

  test('resume goes on from the failures that were seen, and stops at new ones', async () => {
    const { fleet, id } = await resolved(10, { waves: '5,100%', pauseOnFailure: 0 });
    const [a, b, ...rest] = fleet.pulling(id) as [string, string, ...string[]];
    await fleet.say(a, id, { ok: false });
    expect(fleet.record(id).state).toBe('paused');
    await fleet.rollouts.command(id, 'resume', 'op', fleet.nowMs);
    await fleet.pass(200);
    expect(fleet.record(id).state).toBe('running');
    expect(fleet.pulling(id).sort()).toEqual([b, ...rest].sort());
    await fleet.say(b, id, { ok: false });
    expect(fleet.record(id).state).toBe('paused');
  });

  test('a host that is connected and says nothing has failed', async () => {
    const { fleet, id } = await resolved(1);
    await fleet.pass(SILENT_MS - 2_000);
    expect(fleet.host(id, 'h0').state).toBe('working');
    await fleet.say('h0', id, { phase: 'pulling' });
    await fleet.pass(SILENT_MS - 2_000);
    expect(fleet.host(id, 'h0').state).toBe('working');
    await fleet.pass(4_000);
    expect(fleet.host(id, 'h0')).toMatchObject({ state: 'failed', error: { code: 'AGENT_SILENT' } });
  });

  test('the word of an older attempt does not fail the newer', async () => {
    const { fleet, id } = await resolved(1);
    const { attempt } = fleet.hosts.get('h0')!.tasks[0]!;
    await fleet.say('h0', id, { ok: false });
    await fleet.rollouts.command(id, 'retry', 'op', fleet.nowMs);
    await fleet.say('h0', id, { ok: false, attempt });
    expect(fleet.host(id, 'h0')).toMatchObject({ state: 'working', attempt: attempt + 1 });
    await fleet.say('h0', id, { ok: true, attempt });
    expect(fleet.host(id, 'h0').state).toBe('done');
  });
});

describe('commands', () => {
  test('pause holds everything, at once and over a restart; resume lets the same attempts go on', async () => {
    const { fleet, id } = await resolved(4, { waves: '2,100%' });
    const working = fleet.pulling(id);
    const attempts = working.map((peerId) => fleet.host(id, peerId).attempt);
    await fleet.rollouts.command(id, 'pause', 'ann', fleet.nowMs);
    await fleet.pass(0);
    expect(fleet.pulling(id)).toEqual([]);
    expect(fleet.record(id).reason).toEqual({ code: 'OPERATOR', message: 'paused by ann' });
    await fleet.restart();
    await fleet.connectAll();
    await fleet.pass(5_000);
    expect(fleet.pulling(id)).toEqual([]);
    await fleet.rollouts.command(id, 'resume', 'ann', fleet.nowMs);
    await fleet.pass(0);
    expect(fleet.pulling(id).sort()).toEqual([...working].sort());
    expect(working.map((peerId) => fleet.host(id, peerId).attempt)).toEqual(attempts);
  });

  test('cancel ends it for good', async () => {
    const { fleet, id } = await resolved(4, { waves: '2,100%' });
    await fleet.rollouts.command(id, 'cancel', 'op', fleet.nowMs);
    await fleet.pass(0);
    expect(fleet.pulling(id)).toEqual([]);
    for (const command of ['pause', 'resume', 'retry'] as const) {
      await expect(fleet.rollouts.command(id, command, 'op', fleet.nowMs)).rejects.toMatchObject({ code: 'ROLLOUT_STATE' });
    }
    await expect(fleet.rollouts.command(id, 'cancel', 'op', fleet.nowMs)).resolves.toMatchObject({ state: 'cancelled' });
    await expect(fleet.rollouts.command('r-none', 'cancel', 'op', fleet.nowMs)).rejects.toMatchObject({ code: 'ROLLOUT_UNKNOWN' });
  });

  test('cancelling one that is done ends the catching up', async () => {
    const fleet = TestRollouts.of(2);
    fleet.answer = () => ({ ok: true });
    await fleet.connect('h0');
    const id = await fleet.create({ waves: '100%' });
    await fleet.pass(AWAY_MS + 5_000);
    expect(fleet.record(id).state).toBe('done');
    const { state, catchUpUntilMs } = await fleet.rollouts.command(id, 'cancel', 'op', fleet.nowMs);
    expect({ state, catchUpUntilMs }).toEqual({ state: 'done', catchUpUntilMs: undefined });
    await fleet.connect('h1');
    await fleet.pass(12_000);
    expect(fleet.host(id, 'h1').state).toBe('waiting');
  });

  test('retry of one that is done makes it run again', async () => {
    const { fleet, id } = await resolved(3, { waves: '100%', pauseOnFailure: 1 });
    const [a, b, c] = fleet.pulling(id) as [string, string, string];
    await fleet.say(a, id);
    await fleet.say(b, id);
    await fleet.say(c, id, { ok: false });
    expect(fleet.record(id).state).toBe('done');
    await fleet.rollouts.command(id, 'retry', 'op', fleet.nowMs);
    await fleet.pass(0);
    expect(fleet.pulling(id)).toEqual([c]);
    await fleet.say(c, id);
    expect(fleet.record(id)).toMatchObject({ state: 'done' });
    expect(fleet.counts(id).done).toBe(3);
  });

  test('after the deadline nothing goes on', async () => {
    const { fleet, id } = await resolved(4, { deadlineMs: 1_800_000_000_000 + HOUR_MS });
    fleet.nowMs += HOUR_MS;
    await fleet.pass(2_000);
    expect(fleet.record(id).state).toBe('expired');
    expect(fleet.pulling(id)).toEqual([]);
    await expect(fleet.rollouts.command(id, 'resume', 'op', fleet.nowMs)).rejects.toMatchObject({ code: 'ROLLOUT_STATE' });
  });

  test('a deadline that has passed while the tracker was down counts', async () => {
    const { fleet, id } = await resolved(4, { deadlineMs: 1_800_000_000_000 + HOUR_MS });
    fleet.nowMs += 2 * HOUR_MS;
    await fleet.restart();
    await fleet.connectAll();
    expect(fleet.pulling(id)).toEqual([]);
    expect(fleet.record(id).state).toBe('expired');
  });
});

describe('what is asked for', () => {
  test('hosts by zone, name and label; platform, verify-only', async () => {
    const fleet = new TestRollouts({ a: { zone: 'z1', name: 'web-1', labels: { role: 'web' } }, b: { zone: 'z1', name: 'db-1', labels: { role: 'db' } }, c: { zone: 'z2', name: 'web-2', labels: {} } });
    await fleet.connectAll();
    fleet.answer = (_peer, { task }) => (task === 'resolve' ? { ok: true } : undefined);
    const id = await fleet.create({ hosts: 'zone=z1,role!=db', platform: 'linux/arm64', verifyOnly: true });
    await fleet.pass(200);
    expect([...fleet.hostsOf(id).keys()]).toEqual(['a']);
    expect(fleet.hosts.get('a')!.tasks).toEqual([{ rolloutId: id, attempt: 2, task: 'verify', origin: 'docker.io', repository: 'library/nginx', tag: '1.27', digest: DIGEST, platform: 'linux/arm64' }]);
  });

  test.each([
    ['NO_HOSTS', { hosts: 'zone=nowhere' }],
    ['SELECTOR_INVALID', { hosts: 'zone' }],
    ['WAVES_INVALID', { waves: '10%' }],
    ['IMAGE_INVALID', { image: 'nginx' }],
    ['IMAGE_INVALID', { image: 'docker.io/library/NGINX' }],
    ['DEADLINE_PASSED', { deadlineMs: 5 }],
  ])('%s', async (code, request) => {
    const fleet = TestRollouts.of(2);
    await expect(fleet.rollouts.create({ image: IMAGE, ...request }, 'op', fleet.nowMs)).rejects.toMatchObject({ code });
    expect(fleet.disk.size).toBe(0);
  });

  test('docker.io/nginx is library/nginx', async () => {
    const fleet = TestRollouts.of(1);
    const id = await fleet.create({ image: 'docker.io/nginx' });
    expect(fleet.record(id)).toMatchObject({ repository: 'library/nginx', tag: 'latest' });
  });

  test('thirty-two at work are enough; of those that are over the oldest go', async () => {
    const fleet = await obedient(1);
    fleet.answer = () => undefined;
    const ids: string[] = [];
    for (let i = 0; i < 32; i++) ids.push(await fleet.create());
    await expect(fleet.create()).rejects.toMatchObject({ code: 'ROLLOUTS_FULL' });
    for (const id of ids) await fleet.rollouts.command(id, 'cancel', 'op', fleet.nowMs);
    for (let i = 0; i < 200; i++) {
      const id = await fleet.create();
      await fleet.rollouts.command(id, 'cancel', 'op', fleet.nowMs);
    }
    const kept = fleet.rollouts.list(fleet.nowMs);
    expect(kept).toHaveLength(200);
    expect(kept.at(-1)!.id).toBe('r-34'); // r-33 was refused
    expect(fleet.disk.size).toBe(400);
  });
});

describe('a newer rollout of the same tag', () => {
  test('is what a host gets that comes back', async () => {
    const fleet = TestRollouts.of(2);
    fleet.answer = () => ({ ok: true });
    await fleet.connect('h0');
    const older = await fleet.create({ waves: '100%' });
    await fleet.pass(AWAY_MS + 3_000);
    const newer = await fleet.create({ waves: '100%' });
    await fleet.pass(3_000);
    await fleet.connect('h1');
    await fleet.pass(12_000);
    expect([fleet.host(older, 'h1').state, fleet.host(newer, 'h1').state]).toEqual(['waiting', 'done']);
  });
});

describe('writing', () => {
  test('what cannot be written is told to nobody, and the operator hears of it; later it goes on', async () => {
    const { fleet, id } = await resolved(3, { waves: '100%' });
    const told: string[] = [];
    fleet.onTold = (peerId) => told.push(peerId);
    fleet.failWrites = true;
    await expect(fleet.rollouts.command(id, 'pause', 'op', fleet.nowMs)).rejects.toMatchObject({ code: 'STATE_FAILED' });
    expect(told).toEqual([]);
    fleet.failWrites = false;
    await fleet.pass(3_000);
    expect(told.sort()).toEqual(['h0', 'h1', 'h2']);
    expect(fleet.record(id).state).toBe('paused');
  });
});

describe('what operators see', () => {
  test('bytes, layers, the slowest, time left', async () => {
    const { fleet, id } = await resolved(3, { waves: '100%' });
    const manifest = `sha256:${'e'.repeat(64)}`;
    const layers = [{ digest: `sha256:${'1'.repeat(64)}`, size: 600 }, { digest: `sha256:${'2'.repeat(64)}`, size: 400 }];
    await fleet.say('h0', id, { phase: 'pulling', manifest, layers, held: [0, 0] });
    await fleet.say('h1', id, { phase: 'pulling', manifest, layers, held: [600, 0] });
    await fleet.pass(1_000);
    await fleet.say('h0', id, { phase: 'pulling', held: [100, 0], fetched: { peer: 20, origin: 80 } });
    await fleet.say('h1', id, { phase: 'pulling', held: [600, 200] });
    const detail = fleet.rollouts.detail(id, fleet.nowMs);
    expect(detail.bytes).toMatchObject({ total: 3000, held: 900, rate: 300, peer: 20, origin: 80 });
    expect(detail.manifests).toEqual([{ manifest, hosts: 2, layers: [{ ...layers[0], held: 700, hosts: 2, complete: 1 }, { ...layers[1], held: 200, hosts: 2, complete: 0 }] }]);
    expect(detail.slowest.map(({ peerId, timeLeftMs }) => [peerId, timeLeftMs])).toEqual([['h2', undefined], ['h0', 9_000], ['h1', 1_000]]);
    expect(detail.timeLeftMs).toBeUndefined();
    await fleet.say('h2', id, { ok: true, ms: 4_000, manifest, bytes: { size: 1000, peer: 900, origin: 100 } });
    expect(fleet.rollouts.detail(id, fleet.nowMs)).toMatchObject({ timeLeftMs: 9_000, bytes: { held: 1900, peer: 920, origin: 180 } });
    const { rows } = fleet.rollouts.hosts(id, fleet.nowMs);
    expect(rows.find(([peerId]) => peerId === 'h0')).toEqual(['h0', 'h0', '', 'working', 1, 0, 100, 100, 'pulling']);
    expect(fleet.rollouts.hosts(id, fleet.nowMs, { state: 'done' }).rows).toEqual([['h2', 'h2', '', 'done', 1, 0, 1000, 0, '']]);
  });

  test('what a hook said, and why a host failed', async () => {
    const { fleet, id } = await resolved(1, { pauseOnFailure: 1 });
    await fleet.say('h0', id, { ok: false, error: { code: 'HOOK_FAILED', message: 'exit code 3' }, hook: { exitCode: 3, ms: 12, output: 'no such image' } });
    const { rows, outcomes } = fleet.rollouts.hosts(id, fleet.nowMs);
    expect(rows[0]!.slice(3)).toEqual(['failed', 1, 0, -1, 0, 'HOOK_FAILED']);
    expect(outcomes['h0']).toEqual({ attempt: 2, error: { code: 'HOOK_FAILED', message: 'exit code 3' }, hook: { exitCode: 3, ms: 12, output: 'no such image' } });
  });

  test('of one that is done, who is away now', async () => {
    const fleet = await obedient(2);
    await fleet.create({ waves: '100%' });
    await fleet.pass(5_000);
    const away = (): number => fleet.rollouts.list(fleet.nowMs)[0]!.hosts.away;
    expect(fleet.rollouts.list(fleet.nowMs)[0]!.state).toBe('done');
    fleet.answer = () => undefined;
    await fleet.disconnect('h0');
    expect(away()).toBe(0);
    const late = TestRollouts.of(2);
    late.answer = () => ({ ok: true });
    await late.connect('h0');
    await late.create({ waves: '100%' });
    await late.pass(AWAY_MS + 5_000);
    expect(late.rollouts.list(late.nowMs)[0]).toMatchObject({ state: 'done', hosts: { done: 1, away: 1 } });
    await late.connect('h1');
    await late.pass(2_000);
    expect(late.rollouts.list(late.nowMs)[0]).toMatchObject({ state: 'done', hosts: { done: 2, away: 0 } });
  });

  test('the list is newest first, also after a restart', async () => {
    const fleet = await obedient(2);
    const first = await fleet.create({ image: 'docker.io/a:1' });
    await fleet.pass(1_000);
    const second = await fleet.create({ image: 'docker.io/b:1' });
    await fleet.pass(5_000);
    const before = fleet.rollouts.list(fleet.nowMs).map(({ id, state }) => [id, state]);
    expect(before).toEqual([[second, 'done'], [first, 'done']]);
    await fleet.restart();
    expect(fleet.rollouts.list(fleet.nowMs).map(({ id, state }) => [id, state])).toEqual(before);
  });
});

describe('the origin limit', () => {
  test('holds the blobs of a rollout that is at work, and nothing else', async () => {
    const { fleet, id } = await resolved(1, { originLimit: 5_000 });
    const manifest = `sha256:${'e'.repeat(64)}`;
    const layer = { digest: `sha256:${'1'.repeat(64)}`, size: 600 };
    const limits = (): (number | undefined)[] => fleet.rollouts.limitsOf(layer.digest).map(({ bytesPerSecond }) => bytesPerSecond);
    expect(limits()).toEqual([]);
    await fleet.say('h0', id, { phase: 'pulling', manifest, layers: [layer], held: [0] });
    expect(limits()).toEqual([5_000]);
    expect(fleet.rollouts.limitsOf(manifest)).toEqual([]);
    await fleet.rollouts.command(id, 'pause', 'op', fleet.nowMs);
    expect(limits()).toEqual([]);
    await fleet.restart();
    await fleet.connectAll();
    await fleet.rollouts.command(id, 'resume', 'op', fleet.nowMs);
    expect(limits()).toEqual([5_000]);
    await fleet.pass(0);
    await fleet.say('h0', id);
    await fleet.pass(2_000);
    expect(fleet.record(id).state).toBe('done');
    expect(limits()).toEqual([]);
  });
});
