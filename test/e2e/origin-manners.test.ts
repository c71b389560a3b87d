// How a fleet behaves at an origin, counted there with real sockets: one Range for each lease, by connections that are kept; one token for each repository
// and agent; one question of rights for a private repository and host; and what a 429 stops.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type OriginRequest, type TestImage } from '../support/origin-server.ts';
import { image as tokenImage, TokenOrigin, type Image } from '../rights/token-origin.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
let fleet: TestFleet;
let opened: AsyncDisposableStack;

afterEach(async () => {
  await fleet.stop();
  await opened.disposeAsync();
});

async function startOrigin(): Promise<OriginServer> {
  const origin = await OriginServer.start();
  opened = new AsyncDisposableStack();
  opened.defer(() => origin.goAway());
  fleet = await TestFleet.start({ lab: origin.url });
  return origin;
}

function pullLayer(agent: TestAgent, { repository, layers }: TestImage): ReturnType<typeof pull> {
  return pull(agent, `lab/${repository}/blobs/${layers[0]!.digest}`);
}

const reads = (origin: OriginServer): OriginRequest[] => origin.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));

describe('leases', () => {
  test('are one bounded Range each, no byte twice, over two connections of each host at most', async () => {
    const origin = await startOrigin();
    const image = origin.addImage('team/app', 'v1', [8 * MIB]);
    const agents = [await fleet.agent('a'), await fleet.agent('b'), await fleet.agent('c')];
    await fleet.meshed();
    for (const pulled of await Promise.all(agents.map((agent) => pullLayer(agent, image)))) expect(pulled.sha256).toBe(image.layers[0]!.digest);
    const ranges = reads(origin).map(({ range }) => /^bytes=(\d+)-(\d+)$/.exec(range ?? '')?.slice(1).map(Number) ?? []);
    expect(ranges.every((range) => range.length === 2)).toBe(true);
    // In order they meet end to end: what is leased is read once, whole.
    const inOrder = ranges.toSorted(([a], [b]) => a! - b!);
    expect(inOrder.map(([first]) => first)).toEqual([0, ...inOrder.slice(0, -1).map(([, last]) => last! + 1)]);
    expect(inOrder.at(-1)![1]).toBe(8 * MIB - 1);
    const connections = new Set(reads(origin).map(({ connection }) => connection)).size;
    expect(connections).toBeLessThanOrEqual(2 * agents.length);
    expect(reads(origin).length).toBeGreaterThan(2 * connections);
  });
});

describe('429 with Retry-After', () => {
  /** Agents whose requests the origin can tell apart: one calls it by its address, one by its name. */
  async function named(name: string, origin: OriginServer, host: string): Promise<TestAgent> {
    return fleet.agent(name, { origin: `lab=${origin.url.replace('127.0.0.1', host)}` });
  }

  test('to one host alone: it asks no more, and gets all from the other, which reads on', async () => {
    const origin = await startOrigin();
    const image = origin.addImage('team/app', 'v1', [4 * MIB]);
    origin.faults.limits = ({ host, method, url }) => host!.startsWith('127.') && method === 'GET' && url.includes('/blobs/');
    origin.faults.retryAfterSeconds = 600;
    const [limited, free] = [await named('limited', origin, '127.0.0.1'), await named('free', origin, 'localhost')];
    await fleet.meshed();
    const first = pullLayer(limited, image);
    await until('the one is limited', () => reads(origin).length === 1);
    expect((await pullLayer(free, image)).sha256).toBe(image.layers[0]!.digest);
    expect((await first).sha256).toBe(image.layers[0]!.digest);
    expect(reads(origin).filter(({ host }) => host!.startsWith('127.'))).toHaveLength(1);
    expect((await limited.bytes()).peer).toBe(4 * MIB);
  });

  test('to two: a third asks nothing before the time is over, and then all get one copy', async () => {
    const origin = await startOrigin();
    const image = origin.addImage('team/app', 'v1', [4 * MIB]);
    let limiting = true;
    origin.faults.limits = ({ method, url }) => limiting && method === 'GET' && url.includes('/blobs/');
    origin.faults.retryAfterSeconds = 3;
    const [a, b, c] = [await fleet.agent('a'), await fleet.agent('b'), await fleet.agent('c')];
    await fleet.meshed();
    const pulls = [pullLayer(a, image)];
    await until('one is limited', () => reads(origin).length === 1);
    pulls.push(pullLayer(b, image));
    await until('two are limited', () => reads(origin).length === 2);
    await until('the tracker knows', () => fleet.tracker.fleet.swarms.throttledOrigins(Date.now()).includes('lab'));
    limiting = false;
    pulls.push(pullLayer(c, image));
    for (const pulled of await Promise.all(pulls)) expect(pulled.sha256).toBe(image.layers[0]!.digest);
    const [, second, third] = reads(origin);
    expect(third!.atMs - second!.atMs).toBeGreaterThanOrEqual(2_990);
    expect(origin.bytesOf(image.layers[0]!.digest)).toBe(4 * MIB);
  });
});

