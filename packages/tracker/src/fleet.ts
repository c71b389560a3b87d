// The one place where decisions meet sockets, disk and clock: sessions bring messages to the swarms, swarms' events go to
// sessions, what must survive goes to state, and time passes.
//
// Invariant: an agent is in the swarms exactly while it has a session. Non-goals: HTTP (agent-api.ts), decisions (swarms.ts).

import type { BlobKey } from '@flotilla/shared/chunk-map';
import { TRACKER_PROTOCOL, UNTOLD_PROTOCOL, versionFit } from '@flotilla/shared/protocol-version';
import type { AgentMessage, EnrollRequest, EnrollResponse, LocateRequest, LocateResponse, SessionRequest, TrackerEvent } from '@flotilla/shared/tracker-api';
import type { BlameRecord } from './blame.ts';
import { toTrackerError, TrackerError } from './errors.ts';
import { OriginLimit } from './origin-limit.ts';
import { Locations, type Location } from './locations.ts';
import type { Logger } from './log.ts';
import { Members, type Member } from './members.ts';
import { RestartWindow } from './restart-window.ts';
import { KnownHosts } from './rollouts/known-hosts.ts';
import type { StoredRecord } from './rollouts/records.ts';
import { AWAY_MS, Rollouts } from './rollouts/rollouts.ts';
import type { HostFacts } from './rollouts/selector.ts';
import { Sessions, type EndReason, type EventStream, type Session } from './sessions.ts';
import type { State, Table } from './state.ts';
import { Swarms } from './swarms.ts';
import { readJoinToken } from './tokens.ts';

const TICK_MS = 50;
const ROLLOUT_TICK_MS = 100;
const SESSION_TICK_MS = 1_000;
/** How often it is written down who is connected, and how old that may be to be waited for after a restart. */
const SEEN_EVERY_MS = 60_000;
const SEEN_RECENTLY_MS = 10 * 60_000;

type Stats = Extract<AgentMessage, { type: 'stats' }>;

export interface FleetInit {
  readonly dataDir: string;
  readonly heartbeatMs: number;
  readonly maxQueuedBytes?: number;
  /** Bytes per second that blobs may leave their origins at, the whole fleet together. @default no limit */
  readonly originLimit?: number | undefined;
  /** Whether agents may ask what origins show to anybody. @default false */
  readonly resolves?: boolean;
  /** Unix ms. @default Date.now */
  readonly now?: () => number;
  /** @default Math.random */
  readonly random?: () => number;
}

/** Hears what happens; what it does with it cannot keep agents waiting. */
export interface FleetObserver {
  opened(request: SessionRequest, nowMs: number): void;
  closed(peerId: string, reason: EndReason, nowMs: number): void;
  stats(peerId: string, stats: Stats, nowMs: number): void;
  banned(peerId: string, state: 'quarantined' | 'expelled', reason: string): void;
  forgotten(peerId: string): void;
}

interface Parts {
  readonly state: State;
  readonly members: Members;
  readonly locations: Locations;
  readonly hosts: KnownHosts;
  readonly epoch: number;
  readonly known: string[];
  readonly blame: BlameRecord[];
  readonly rollouts: ReadonlyMap<string, StoredRecord>;
}

export class Fleet {
  readonly members: Members;
  readonly sessions: Sessions;
  readonly swarms: Swarms;
  readonly locations: Locations;
  readonly hosts: KnownHosts;
  readonly rollouts: Rollouts;
  /** On what leaves the origins, the whole fleet together. */
  readonly originLimit: OriginLimit;
  readonly epoch: number;
  readonly startedAtMs: number;
  readonly now: () => number;
  readonly #init: FleetInit;
  readonly #seen: Table<number>;
  readonly #blame: Table<BlameRecord>;
  readonly #log: Logger;
  readonly #stats = new Map<string, Stats>();
  readonly #observers: FleetObserver[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #writes = new Set<Promise<void>>();
  #closing = false;
  #seenAtMs: number;
  #stateFailed = false;

