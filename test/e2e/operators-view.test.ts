// What operators see of real agents: the way of an image through the fleet, what holds a host up, and brakes that are obeyed.

import { join } from 'node:path';
import type { FleetKnowledge } from '@flotilla/agent/fleet-knowledge';
import { Client } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BrakeRequest, Pull } from '@flotilla/shared/operator-api';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';

const MIB = 1024 * 1024;
let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;

beforeEach(async () => {
  origin = await OriginServer.start();
  fleet = await TestFleet.start({ lab: origin.url });
  image = origin.addImage('team/app', 'v1', [8 * MIB, 500]);
});

afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
});

/** As podman does it: the manifest by its tag, then the layers. */
async function pullImage(agent: TestAgent): Promise<void> {
  await pull(agent, 'lab/team/app/manifests/v1');
  for (const { digest } of image.layers) expect((await pull(agent, `lab/team/app/blobs/${digest}`)).sha256).toBe(digest);
}

function hostOf(name: string): { reason: string; evidence: string } {
  const host = [...fleet.tracker.view.hosts.all()].find(({ info }) => info.name === name)!;
  return host.verdict;
}

async function brake(request: Omit<BrakeRequest, 'reason'>): Promise<string> {
  const { view, fleet: members } = fleet.tracker;
  const { id } = await view.brakes.set({ ...request, reason: '' }, 'test', members.now());
  view.brakesChanged(members.now());
  return id;
}

async function release(id: string): Promise<void> {
  const { view, fleet: members } = fleet.tracker;
  await view.brakes.release(id);
  view.brakesChanged(members.now());
}

test('an image by its name, its copies, and who got it from whom', async () => {
  const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
  await fleet.meshed();
  await pullImage(a);
  await pullImage(b);
  const { view } = fleet.tracker;
  await until('the image is known', () => view.catalogue.get(image.manifest.digest)?.names[0] === 'lab/team/app:v1');
  expect(view.catalogue.get(image.manifest.digest)?.blobs).toHaveLength(4);
  const ofB = async (): Promise<Pull[]> => {
    // Twenty seconds later a pull is over.
    view.look(Date.now() + 20_000);
    return (await view.history.find({ image: 'team/app' })).pulls.filter(({ host }) => host === 'b');
  };
  await until('the pull is told', async () => (await ofB()).reduce((sum, { bytes }) => sum + bytes.peer, 0) > 8 * MIB);
  const pulls = await ofB();
  expect(new Set(pulls.map(({ image: name }) => name))).toEqual(new Set(['lab/team/app:v1']));
  expect(pulls.flatMap(({ from }) => from).map(({ peerId, name }) => [peerId, name])).toContainEqual([a.running.peerId, 'a']);
  // What a client calls its request is told to the origin, and finds the pull.
  const named = origin.addImage('team/named', 'v1', [1000]).layers[0]!.digest;
  await pull(a, `lab/team/named/blobs/${named}`, { headers: { 'x-request-id': 'build-4711' } });
  expect(origin.requests.filter(({ requestId }) => requestId === 'build-4711').map(({ method, digest }) => [method, digest])).toContainEqual(['HEAD', named]);
  await until('the request is known', async () => {
    view.look(Date.now() + 40_000);
    return (await view.history.byRequest('build-4711')) !== undefined;
  });
  expect(await view.history.byRequest('build-4711')).toMatchObject({ host: 'a', image: 'lab/team/named', blobs: [{ digest: named }] });
  const { receivers } = await view.history.receivedFrom(a.running.peerId);
  expect([...receivers.keys()]).toEqual([b.running.peerId]);
});

describe('why a host is slow', () => {
  test.each([
    ['429', 429, 'lab answers 429'],
    ['credentials', 401, 'lab refuses its credentials'],
    ['origin', 503, 'lab fails'],
  ])('%s', async (reason, status, evidence) => {
    const a = await fleet.agent('a');
    origin.faults.status = status;
    const failing = new AbortController();
    const pulling = (async () => {
      while (!failing.signal.aborted) await pull(a, 'lab/team/app/manifests/v1', { signal: failing.signal }).catch(() => undefined);
    })();
    await until(`the reason is ${reason}`, () => hostOf('a').reason === reason);
    expect(hostOf('a').evidence).toBe(evidence);
    failing.abort();
    await pulling;
  });

  test('dns', async () => {
    const a = await fleet.agent('a', { origin: 'lab=http://no-such-host.invalid' });
    await pull(a, 'lab/team/app/manifests/v1');
    await until('the reason is dns', () => hostOf('a').reason === 'dns');
  });

  test('no-peers: another host holds it, and neither reaches the other', async () => {
    const [a, b] = [await fleet.agent('a', { advertise: '127.0.0.1:1' }), await fleet.agent('b', { advertise: '127.0.0.1:1' })];
    const { digest } = image.layers[0]!;
    await pull(a, `lab/team/app/blobs/${digest}`);
    const giveUp = new AbortController();
    const pulling = pull(b, `lab/team/app/blobs/${digest}`, { signal: giveUp.signal }).catch(() => undefined);
    await until('the reason is no-peers', () => hostOf('b').reason === 'no-peers');
    giveUp.abort();
    await pulling;
  });

  test('throttled: a brake is obeyed by a pull under way, and told', async () => {
    const a = await fleet.agent('a');
    const id = await brake({ scope: { kind: 'fleet' }, downloadLimit: MIB, forMs: 60_000 });
    await until('the agent obeys', async () => (await a.running.status()).brakes?.length === 1);
    const pulling = pull(a, `lab/team/app/blobs/${image.layers[0]!.digest}`);
    await until('the reason is throttled', () => hostOf('a').reason === 'throttled');
    expect(hostOf('a').evidence).toBe('a brake lets 1.0 MB/s through');
    await release(id);
    expect((await pulling).status).toBe(200);
    expect((await a.running.status()).brakes).toEqual([]);
  });
});