describe('an origin with tokens', () => {
  let origin: TokenOrigin;

  /** A fleet in front of a repository of one image, with a layer of several leases. */
  async function start(repository: string, readers: 'anybody' | ReadonlySet<string>): Promise<Image> {
    origin = await TokenOrigin.start(Date.now);
    opened = new AsyncDisposableStack();
    opened.use(origin);
    const image = tokenImage(repository, 2 * MIB);
    origin.repository(repository, readers);
    origin.push(repository, 'v1', image);
    origin.users.set('fleet', 'secret');
    fleet = await TestFleet.start({ lab: origin.url });
    return image;
  }

  /** Manifest, config and layer at once, as clients that pull layers in parallel do. */
  async function pullImage(agent: TestAgent, repository: string, { manifest, bytes }: Image): Promise<void> {
    expect((await pull(agent, `lab/${repository}/manifests/v1`)).sha256).toBe(manifest);
    const blobs = [...bytes.keys()].filter((digest) => digest !== manifest);
    for (const pulled of await Promise.all(blobs.map((digest) => pull(agent, `lab/${repository}/blobs/${digest}`)))) expect(pulled.status).toBe(200);
  }

  const tokens = (): string[] => origin.asked.filter(({ path }) => path === '/token').map(({ user = 'anonymous' }) => user);
  const heads = (repository: string): string[] => origin.questions(repository).filter((question) => question.startsWith('HEAD'));

  test('is asked for one token for each repository and agent, however much is read with it at once', async () => {
    const image = await start('team/app', 'anybody');
    const agents = [await fleet.agent('a'), await fleet.agent('b'), await fleet.agent('c')];
    await fleet.meshed();
    await Promise.all(agents.map((agent) => pullImage(agent, 'team/app', image)));
    await Promise.all(agents.map((agent) => pullImage(agent, 'team/app', image)));
    expect(tokens()).toHaveLength(agents.length);
  });

  test('a private repository costs each host one question of rights; blobs and later pulls need none', async () => {
    const image = await start('team/secret', new Set(['fleet']));
    const authFile = join(fleet.dir, 'auth.json');
    await writeFile(authFile, JSON.stringify({ auths: { [new URL(origin.url).host]: { auth: Buffer.from('fleet:secret').toString('base64') } } }));
    const settings = { allow: 'lab/team/**', authFiles: authFile };
    const agents = [await fleet.agent('a', settings), await fleet.agent('b', settings)];
    await fleet.meshed();
    for (const agent of agents) await pullImage(agent, 'team/secret', image);
    // As anybody without and with a token, and with the fleet's: what the first question was answered the last one need not ask again.
    expect(heads('team/secret').toSorted()).toEqual([...Array<string>(4).fill('HEAD manifests anonymous'), ...Array<string>(2).fill('HEAD manifests fleet')]);
    expect(tokens().toSorted()).toEqual(['anonymous', 'anonymous', 'fleet', 'fleet']);
    const before = origin.asked.length;
    for (const agent of agents) await pullImage(agent, 'team/secret', image);
    expect(origin.asked.slice(before).map(({ method, user }) => `${method} ${user}`)).toEqual(['HEAD fleet', 'HEAD fleet']);
  });
});
