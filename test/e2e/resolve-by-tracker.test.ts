// What a public tag is, asked at the origin once for the fleet (`resolveBy: tracker`, `--resolve`): counted at the origin, with real sockets.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';

const HOSTS = 5;
const BY_TRACKER = { resolveBy: 'tracker' };
let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;

beforeEach(async () => {
  origin = await OriginServer.start();
  image = origin.addImage('team/app', 'v1', [300_000, 500, 2_000]);
});

afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
});

/** @param tracker whether the tracker asks for the fleet, and knows the agents' origin */
async function agents({ tracker = true, urls = origin.url, by = BY_TRACKER, hosts = HOSTS }: { tracker?: boolean; urls?: string; by?: Record<string, string>; hosts?: number } = {}): Promise<TestAgent[]> {
  fleet = await TestFleet.start({ lab: origin.url }, tracker ? { resolve: true, origin: [`lab=${urls}`] } : {});
  const started: TestAgent[] = [];
  for (let host = 0; host < hosts; host++) started.push(await fleet.agent(`h${host}`, by));
  await fleet.meshed();
  return started;
}

/** As a client pulls: the tag, its manifest by digest, config and layers. */
async function pullImage(agent: TestAgent, { manifest, layers, repository, tag }: TestImage = image): Promise<void> {
  const head = await pull(agent, `lab/${repository}/manifests/${tag}`);
  expect(head.status).toBe(200);
  expect(head.sha256).toBe(manifest.digest);
  const { config } = JSON.parse(manifest.bytes.toString('utf8')) as { config: { digest: string } };
  for (const digest of [config.digest, ...layers.map((layer) => layer.digest)]) expect((await pull(agent, `lab/${repository}/blobs/${digest}`)).sha256).toBe(digest);
}

/** Requests that are not reads of blobs, as `METHOD kind`. */
function others(): string[] {
  return origin.requests.filter(({ method, url }) => !(method === 'GET' && url.includes('/blobs/'))).map(({ method, url }) => `${method} ${/\/(manifests|blobs)\//.exec(url)?.[1]}`);
}

async function metric(agent: TestAgent, name: string): Promise<string | undefined> {
  const { admin } = agent.running.addresses;
  const text = await (await fetch(`http://${admin.host}:${admin.port}/metrics`)).text();
  return text.split('\n').find((line) => line.startsWith(name));
}

describe('with the tracker asking', () => {
  test('a crowd that pulls a tag at the same moment is one HEAD and one GET of the manifest, whatever its size', async () => {
    const crowd = await agents();
    await Promise.all(crowd.map((agent) => pullImage(agent)));
    expect(others().toSorted()).toEqual(['GET manifests', 'HEAD manifests']);
    for (const { digest, bytes } of image.layers) expect(origin.bytesOf(digest)).toBe(bytes.length);
    expect((await crowd[0]!.running.status()).resolvedByTracker).toEqual({ found: 1, asked: {}, lastError: undefined });
  });

  test('a crowd that pulls by digest is one HEAD and one GET', async () => {
    const crowd = await agents();
    const path = `lab/team/app/manifests/${image.manifest.digest}`;
    for (const pulled of await Promise.all(crowd.map((agent) => pull(agent, path)))) expect(pulled.sha256).toBe(image.manifest.digest);
    expect(others().toSorted()).toEqual(['GET manifests', 'HEAD manifests']);
  });

  test('a tag that was pushed anew is what every host gets a few seconds later', async () => {
    const [a, b] = await agents({ hosts: 2 });
    await pullImage(a!);
    image = origin.addImage('team/app', 'v1', [1_000]);
    await until('the new image is what the tag is', async () => (await pull(a!, 'lab/team/app/manifests/v1')).sha256 === image.manifest.digest);
    // Once one host was told, no other is told the older one.
    await pullImage(b!);
  });

  test('what needs credentials is not public, and each host asks with what it has, as without the setting', async () => {
    origin.faults.basic = 'user:secret';
    const crowd = await agents({ hosts: 2 });
    for (const agent of crowd) {
      const denied = await pull(agent, 'lab/team/app/manifests/v1');
      expect(denied.status).toBe(404);
      expect((await agent.running.status()).resolvedByTracker).toMatchObject({ found: 0, asked: { 'not-public': 1 } });
    }
    // One of the tracker, and one of each host.
    expect(others()).toEqual(['HEAD manifests', 'HEAD manifests', 'HEAD manifests']);
    expect(await metric(crowd[0]!, 'flotilla_fallbacks_total{kind="resolve-not-public"}')).toMatch(/ 1$/);
  });

  test('without it the hosts ask one by one, and so they do while only one side has the setting', async () => {
    const crowd = await agents({ by: {}, hosts: 3 });
    await Promise.all(crowd.map((agent) => pullImage(agent)));
    expect(others().toSorted()).toEqual(['GET manifests', 'HEAD manifests', 'HEAD manifests', 'HEAD manifests']);
    expect((await crowd[0]!.running.status()).resolvedByTracker).toBeUndefined();
  });
});

describe('when the tracker is no help', () => {
  test.each([
    ['its settings do not say so', { tracker: false }, 'away'],
    ['it knows the origin by another URL', { urls: 'http://127.0.0.1:1' }, 'not-configured'],
  ] as const)('%s: each host asks the origin, and it is counted', async (_, setting, reason) => {
    const crowd = await agents({ ...setting, hosts: 2 });
    await Promise.all(crowd.map((agent) => pullImage(agent)));
    expect(others().filter((each) => each === 'HEAD manifests')).toHaveLength(2);
    expect((await crowd[0]!.running.status()).resolvedByTracker).toMatchObject({ found: 0, asked: { [reason]: 1 } });
    expect(await metric(crowd[0]!, `flotilla_fallbacks_total{kind="resolve-${reason}"}`)).toMatch(/ 1$/);
  });

  test('it is gone: pulls go on, and tags are asked for by the hosts', async () => {
    const [a] = await agents({ hosts: 1 });
    await fleet.stopTracker();
    await until('the agent has noticed', async () => (await a!.running.status()).tracker.state !== 'connected');
    await pullImage(a!);
    expect((await a!.running.status()).resolvedByTracker?.asked).toEqual({ away: 1 });
  });

  test('the origin fails for it: the hosts try themselves', async () => {
    const [a] = await agents({ hosts: 1 });
    origin.faults.status = 500;
    expect((await pull(a!, 'lab/team/app/manifests/v1')).status).toBe(503);
    delete origin.faults.status;
    await pullImage(a!);
    expect((await a!.running.status()).resolvedByTracker?.asked).toMatchObject({ failed: 2 });
  });
});

test('the setting tells the tracker the names of private images no more than before: a host that has credentials for one asks itself', async () => {
  const asked = await agents({ hosts: 1, by: { ...BY_TRACKER, allow: 'lab/team/**' } });
  await pullImage(asked[0]!);
  expect((await asked[0]!.running.status()).resolvedByTracker).toEqual({ found: 0, asked: {}, lastError: undefined });
});
