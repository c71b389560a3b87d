// Bandwidth: what an agent may take and give, changed while it runs; what the whole fleet may take out of an origin. Counted in bytes at the origin
// and at the client. A limit is shown to hold by what has not come yet, to be lifted by what then comes: no test waits for a rate.

import { changeLimits, type LimitOptions } from '@flotilla/agent/cli/limit';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pull, TestFleet, until, type PulledBlob, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** With it the layer would take hours. */
const CRAWL = '1KiB/s';
/** What a bucket gives at once (swarm/limits.ts), and a piece more. */
const BURST = 128 * KIB;
let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;

beforeEach(async () => {
  origin = await OriginServer.start();
  image = origin.addImage('team/app', 'v1', [6 * MIB]);
});

afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
});

/** `flotilla limit ...` for this agent. @returns what it printed */
async function limit(agent: TestAgent, options: LimitOptions): Promise<unknown> {
  let out = '';
  const code = await changeLimits({ ...options, json: true }, { flags: { data: agent.dir }, env: {} }, { out: (text) => (out += text), err: () => undefined }, new AbortController().signal);
  expect(code).toBe(0);
  return JSON.parse(out);
}

function pullLayer(agent: TestAgent, received: { bytes: number } = { bytes: 0 }): Promise<PulledBlob> {
  return pull(agent, `lab/team/app/blobs/${image.layers[0]!.digest}`, { onBytes: (total) => void (received.bytes = total) });
}

/** Long enough for a pull without limits: an agent that has none takes as much from the same origin. */
async function meanwhile(): Promise<void> {
  const other = origin.addImage('team/other', 'v1', [6 * MIB]);
  const free = await fleet.agent('free', {}, { alone: true });
  expect((await pull(free, `lab/team/other/blobs/${other.layers[0]!.digest}`)).bytes).toBe(6 * MIB);
  await free.stop();
}

function expectRight({ status, sha256 }: PulledBlob): void {
  expect([status, sha256]).toEqual([200, image.layers[0]!.digest]);
}

describe('an agent that runs', () => {
  test.each(['origin', 'download'] as const)('takes what its %s limit lets through, and the rest at once when that is lifted', async (which) => {
    fleet = await TestFleet.start({ lab: origin.url });
    const agent = await fleet.agent('a');
    expect(await limit(agent, { [which]: CRAWL })).toEqual({ [which]: KIB });
    const received = { bytes: 0 };
    const pulled = pullLayer(agent, received);
    await until('a read has begun at the origin', () => origin.requests.some(({ method, url }) => method === 'GET' && url.includes('/blobs/')));
    await until('something has come', async () => (await agent.running.status()).origins!.some(({ bytes }) => bytes > 0));
    await meanwhile();
    expect(received.bytes).toBeLessThanOrEqual(BURST);
    expect(await limit(agent, { [which]: 'none' })).toEqual({});
    expectRight(await pulled);
  });

  test('gives what its upload limit lets through, and the rest when that is lifted', async () => {
    fleet = await TestFleet.start({ lab: origin.url });
    const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
    await fleet.meshed();
    expectRight(await pullLayer(a));
    await limit(a, { upload: CRAWL });
    const pulled = pullLayer(b);
    await until('a has begun to send', async () => (await a.bytes()).uploaded > 0);
    await meanwhile();
    expect((await a.bytes()).uploaded).toBeLessThanOrEqual(BURST);
    await limit(a, { upload: 'none' });
    expectRight(await pulled);
  });

  test('gives peers of other zones what its limit between zones lets through, and the rest when that is lifted', async () => {
    fleet = await TestFleet.start({ lab: origin.url });
    const [a, near, far] = [await fleet.agent('a', { zone: 'x' }), await fleet.agent('near', { zone: 'x' }), await fleet.agent('far', { zone: 'y' })];
    await fleet.meshed();
    expectRight(await pullLayer(a));
    expect(await limit(a, { zone: CRAWL })).toEqual({ zone: KIB });
    const pulled = pullLayer(far);
    await until('a has begun to send', async () => (await a.bytes()).uploaded > 0);
    await meanwhile();
    expect((await a.bytes()).uploaded).toBeLessThanOrEqual(BURST);
    await limit(a, { zone: 'none' });
    expectRight(await pulled);
    await limit(a, { zone: CRAWL });
    expectRight(await pullLayer(near));
  });

  test('keeps what is not said, says what is in force, and goes back to its settings', async () => {
    fleet = await TestFleet.start({ lab: origin.url });
    const agent = await fleet.agent('a', { uploadLimit: '50MB/s', originLimit: '8MB/s' });
    expect(await limit(agent, {})).toEqual({ upload: 50e6, origin: 8e6 });
    expect(await limit(agent, { download: '20MB/s' })).toEqual({ upload: 50e6, download: 20e6, origin: 8e6 });
    expect(await limit(agent, { upload: 'none', origin: '1MB/s' })).toEqual({ download: 20e6, origin: 1e6 });
    expect((await agent.running.status()).limits).toMatchObject({ download: 20e6, origin: 1e6 });
    expect(await limit(agent, { settings: true })).toEqual({ upload: 50e6, origin: 8e6 });
  });
});

test('the fleet together takes no more out of its origin than the limit gives for the time that it took', async () => {
  const rate = 1.5 * MIB;
  fleet = await TestFleet.start({ lab: origin.url }, { originLimit: String(rate) });
  const agents = [await fleet.agent('a'), await fleet.agent('b'), await fleet.agent('c')];
  await fleet.meshed();
  const { digest, bytes } = image.layers[0]!;
  const startedMs = performance.now();
  for (const pulled of await Promise.all(agents.map((agent) => pullLayer(agent)))) expectRight(pulled);
  const seconds = (performance.now() - startedMs) / 1000;
  expect(origin.bytesOf(digest)).toBe(bytes.length);
  // A machine that is slow only makes the right side larger. The bucket gives a quarter of a second at once, and a last lease on credit.
  expect(bytes.length).toBeLessThanOrEqual(rate * seconds + 2 * (rate / 4));
});
