// What each part of a transfer costs in processor time, alone: the same pieces and libraries as in an agent, without the rest.
//
// noise and yamux run over a pair of connections in memory, both ends here; that pair alone is a figure of its own and is within theirs: a muxer
// that gathers small writes may cost less over it than nothing does, so that taking it off would tell less.
// The store is the agent's, with its fsync. In a process of its own, under the flags and the memory settings of an agent that runs.
// Non-goals: the kernel's share of sockets, which `tcp` shows on its own.

import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { MessageStream, Stream, Upgrader } from '@libp2p/interface';
import { defaultLogger } from '@libp2p/logger';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { multiaddrConnectionPair } from '@libp2p/utils';
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pEvent } from 'p-event';
import { chunkDigest } from '@flotilla/agent/hash';
import { startMemoryValve } from '@flotilla/agent/memory-valve';
import { openStore } from '@flotilla/agent/store/blob-store';
import { updateWindowByHalves } from '@flotilla/agent/swarm/window-updates';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import { CHUNK_PIECE_BYTES, YAMUX_WINDOW_BYTES } from '@flotilla/shared/exchange';
import { median } from './median.ts';

const MIB = 1024 * 1024;
/** What an agent's outbox puts into one message. */
const PIECE = randomBytes(CHUNK_PIECE_BYTES - 256);
/** Bytes that one look at a part moves. */
const PART_MIB = 256;
/** Set for the process that measures. */
const CHILD = 'BENCH_PARTS';

/** CPU-seconds per GiB. memory, noise, yamux and tcp: both ends. hash: one pass of sha256. */
export interface PartCosts {
  /** A pair of connections in memory, with nothing over it. */
  readonly memory: number;
  readonly noise: number;
  readonly yamux: number;
  readonly hash: number;
  readonly diskWrite: number;
  readonly diskRead: number;
  readonly tcp: number;
}

/** What an agent's process runs under: its collector and its malloc. */
export interface AgentRuntime {
  readonly nodeFlags: readonly string[];
  readonly malloc: Readonly<Record<string, string>>;
}

/** Of an agent that runs. */
export async function runtimeOf(pid: number): Promise<AgentRuntime> {
  const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').slice(1);
  const settings = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0').filter((line) => line.startsWith('MALLOC_'));
  return {
    nodeFlags: args.slice(0, args.findIndex((arg) => !arg.startsWith('-'))),
    malloc: Object.fromEntries(settings.map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string])),
  };
}

/** Medians of `runs` looks at each part. */
export async function benchParts(runs: number, { nodeFlags, malloc }: AgentRuntime, progress: (text: string) => void): Promise<PartCosts> {
  const looks: PartCosts[] = [];
  // The first look warms the disk.
  for (let run = 0; run <= runs; run++) {
    progress(run === 0 ? 'parts: a look to warm up' : `parts: look ${run} of ${runs}`);
    const child = fork(fileURLToPath(import.meta.url), { execArgv: [...nodeFlags], env: { ...process.env, ...malloc, [CHILD]: '1' } });
    let costs: PartCosts | undefined;
    child.once('message', (told) => (costs = told as PartCosts));
    const [code] = (await once(child, 'exit')) as [number | null];
    if (costs === undefined) throw new Error(`the process that measures the parts ended with ${code} and told nothing`);
    if (run > 0) looks.push(costs);
  }
  const of = (part: keyof PartCosts): number => median(looks.map((costs) => costs[part]));
  return { memory: of('memory'), noise: of('noise'), yamux: of('yamux'), hash: of('hash'), diskWrite: of('diskWrite'), diskRead: of('diskRead'), tcp: of('tcp') };
}

async function look(): Promise<PartCosts> {
  // Before the first measured byte the code is warm.
  for (const work of [overMemory, overNoise, overYamux]) await work();
  const [memory, noisy, muxed] = [await cost(overMemory), await cost(overNoise), await cost(overYamux)];
  const disk = await diskCosts();
  return { memory, noise: noisy, yamux: muxed, hash: await cost(hashing), diskWrite: disk.write, diskRead: disk.read, tcp: await cost(overTcp) };
}