describe('brakes', () => {
  test('origin only: what the fleet holds is read from the origin all the same, and again from peers when it ends', async () => {
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    const { digest } = image.layers[0]!;
    await pull(a, `lab/team/app/blobs/${digest}`);
    const id = await brake({ scope: { kind: 'host', peerId: b.running.peerId }, originOnly: true, forMs: 60_000 });
    await until('the agent obeys', async () => (await b.running.status()).brakes?.length === 1);
    expect((await pull(b, `lab/team/app/blobs/${digest}`)).sha256).toBe(digest);
    const { peer, origin: read } = await b.bytes();
    expect(peer).toBe(0);
    expect(read).toBeGreaterThan(7 * MIB);
    await release(id);
    await until('the brake is off', async () => (await b.running.status()).brakes?.length === 0);
    const other = origin.addImage('team/other', 'v1', [4 * MIB]).layers[0]!.digest;
    await pull(a, `lab/team/other/blobs/${other}`);
    await pull(b, `lab/team/other/blobs/${other}`);
    expect((await b.bytes()).peer).toBe(4 * MIB);
  });

  test('origin only ends in the middle of a pull, and the rest comes from peers', async () => {
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    const { digest } = image.layers[0]!;
    await pull(a, `lab/team/app/blobs/${digest}`);
    const id = await brake({ scope: { kind: 'zone', zone: '' }, originOnly: true, forMs: 60_000 });
    await until('the agent obeys', async () => (await b.running.status()).brakes?.length === 1);
    origin.faults.rate = MIB / 2;
    let released: Promise<void> | undefined;
    const pulled = await pull(b, `lab/team/app/blobs/${digest}`, {
      onBytes: () => {
        released ??= release(id);
      },
    });
    await released;
    expect(pulled.sha256).toBe(digest);
    const { peer, origin: read } = await b.bytes();
    expect(peer).toBeGreaterThan(0);
    expect(read).toBeGreaterThan(0);
  });

  test('no uploads: others take from the origin what only this host holds', async () => {
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    const { digest } = image.layers[0]!;
    await pull(a, `lab/team/app/blobs/${digest}`);
    await brake({ scope: { kind: 'host', peerId: a.running.peerId }, stopUploads: true, forMs: 60_000 });
    await until('the agent obeys', async () => (await a.running.status()).brakes?.length === 1);
    expect((await pull(b, `lab/team/app/blobs/${digest}`)).sha256).toBe(digest);
    expect((await a.bytes()).uploaded).toBe(0);
    const { peer, origin: read } = await b.bytes();
    expect(peer).toBe(0);
    expect(read).toBeGreaterThan(7 * MIB);
  });
});

test('with the tracker gone every agent tells what it knows of the fleet', async () => {
  const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
  await fleet.meshed();
  const ask = async (agent: TestAgent): Promise<FleetKnowledge> => {
    const client = new Client('http://agent', { socketPath: join(agent.dir, 'agent.sock') });
    const { body } = await client.request({ method: 'GET', path: '/fleet' });
    const known = (await body.json()) as FleetKnowledge;
    await client.close();
    return known;
  };
  await until('the tracker has said how the fleet is', async () => (await ask(a)).tracker.word?.up === 2);
  await fleet.stopTracker();
  await until('the tracker is lost', async () => (await ask(a)).tracker.state === 'lost');
  expect(await ask(a)).toMatchObject({ name: 'a', tracker: { word: { up: 2, down: 0, verdict: 'nothing wrong' } }, peers: [{ peerId: b.running.peerId, standing: true }] });
});

test('who looks at a host sees its peers and downloads', async () => {
  const [a, b] = [await fleet.agent('a'), await fleet.agent('b', { downloadLimit: '1MiB/s' })];
  await fleet.meshed();
  const { digest } = image.layers[0]!;
  await pull(a, `lab/team/app/blobs/${digest}`);
  const pulling = pull(b, `lab/team/app/blobs/${digest}`);
  const { view } = fleet.tracker;
  const detail = (): { peers: { peerId: string; downRate: number }[]; downloads: { digest: string }[]; limits: { download?: number } } => JSON.parse(view.live.once(`host:${b.running.peerId}`, Date.now())!) as never;
  await until('the host tells', () => detail().peers.some(({ downRate }) => downRate > 0));
  expect(detail()).toMatchObject({ peers: [{ peerId: a.running.peerId, n: 0 }], downloads: [{ digest }], limits: { download: MIB } });
  const swarm = JSON.parse(view.live.once(`swarm:${digest}`, Date.now())!) as { sends: number[][] };
  expect(swarm.sends.map(([from, to]) => [from, to])).toEqual([[0, 1]]);
  expect((await pulling).status).toBe(200);
});
