// Nothing breaks the pull: each fault with real sockets, real disks and a real fleet, ending with the right bytes or a clear error.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pull, TestFleet, until, type PulledBlob, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';

const MIB = 1024 * 1024;
let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;

beforeEach(async () => {
  origin = await OriginServer.start();
  fleet = await TestFleet.start({ lab: origin.url });
  image = origin.addImage('team/app', 'v1', [24 * MIB, 500]);
});

afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
});

function blobPath(layer = 0): string {
  return `lab/team/app/blobs/${image.layers[layer]!.digest}`;
}

function expectRight(pulled: PulledBlob, layer = 0): void {
  expect(pulled.status).toBe(200);
  expect(pulled.bytes).toBe(image.layers[layer]!.bytes.length);
  expect(pulled.sha256).toBe(image.layers[layer]!.digest);
}

/** Pulls and fires `then` once, after a quarter of the blob has reached the client. */
function pullAnd(agent: TestAgent, then: () => void | Promise<void>): Promise<PulledBlob> {
  let fired = false;
  return pull(agent, blobPath(), {
    onBytes: async (total) => {
      if (fired || total < image.layers[0]!.bytes.length / 4) return;
      fired = true;
      await then();
    },
  });
}

describe('a fleet at work', () => {
  test('three agents at the same moment take one copy out of the origin', async () => {
    const agents = [await fleet.agent('a'), await fleet.agent('b'), await fleet.agent('c')];
    await fleet.meshed();
    const { digest, bytes } = image.layers[0]!;
    for (const pulled of await Promise.all(agents.map((agent) => pull(agent, blobPath())))) expectRight(pulled);
    expect(origin.bytesOf(digest)).toBe(bytes.length);
    for (const agent of agents) expect((await agent.bytes()).peer).toBeGreaterThan(0);
  });

  test('what one agent holds is never fetched from the origin by another', async () => {
    const a = await fleet.agent('a');
    expectRight(await pull(a, blobPath()));
    const before = origin.bytesOf(image.layers[0]!.digest);
    const b = await fleet.agent('b');
    expectRight(await pull(b, blobPath()));
    expect(origin.bytesOf(image.layers[0]!.digest)).toBe(before);
    expect((await b.bytes()).peer).toBe(image.layers[0]!.bytes.length);
  });

  test('a whole image: manifest by tag, config, layers, and a blob whose manifest was never read', async () => {
    const a = await fleet.agent('a');
    const manifest = await pull(a, 'lab/team/app/manifests/v1');
    expect(manifest.sha256).toBe(image.manifest.digest);
    expect(manifest.headers['docker-content-digest']).toBe(image.manifest.digest);
    expectRight(await pull(a, blobPath(1)), 1);
    const b = await fleet.agent('b');
    expectRight(await pull(b, blobPath(1)), 1);
  });

  test('an agent restarted in the middle of a pull uses what it had', async () => {
    const a = await fleet.agent('a');
    origin.faults.rate = 8 * MIB;
    const stopped = pullAnd(a, () => a.stop());
    await expect(stopped).rejects.toThrow();
    delete origin.faults.rate;
    const before = origin.bytesOf(image.layers[0]!.digest);
    const again = await fleet.agent('a');
    expectRight(await pull(again, blobPath()));
    const { origin: read } = await again.bytes();
    expect(read).toBeLessThan(image.layers[0]!.bytes.length);
    expect(origin.bytesOf(image.layers[0]!.digest) - before).toBeLessThan(image.layers[0]!.bytes.length);
  });
});

