// A member of the fleet that breaks the rules: enrolled and connected like an agent, with bytes of its own choice.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { Membership } from '@flotilla/agent/access/membership';
import type { Holding } from '@flotilla/agent/content/ports';
import { openIdentity } from '@flotilla/agent/identity';
import { createLogger } from '@flotilla/agent/log';
import { createSwarm, type PeerSwarm } from '@flotilla/agent/swarm/swarm';
import { TrackerCoordinator } from '@flotilla/agent/tracker/coordinator';
import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import { until, type TestFleet } from './fleet.ts';

export type Misdeed =
  /** wrong bytes under the digest of the right ones */
  | 'forge'
  /** wrong bytes under their own digest */
  | 'vouch-falsely'
  /** announces and never delivers */
  | 'stall';

export interface Rogue {
  readonly peerId: string;
  readonly swarm: PeerSwarm;
  /** Chunks that were asked of it. */
  asked(): number;
  stop(): Promise<void>;
}

/** Claims to hold all of `blob` and does `misdeed` whenever it is asked for a chunk. */
export async function startRogue(fleet: TestFleet, name: string, blob: BlobKey, right: Buffer, misdeed: Misdeed): Promise<Rogue> {
  const dir = join(fleet.dir, name);
  await mkdir(dir, { recursive: true });
  const log = createLogger('silent');
  const identity = await openIdentity(dir);
  const membership = await Membership.open(dir);
  const holding = new RogueHolding(blob, right, misdeed);
  const late: { swarm?: PeerSwarm } = {};
  const coordinator = new TrackerCoordinator(
    { identity, membership, log },
    {
      tracker: { urls: [fleet.tracker.url], joinTokenFile: join(fleet.dir, 'tracker', 'join-token') },
      describe: () => ({ addresses: late.swarm?.addresses ?? [], name, labels: {}, agentVersion: '0' }),
      stats: () => ({
        bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 },
        pulls: { active: 0, done: 0, failed: 0 },
        store: { bytes: 0, limit: 0, blobs: 0 },
      }),
      inventory: () => Promise.resolve([blob]),
      onMesh: (peers) => late.swarm?.setMesh(peers),
    },
  );
  const swarm = await createSwarm({
    privateKey: identity.privateKey,
    listen: '127.0.0.1:0',
    announce: [],
    membership: () => membership.own(),
    checkMembership: (text, peerId) => {
      membership.check(text, peerId, Date.now());
    },
    banned: () => false,
    holdings: { find: (key) => Promise.resolve(key.digest === blob.digest ? holding : undefined) },
    counters: { add: () => undefined },
    log,
    onForged: () => undefined,
    agentVersion: '0',
  });
  late.swarm = swarm;
  coordinator.start();
  await until(`${name} connected`, () => coordinator.connected);
  return {
    peerId: identity.peerId,
    swarm,
    asked: () => holding.asked,
    stop: async () => {
      await swarm.close();
      await coordinator.close();
    },
  };
}

class RogueHolding implements Holding {
  readonly key: BlobKey;
  readonly have: Bitfield;
  asked = 0;
  readonly #right: Buffer;
  readonly #misdeed: Misdeed;

  constructor(key: BlobKey, right: Buffer, misdeed: Misdeed) {
    this.key = key;
    this.have = Bitfield.full(chunkCount(key.size));
    this.#right = right;
    this.#misdeed = misdeed;
  }

  digestOf(index: number): Uint8Array {
    const bytes = this.#misdeed === 'vouch-falsely' ? this.#wrong(index) : this.#chunk(index);
    return createHash('sha256').update(bytes).digest();
  }

  readChunk(index: number): Promise<Uint8Array> {
    this.asked++;
    return this.#misdeed === 'stall' ? new Promise(() => undefined) : Promise.resolve(this.#wrong(index));
  }

  #chunk(index: number): Buffer {
    const { start, end } = chunkBounds(this.key.size, index);
    return this.#right.subarray(start, end);
  }

  #wrong(index: number): Buffer {
    const bytes = Buffer.from(this.#chunk(index));
    bytes[0]! ^= 255;
    return bytes;
  }
}
