// What is fetched for a rollout comes behind what clients of the host wait for, and does not wait for a client that nothing helps.

import { setImmediate } from 'node:timers/promises';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { DownloadInit } from './download-contract.ts';
import { Downloads } from './downloads.ts';
import { hashPool } from './test-download.ts';
import { CHUNK, collect, Gate, grantingCoordinator, makeBlob, TestClock, TestOrigin, type TestPartial, TestStore, TestSwarm, type TestBlob } from './test-ports.ts';

const INIT: DownloadInit = { source: { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' }, authority: { kind: 'anonymous' } };
const clientBlob = makeBlob(6 * CHUNK, 'client');
const rolloutBlob = makeBlob(6 * CHUNK, 'rollout');

/** Gives what the client wants only once the gate is open. */
class GatedOrigin extends TestOrigin {
  readonly gate = new Gate();

  override async read(...args: Parameters<TestOrigin['read']>): ReturnType<TestOrigin['read']> {
    if (args[1] === clientBlob.key.digest) await this.gate.pass(args[4]);
    return super.read(...args);
  }
}

class Host {
  readonly store = new TestStore();
  readonly origin = new GatedOrigin();
  readonly swarm = new TestSwarm();
  readonly clock = new TestClock();
  readonly never = new AbortController().signal;
  readonly downloads: Downloads;

  constructor() {
    for (const blob of [clientBlob, rolloutBlob]) this.origin.add(blob);
    this.downloads = new Downloads({
      store: this.store,
      origin: this.origin,
      swarm: this.swarm,
      coordinator: grantingCoordinator(),
      hashes: hashPool(),
      now: this.clock.now,
      every: this.clock.every,
      log: pino({ enabled: false }),
      rights: { reading: () => Promise.resolve(), refused: () => {} },
      metrics: { bytes: () => {}, stored: () => {}, fallback: () => {} },
    });
  }

  /** A client of `clientBlob` begins, and waits for its first chunk. */
  async client(): Promise<{ readonly pulled: Promise<Uint8Array> }> {
    const pulled = this.downloads.served(clientBlob.key, INIT).open({ start: 0, end: clientBlob.key.size }, this.never).then(collect);
    await this.origin.gate.reached;
    return { pulled };
  }

  fetch(low: boolean): Promise<unknown> {
    return this.downloads.fetch(rolloutBlob.key, INIT, this.never, low);
  }

  readsOf({ key }: TestBlob): number {
    return this.origin.events.all.filter((event) => event.type === 'read' && event.digest === key.digest).length;
  }

  /** Whether peers would be asked for it. */
  wants({ key }: TestBlob): boolean {
    const member = this.swarm.handles.find((handle) => handle.member.key.digest === key.digest)?.member;
    return member?.wants(0) ?? false;
  }

  async turns(): Promise<void> {
    for (let turn = 0; turn < 50; turn++) await setImmediate();
  }
}

test('while a client waits nothing is asked for, of peers or the origin; once it does not, all of it is', async () => {
  const host = new Host();
  const { pulled: client } = await host.client();
  const rollout = host.fetch(true);
  await host.turns();
  host.clock.advance(500);
  await host.turns();
  expect(host.readsOf(rolloutBlob)).toBe(0);
  expect(host.wants(rolloutBlob)).toBe(false);
  host.origin.gate.open();
  await client;
  // Clients pause between two chunks: not at once.
  host.clock.advance(500);
  await host.turns();
  expect(host.readsOf(rolloutBlob)).toBe(0);
  host.clock.advance(1_000);
  expect(await rollout).toEqual({ peer: 0, origin: rolloutBlob.key.size });
  await host.downloads.close();
});

test('what is fetched ahead for a client does not wait', async () => {
  const host = new Host();
  const { pulled: client } = await host.client();
  const prefetch = host.fetch(false);
  await host.turns();
  expect(host.readsOf(rolloutBlob)).toBeGreaterThan(0);
  host.origin.gate.open();
  await Promise.all([client, prefetch]);
  await host.downloads.close();
});

test('a client that wants the same blob makes it come at once', async () => {
  const host = new Host();
  const { pulled: client } = await host.client();
  const rollout = host.fetch(true);
  await host.turns();
  expect(host.wants(rolloutBlob)).toBe(false);
  const joined = host.downloads.served(rolloutBlob.key, INIT).open({ start: 0, end: rolloutBlob.key.size }, host.never).then(collect);
  expect(await joined).toEqual(rolloutBlob.bytes);
  await rollout;
  host.origin.gate.open();
  await client;
  await host.downloads.close();
});

test('a client that gets nothing for five seconds holds nobody up, and giving way counts as no stall', async () => {
  const host = new Host();
  const { pulled: client } = await host.client();
  client.catch(() => undefined);
  const rollout = host.fetch(true);
  await host.turns();
  for (let second = 0; second < 4; second++) {
    host.clock.advance(1_000);
    await host.turns();
    expect(host.readsOf(rolloutBlob)).toBe(0);
  }
  for (let second = 0; second < 3; second++) {
    host.clock.advance(1_000);
    await host.turns();
  }
  expect(await rollout).toEqual({ peer: 0, origin: rolloutBlob.key.size });
  host.origin.gate.open();
  await host.downloads.close();
});

test('how much of a blob is here', async () => {
  const host = new Host();
  expect(await host.downloads.held(rolloutBlob.key)).toBe(0);
  await host.fetch(true);
  expect(await host.downloads.held(rolloutBlob.key)).toBe(rolloutBlob.key.size);
  expect(await host.downloads.held({ ...rolloutBlob.key, size: 5 })).toBe(0);
  expect(await host.fetch(true)).toEqual({ peer: 0, origin: 0 });
  await host.downloads.close();
});

test('what could not be kept was not fetched', async () => {
  const host = new Host();
  const open = host.store.openPartial.bind(host.store);
  host.store.openPartial = async (key) => {
    const partial = await open(key);
    // Room for every chunk, but not for what finishing takes.
    (partial as TestPartial).roomChunks = partial.have.length;
    return partial;
  };
  await expect(host.fetch(true)).rejects.toMatchObject({ code: 'DISK_FULL' });
  await host.downloads.close();
});

test.each([
  [9, false],
  [11, true],
])('while a client waits, what this host shares gives way, but what it pulls or has pulled lately does not: after %i minutes, %s', async (minutes, givesWay) => {
  const host = new Host();
  await host.fetch(false);
  host.clock.advance(minutes * 60_000);
  expect(host.downloads.givesWay()).toBeUndefined();
  const { pulled: client } = await host.client();
  const old = makeBlob(CHUNK, 'pulled before this agent started');
  expect([clientBlob, rolloutBlob, old].map(({ key }) => host.downloads.givesWay()?.(key))).toEqual([false, givesWay, true]);
  host.origin.gate.open();
  await client;
  host.clock.advance(1_000);
  expect(host.downloads.givesWay()).toBeUndefined();
  await host.downloads.close();
});