describe('faults', () => {
  test('a peer that dies in mid-transfer', async () => {
    const a = await fleet.agent('a');
    expectRight(await pull(a, blobPath()));
    const b = await fleet.agent('b', { downloadLimit: '16MiB/s' });
    expectRight(await pullAnd(b, () => a.stop()));
  });

  test('the tracker goes away in mid-pull, and a pull begins without it', async () => {
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    origin.faults.rate = 4 * MIB;
    const other = pull(b, blobPath());
    expectRight(await pullAnd(a, () => fleet.stopTracker()));
    expectRight(await other);
    const next = origin.addImage('team/app', 'v2', [2 * MIB]);
    image = next;
    expectRight(await pull(a, blobPath()));
    expectRight(await pull(b, blobPath()));
    expect(origin.bytesOf(next.layers[0]!.digest)).toBe(next.layers[0]!.bytes.length);
  });

  test('the tracker comes back in mid-pull and is told what is held', async () => {
    const a = await fleet.agent('a');
    origin.faults.rate = 4 * MIB;
    const restart = async (): Promise<void> => {
      await fleet.stopTracker();
      await fleet.startTracker();
    };
    expectRight(await pullAnd(a, restart));
    await until('a is back', async () => (await a.running.status()).tracker.state === 'connected');
    const before = origin.bytesOf(image.layers[0]!.digest);
    const b = await fleet.agent('b');
    expectRight(await pull(b, blobPath()));
    expect(origin.bytesOf(image.layers[0]!.digest)).toBe(before);
  });

  test('an agent starts while the tracker is away', async () => {
    const a = await fleet.agent('a');
    expectRight(await pull(a, blobPath()));
    await fleet.stopTracker();
    const b = await fleet.agent('b');
    expectRight(await pull(b, blobPath()));
    expect((await b.running.status()).tracker.state).not.toBe('connected');
  });

  test('the origin is gone once the fleet has the blob: by digest everywhere, by tag where it was resolved', async () => {
    const a = await fleet.agent('a');
    await pull(a, 'lab/team/app/manifests/v1');
    expectRight(await pull(a, blobPath()));
    await origin.goAway();
    const b = await fleet.agent('b');
    expectRight(await pull(b, blobPath()));
    const byDigest = await pull(b, `lab/team/app/manifests/${image.manifest.digest}`);
    expect(byDigest.sha256).toBe(image.manifest.digest);
    const stale = await pull(a, 'lab/team/app/manifests/v1');
    expect(stale.sha256).toBe(image.manifest.digest);
    expect(stale.headers['warning']).toMatch(/^110/);
    const unresolved = await pull(b, 'lab/team/app/manifests/v1');
    expect(unresolved.status).toBe(503);
  });

  test('a client that leaves stops the work', async () => {
    const a = await fleet.agent('a');
    origin.faults.rate = 2 * MIB;
    const leave = new AbortController();
    await expect(pull(a, blobPath(), { signal: leave.signal, onBytes: () => leave.abort() })).rejects.toThrow();
    await until('the download has ended', async () => (await a.running.status()).downloads.length === 0);
    expect(origin.bytesOf(image.layers[0]!.digest)).toBeLessThan(image.layers[0]!.bytes.length);
  });

  test('a client that leaves does not stop another one', async () => {
    const a = await fleet.agent('a');
    origin.faults.rate = 16 * MIB;
    const leave = new AbortController();
    const gone = pull(a, blobPath(), { signal: leave.signal, onBytes: () => leave.abort() });
    const stays = pull(a, blobPath());
    await expect(gone).rejects.toThrow();
    expectRight(await stays);
    expect(origin.bytesOf(image.layers[0]!.digest)).toBe(image.layers[0]!.bytes.length);
  });

  test('an origin without Range', async () => {
    origin.faults.noRanges = true;
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    for (const pulled of await Promise.all([pull(a, blobPath()), pull(b, blobPath())])) expectRight(pulled);
  });

  test('an origin that sends other bytes than the digest says: a clear end, nothing stored', async () => {
    origin.faults.corrupt = image.layers[0]!.digest;
    const a = await fleet.agent('a');
    await expect(pull(a, blobPath())).rejects.toThrow();
    expect((await a.running.status()).store.blobs).toBe(0);
    delete origin.faults.corrupt;
    expectRight(await pull(a, blobPath()));
  });

  test('an origin that cuts its bodies short', async () => {
    const a = await fleet.agent('a');
    origin.faults.shortBytes = 1000;
    const small = await pull(a, blobPath(1)).catch((error: unknown) => error);
    expect(small).not.toMatchObject({ status: 200 });
    delete origin.faults.shortBytes;
    expectRight(await pull(a, blobPath(1)), 1);
  });

  test('an origin that refuses for a while', async () => {
    const a = await fleet.agent('a');
    origin.faults.status = 500;
    expect((await pull(a, blobPath())).status).toBe(503);
    delete origin.faults.status;
    expectRight(await pull(a, blobPath()));
  });

  test('without a tracker the agent works alone', async () => {
    const a = await fleet.agent('a', {}, { alone: true });
    expectRight(await pull(a, blobPath()));
    expect(origin.bytesOf(image.layers[0]!.digest)).toBe(image.layers[0]!.bytes.length);
    expect((await a.running.status()).tracker.state).toBe('none');
  });
});
