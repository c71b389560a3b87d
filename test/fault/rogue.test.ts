// A lying peer costs time, never content: members that forge, vouch falsely or stall, against real agents and the real tracker.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { pull, TestFleet, until } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';
import { startRogue, type Misdeed, type Rogue } from '../support/rogue.ts';

const MIB = 1024 * 1024;
let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;
let rogue: Rogue | undefined;

beforeEach(async () => {
  origin = await OriginServer.start();
  fleet = await TestFleet.start({ lab: origin.url });
  image = origin.addImage('team/app', 'v1', [4 * MIB]);
});

afterEach(async () => {
  await rogue?.stop();
  rogue = undefined;
  await fleet.stop();
  await origin.goAway();
});

async function start(misdeed: Misdeed): Promise<Rogue> {
  const [layer] = image.layers;
  rogue = await startRogue(fleet, 'rogue', { digest: layer!.digest, size: layer!.bytes.length }, layer!.bytes, misdeed);
  return rogue;
}

function path(): string {
  return `lab/team/app/blobs/${image.layers[0]!.digest}`;
}

test('a peer that sends other bytes than its digest says is banned, and the pull goes on', async () => {
  const forger = await start('forge');
  const a = await fleet.agent('a');
  await until('they met', () => forger.swarm.status().peers.length === 1);
  const pulled = await pull(a, path());
  expect(pulled.sha256).toBe(image.layers[0]!.digest);
  expect(forger.asked()).toBeGreaterThan(0);
  await until('the forger is cut off', () => forger.swarm.status().peers.length === 0);
  const b = await fleet.agent('b');
  expect((await pull(b, path())).sha256).toBe(image.layers[0]!.digest);
});

test('a peer that vouches for wrong bytes: no complete wrong answer, and the retry is right', async () => {
  const liar = await start('vouch-falsely');
  const a = await fleet.agent('a');
  await until('they met', () => liar.swarm.status().peers.length === 1);
  const first = await pull(a, path()).catch((error: unknown) => error as Error);
  if (!(first instanceof Error)) expect(first.sha256).toBe(image.layers[0]!.digest);
  expect(liar.asked()).toBeGreaterThan(0);
  // One lie that is found out costs the liar all belief of this host, so the next answer is whole.
  expect((await pull(a, path())).sha256).toBe(image.layers[0]!.digest);
});

test('a peer that announces and never delivers: the pull ends right, in hedged steps', async () => {
  const staller = await start('stall');
  const a = await fleet.agent('a');
  await until('they met', () => staller.swarm.status().peers.length === 1);
  expect((await pull(a, path())).sha256).toBe(image.layers[0]!.digest);
  expect(staller.asked()).toBeGreaterThan(0);
}, 120_000);
