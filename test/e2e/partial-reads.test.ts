// What a client that reads a part of a blob costs the origin: the part, rounded up to chunks, and a bounded read-ahead.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { request } from 'undici';
import { OriginServer, type TestImage } from '../support/origin-server.ts';
import { TestFleet, until, type TestAgent } from '../support/fleet.ts';

const MIB = 1024 * 1024;
const CHUNK = 64 * 1024;
const SIZE = 64 * MIB;
/** What a socket on loopback takes in although nobody reads at its other end, and as much again read ahead. */
const LEFT_BEHIND = 8 * MIB;

let origin: OriginServer;
let fleet: TestFleet;
let image: TestImage;
let layer: TestImage['layers'][number];

beforeEach(async () => {
  origin = await OriginServer.start();
  image = origin.addImage('library/big', 'latest', [SIZE]);
  layer = image.layers[0]!;
  fleet = await TestFleet.start({ 'docker.io': origin.url });
});
afterEach(async () => {
  await fleet.stop();
  await origin.goAway();
});

async function ranges(agent: TestAgent, range: string): Promise<{ status: number; body: Buffer; type: string }> {
  const { statusCode, headers, body } = await request(`${agent.url}/v2/docker.io/library/big/blobs/${layer.digest}`, { headers: { range } });
  return { status: statusCode, body: Buffer.from(await body.arrayBuffer()), type: String(headers['content-type']) };
}

/** Nothing is read at the origin any more, and nobody reads here. */
async function idle(...agents: TestAgent[]): Promise<void> {
  for (const agent of agents) {
    await until(`${agent.name} idle`, async () => (await agent.running.status()).downloads.every(({ readers, reading }) => readers === 0 && reading.length === 0));
  }
}

/** The bytes of the chunks that a range touches. */
function rounded(start: number, end: number): number {
  return Math.ceil(end / CHUNK) * CHUNK - Math.floor(start / CHUNK) * CHUNK;
}

describe.each(['alone', 'in a fleet'])('an agent %s', (where) => {
  const alone = where === 'alone';

  test('a range costs its chunks, and again nothing', async () => {
    const agent = await fleet.agent('one', {}, { alone });
    const [start, end] = [30 * MIB + 1000, 31 * MIB + 1000];
    for (let time = 0; time < 2; time++) {
      const { status, body } = await ranges(agent, `bytes=${start}-${end - 1}`);
      expect(status).toBe(206);
      expect(body.equals(layer.bytes.subarray(start, end))).toBe(true);
      await idle(agent);
      expect(origin.bytesOf(layer.digest)).toBe(rounded(start, end));
    }
  });

  test('an open-ended range that is left after a part costs the part and what was read ahead', async () => {
    const agent = await fleet.agent('one', {}, { alone });
    for (const start of [0, 20 * MIB]) {
      const before = origin.bytesOf(layer.digest);
      const { statusCode, body } = await request(`${agent.url}/v2/docker.io/library/big/blobs/${layer.digest}`, { headers: { range: `bytes=${start}-` } });
      expect(statusCode).toBe(206);
      let at = start;
      for await (const piece of body as AsyncIterable<Buffer>) {
        expect(piece.equals(layer.bytes.subarray(at, at + piece.length))).toBe(true);
        at += piece.length;
        if (at - start >= MIB) break;
      }
      await idle(agent);
      expect(origin.bytesOf(layer.digest) - before).toBeLessThan(LEFT_BEHIND);
    }
  });

  test('an open-ended range that is read to its end is complete', async () => {
    const agent = await fleet.agent('one', {}, { alone });
    for (const start of [40 * MIB + 3, 0]) {
      const { status, body } = await ranges(agent, `bytes=${start}-`);
      expect(status).toBe(206);
      expect(body.equals(layer.bytes.subarray(start))).toBe(true);
    }
    expect(origin.bytesOf(layer.digest)).toBe(SIZE);
  });

  test('a thousand ranges cost their chunks, in one response', async () => {
    const agent = await fleet.agent('one', {}, { alone });
    const asked = Array.from({ length: 1024 }, (_, i) => ({ start: i * CHUNK + 500, end: i * CHUNK + 700 + (i % 900) })).filter((_, i) => i % 4 !== 3);
    // Two in the same chunk, next to each other.
    asked.push({ start: 1023 * CHUNK, end: 1023 * CHUNK + 10 }, { start: 1023 * CHUNK + 10, end: 1023 * CHUNK + 20 });
    const { status, body, type } = await ranges(agent, `bytes=${asked.map(({ start, end }) => `${start}-${end - 1}`).join(',')}`);
    expect(status).toBe(206);
    const parts = readParts(body, type);
    expect(parts.length).toBe(asked.length);
    for (const [i, { start, end }] of asked.entries()) {
      expect(parts[i]!.head).toContain(`content-range: bytes ${start}-${end - 1}/${SIZE}`);
      expect(parts[i]!.body.equals(layer.bytes.subarray(start, end))).toBe(true);
    }
    await idle(agent);
    expect(origin.bytesOf(layer.digest)).toBe(769 * CHUNK);
  });
});

