// Peers of this host: connections, who may stay connected, and the exchange that runs over them. The face of swarm/.
//
// Invariants: one session per peer carries the exchange (of two, the one opened by the lower peer id stays, so that both sides
// choose the same); a connection without a session is closed; a ban ends the session at once and keeps new ones away.

import type { Connection, PrivateKey, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import { PROTOCOL_ID } from '@flotilla/shared/exchange';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import type { Holdings, Swarm, SwarmHandle, SwarmMember } from '../content/ports.ts';
import type { ReadPace } from '../turn-rest.ts';
import type { SwarmCounter, SwarmCounters, SwarmLog } from './counters.ts';
import { Exchange } from './exchange.ts';
import { Ledger } from './ledger.ts';
import { TokenBucket } from './limits.ts';
import { Link } from './link.ts';
import { Liveness, type PeerLink } from './liveness.ts';
import { Mesh } from './mesh.ts';
import { DIAL_TIMEOUT_MS, reachableAt, startNode, type PeerNode } from './node.ts';
import { PeerFault, type PeerFaultCode } from './peer-fault.ts';
import { PeerSession } from './session.ts';
import { systemTimers } from './timers.ts';

export interface SwarmInit {
  readonly privateKey: PrivateKey;
  /** `host:port` to listen on */
  readonly listen: string;
  /** `host` or `host:port` where others reach this agent; empty: the addresses it listens on. */
  readonly announce: readonly string[];
  /** Our own membership as the tracker last renewed it; undefined: not enrolled, so there are no peers. */
  readonly membership: () => string | undefined;
  /** Throws where `membership` does not make `peerId` a member of our fleet. */
  readonly checkMembership: (membership: string, peerId: string) => void;
  /** Expelled or in quarantine, as the tracker says. After a change call `bansChanged`. */
  readonly banned: (peerId: string) => boolean;
  readonly holdings: Holdings;
  readonly counters: SwarmCounters;
  readonly log: SwarmLog;
  /** The peer sent bytes that contradict the digest that it sent with them. It is banned here already. */
  readonly onForged: (peerId: string, key: BlobKey, index: number) => void;
  readonly agentVersion: string;
  /** Where this host stands. @default nowhere in particular */
  readonly zone?: string | undefined;
  /** Bytes per second; undefined: no limit */
  readonly uploadLimit?: number | undefined;
  /** Bytes per second to peers of other zones, and as many from them; undefined: no limit of its own */
  readonly zoneLimit?: number | undefined;
  /** Shared with whatever else this host downloads. @default no limit */
  readonly downloadLimit?: TokenBucket | undefined;
  /** Told of what peers' sockets read. @default nobody */
  readonly pace?: ReadPace | undefined;
  /** @default 10 minutes */
  readonly banMs?: number;
  /** @default 5 s */
  readonly helloTimeoutMs?: number;
  /** A peer from which nothing comes for so long, pings included, is gone. @default 15 s */
  readonly silenceMs?: number;
}

export interface SwarmStatus {
  readonly peerId: string;
  readonly addresses: readonly string[];
  readonly peers: readonly {
    readonly peerId: string;
    readonly address: string;
    readonly standing: boolean;
    readonly sinceMs: number;
    readonly downRate: number;
    readonly upRate: number;
    readonly bytesDown: number;
    readonly bytesUp: number;
    /** Requests that it has not answered. */
    readonly asked: number;
    /** Control that it has not read, bytes. */
    readonly queuedBytes: number;
  }[];
  readonly bans: readonly { readonly peerId: string; readonly untilMs: number }[];
  readonly blobs: number;
  readonly outstandingBytes: number;
  readonly uploads: { readonly active: number; readonly queued: number; readonly slots: number; readonly bytesPerSecond: number };
}

const BAN_MS = 10 * 60_000;
const HELLO_TIMEOUT_MS = 5_000;
/** A connection must carry a session within this time. */
const UNUSED_CONNECTION_MS = 10_000;
const SILENCE_MS = 15_000;
/** An extra connection over which neither side fetches, and nothing moves, is closed by the side that opened it. */
const IDLE_MS = 60_000;
const CLOSE_TIMEOUT_MS = 400;

/** Starts listening. @throws AgentError PORT_IN_USE, CONFIG_INVALID */
export async function createSwarm(init: SwarmInit): Promise<PeerSwarm> {
  const ledger = new Ledger();
  const banned = (peerId: string): boolean => ledger.isBanned(peerId, Date.now()) || init.banned(peerId);
  const node = await startNode({ privateKey: init.privateKey, listen: init.listen, banned, pace: init.pace });
  const swarm = new PeerSwarm(node, ledger, banned, init);
  await swarm.listen();
  return swarm;
}

/** Ends of sessions that are the other side's doing, and how they are counted: such a peer is not dialled again soon. */
const BLAMED: { readonly [code in PeerFaultCode]?: SwarmCounter } = {
  PEER_PROTOCOL: 'protocol_faults',
  PEER_VERSION: 'foreign_versions',
  PEER_REFUSED: 'refused_peers',
  PEER_SLOW: 'slow_peers',
};

export class PeerSwarm implements Swarm {
  readonly peerId: string;
  readonly #node: PeerNode;
  readonly #init: SwarmInit;
  readonly #ledger: Ledger;
  readonly #banned: (peerId: string) => boolean;
  readonly #uploadLimit: TokenBucket;
  readonly #downloadLimit: TokenBucket;
  readonly #zoneUploadLimit: TokenBucket;
  readonly #zoneDownloadLimit: TokenBucket;
  readonly #exchange: Exchange;
  readonly #mesh: Mesh;
  readonly #liveness: Liveness;
  readonly #sessions = new Set<PeerSession>();
  readonly #links = new Map<string, PeerLink>();
  readonly #idleSinceMs = new Map<PeerLink, number>();
  readonly #unused = new Map<string, NodeJS.Timeout>();
  readonly #timer: NodeJS.Timeout;
  /** How long opening the stream took, for sessions that this side opened. */
  readonly #openMs = new WeakMap<PeerSession, number>();
  #closing = false;

  constructor(node: PeerNode, ledger: Ledger, banned: (peerId: string) => boolean, init: SwarmInit) {
    this.#node = node;
    this.#init = init;
    this.#ledger = ledger;
    this.#banned = banned;
    this.peerId = node.peerId.toString();
    this.#uploadLimit = new TokenBucket(init.uploadLimit);
    this.#downloadLimit = init.downloadLimit ?? new TokenBucket();
    this.#zoneUploadLimit = new TokenBucket(init.zoneLimit);
    this.#zoneDownloadLimit = new TokenBucket(init.zoneLimit);
    this.#mesh = new Mesh({
      selfId: this.peerId,
      random: Math.random,
      nowMs: Date.now,
      isConnected: (peerId) => this.#links.has(peerId),
      mayDial: (peerId) => !banned(peerId),
      dial: (peer, signal) => this.#dial(peer, signal),
      failed: (peerId, error) => {
        init.counters.add('failed_dials', 1);
        init.log.debug({ peer: peerId, err: error }, 'peer cannot be reached');
      },
    });
    this.#exchange = new Exchange({
      holdings: init.holdings,
      counters: init.counters,
      log: init.log,
      nowMs: Date.now,
      random: Math.random,
      timers: systemTimers,
      downloadLimit: this.#downloadLimit,
      zoneDownloadLimit: this.#zoneDownloadLimit,
      place: init.zone === undefined ? undefined : { selfId: this.peerId, zone: init.zone },
      forged: (peerId, key, index) => this.#forged(peerId, key, index),
      connect: (peers) => this.#mesh.connect(peers),
      isStanding: (peerId) => this.#mesh.isStanding(peerId),
    });
    const silenceMs = init.silenceMs ?? SILENCE_MS;
    this.#liveness = new Liveness({
      ping: (peerId, signal) => node.services.ping.ping(peerIdFromString(peerId), { signal }),
      nowMs: Date.now,
      silenceMs,
    });
    this.#timer = setInterval(() => this.#check(), silenceMs / 2);
    this.#timer.unref();
  }

  /** Takes streams of the exchange protocol. Called once, by createSwarm. */
  async listen(): Promise<void> {
    this.#node.addEventListener('connection:open', ({ detail }) => this.#expectUse(detail));
    this.#node.addEventListener('connection:close', ({ detail }) => {
      clearTimeout(this.#unused.get(detail.id));
      this.#unused.delete(detail.id);
    });
    await this.#node.handle(PROTOCOL_ID, (stream, connection) => void this.#open(stream, connection, connection.remotePeer.toString()), {
      maxInboundStreams: 4,
      maxOutboundStreams: 4,
    });
  }

  /** Multiaddrs without the peer id, to be told to the tracker. */
  get addresses(): string[] {
    return reachableAt(this.#node, this.#init.announce);
  }

  /** The TCP port as it was bound. */
  get port(): number {
    return Number(/\/tcp\/(\d+)/.exec(this.#node.getMultiaddrs()[0]?.toString() ?? '')?.[1] ?? 0);
  }

  join(member: SwarmMember): SwarmHandle {
    return this.#exchange.join(member);
  }

  seeded(key: BlobKey): void {
    this.#exchange.seeded(key);
  }

  /** The finished blob was removed from the store. */
  evicted(key: BlobKey): void {
    this.#exchange.evicted(key);
  }

  /** Whom to be connected to, in place of the last mesh. */
  setMesh(peers: readonly PeerInfo[]): void {
    this.#mesh.set(peers);
    this.#exchange.meshChanged();
  }

  /** Without a tracker nobody introduces: what is fetched is traded with all who are connected. */
  trackerChanged(connected: boolean): void {
    this.#exchange.tradeWithAll(!connected);
  }

  setLimits(limits: { upload?: number | undefined; download?: number | undefined; zone?: number | undefined }): void {
    this.#uploadLimit.set(limits.upload);
    this.#downloadLimit.set(limits.download);
    this.#zoneUploadLimit.set(limits.zone);
    this.#zoneDownloadLimit.set(limits.zone);
  }

  /** Sends peers nothing any more, or again. */
  stopUploads(stopped: boolean): void {
    this.#exchange.stopUploads(stopped);
  }

  /** The answers of `banned` have changed. */
  bansChanged(): void {
    for (const link of this.#links.values()) {
      if (this.#banned(link.peerId)) link.session.close(new PeerFault('PEER_BANNED', 'expelled or in quarantine'));
    }
    for (const connection of this.#node.getConnections()) {
      if (this.#banned(connection.remotePeer.toString())) connection.abort(new PeerFault('PEER_BANNED', 'expelled or in quarantine'));
    }
  }

  status(): SwarmStatus {
    const nowMs = Date.now();
    return {
      peerId: this.peerId,
      addresses: this.addresses,
      peers: [...this.#links.values()].map((link) => ({
        peerId: link.peerId,
        address: link.session.connection.remoteAddr.toString(),
        standing: this.#mesh.isStanding(link.peerId),
        sinceMs: link.sinceMs,
        downRate: link.account.down.rate(nowMs),
        upRate: link.account.up.rate(nowMs),
        bytesDown: link.account.bytesDown,
        bytesUp: link.account.bytesUp,
        asked: link.intake.size,
        queuedBytes: link.outbox.queuedBytes,
      })),
      bans: this.#ledger.bans(nowMs),
      ...this.#exchange.status,
    };
  }

  /** Tells the peers, closes everything; within a second. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    clearInterval(this.#timer);
    this.#mesh.close();
    this.#exchange.leaveAll();
    const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    await Promise.allSettled([...this.#sessions].map((session) => session.finish(signal)));
    for (const session of this.#sessions) session.close(new PeerFault('PEER_CLOSED', 'this side closes'));
    this.#exchange.close();
    for (const connection of this.#node.getConnections()) connection.abort(new PeerFault('PEER_CLOSED', 'this side closes'));
    await this.#node.stop();
    for (const timer of this.#unused.values()) clearTimeout(timer);
    this.#unused.clear();
  }

  // ---- sessions

  async #dial(peer: PeerInfo, closed: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([closed, AbortSignal.timeout(DIAL_TIMEOUT_MS)]);
    if (this.#init.membership() === undefined) throw new PeerFault('PEER_REFUSED', 'this agent is not enrolled');
    const connection = await this.#node.dial(peer.addresses.map((address) => multiaddr(`${address}/p2p/${peer.peerId}`)), { signal });
    if (this.#links.has(peer.peerId)) return;
    const startedMs = performance.now();
    const stream = await connection.newStream(PROTOCOL_ID, { signal }).catch((error: unknown) => {
      throw this.#noCommonProtocol(peer.peerId, error);
    });
    const session = this.#open(stream, connection, this.peerId);
    if (session === undefined) throw new PeerFault('PEER_CLOSED', 'no exchange with this peer now');
    this.#openMs.set(session, performance.now() - startedMs);
    try {
      await session.whenReady;
    } catch (error) {
      // Both sides dialled, and the other's session stayed.
      if (!this.#links.has(peer.peerId)) throw error;
    }
  }

  /** A peer that offers other protocol ids only is of a release too far from this one. */
  #noCommonProtocol(peerId: string, error: unknown): unknown {
    if (!(error instanceof Error) || error.name !== 'UnsupportedProtocolError') return error;
    this.#init.counters.add('foreign_versions', 1);
    return new PeerFault('PEER_VERSION', `${peerId} does not speak ${PROTOCOL_ID}: run releases on both that are at most one apart`, { cause: error });
  }

  #open(stream: Stream, connection: Connection, openedBy: string): PeerSession | undefined {
    const membership = this.#init.membership();
    if (membership === undefined || this.#closing || this.#banned(connection.remotePeer.toString())) {
      stream.abort(new PeerFault('PEER_CLOSED', 'no exchange with this peer now'));
      return undefined;
    }
    const session = new PeerSession({
      stream,
      connection,
      openedBy,
      membership,
      agentVersion: this.#init.agentVersion,
      zone: this.#init.zone,
      check: this.#init.checkMembership,
      uploadLimit: this.#uploadLimit,
      zoneUploadLimit: this.#zoneUploadLimit,
      helloTimeoutMs: this.#init.helloTimeoutMs ?? HELLO_TIMEOUT_MS,
      nowMs: Date.now,
      events: {
        ready: (ready) => this.#ready(ready),
        frame: (from, frame) => {
          const link = this.#links.get(from.peerId);
          if (link?.session === from) this.#exchange.frame(link, frame);
        },
        skipped: () => this.#init.counters.add('skipped_frames', 1),
        closed: (ended, fault) => this.#closed(ended, fault),
      },
    });
    this.#sessions.add(session);
    return session;
  }

  #ready(session: PeerSession): void {
    const { peerId, openedBy } = session;
    const other = this.#links.get(peerId);
    if (other !== undefined) {
      const lower = peerId < this.peerId ? peerId : this.peerId;
      if (openedBy !== other.session.openedBy && openedBy !== lower) {
        session.close(new PeerFault('PEER_CLOSED', 'the session opened by the lower peer id stays'));
        return;
      }
      // Of two opened by the same side the newer one stays: the older may be dead without our knowing.
      other.session.close(new PeerFault('PEER_CLOSED', 'replaced by another session'));
    }
    const stray = (bytes: number): void => this.#init.counters.add('stray_bytes', bytes);
    const link: PeerLink = new Link(session, this.#ledger.of(peerId), stray, Date.now(), this.#openMs.get(session));
    link.account.usedAtMs = Date.now();
    this.#links.set(peerId, link);
    this.#init.counters.add('sessions_opened', 1);
    this.#init.log.debug({ peer: peerId, address: session.connection.remoteAddr.toString() }, 'peer connected');
    this.#exchange.opened(link);
  }

  #closed(session: PeerSession, fault: PeerFault): void {
    this.#sessions.delete(session);
    const { peerId, connection } = session;
    const link = this.#links.get(peerId);
    if (link?.session === session) {
      this.#links.delete(peerId);
      this.#idleSinceMs.delete(link);
      this.#exchange.closed(link);
      this.#init.counters.add('sessions_closed', 1);
    }
    const blamed = BLAMED[fault.code];
    const blame = blamed !== undefined;
    if (blame) {
      this.#init.counters.add(blamed, 1);
      this.#init.log.warn({ peer: peerId, code: fault.code, err: fault }, 'peer disconnected');
    } else this.#init.log.debug({ peer: peerId, code: fault.code, reason: fault.message }, 'peer disconnected');
    if (this.#closing) return;
    if (![...this.#sessions].some((each) => each.connection === connection)) this.#drop(connection, fault);
    if (!this.#links.has(peerId)) this.#mesh.lost(peerId, blame);
  }

  #drop(connection: Connection, fault: PeerFault): void {
    // What the stream still has to say (its reset) goes out first.
    connection.close({ signal: AbortSignal.timeout(CLOSE_TIMEOUT_MS) }).catch(() => connection.abort(fault));
  }

  /** A connection must come to something. */
  #expectUse(connection: Connection): void {
    const timer = setTimeout(() => {
      this.#unused.delete(connection.id);
      if ([...this.#sessions].some((session) => session.connection === connection)) return;
      connection.abort(new PeerFault('PEER_TIMEOUT', 'a connection without a session'));
    }, UNUSED_CONNECTION_MS);
    timer.unref();
    this.#unused.set(connection.id, timer);
  }

  #forged(peerId: string, key: BlobKey, index: number): void {
    // Other chunks of it were under their check already: one report is enough.
    if (this.#ledger.isBanned(peerId, Date.now())) return;
    this.#ledger.ban(peerId, Date.now() + (this.#init.banMs ?? BAN_MS));
    this.#init.log.warn({ peer: peerId, digest: key.digest, chunk: index }, 'peer forged a chunk: banned');
    this.#init.onForged(peerId, key, index);
    this.bansChanged();
  }

  /** Peers die, memberships end; extra connections that are of no use are closed by the side that opened them. */
  #check(): void {
    const nowMs = Date.now();
    this.#liveness.look(this.#links.values());
    for (const link of this.#links.values()) {
      const { session } = link;
      session.recheck();
      const busy = this.#exchange.isOfUse(link) || this.#mesh.isStanding(link.peerId) || session.openedBy !== this.peerId;
      const sinceMs = busy ? nowMs : (this.#idleSinceMs.get(link) ?? nowMs);
      this.#idleSinceMs.set(link, sinceMs);
      if (nowMs - Math.max(sinceMs, link.account.usedAtMs) >= IDLE_MS) session.close(new PeerFault('PEER_CLOSED', 'idle'));
    }
  }
}
