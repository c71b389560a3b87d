// Zones, with a tracker and without: a blob comes into a zone once, and goes round in there. Counted by what the agents say that came from peers elsewhere.

import { request } from 'undici';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { pull, TestFleet, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';

const MIB = 1024 * 1024;
const SIZE = 8 * MIB;
const CHUNK = 64 * 1024;
/** Who comes first asks before it knows of those that come after it: a request or two each. */
const ONE_COPY = 1.05 * SIZE;
const STAND_INS = 'flotilla_swarm_events_total{kind="stand_in_requests"}';
const HEDGES = 'flotilla_fallbacks_total{kind="hedge"}';
let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;

beforeEach(async () => {
  origin = await OriginServer.start();
  image = origin.addImage('team/app', 'v1', [SIZE]);
  fleet = await TestFleet.start({ lab: origin.url });
});

afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
});

/** A counter of an agent, as its metrics have it. */
async function counted(agent: TestAgent, line: string): Promise<number> {
  const { host, port } = agent.running.addresses.admin;
  const { body } = await request(`http://${host}:${port}/metrics`);
  const found = (await body.text()).split('\n').find((text) => text.startsWith(`${line} `));
  return Number(found?.split(' ')[1] ?? 0);
}

async function sum(agents: readonly TestAgent[], line: string): Promise<number> {
  const each = await Promise.all(agents.map((agent) => counted(agent, line)));
  return each.reduce((total, value) => total + value, 0);
}

async function pullAll(agents: readonly TestAgent[]): Promise<void> {
  const { digest } = image.layers[0]!;
  for (const { status, sha256 } of await Promise.all(agents.map((agent) => pull(agent, `lab/team/app/blobs/${digest}`)))) expect([status, sha256]).toEqual([200, digest]);
}

test.each([['with its tracker', true], ['whose tracker went', false]])('a fleet %s brings a blob that one zone holds into another zone once', async (_, tracked) => {
  const there = await fleet.agent('there', { zone: 'there' });
  const here = await Promise.all(['a', 'b', 'c'].map((name) => fleet.agent(name, { zone: 'here' })));
  await fleet.meshed();
  await pullAll([there]);
  if (!tracked) await fleet.stopTracker();
  await pullAll(here);
  // On a machine that stands still for seconds somebody steps in, for a chunk each time, or reads at the origin what does not come.
  const stoodIn = await sum(here, STAND_INS);
  const cameIn = await sum(here, 'flotilla_zone_bytes_total{direction="in"}');
  expect(cameIn).toBeLessThanOrEqual(ONE_COPY + stoodIn * CHUNK);
  if (stoodIn + (await sum(here, HEDGES)) > 0) return;
  expect(await counted(there, 'flotilla_zone_bytes_total{direction="out"}')).toBe(cameIn);
  expect(origin.bytesOf(image.layers[0]!.digest)).toBe(SIZE);
});

test('a crowd in two zones that nobody has anything of: one copy leaves the origin, and none crosses twice', async () => {
  const west = await Promise.all(['a', 'b', 'c'].map((name) => fleet.agent(name, { zone: 'west' })));
  const east = await Promise.all(['d', 'e', 'f'].map((name) => fleet.agent(name, { zone: 'east' })));
  await fleet.meshed();
  await pullAll([...west, ...east]);
  for (const zone of [west, east]) {
    const read = await sum(zone, 'flotilla_origin_bytes_total');
    const cameIn = await sum(zone, 'flotilla_zone_bytes_total{direction="in"}');
    const stoodIn = await sum(zone, STAND_INS);
    if ((await sum(zone, HEDGES)) === 0) expect(read + cameIn).toBeLessThanOrEqual(ONE_COPY + stoodIn * CHUNK);
  }
});
