// How fast one pair of agents trades a blob over loopback, each chunk hashed, and what that costs in processor time and memory.
// Two processes: `node test/bench/exchange.ts [MiB]` starts the other side itself. Nothing is kept and nothing read from disk.

import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import type { ChunkVerdict, Holding, SwarmHandle, SwarmMember } from '@flotilla/agent/content/ports';
import { chunkDigest, sameDigest } from '@flotilla/agent/hash';
import { TestFleet } from '@flotilla/agent/swarm/test-fleet';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** Each process has a fleet key of its own: here everybody is a member. */
const ANYBODY = { checkMembership: (): void => undefined };

/** A blob all of whose chunks are the start of the same random bytes. */
class Pattern implements Holding {
  readonly key: BlobKey;
  readonly have: Bitfield;
  readonly #bytes: Buffer;
  readonly #digest: Uint8Array;

  constructor(key: BlobKey) {
    this.key = key;
    this.have = Bitfield.full(chunkCount(key.size));
    this.#bytes = randomBytes(chunkBounds(key.size, 0).end);
    this.#digest = createHash('sha256').update(this.#bytes).digest();
  }

  digestOf(): Uint8Array {
    return this.#digest;
  }

  readChunk(): Promise<Uint8Array> {
    return Promise.resolve(this.#bytes);
  }
}

/** Checks chunks and forgets them. */
class Sink implements SwarmMember {
  readonly key: BlobKey;
  readonly have: Bitfield;
  handle: SwarmHandle | undefined;
  readonly #done = Promise.withResolvers<void>();

  constructor(key: BlobKey) {
    this.key = key;
    this.have = new Bitfield(chunkCount(key.size));
  }

  get finished(): Promise<void> {
    return this.#done.promise;
  }

  wants(index: number): boolean {
    return !this.have.has(index);
  }

  async accept(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<ChunkVerdict> {
    if (!sameDigest(await chunkDigest(bytes), digest)) return 'forged';
    if (!this.have.set(index)) return 'duplicate';
    this.handle?.announce([index]);
    if (this.have.full) this.#done.resolve();
    return 'kept';
  }

  digestOf(): undefined {
    return undefined;
  }

  urgent(): undefined {
    return undefined;
  }

  readChunk(): Promise<Uint8Array> {
    return Promise.reject(new Error('nothing is kept'));
  }

  sourcesChanged(): void {}
}

function cpuSeconds(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

const peakMib = (): number => Math.round(process.resourceUsage().maxRSS / 1024);

async function seed(key: BlobKey): Promise<void> {
  const { swarm, holdings, info } = await new TestFleet().start(ANYBODY);
  holdings.add(new Pattern(key));
  process.send!(info);
  await once(process, 'message');
  const begin = process.cpuUsage();
  await once(process, 'message');
  process.send!({ cpu: cpuSeconds(begin), peakMib: peakMib() });
  await swarm.close();
  process.disconnect!();
}

async function main(key: BlobKey): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), [String(key.size / MIB), 'seed']);
  const [peer] = (await once(child, 'message')) as [PeerInfo];
  const host = await new TestFleet().start(ANYBODY);
  const { swarm } = host;
  swarm.setMesh([peer]);
  await host.counted('sessions_opened', 1);
  child.send('start');
  const member = new Sink(key);
  const begin = process.cpuUsage();
  const startMs = performance.now();
  member.handle = swarm.join(member);
  await member.finished;
  const seconds = (performance.now() - startMs) / 1000;
  const cpu = cpuSeconds(begin);
  child.send('done');
  const [sender] = (await once(child, 'message')) as [{ cpu: number; peakMib: number }];
  const perGib = GIB / key.size;
  console.log(`${key.size / MIB} MiB in ${seconds.toFixed(2)} s: ${(key.size / 1e6 / seconds).toFixed(0)} MB/s`);
  console.log(`CPU-s per GiB: receiver ${(cpu * perGib).toFixed(2)}, sender ${(sender.cpu * perGib).toFixed(2)}`);
  console.log(`peak resident: receiver ${peakMib()} MiB, sender ${sender.peakMib} MiB`);
  await swarm.close();
  if (child.connected) await once(child, 'exit');
}

const key: BlobKey = { digest: parseDigest(`sha256:${'0'.repeat(64)}`), size: Number(process.argv[2] ?? 512) * MIB };
await (process.argv[3] === 'seed' ? seed(key) : main(key));