test('ranges that two agents want leave the origin once', async () => {
  const [a, b] = [await fleet.agent('a'), await fleet.agent('b')];
  await fleet.meshed();
  const [start, end] = [10 * MIB, 11 * MIB];
  const both = await Promise.all([a, b].map((agent) => ranges(agent, `bytes=${start}-${end - 1}`)));
  for (const { status, body } of both) {
    expect(status).toBe(206);
    expect(body.equals(layer.bytes.subarray(start, end))).toBe(true);
  }
  await idle(a, b);
  expect(origin.bytesOf(layer.digest)).toBe(end - start);
});

test('readers of distant parts do not make what lies between them come', async () => {
  const agent = await fleet.agent('one');
  const parts = [0, 20, 40, 63].map((at) => [at * MIB, at * MIB + MIB] as const);
  const replies = await Promise.all(parts.map(([start, end]) => ranges(agent, `bytes=${start}-${end - 1}`)));
  for (const [i, [start, end]] of parts.entries()) expect(replies[i]!.body.equals(layer.bytes.subarray(start, end))).toBe(true);
  await idle(agent);
  expect(origin.bytesOf(layer.digest)).toBe(4 * MIB);
});

test('who reads parts of many layers does not make the others come', async () => {
  const lazy = origin.addImage('library/lazy', 'latest', Array.from({ length: 9 }, () => 4 * MIB));
  const agent = await fleet.agent('one');
  const manifest = await request(`${agent.url}/v2/docker.io/library/lazy/manifests/latest`);
  await manifest.body.dump();
  const read = lazy.layers.slice(0, 8);
  for (const { digest } of read) {
    const { statusCode, body } = await request(`${agent.url}/v2/docker.io/library/lazy/blobs/${digest}`, { headers: { range: 'bytes=0-1' } });
    expect([statusCode, (await body.arrayBuffer()).byteLength]).toEqual([206, 2]);
  }
  await idle(agent);
  expect(lazy.layers.map(({ digest }) => origin.bytesOf(digest))).toEqual([...read.map(() => CHUNK), 0]);
});

test('a blob of many parts read side by side leaves the origin once, and is then here', async () => {
  const agent = await fleet.agent('one');
  const parts = Array.from({ length: 8 }, (_, i) => [i * 8 * MIB, (i + 1) * 8 * MIB] as const);
  const replies = await Promise.all(parts.map(([start, end]) => ranges(agent, `bytes=${start}-${end - 1}`)));
  expect(Buffer.concat(replies.map(({ body }) => body)).equals(layer.bytes)).toBe(true);
  expect(origin.bytesOf(layer.digest)).toBe(SIZE);
  await until('stored', async () => (await agent.running.status()).store.blobs === 1);
});

function readParts(body: Buffer, type: string): { head: string; body: Buffer }[] {
  const boundary = /^multipart\/byteranges; boundary=(.+)$/.exec(type)![1]!;
  const parts: { head: string; body: Buffer }[] = [];
  let at = body.indexOf(`--${boundary}`);
  for (;;) {
    const head = at + boundary.length + 4;
    if (body.subarray(at).toString('latin1', 0, boundary.length + 4) === `--${boundary}--`) return parts;
    const start = body.indexOf('\r\n\r\n', head) + 4;
    const length = /content-range: bytes (\d+)-(\d+)/.exec(body.toString('latin1', head, start))!;
    const end = start + Number(length[2]) - Number(length[1]) + 1;
    parts.push({ head: body.toString('latin1', head, start), body: body.subarray(start, end) });
    at = end + 2;
  }
}
