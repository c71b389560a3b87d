// A fleet on loopback for tests: real nodes, one fleet key, memberships signed by it.

import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { signMembership, verifyMembership } from '@flotilla/shared/membership';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import type { SwarmCounter } from './counters.ts';
import { MemoryHoldings, type MemoryMember } from './memory-member.ts';
import { createSwarm, type PeerSwarm, type SwarmInit } from './swarm.ts';

export interface TestHost {
  readonly swarm: PeerSwarm;
  readonly holdings: MemoryHoldings;
  readonly counts: Record<SwarmCounter, number>;
  readonly forged: { peerId: string; index: number }[];
  readonly banned: Set<string>;
  readonly info: PeerInfo;
  /** Joins and remembers the handle. */
  join(member: MemoryMember): void;
  /** Resolves when a counter has reached `least`. */
  counted(counter: SwarmCounter, least: number): Promise<void>;
}

const HOUR_MS = 3_600_000;

export class TestFleet {
  readonly hosts: TestHost[] = [];
  readonly #keys: { publicKey: KeyObject; privateKey: KeyObject } = generateKeyPairSync('ed25519');

  membership(peerId: string, notAfterMs = Date.now() + HOUR_MS): string {
    return signMembership({ fleetId: 'test', peerId, notAfterMs }, this.#keys.privateKey);
  }

  readonly check = (membership: string, peerId: string): void => {
    verifyMembership(membership, this.#keys.publicKey, peerId, Date.now());
  };

  async start(init: Partial<SwarmInit> & { membershipOf?: (peerId: string) => string } = {}): Promise<TestHost> {
    const privateKey: PrivateKey = init.privateKey ?? (await generateKeyPair('Ed25519'));
    const peerId = peerIdFromPrivateKey(privateKey).toString();
    const membership = init.membershipOf?.(peerId) ?? this.membership(peerId);
    const holdings = new MemoryHoldings();
    const counts = new Proxy({} as Record<SwarmCounter, number>, { get: (target, name) => Reflect.get(target, name) ?? 0 });
    const waiting: { counter: SwarmCounter; least: number; resolve: () => void }[] = [];
    const forged: { peerId: string; index: number }[] = [];
    const banned = new Set<string>();
    const silent = (): void => undefined;
    const swarm = await createSwarm({
      privateKey,
      listen: '127.0.0.1:0',
      announce: [],
      membership: () => membership,
      checkMembership: this.check,
      banned: (id) => banned.has(id),
      holdings,
      counters: {
        add: (counter, amount) => {
          counts[counter] += amount;
          for (const waiter of waiting) if (waiter.counter === counter && counts[counter] >= waiter.least) waiter.resolve();
        },
      },
      log: { debug: silent, info: silent, warn: silent },
      onForged: (id, _key, index) => forged.push({ peerId: id, index }),
      agentVersion: 'test',
      ...init,
    });
    const host: TestHost = {
      swarm,
      holdings,
      counts,
      forged,
      banned,
      info: { peerId, addresses: swarm.addresses },
      join: (member) => {
        holdings.add(member);
        member.handle = swarm.join(member);
      },
      counted: (counter, least) => {
        if (counts[counter] >= least) return Promise.resolve();
        return new Promise((resolve) => waiting.push({ counter, least, resolve }));
      },
    };
    this.hosts.push(host);
    return host;
  }

  /** Every host's mesh is every other host. */
  async connectAll(): Promise<void> {
    for (const host of this.hosts) host.swarm.setMesh(this.hosts.filter((other) => other !== host).map((other) => other.info));
    await Promise.all(this.hosts.map((host) => host.counted('sessions_opened', this.hosts.length - 1)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.hosts.splice(0).map((host) => host.swarm.close()));
  }
}
