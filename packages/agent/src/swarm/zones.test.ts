// Real nodes in two zones: what crosses between them, and what happens where whoever should bring a chunk in does not.

import { afterEach, expect, test } from 'vitest';
import { MemoryMember, randomBlob } from './memory-member.ts';
import { TestFleet, type TestHost } from './test-fleet.ts';

const MIB = 1024 * 1024;
const fleet = new TestFleet();
afterEach(() => fleet.stop());

/** One host there that holds the blob, and hosts here. */
async function twoZones(count: number, zones: { there?: string; here?: string } = { there: 'there', here: 'here' }): Promise<{ seed: TestHost; here: TestHost[] }> {
  const seed = await fleet.start({ zone: zones.there });
  const here = await Promise.all(Array.from({ length: count }, () => fleet.start({ zone: zones.here })));
  await fleet.connectAll();
  return { seed, here };
}

const crossed = (hosts: readonly TestHost[]): number => hosts.reduce((sum, { counts }) => sum + counts.zone_in_bytes, 0);

test('a blob comes into a zone once, and every host of it brings in a part', async () => {
  const { key, bytes } = randomBlob(16 * MIB);
  const { seed, here } = await twoZones(3);
  seed.holdings.add(new MemoryMember(key, bytes));
  const members = here.map((host) => {
    const member = new MemoryMember(key);
    host.join(member);
    return member;
  });
  await Promise.all(members.map((member) => member.finished));
  for (const member of members) expect(member.bytes.equals(bytes)).toBe(true);
  const standIns = here.reduce((sum, { counts }) => sum + counts.stand_in_requests, 0);
  // On a machine that stands still for seconds somebody steps in for somebody.
  if (standIns === 0) expect(crossed(here)).toBe(key.size);
  expect(seed.counts.zone_out_bytes).toBe(crossed(here));
  for (const { counts } of here) expect(counts.zone_in_bytes).toBeGreaterThan(0);
});

test('who has a seat brings in its own chunks only, and without anybody else all of them', async () => {
  const { key, bytes } = randomBlob(4 * MIB);
  const { seed, here: [host] } = await twoZones(1);
  seed.holdings.add(new MemoryMember(key, bytes));
  const member = new MemoryMember(key);
  host!.join(member);
  member.handle!.importer({ seats: 2, seat: 1 });
  // The host of the other seat never shows: its chunks are stepped in for.
  await host!.counted('stand_in_requests', 1);
  expect(member.have.count).toBeGreaterThan(0);
  member.handle!.importer({ seats: 1, seat: 0 });
  await member.finished;
  expect(member.bytes.equals(bytes)).toBe(true);
});

test.each([
  [{ there: 'there' }],
  [{ here: 'here' }],
])('where %o alone says where it stands, peers are all alike', async (zones) => {
  const { key, bytes } = randomBlob(MIB);
  const { seed, here: [host] } = await twoZones(1, zones);
  seed.holdings.add(new MemoryMember(key, bytes));
  const member = new MemoryMember(key);
  host!.join(member);
  member.handle!.importer({ seats: 5 });
  await member.finished;
  expect(host!.counts.zone_in_bytes + seed.counts.zone_out_bytes + host!.counts.stand_in_requests).toBe(0);
});

test.each([
  ['sends', { zoneLimit: 1 }, {}],
  ['takes', {}, { zoneLimit: 1 }],
])('the limit between zones holds what a host %s there, nothing else, and can be lifted', async (_, there, here) => {
  const { key, bytes } = randomBlob(MIB);
  const seed = await fleet.start({ zone: 'there', ...there });
  const near = await fleet.start({ zone: 'there', ...here });
  const far = await fleet.start({ zone: 'here', ...here });
  seed.swarm.setMesh([near.info, far.info]);
  for (const { swarm } of [near, far]) swarm.setMesh([seed.info]);
  await seed.counted('sessions_opened', 2);
  seed.holdings.add(new MemoryMember(key, bytes));
  const members = [near, far].map((host) => {
    const member = new MemoryMember(key);
    host.join(member);
    return member;
  });
  await members[0]!.finished;
  // The burst lets one chunk go; at one byte per second the next is most of a day away.
  await members[1]!.when(() => members[1]!.have.count === 1);
  expect(far.counts.zone_in_bytes).toBe(64 * 1024);
  for (const { swarm } of [seed, far]) swarm.setLimits({});
  await members[1]!.finished;
  expect(far.counts.zone_in_bytes).toBe(MIB);
  expect(near.counts.zone_in_bytes).toBe(0);
});
