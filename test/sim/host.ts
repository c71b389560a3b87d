// A simulated host: the agent's exchange over pipes, its downloads, its line to the tracker.

import type { Holding } from '@flotilla/agent/content/ports';
import { blobId, type BlobLink, type NewsWaits } from '@flotilla/agent/swarm/blob-swarm';
import type { SwarmCounter, SwarmLog } from '@flotilla/agent/swarm/counters';
import { Exchange } from '@flotilla/agent/swarm/exchange';
import { Account } from '@flotilla/agent/swarm/ledger';
import { TokenBucket } from '@flotilla/agent/swarm/limits';
import type { ReadyFrame } from '@flotilla/agent/swarm/session';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { PeerInfo, TrackerEvent } from '@flotilla/shared/tracker-api';
import { SimDownload } from './download.ts';
import type { Links, Pipe } from './links.ts';
import type { Line, SimTracker } from './tracker.ts';
import { connect, type WireEnd, type WireNetwork } from './wire.ts';

/** Opening a connection: TCP, noise, yamux, hello. */
const CONNECT_ROUND_TRIPS = 4;
/** As in mesh.ts. */
const POLITE_MS = 200;

const SILENT: SwarmLog = { debug: () => undefined, info: () => undefined, warn: () => undefined };

export interface HostInit {
  readonly peerId: string;
  readonly up: Pipe;
  readonly down: Pipe;
  readonly lies: boolean;
  readonly random: () => number;
  readonly news: NewsWaits;
}

/** What all hosts share. */
export interface World {
  readonly wire: WireNetwork;
  readonly links: Links;
  readonly tracker: SimTracker;
  readonly originUp: Pipe;
  readonly originShare: number;
  host(peerId: string): SimHost | undefined;
  readonly origin: { requests: number; bytes: number };
  count(counter: SwarmCounter | 'hedges', amount: number): void;
}

export class SimHost implements WireEnd {
  readonly peerId: string;
  readonly up: Pipe;
  readonly down: Pipe;
  readonly lies: boolean;
  readonly #world: World;
  readonly #exchange: Exchange;
  readonly #line: Line;
  readonly #links = new Map<string, BlobLink>();
  readonly #dialling = new Set<string>();
  readonly #accounts = new Map<string, Account>();
  readonly #banned = new Set<string>();
  readonly #downloads = new Map<string, SimDownload>();
  #standing = new Set<string>();
  #alive = true;

  constructor(init: HostInit, world: World) {
    const { peerId, up, down, lies, random, news } = init;
    this.peerId = peerId;
    this.up = up;
    this.down = down;
    this.lies = lies;
    this.#world = world;
    const { clock } = world.wire;
    this.#exchange = new Exchange(
      {
        holdings: { find: (key) => this.#find(key) },
        counters: { add: (counter, amount) => world.count(counter, amount) },
        log: SILENT,
        nowMs: () => clock.nowMs,
        random,
        timers: clock,
        downloadLimit: new TokenBucket(),
        forged: (from, key, index) => this.#forged(from, key, index),
        connect: (peers) => this.#dial(peers),
        isStanding: (id) => this.#standing.has(id),
      },
      news,
    );
    this.#line = world.tracker.join(this);
  }

  /** Fetches a blob. `done` is called when all of it is here. */
  pull(key: BlobKey, done: () => void): void {
    if (!this.#alive) return;
    const { wire, links, originUp, originShare, origin } = this.#world;
    const download = new SimDownload(key, {
      clock: wire.clock,
      links,
      latencyMs: wire.latencyMs,
      originUp,
      originShare,
      down: this.down,
      peerId: this.peerId,
      send: (message) => this.#line.send(message),
      lies: (peerId) => this.#world.host(peerId)?.lies === true,
      join: (member) => this.#exchange.join(member),
      asked: () => origin.requests++,
      read: (bytes) => (origin.bytes += bytes),
      hedged: () => this.#world.count('hedges', 1),
      finished: () => {
        this.#exchange.seeded(key);
        done();
      },
    });
    this.#downloads.set(blobId(key), download);
  }

  /** As by `kill -9`. */
  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#closeAll();
    for (const download of this.#downloads.values()) download.stop();
    this.#exchange.close();
    this.#line.close();
    this.#world.wire.clock.after(this.#world.wire.latencyMs, () => this.#world.tracker.leave(this.peerId));
  }

  // ---- what the tracker says

  event(event: TrackerEvent): void {
    if (!this.#alive) return;
    switch (event.type) {
      case 'mesh':
        this.#standing = new Set(event.peers.map(({ peerId }) => peerId));
        this.#exchange.meshChanged();
        this.#dial(event.peers);
        break;
      case 'peers':
        this.#downloads.get(blobId(event.blob as BlobKey))?.event(event);
        break;
      case 'grant': {
        const download = this.#downloads.get(blobId(event.blob as BlobKey));
        if (download === undefined) this.#line.send({ type: 'release', leaseId: event.leaseId, reason: 'unneeded' });
        else download.event(event);
        break;
      }
      case 'revoke':
        for (const download of this.#downloads.values()) download.event(event);
        break;
      case 'banned':
        for (const peer of event.peers) this.#ban(peer);
        if (event.peers.includes(this.peerId)) this.#expelled();
        break;
      default:
    }
  }

  // ---- as an end of sessions

  account(peerId: string): Account {
    let account = this.#accounts.get(peerId);
    if (account === undefined) this.#accounts.set(peerId, (account = new Account()));
    return account;
  }

  opened(link: BlobLink): void {
    this.#links.set(link.peerId, link);
    this.#exchange.opened(link);
  }

  closed(link: BlobLink): void {
    this.#links.delete(link.peerId);
    this.#exchange.closed(link);
  }

  frame(link: BlobLink, frame: ReadyFrame): void {
    this.#exchange.frame(link, frame);
  }

  stray(bytes: number): void {
    this.#world.count('stray_bytes', bytes);
  }

  // ---- inside

  #find(key: BlobKey): Promise<Holding | undefined> {
    this.#world.wire.clock.promised();
    return Promise.resolve(this.#downloads.get(blobId(key)));
  }

  /** Of two that are told of one another the one with the lower id dials first. */
  #dial(peers: readonly PeerInfo[]): void {
    const { wire } = this.#world;
    for (const { peerId } of peers) {
      if (this.#links.has(peerId) || this.#dialling.has(peerId) || this.#banned.has(peerId)) continue;
      this.#dialling.add(peerId);
      wire.clock.after((this.peerId > peerId ? POLITE_MS : 0) + 2 * CONNECT_ROUND_TRIPS * wire.latencyMs, () => {
        this.#dialling.delete(peerId);
        const other = this.#world.host(peerId);
        if (other === undefined || !this.#alive || !other.#alive || this.#links.has(peerId) || this.#banned.has(peerId) || other.#banned.has(this.peerId)) return;
        connect(wire, this, other);
      });
    }
  }

  #forged(from: string, key: BlobKey, index: number): void {
    if (this.#banned.has(from)) return;
    this.#ban(from);
    this.#line.send({ type: 'accuse', blob: { digest: key.digest, size: key.size }, index, peer: from });
  }

  #ban(peer: string): void {
    this.#banned.add(peer);
    this.#world.wire.observe?.banned(this.peerId, peer);
    this.#links.get(peer)?.session.close(new Error('banned'));
  }

  #closeAll(): void {
    for (const { session } of this.#links.values()) session.close(new Error('gone'));
  }

  #expelled(): void {
    this.#closeAll();
    this.#line.close();
    for (const download of this.#downloads.values()) download.leaveFleet();
  }
}
