// Rollouts over a real tracker and real agents, made by the commands that an operator types.

import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';
import { FleetProcesses } from '../support/processes.ts';
import { Operator } from '../support/rollouts.ts';

const KIB = 1024;
const LAYERS = [300 * KIB, 900 * KIB, 5 * KIB];
const IMAGE = 'lab/team/app:1';

let origin: OriginServer;

beforeEach(async () => {
  origin = await OriginServer.start();
});

afterEach(() => origin.goAway());

/** How many of the image's layers this host has, without asking anybody for them. */
async function layersOn({ running }: TestAgent): Promise<number> {
  return (await running.status()).store.blobs;
}

const BLOBS = LAYERS.length + 2; // with manifest and config

describe('in one process', () => {
  let fleet: TestFleet;
  let operator: Operator;
  let image: TestImage;
  let dir: string;

  beforeEach(async () => {
    fleet = await TestFleet.start({ lab: origin.url });
    operator = new Operator(fleet.tracker.url, join(fleet.dir, 'tracker'));
    image = origin.addImage('team/app', '1', LAYERS);
    dir = await mkdtemp(join(tmpdir(), 'flotilla-rollout-'));
  });

  afterEach(async () => {
    await fleet.stop();
    await rm(dir, { recursive: true });
  });

  test('labelled hosts get it, wave by wave, from one copy out of the origin; the others do not', async () => {
    const web = await Promise.all([1, 2, 3, 4].map((number) => fleet.agent(`web-${number}`, { label: 'role=web', zone: number < 3 ? 'a' : 'b' })));
    const db = await fleet.agent('db-1', { label: 'role=db' });
    await fleet.meshed();
    const { code, out, err } = await operator.rollout(IMAGE, '--hosts', 'role=web', '--waves', '1,50%,100%');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toContain('lab/team/app:1 is there on 4 of 4 hosts');
    for (const host of web) expect(await layersOn(host), host.name).toBe(BLOBS);
    expect(await layersOn(db)).toBe(0);
    for (const layer of image.layers) expect(origin.bytesOf(layer.digest)).toBe(layer.bytes.length);
    expect(origin.requests.filter(({ url }) => url.endsWith('/manifests/1'))).toHaveLength(1);
    const [rollout] = await operator.list();
    expect(rollout).toMatchObject({ state: 'done', digest: image.manifest.digest, wave: 2, hosts: { done: 4, failed: 0 } });
    const { waves, manifests } = await operator.show(rollout!.id);
    expect(waves.map(({ started, done }) => [started, done])).toEqual([[1, 1], [1, 1], [2, 2]]);
    expect(manifests[0]!.layers.map(({ size, complete }) => [size, complete])).toEqual(expect.arrayContaining(LAYERS.map((size) => [size, 4])));
  });

  test('what it shows while it goes on', async () => {
    const gate = Promise.withResolvers<void>();
    origin.faults.gate = () => gate.promise;
    await fleet.agent('web-1');
    const id = await operator.begin(IMAGE);
    await until('it is at work', async () => (await operator.show(id)).rows[0]![8] === 'pulling');
    expect((await operator.show(id)).state).toBe('running');
    gate.resolve();
    await until('done', async () => (await operator.show(id)).state === 'done');
    const { bytes, rows, manifests } = await operator.show(id);
    const size = manifests[0]!.layers.reduce((sum, layer) => sum + layer.size, 0);
    expect(bytes).toEqual({ total: size, held: size, peer: 0, origin: size, rate: 0 });
    expect(rows[0]!.slice(3, 7)).toEqual(['done', 1, 0, 1000]);
  });

  test('a host that fails stops it before the next wave; retry goes on once the host is mended', async () => {
    const bad = await fleet.agent('bad', { origin: 'other=http://127.0.0.1:1' });
    const good = await Promise.all([fleet.agent('good-1'), fleet.agent('good-2')]);
    // The bad one alone is the first wave, by name; it cannot be the canary that resolves the tag.
    const { code, out } = await operator.rollout(`lab/team/app@${image.manifest.digest}`, '--hosts', 'name=bad');
    expect(code).toBe(1);
    expect(out).toContain('1 host failed with NAME_UNKNOWN');
    expect(out).toMatch(/go on: flotilla rollout resume r-\w+, or try the failed again/);
    const id = await operator.begin(`lab/team/app@${image.manifest.digest}`, '--waves', '3,100%', '--pause-on-failure', '10%');
    await until('paused', async () => (await operator.show(id)).state === 'paused');
    expect(await operator.show(id)).toMatchObject({ reason: { code: 'FAILURES', host: 'bad' }, failures: [{ code: 'NAME_UNKNOWN', names: ['bad'] }] });
    await bad.stop();
    await fleet.agent('bad');
    expect((await operator.rollout('retry', id)).code).toBe(0);
    await until('done', async () => (await operator.show(id)).state === 'done');
    for (const host of good) expect(await layersOn(host)).toBe(BLOBS);
  });

  test('a host that was away catches up when it is back', async () => {
    const [web, late] = await Promise.all([fleet.agent('web-1'), fleet.agent('late')]);
    await late.stop();
    const { code, out } = await operator.rollout(IMAGE, '--waves', '100%');
    expect(code).toBe(0);
    expect(out).toContain('is there on 1 of 2 hosts');
    expect(out).toContain('1 away: it gets it when back');
    const back = await fleet.agent('late');
    await until('caught up', async () => (await layersOn(back)) === BLOBS);
    const { id } = (await operator.list())[0]!;
    await until('told', async () => (await operator.states(id))['late'] === 'done');
    expect(await layersOn(web)).toBe(BLOBS);
  });

  test('paused, nothing moves; resumed, what had come is not fetched again; cancelled, it is over', async () => {
    const big = origin.addImage('team/app', '2', [4 * 1024 * KIB]);
    origin.faults.rate = 1024 * KIB;
    const host = await fleet.agent('web-1');
    const id = await operator.begin('lab/team/app:2');
    const moved = (): number => origin.bytesOf(big.layers[0]!.digest);
    await until('some of it is here', () => moved() > 1024 * KIB);
    expect((await operator.rollout('pause', id)).out).toContain('paused');
    await until('stopped', async () => (await host.running.status()).rollouts?.length === 0);
    await until('let go of', async () => (await host.running.status()).downloads.length === 0);
    const before = moved();
    expect(await operator.states(id)).toEqual({ 'web-1': 'working' });
    origin.faults.rate = undefined;
    expect((await operator.rollout('resume', id)).code).toBe(0);
    await until('done', async () => (await operator.show(id)).state === 'done');
    expect(moved()).toBeLessThan(before + 4 * 1024 * KIB);
    // Another one, cancelled in the middle.
    const third = origin.addImage('team/app', '3', [4 * 1024 * KIB]);
    origin.faults.rate = 512 * KIB;
    const cancelled = await operator.begin('lab/team/app:3');
    await until('begun', () => origin.bytesOf(third.layers[0]!.digest) > 0);
    expect((await operator.rollout('cancel', cancelled)).out).toContain('cancelled');
    await until('stopped', async () => (await host.running.status()).rollouts?.length === 0);
    expect(await operator.rollout('resume', cancelled)).toMatchObject({ code: 1, err: expect.stringContaining('ROLLOUT_STATE') as string });
  });

  test("the host's own hook runs with the image as its argument, and what came of it is shown", async () => {
    const hook = join(dir, 'hook');
    await writeFile(hook, `#!/bin/sh\necho "$#:$1" > "${dir}/args"\necho pulled\n`);
    await chmod(hook, 0o755);
    const host = await fleet.agent('web-1', { rolloutHook: hook });
    const { code } = await operator.rollout(IMAGE);
    expect(code).toBe(0);
    const reference = `${new URL(host.url).host}/lab/team/app@${image.manifest.digest}`;
    expect(await readFile(join(dir, 'args'), 'utf8')).toBe(`1:${reference}\n`);
    // What a client makes of that reference.
    expect((await pull(host, `lab/team/app/manifests/${image.manifest.digest}`)).sha256).toBe(image.manifest.digest);
    const { id } = (await operator.list())[0]!;
    const { outcomes } = await operator.show(id);
    expect(Object.values(outcomes)[0]).toMatchObject({ hook: { exitCode: 0, output: 'pulled\n' } });
    await writeFile(hook, '#!/bin/sh\necho broken >&2\nexit 7\n');
    const again = await operator.rollout(IMAGE);
    expect(again.code).toBe(1);
    expect(again.out).toContain('HOOK_FAILED: the hook ended with exit code 7');
  });

  test('verify-only reads what is there and fetches nothing', async () => {
    const [whole, without] = await Promise.all([fleet.agent('whole'), fleet.agent('without')]);
    expect((await operator.rollout(IMAGE, '--hosts', 'name=whole')).code).toBe(0);
    const before = origin.requests.length;
    const { code, out } = await operator.rollout(IMAGE, '--verify-only', '--waves', '100%', '--pause-on-failure', '100%');
    expect(code).toBe(1);
    expect(out).toContain('1 host failed with IMAGE_INCOMPLETE');
    expect(out).toContain('is whole on 1 of 2 hosts');
    expect(await layersOn(without)).toBe(0);
    // But for the tag itself.
    expect(origin.requests.slice(before).every(({ method }) => method === 'HEAD')).toBe(true);
    await spoil(whole, image);
    const after = await operator.rollout(IMAGE, '--verify-only', '--hosts', 'name=whole');
    expect(after.code).toBe(1);
    expect(after.out).toContain('STORE_CORRUPT');
  });

  test('what was rolled out answers its tag while the origin is unreachable; where it was not, the tag needs the origin', async () => {
    const [taken, not] = await Promise.all([fleet.agent('taken'), fleet.agent('not')]);
    // The canary that asks the origin is one of two: the other has never asked what the tag is.
    const second = await fleet.agent('second');
    expect((await operator.rollout(IMAGE, '--hosts', 'name!=not', '--waves', '100%')).code).toBe(0);
    await origin.goAway();
    for (const host of [taken, second]) {
      const answer = await pull(host, 'lab/team/app/manifests/1');
      expect(answer).toMatchObject({ status: 200, sha256: image.manifest.digest });
      expect(answer.headers['warning']).toContain('110');
    }
    expect((await pull(not, 'lab/team/app/manifests/1')).status).toBe(503);
  });

  test("a private image comes with each host's own credentials, and is none of its local clients' business", async () => {
    origin.faults.basic = 'fleet:secret';
    const auth = join(dir, 'auth.json');
    await writeFile(auth, JSON.stringify({ auths: { [new URL(origin.url).host]: { auth: Buffer.from('fleet:secret').toString('base64') } } }), { mode: 0o600 });
    const [first, second] = await Promise.all([fleet.agent('first', { authFiles: auth }), fleet.agent('second', { authFiles: auth })]);
    const without = await fleet.agent('without', { authFiles: '/dev/null' });
    await fleet.meshed();
    const { code, out } = await operator.rollout(IMAGE, '--hosts', 'name!=without', '--waves', '100%');
    expect({ code, out }).toMatchObject({ code: 0, out: expect.stringContaining('is there on 2 of 2 hosts') as string });
    for (const host of [first, second]) {
      expect(await layersOn(host)).toBe(BLOBS);
      expect((await pull(host, `lab/team/app/manifests/${image.manifest.digest}`)).status).toBe(404);
    }
    // Nor does a host get from its peers what it may not read itself.
    const refused = await operator.rollout(`lab/team/app@${image.manifest.digest}`, '--hosts', 'name=without');
    expect(refused.code).toBe(1);
    expect(refused.out).toMatch(/1 host failed with (ACCESS_DENIED|CREDENTIALS_WANTED)/);
    expect(await layersOn(without)).toBe(0);
  });

  test('a tracker that restarts goes on with it', async () => {
    const gate = Promise.withResolvers<void>();
    await Promise.all([1, 2, 3].map((number) => fleet.agent(`web-${number}`)));
    origin.faults.gate = () => gate.promise;
    const id = await operator.begin(IMAGE, '--waves', '1,100%');
    await until('one is at work', async () => Object.values(await operator.states(id)).includes('working'));
    await fleet.stopTracker();
    gate.resolve();
    await fleet.startTracker();
    await until('done', async () => (await operator.show(id)).state === 'done');
    expect(await operator.states(id)).toEqual({ 'web-1': 'done', 'web-2': 'done', 'web-3': 'done' });
  });
});

