// All swarms of the fleet and the agents in them: the tracker's state machine.
//
// In: agents join and leave, AgentMessages, time (`tick`). Out: TrackerEvents per agent, through `send`. Everything here is soft:
// after a restart the agents' next messages rebuild it. Pure: no clock, no sockets, no disk; the simulator runs this very file.
// Cost: a message touches one swarm; a tick touches swarms in which something is due.

import type { IndexRange } from '@flotilla/shared/bitfield';
import { chunkCount, type BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import type { AgentMessage, PeerInfo, TrackerEvent } from '@flotilla/shared/tracker-api';
import { Acquaintances } from './acquaintances.ts';
import { Blame, type BlameRecord } from './blame.ts';
import { Mesh } from './handout.ts';
import type { RunSizes } from './lease.ts';
import { OriginRests } from './origin-rests.ts';
import type { OriginLimit } from './origin-limit.ts';
import type { RestartWindow } from './restart-window.ts';
import { Swarm, type SwarmOutput, type SwarmStatus } from './swarm.ts';

/** Larger blobs are refused: nobody ships such a layer, and state per chunk must have a bound. */
const MAX_BLOB_BYTES = 2 ** 40;
const MAX_SWARMS_PER_AGENT = 200_000;
/** Digests of blobs that nobody fetches are kept for the next who does, up to this. */
const MAX_IDLE_DIGEST_BYTES = 64 * 1024 * 1024;
/** An origin whose name is kept back goes by the blob. */
const UNNAMED = 'of ';

/**
 * What was vouched for goes out so often, for all blobs in one turn, and so in one write for each agent: one for each chunk was most of what agents read of
 * the tracker (docs/decisions/0020).
 */
const FRESH_EVERY_MS = 200;

const NO_LIMITS: readonly OriginLimit[] = [];

export interface SwarmsOutput {
  send(peer: string, event: TrackerEvent): void;
  /** To be kept over a restart. */
  blameChanged(record: BlameRecord): void;
  quarantine(peer: string, reason: string): void;
  originBlamed(blob: BlobKey): void;
  /** A member's signature with its libp2p key. */
  signedBy(peer: string, bytes: Uint8Array, signature: Uint8Array): boolean;
}

export interface SwarmsInit {
  readonly epoch: number;
  readonly random: () => number;
  readonly window: RestartWindow;
  readonly blame?: Iterable<BlameRecord>;
  /** What holds back how fast a blob leaves its origin. @default nothing */
  readonly limitsOf?: (blob: BlobKey) => readonly OriginLimit[];
  /** How much one lease covers. @default RUN_SIZES */
  readonly runSizes?: RunSizes;
}

/** Since the start. */
export interface SwarmsTotals {
  grantedBytes: number;
  hedgedBytes: number;
  auditedBytes: number;
  doneBytes: number;
  mapsSigned: number;
  mapsRefused: number;
  messagesRefused: number;
}

interface Agent {
  info: PeerInfo;
  readonly zone: string | undefined;
  readonly swarms: Set<Swarm>;
}

export class Swarms {
  readonly totals: SwarmsTotals = { grantedBytes: 0, hedgedBytes: 0, auditedBytes: 0, doneBytes: 0, mapsSigned: 0, mapsRefused: 0, messagesRefused: 0 };
  readonly #init: SwarmsInit;
  readonly #out: SwarmsOutput;
  readonly #mesh: Mesh;
  readonly #acquaintances = new Acquaintances(() => this.#nowMs);
  readonly #blame: Blame;
  readonly #agents = new Map<string, Agent>();
  readonly #swarms = new Map<string, Swarm>();
  readonly #byNumber = new Map<number, Swarm>();
  /** Swarms with something due: at the end of a batch, and at the next tick. */
  readonly #dirty = new Set<Swarm>();
  readonly #active = new Set<Swarm>();
  /** Oldest first: swarms that nobody fetches, whose digests are kept. */
  readonly #idle = new Map<Swarm, number>();
  #idleBytes = 0;
  readonly #rests = new OriginRests();
  /** To be told at the end of a batch: whoever acts on it changes what is being worked on. */
  readonly #quarantined = new Map<string, string>();
  /** Agents that may not upload for a while. */
  readonly #muted = new Set<string>();
  #leases = 0;
  #turns = 0;
  #freshToldAtMs = 0;
  #numbers = 0;
  /** Of the last batch or tick. */
  #nowMs = 0;

  constructor(init: SwarmsInit, out: SwarmsOutput) {
    this.#init = init;
    this.#out = out;
    this.#mesh = new Mesh(init.random);
    this.#blame = new Blame(init.blame ?? [], {
      changed: (record) => out.blameChanged(record),
      distrust: (peer) => this.#distrust(peer),
      quarantine: (peer, reason) => this.#quarantined.set(peer, reason),
    });
  }

  get agents(): number {
    return this.#agents.size;
  }

  get size(): number {
    return this.#swarms.size;
  }

  trusted(peer: string): boolean {
    return this.#blame.trusted(peer);
  }

  forgive(peer: string): void {
    this.#blame.forgive(peer);
  }

  /** `peer` may not upload, or may again: meanwhile others read at the origin what it alone holds. */
  mute(peer: string, muted: boolean): void {
    const agent = this.#agents.get(peer);
    if (agent === undefined || muted === this.#muted.has(peer)) return;
    if (muted) this.#muted.add(peer);
    else this.#muted.delete(peer);
    for (const swarm of agent.swarms) {
      if (muted) swarm.mute(peer);
      else swarm.unmute(peer);
      this.#touched(swarm);
    }
  }

  /** An agent's session has opened. @param zone where it stands, if it says so */
  join(info: PeerInfo, zone?: string): void {
    this.#agents.set(info.peerId, { info, zone, swarms: new Set() });
    this.#mesh.add(info.peerId, zone);
  }

  /** An agent's session has ended: it is gone from everywhere at once. */
  leave(peer: string): void {
    const agent = this.#agents.get(peer);
    if (agent === undefined) return;
    for (const swarm of agent.swarms) {
      swarm.leave(peer, false);
      this.#touched(swarm);
    }
    this.#agents.delete(peer);
    this.#muted.delete(peer);
    this.#mesh.remove(peer);
    this.#acquaintances.remove(peer);
  }

  /** @returns false where the message makes no sense for its blob; nothing of it was taken */
  apply(peer: string, message: AgentMessage, nowMs: number): boolean {
    this.#nowMs = nowMs;
    const agent = this.#agents.get(peer);
    const taken = agent !== undefined && this.#apply(agent, peer, message, nowMs);
    if (!taken) this.totals.messagesRefused++;
    return taken;
  }

  /** Grants what the messages since the last call have made possible. To be called after each batch. */
  settle(nowMs: number): void {
    const leasing = this.#init.window.over(nowMs);
    for (const swarm of this.#dirty) {
      // Where there is little to give, it goes to the swarms in turn.
      if (leasing && !this.#limitsOf(swarm.blob).some((limit) => limit.scarce(nowMs))) swarm.grant(nowMs);
      swarm.tellSeats();
      this.#place(swarm);
    }
    this.#dirty.clear();
    for (const [peer, reason] of this.#quarantined) {
      this.#quarantined.delete(peer);
      this.#out.quarantine(peer, reason);
    }
  }

  /** Every 50 to 100 ms. */
  tick(nowMs: number): void {
    const leasing = this.#init.window.over(nowMs);
    this.#nowMs = nowMs;
    for (const peer of this.#mesh.settle()) {
      this.#send(peer, { type: 'mesh', peers: this.#infos(this.#mesh.neighbours(peer)) });
      for (const swarm of this.#agents.get(peer)?.swarms ?? []) {
        swarm.introductions.neighboursChanged(peer);
        if (swarm.introductions.waiting) this.#touched(swarm);
      }
    }
    const tellFresh = nowMs - this.#freshToldAtMs >= FRESH_EVERY_MS;
    if (tellFresh) this.#freshToldAtMs = nowMs;
    for (const swarm of this.#inTurn()) {
      if (!this.#active.has(swarm)) continue;
      swarm.tick(nowMs, leasing, tellFresh);
      if (swarm.introductions.due(nowMs)) this.#introduce(swarm, nowMs);
      this.#place(swarm);
    }
    this.settle(nowMs);
  }

  /** The swarm of a blob that somebody holds or wants. */
  find(digest: string, size: number): Swarm | undefined {
    return this.#swarms.get(keyOf({ digest, size }));
  }

  /** Of whatever size; of several the first. Goes over all: seldom asked. */
  findDigest(digest: string): Swarm | undefined {
    for (const swarm of this.#swarms.values()) if (swarm.blob.digest === digest) return swarm;
    return undefined;
  }

  /** Whose digest begins so. Goes over all: seldom asked. */
  *starting(digest: string): Generator<Swarm> {
    for (const swarm of this.#swarms.values()) if (swarm.blob.digest.startsWith(digest)) yield swarm;
  }

  /** What is held against a member. */
  blameOf(peer: string): Pick<BlameRecord, 'accusers' | 'blobs'> {
    return this.#blame.of(peer);
  }

  /** Another number after each change of what is held against members. */
  get blameChanges(): number {
    return this.#blame.changes;
  }

  /** Another number after each change of who holds what, of swarms as they are now. Goes over all, each second while somebody looks. */
  get holdingsChanges(): number {
    let changes = this.#swarms.size;
    for (const { book } of this.#swarms.values()) changes += book.holdings.changes;
    return changes;
  }

  /** NAMEs of origins that nobody is to ask for a while. */
  throttledOrigins(nowMs: number): string[] {
    return this.#rests.all(nowMs).filter((key) => !key.startsWith(UNNAMED));
  }

  /** Swarms that somebody fetches. */
  *fetched(): Generator<Swarm> {
    for (const swarm of this.#swarms.values()) if (!swarm.idle) yield swarm;
  }

  /** Swarms that somebody fetches, and how many there are in all. */
  status(): { readonly total: number; readonly active: readonly SwarmStatus[] } {
    const active: SwarmStatus[] = [];
    for (const swarm of this.#swarms.values()) if (!swarm.idle) active.push(swarm.status());
    return { total: this.#swarms.size, active };
  }

  #apply(agent: Agent, peer: string, message: AgentMessage, nowMs: number): boolean {
    switch (message.type) {
      case 'inventory':
        for (const blob of message.seeds) {
          if (!this.#fits(blob, [])) return false;
          if (!this.#in(agent, blob, (swarm) => swarm.holds(peer))) return false;
        }
        if (message.complete) this.#init.window.told(peer, nowMs);
        return true;
      case 'want':
        if (!this.#fits(message.blob, message.have, message.reading)) return false;
        return this.#in(agent, message.blob, (swarm) => swarm.want(peer, message, nowMs));
      case 'have':
        if (!this.#fits(message.blob, message.ranges)) return false;
        return this.#in(agent, message.blob, (swarm) => swarm.have(peer, message.ranges, message.round, nowMs));
      case 'lost':
        if (!this.#fits(message.blob, message.ranges)) return false;
        return this.#known(agent, message.blob, (swarm) => swarm.lost(peer, message.ranges));
      case 'need':
        return this.#known(agent, message.blob, (swarm) => swarm.need(peer, message.runs, message.originRate, message.stretches ?? (message.within && [message.within])));
      case 'hedge':
        if (!this.#fits(message.blob, [[message.index, 1]])) return false;
        return this.#known(agent, message.blob, (swarm) => this.#init.window.over(nowMs) && swarm.book.hedge(peer, message.index, nowMs));
      case 'progress':
        this.#progress(agent, peer, message, nowMs);
        return true;
      case 'done':
        return this.#done(agent, peer, message, nowMs);
      case 'release': {
        const swarm = this.#leaseSwarm(message.leaseId);
        swarm?.book.release(peer, message.leaseId, message.reason, message.retryAfterMs, nowMs);
        if (swarm !== undefined) this.#touched(swarm);
        return true;
      }
      case 'seed': {
        if (!this.#fits(message.blob, [])) return false;
        return this.#in(agent, message.blob, (swarm) => {
          const signed = swarm.seed(peer, Buffer.from(message.signature, 'base64url'));
          if (signed === true) this.totals.mapsSigned++;
          if (signed === false) this.totals.mapsRefused++;
        });
      }
      case 'leave':
        return this.#known(agent, message.blob, (swarm) => {
          swarm.leave(peer, message.kept);
          if (!swarm.book.holdings.knows(peer)) agent.swarms.delete(swarm);
        });
      case 'conflict':
        if (!this.#fits(message.blob, [[message.index, 1]])) return false;
        return this.#known(agent, message.blob, (swarm) => this.trusted(peer) && swarm.conflict(peer, message, nowMs));
      case 'mismatch':
        return this.#known(agent, message.blob, (swarm) => this.trusted(peer) && swarm.mismatch(peer, message.round, nowMs));
      case 'accuse':
        if (!this.#agents.has(message.peer) || !this.trusted(peer)) return true;
        this.#blame.accused(peer, message.peer);
        return this.#known(agent, message.blob, (swarm) => swarm.accused(message.peer));
      case 'stats':
      case 'rollout-progress':
      case 'rollout-result':
        return true;
      default:
        return message satisfies never;
    }
  }

  #progress(agent: Agent, peer: string, { leaseId, bytes }: Extract<AgentMessage, { type: 'progress' }>, nowMs: number): void {
    const swarm = this.#leaseSwarm(leaseId);
    if (swarm?.book.progress(peer, leaseId, bytes, nowMs) === true) return;
    // A lease from before the last start or session: it is known here by what its reader said that it reads.
    for (const other of swarm === undefined ? agent.swarms : [swarm]) other.book.progressOfAdopted(peer, nowMs);
  }

  #done(agent: Agent, peer: string, message: Extract<AgentMessage, { type: 'done' }>, nowMs: number): boolean {
    const bytes = Buffer.byteLength(message.digests, 'base64url');
    if (bytes % 32 !== 0 || !this.#fits(message.blob, [[message.first, bytes / 32]])) return false;
    return this.#in(agent, message.blob, (swarm) => swarm.done(peer, message, nowMs));
  }

  /** Whether the blob has a bearable size and the ranges lie in it. */
  #fits(blob: { size: number }, ...lists: readonly (readonly IndexRange[])[]): boolean {
    if (blob.size > MAX_BLOB_BYTES) return false;
    const chunks = chunkCount(blob.size);
    return lists.every((ranges) => ranges.every(([first, count]) => first + count <= chunks));
  }

  #in(agent: Agent, blob: { digest: string; size: number }, act: (swarm: Swarm) => unknown): boolean {
    const swarm = this.#enter(agent, blob);
    if (swarm === undefined) return false;
    act(swarm);
    this.#touched(swarm);
    return true;
  }

  /** As `#in`, but what is said of a blob that the agent is not in means nothing. */
  #known(agent: Agent, blob: { digest: string; size: number }, act: (swarm: Swarm) => unknown): boolean {
    const swarm = this.#swarms.get(keyOf(blob));
    if (swarm === undefined || !agent.swarms.has(swarm)) return true;
    act(swarm);
    this.#touched(swarm);
    return true;
  }

  #enter(agent: Agent, { digest, size }: { digest: string; size: number }): Swarm | undefined {
    const key = `${digest}/${size}`;
    let swarm = this.#swarms.get(key);
    if (swarm === undefined || !agent.swarms.has(swarm)) {
      if (agent.swarms.size >= MAX_SWARMS_PER_AGENT) return undefined;
      swarm ??= this.#create(key, { digest: digest as Digest, size });
      agent.swarms.add(swarm);
    }
    return swarm;
  }

  #create(key: string, blob: BlobKey): Swarm {
    const { epoch, random, runSizes } = this.#init;
    const number = ++this.#numbers;
    const view = {
      zone: (peer: string) => this.#agents.get(peer)?.zone,
      neighbours: (peer: string) => this.#mesh.neighbours(peer),
      load: (peer: string) => this.#acquaintances.load(peer),
      acquainted: (a: string, b: string) => this.#acquaintances.have(a, b),
      link: (a: string, b: string) => this.#acquaintances.link(a, b),
      unlink: (a: string, b: string) => this.#acquaintances.unlink(a, b),
      slow: (peer: string): boolean => swarm.book.gainsLittle(peer),
      held: (peer: string): number => swarm.book.holdings.count(peer),
    };
    const swarm: Swarm = new Swarm({ key, number, blob, epoch, random, view, runSizes }, this.#outputOf(key, number, blob));
    this.#swarms.set(key, swarm);
    this.#byNumber.set(number, swarm);
    return swarm;
  }

  #outputOf(key: string, number: number, blob: BlobKey): SwarmOutput {
    const limits = (): readonly OriginLimit[] => this.#limitsOf(blob);
    const restKey = (origin: string | undefined): string => origin ?? UNNAMED + key;
    return {
      send: (peer, event) => this.#send(peer, event),
      throttle: (origin, peer, retryAfterMs, nowMs) => this.#rests.limited(restKey(origin), peer, retryAfterMs, nowMs),
      throttledUntilMs: (origin, peer) => this.#rests.untilMs(restKey(origin), peer),
      newLeaseId: () => `${this.#init.epoch}.${number.toString(36)}.${(++this.#leases).toString(36)}`,
      granted: (mode, bytes) => {
        if (mode === 'hedge') this.totals.hedgedBytes += bytes;
        else if (mode === 'audit') this.totals.auditedBytes += bytes;
        else this.totals.grantedBytes += bytes;
        for (const limit of limits()) limit.take(bytes);
      },
      returned: (bytes) => {
        for (const limit of limits()) limit.give(bytes);
      },
      open: (nowMs) => limits().every((limit) => limit.open(nowMs)),
      mostBytes: () => Math.min(...limits().map((limit) => limit.mostBytes), Number.POSITIVE_INFINITY),
      trusted: (peer) => this.#blame.trusted(peer),
      counts: (peer) => this.#blame.trusted(peer) && !this.#muted.has(peer),
      proven: (peer, blob, byThird) => this.#blame.proven(peer, blob, byThird),
      accused: (accuser, peer) => this.#blame.accused(accuser, peer),
      signedBy: (peer, bytes, signature) => this.#out.signedBy(peer, bytes, signature),
      originBlamed: (blob) => this.#out.originBlamed(blob),
      done: (bytes) => {
        this.totals.doneBytes += bytes;
      },
    };
  }

  /** Lease ids are `epoch.swarm.count`: this tracker's own lead to their swarm. */
  #leaseSwarm(leaseId: string): Swarm | undefined {
    const [epoch, number] = leaseId.split('.');
    return epoch === String(this.#init.epoch) ? this.#byNumber.get(Number.parseInt(number ?? '', 36)) : undefined;
  }

  #distrust(peer: string): void {
    for (const swarm of this.#agents.get(peer)?.swarms ?? []) {
      swarm.distrust(peer);
      this.#touched(swarm);
    }
  }

  #introduce(swarm: Swarm, nowMs: number): void {
    if (this.#mesh.full) {
      swarm.introductions.passOver();
      return;
    }
    const { readers, holdings } = swarm.book;
    const pool = new Set([...readers.keys(), ...holdings.seeds, ...holdings.partials()]);
    for (const { peer, peers } of swarm.introductions.settle([...pool], holdings.seeds, nowMs)) this.#send(peer, { type: 'peers', blob: swarm.blob, peers: this.#infos(peers) });
  }

  #infos(peers: Iterable<string>): PeerInfo[] {
    return [...peers].map((peer) => this.#agents.get(peer)?.info).filter((info) => info !== undefined);
  }

  #send(peer: string, event: TrackerEvent): void {
    if (this.#agents.has(peer)) this.#out.send(peer, event);
  }

  #limitsOf(blob: BlobKey): readonly OriginLimit[] {
    return this.#init.limitsOf?.(blob) ?? NO_LIMITS;
  }

  /** Another one is first each time, so that what a limit leaves is shared out. */
  #inTurn(): Swarm[] {
    const active = [...this.#active];
    const first = this.#turns++ % Math.max(1, active.length);
    return [...active.slice(first), ...active.slice(0, first)];
  }

  #touched(swarm: Swarm): void {
    this.#dirty.add(swarm);
  }

  /** Files the swarm where it belongs after a change. */
  #place(swarm: Swarm): void {
    if (swarm.active && !swarm.empty) this.#active.add(swarm);
    else this.#active.delete(swarm);
    this.#idleBytes -= this.#idle.get(swarm) ?? 0;
    this.#idle.delete(swarm);
    if (swarm.empty) {
      // Its key may belong to a younger swarm of the same blob by now.
      if (this.#byNumber.delete(swarm.number)) this.#swarms.delete(swarm.key);
    } else if (swarm.idle && swarm.digestBytes > 0) this.#keepIdle(swarm);
  }

  #keepIdle(swarm: Swarm): void {
    this.#idle.set(swarm, swarm.digestBytes);
    this.#idleBytes += swarm.digestBytes;
    for (const [oldest, bytes] of this.#idle) {
      if (this.#idleBytes <= MAX_IDLE_DIGEST_BYTES) break;
      oldest.forgetDigests();
      this.#idle.delete(oldest);
      this.#idleBytes -= bytes;
    }
  }
}

function keyOf({ digest, size }: { digest: string; size: number }): string {
  return `${digest}/${size}`;
}