/** @param work moves PART_MIB @returns CPU-seconds per GiB, all threads */
async function cost(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return ((user + system) / 1e6) * (1024 / PART_MIB);
}

async function overMemory(): Promise<void> {
  const [from, to] = multiaddrConnectionPair();
  await carry(from, to);
}

async function overNoise(): Promise<void> {
  const [from, to] = multiaddrConnectionPair();
  const [dialler, listener] = await Promise.all([encrypter(), encrypter()]);
  const [out, into] = await Promise.all([
    dialler.secureOutbound(from, { skipStreamMuxerNegotiation: true }),
    listener.secureInbound(to, { skipStreamMuxerNegotiation: true }),
  ]);
  await carry(out.connection, into.connection);
}

async function encrypter(): Promise<ReturnType<ReturnType<typeof noise>>> {
  const privateKey = await generateKeyPair('Ed25519');
  const upgrader = { getStreamMuxers: () => new Map() } as unknown as Upgrader;
  return noise()({ privateKey, peerId: peerIdFromPrivateKey(privateKey), logger: defaultLogger(), upgrader });
}

async function overYamux(): Promise<void> {
  const [from, to] = multiaddrConnectionPair();
  const factory = yamux({ streamOptions: { initialStreamWindowSize: YAMUX_WINDOW_BYTES, maxStreamWindowSize: YAMUX_WINDOW_BYTES } })();
  const [dialler, listener] = [factory.createStreamMuxer(from), factory.createStreamMuxer(to)];
  const opened = pEvent<'stream', CustomEvent<Stream>>(listener, 'stream');
  const out = await dialler.createStream();
  // The other side hears of a stream with its first frame.
  out.send(new Uint8Array(1));
  const { detail: into } = await opened;
  updateWindowByHalves(into);
  await carry(out, into);
}

/** Sends PART_MIB one way, as fast as it is taken. */
async function carry(out: MessageStream, into: MessageStream): Promise<void> {
  const target = PART_MIB * MIB;
  let received = 0;
  const arrived = new Promise<void>((resolve) => {
    into.addEventListener('message', ({ data }) => {
      received += data.byteLength;
      if (received >= target) resolve();
    });
  });
  for (let sent = 0; sent < target; sent += PIECE.length) {
    if (!out.send(PIECE) && out.writableNeedsDrain) await pEvent(out, 'drain', { rejectionEvents: ['close'] });
  }
  await arrived;
  const done = new Error('measured');
  out.abort(done);
  into.abort(done);
}

async function hashing(): Promise<void> {
  const chunk = randomBytes(MIB);
  for (let done = 0; done < PART_MIB; done++) await chunkDigest(chunk);
}

async function diskCosts(): Promise<{ write: number; read: number }> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-parts-'));
  try {
    const size = PART_MIB * MIB;
    const first = chunkBounds(size, 0);
    const chunk = randomBytes(first.end - first.start);
    const digest = new Uint8Array(createHash('sha256').update(chunk).digest());
    const key: BlobKey = { digest: parseDigest(`sha256:${'1'.repeat(64)}`), size };
    const store = await openStore({ dir, limitBytes: 4 * size });
    const write = await cost(async () => {
      const partial = await store.openPartial(key);
      for (let index = 0; index < chunkCount(size); index++) await partial.write(index, digest, chunk);
      await partial.finish(undefined);
      await partial.close(true);
    });
    const blob = await store.find(key.digest);
    if (blob === undefined) throw new Error('the store did not keep the blob');
    const read = await cost(async () => {
      for (let index = 0; index < chunkCount(size); index++) await blob.readChunk(index);
    });
    await store.close();
    return { write, read };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function overTcp(): Promise<void> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const out = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [[into]] = await Promise.all([once(server, 'connection'), once(out, 'connect')]);
  const ended = once(into.resume(), 'end');
  for (let sent = 0; sent < PART_MIB * MIB; sent += PIECE.length) {
    if (!out.write(PIECE)) await once(out, 'drain');
  }
  out.end();
  await ended;
  into.destroy();
  server.close();
  await once(server, 'close');
}

if (process.env[CHILD] !== undefined) {
  const stop = startMemoryValve();
  const costs = await look();
  stop();
  // The connections in memory keep timers of their own.
  process.send!(costs, () => process.exit());
}