describe('as processes', () => {
  test('kill -9 of the tracker in the middle of it, again and again, and of a host', async () => {
    const fleet = await FleetProcesses.start();
    try {
      const operator = new Operator(fleet.trackerUrl, join(fleet.dir, 'tracker'));
      const big = origin.addImage('team/big', '1', [6 * 1024 * KIB, 2 * 1024 * KIB]);
      await Promise.all(['web-1', 'web-2', 'web-3'].map((name) => fleet.addAgent(name, ['--origin', `lab=${origin.url}`, '--label', 'role=web'])));
      origin.faults.rate = 1024 * KIB;
      const id = await operator.begin('lab/team/big:1', '--hosts', 'role=web', '--waves', '1,100%');
      for (let kill = 0; kill < 3; kill++) {
        const before = origin.bytesOf(big.layers[0]!.digest);
        await fleet.tracker.stop('SIGKILL');
        await fleet.tracker.start();
        await until('it moves again', async () => origin.bytesOf(big.layers[0]!.digest) > before || (await operator.show(id)).state === 'done');
      }
      // A host as well: it goes on with what it had.
      await fleet.agents[0]!.stop('SIGKILL');
      await fleet.agents[0]!.start();
      origin.faults.rate = undefined;
      await until('done', async () => (await operator.show(id)).hosts.done === 3);
      expect(await operator.states(id)).toEqual({ 'web-1': 'done', 'web-2': 'done', 'web-3': 'done' });
      const { digest, waves } = await operator.show(id);
      expect(digest).toBe(big.manifest.digest);
      expect(waves.map(({ started, done }) => [started, done])).toEqual([[1, 1], [2, 2]]);
    } finally {
      await fleet.close();
    }
  }, 90_000);
});

/** Flips a byte of the largest layer, behind the agent's back. */
async function spoil(host: TestAgent, image: TestImage): Promise<void> {
  const { digest } = image.layers.toSorted((a, b) => b.bytes.length - a.bytes.length)[0]!;
  const files = await readdir(host.dir, { recursive: true });
  const path = join(host.dir, files.find((file) => file.endsWith(digest.slice('sha256:'.length)))!);
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(path, bytes);
}