  private constructor(init: FleetInit, parts: Parts, log: Logger) {
    this.#init = init;
    this.#log = log;
    this.now = init.now ?? Date.now;
    this.startedAtMs = this.now();
    this.#seenAtMs = this.startedAtMs;
    this.members = parts.members;
    this.locations = parts.locations;
    this.epoch = parts.epoch;
    this.#seen = parts.state.table('seen');
    this.#blame = parts.state.table('blame');
    this.sessions = new Sessions(init, (session, reason) => this.#ended(session, reason));
    this.originLimit = new OriginLimit(init.originLimit);
    const limitsOf = ({ digest }: BlobKey): readonly OriginLimit[] => [this.originLimit, ...this.rollouts.limitsOf(digest)];
    this.swarms = new Swarms(
      { epoch: parts.epoch, random: init.random ?? Math.random, window: new RestartWindow(parts.known, this.startedAtMs), blame: parts.blame, limitsOf },
      {
        send: (peer, event) => this.sessions.send(peer, event),
        blameChanged: (record) => this.#keep(this.#blame.put(record.peer, record, true)),
        quarantine: (peer, reason) => this.#keep(this.ban(peer, 'quarantined', reason)),
        originBlamed: ({ digest, size }) => log.warn({ digest, size }, 'the origin does not have the blob that it claims to have'),
        signedBy: (peer, bytes, signature) => this.members.signedBy(peer, bytes, signature),
      },
    );
    this.hosts = parts.hosts;
    const rollouts = parts.state.table<StoredRecord>('rollouts');
    this.rollouts = new Rollouts({
      records: parts.rollouts,
      write: (changes) => rollouts.write(changes, true),
      hosts: this.hosts,
      isMember: (peer) => this.members.get(peer)?.state === 'member',
      connected: (peer) => this.sessions.of(peer) !== undefined,
      send: (peer, event) => this.sessions.send(peer, event),
      writeFailed: (error) => this.#writeFailed(error),
      startedAtMs: this.startedAtMs,
      // As patient as sessions are, where those end sooner.
      awayAfterMs: Math.min(AWAY_MS, 2 * init.heartbeatMs),
    });
  }

  static async open(init: FleetInit, state: State, log: Logger): Promise<Fleet> {
    const nowMs = (init.now ?? Date.now)();
    const members = await Members.open(init.dataDir, state.table<Member>('members'), nowMs);
    const locations = await Locations.open(state.table<Location>('located'));
    const known: string[] = [];
    const stale = new Map<string, undefined>();
    for await (const [peer, atMs] of state.table<number>('seen').entries()) {
      if (nowMs - atMs <= SEEN_RECENTLY_MS) known.push(peer);
      else stale.set(peer, undefined);
    }
    if (stale.size > 0) await state.table<number>('seen').write(stale);
    const blame: BlameRecord[] = [];
    for await (const [, record] of state.table<BlameRecord>('blame').entries()) blame.push(record);
    const hosts = await KnownHosts.open(state.table<HostFacts>('hosts'), (peer) => members.get(peer) !== undefined);
    const rollouts = new Map<string, StoredRecord>();
    for await (const [key, record] of state.table<StoredRecord>('rollouts').entries()) rollouts.set(key, record);
    return new Fleet(init, { state, members, locations, hosts, epoch: await state.raiseEpoch(), known, blame, rollouts }, log);
  }

  /** False once something could not be written that must survive. */
  get healthy(): boolean {
    return !this.#stateFailed;
  }

  observe(observer: FleetObserver): void {
    this.#observers.push(observer);
  }

  /** To an agent, if it is connected. */
  send(peerId: string, event: TrackerEvent): void {
    this.sessions.send(peerId, event);
  }

  start(): void {
    this.#every(TICK_MS, () => this.swarms.tick(this.now()));
    this.#every(ROLLOUT_TICK_MS, () => this.rollouts.tick(this.now()));
    this.#every(Math.min(SESSION_TICK_MS, this.sessions.heartbeatMs / 4), () => this.#tickSessions());
  }

  async enroll(request: EnrollRequest): Promise<EnrollResponse> {
    const token = await readJoinToken(this.#init.dataDir);
    if (token === undefined) throw new TrackerError('TOKEN_UNKNOWN', 'the tracker has no join token');
    const membership = await this.members.enroll(request, token, this.now());
    this.#log.info({ peerId: request.peerId, tokenId: token.id }, 'enrolled');
    return { fleetId: this.members.fleet.id, fleetKey: this.members.fleet.keyPem, membership };
  }

  /** @throws TrackerError where the request is not of a member in good standing */
  authenticate(request: SessionRequest): void {
    if (this.#closing) throw new TrackerError('STOPPING', 'no sessions are opened any more');
    this.members.authenticate(request, this.now());
    checkProtocol(request);
  }

  /** To be called after `authenticate`. */
  openSession(request: SessionRequest, stream: EventStream): Session {
    const nowMs = this.now();
    const { peerId, addresses, name, zone } = request;
    const session = this.sessions.open(request, stream, nowMs);
    this.#send(peerId, {
      type: 'welcome',
      sessionId: session.id,
      key: Buffer.from(session.key).toString('base64url'),
      epoch: this.epoch,
      heartbeatMs: this.sessions.heartbeatMs,
      fleetId: this.members.fleet.id,
      fleetKey: this.members.fleet.keyPem,
      membership: this.members.membership(peerId, nowMs),
      protocol: TRACKER_PROTOCOL,
      ...(this.#init.resolves === true && { resolves: true }),
    });
    const banned = this.members.banned();
    if (banned.length > 0) this.#send(peerId, { type: 'banned', peers: banned });
    this.swarms.join({ peerId, addresses: [...addresses] }, zone);
    this.rollouts.connected(peerId, nowMs);
    this.#keep(Promise.all([this.#seen.put(peerId, nowMs), this.members.seen(peerId, nowMs), this.hosts.seen(request)]).then(() => undefined));
    for (const observer of this.#observers) observer.opened(request, nowMs);
    this.#log.info({ peerId, name, zone, sessionId: session.id }, 'session opened');
    return session;
  }

  /** Takes a batch, all of it before the next. */
  take(session: Session, messages: readonly AgentMessage[]): void {
    const nowMs = this.now();
    for (const message of messages) {
      if (message.type === 'stats') {
        this.#stats.set(session.peerId, message);
        for (const observer of this.#observers) observer.stats(session.peerId, message, nowMs);
      }
      if (message.type === 'rollout-progress' || message.type === 'rollout-result') this.rollouts.take(session.peerId, message, nowMs);
      if (message.type === 'want' && message.canRead && message.source !== undefined) this.locations.wanted(message.source, message.blob, nowMs);
      if (!this.swarms.apply(session.peerId, message, nowMs)) this.#log.warn({ peerId: session.peerId, type: message.type }, 'a message made no sense for its blob');
    }
    this.swarms.settle(nowMs);
  }

  locate(request: LocateRequest): LocateResponse {
    return this.locations.find(request);
  }

  statsOf(peerId: string): Stats | undefined {
    return this.#stats.get(peerId);
  }

  /** Quarantine or expulsion: the member is out at once, and everybody is told. @returns whether there is such a member */
  async ban(peerId: string, state: 'quarantined' | 'expelled', reason: string, byOperator = false): Promise<boolean> {
    const writing = this.members.ban(peerId, state, reason);
    this.sessions.end(peerId, 'banned');
    this.#tellBanned();
    const known = await writing;
    if (known) {
      this.#log.warn({ peerId, state, reason }, 'member banned');
      if (!byOperator) for (const observer of this.#observers) observer.banned(peerId, state, reason);
    }
    return known;
  }

  /** Takes a ban back, and with it what was held against the member. */
  async readmit(peerId: string): Promise<boolean> {
    const known = await this.members.readmit(peerId);
    if (!known) return false;
    this.swarms.forgive(peerId);
    await this.#blame.del(peerId);
    this.#tellBanned();
    this.#log.info({ peerId }, 'member readmitted');
    return true;
  }

  /** A host that is gone for good: it is no member any more, and may enrol again. @throws MEMBER_CONNECTED @returns whether there is such a member */
  async forget(peerId: string): Promise<boolean> {
    if (this.sessions.of(peerId) !== undefined) throw new TrackerError('MEMBER_CONNECTED', `${peerId} is connected`);
    if (!(await this.members.forget(peerId))) return false;
    this.swarms.forgive(peerId);
    await this.#blame.del(peerId);
    for (const observer of this.#observers) observer.forgotten(peerId);
    this.#log.info({ peerId }, 'member removed');
    return true;
  }

  /** Ends all sessions at once and waits for what is being written. Whoever is connected now is waited for after the next start. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const timer of this.#timers) clearInterval(timer);
    const connected = new Map([...this.sessions.all()].map(({ peerId }) => [peerId, this.now()]));
    this.sessions.endAll('stopping');
    this.#keep(this.#seen.write(connected));
    this.#keep(this.locations.flush());
    this.#keep(this.rollouts.settled());
    await Promise.all(this.#writes);
  }

  #ended(session: Session, reason: EndReason): void {
    const { peerId, id: sessionId } = session;
    this.swarms.leave(peerId);
    this.#stats.delete(peerId);
    // Who is gone now is not waited for after a restart; who is there when the tracker stops or dies is.
    if (!this.#closing && reason !== 'replaced') this.#keep(this.#seen.del(peerId));
    if (reason !== 'replaced') this.rollouts.disconnected(peerId, this.now());
    this.swarms.settle(this.now());
    for (const observer of this.#observers) observer.closed(peerId, reason, this.now());
    this.#log.info({ peerId, sessionId, reason }, 'session ended');
  }

  #tickSessions(): void {
    const nowMs = this.now();
    this.sessions.tick(nowMs);
    this.#keep(this.locations.flush());
    if (nowMs - this.#seenAtMs < SEEN_EVERY_MS) return;
    this.#seenAtMs = nowMs;
    this.#keep(this.#seen.write(new Map([...this.sessions.all()].map(({ peerId }) => [peerId, nowMs]))));
  }

  #tellBanned(): void {
    const event: TrackerEvent = { type: 'banned', peers: this.members.banned() };
    for (const { peerId } of this.sessions.all()) this.#send(peerId, event);
  }

  #send(peerId: string, event: TrackerEvent): void {
    this.sessions.send(peerId, event);
  }

  #every(intervalMs: number, act: () => void): void {
    const guarded = (): void => {
      try {
        act();
      } catch (error) {
        this.#log.error({ error: toTrackerError(error) }, 'a tick failed');
      }
    };
    this.#timers.push(setInterval(guarded, intervalMs));
  }

  /** A write that nobody waits for: its failure is told, and the tracker goes on with what it has in memory. */
  #keep(write: Promise<unknown>): void {
    const kept = write
      .then(
        () => undefined,
        (error: unknown) => this.#writeFailed(error),
      )
      .finally(() => this.#writes.delete(kept));
    this.#writes.add(kept);
  }

  #writeFailed(error: unknown): void {
    this.#stateFailed = true;
    this.#log.error({ error }, 'state could not be written');
  }
}

/** @throws PROTOCOL_UNSUPPORTED */
function checkProtocol({ name, agentVersion, protocol = UNTOLD_PROTOCOL }: SessionRequest): void {
  const fit = versionFit(TRACKER_PROTOCOL, protocol);
  if (fit === 'fits') return;
  const upgrade = fit === 'they-are-old' ? `upgrade the agent of ${name}` : 'upgrade the tracker first';
  throw new TrackerError('PROTOCOL_UNSUPPORTED', `agent ${agentVersion} of ${name} speaks protocol ${protocol}, this tracker ${TRACKER_PROTOCOL}: ${upgrade}`);
}
