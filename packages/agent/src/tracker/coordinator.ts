// Who may read which chunks at the origin, as the agent's Downloads see it: the tracker's word while it is connected, the rules
// without a tracker (rendezvous.ts) while it is not or where none is configured.
//
//   opened: want of every Download -> trackerChanged(true) -> inventory in parts    lost: local rules -> trackerChanged(false)
//
// Invariant: after `opened` the tracker can know all that this agent holds and reads from that session's messages alone.
// Non-goals: connections (session.ts), whether a lease is used well (content/).

import { chunkCount } from '@flotilla/shared/chunk-map';
import type { BrakeOrder, FleetWord } from '@flotilla/shared/agent-report';
import type { Digest } from '@flotilla/shared/digest';
import type { AgentMessage, LocateResponse, PeerInfo, ResolveRequest, ResolveResponse, RolloutTask, TrackerEvent } from '@flotilla/shared/tracker-api';
import type { BlobKey, Coordinator, LeaseHandle, LeaseMember, Repository, Source } from '../content/ports.ts';
import type { AgentError } from '../errors.ts';
import { readJoinToken, TrackerClient, trackerUrl, type TrackerClientInit } from './client.ts';
import { systemClock } from './clock.ts';
import { Joined } from './joined.ts';
import { TrackerSession, type SessionComponents, type SessionInit, type SessionStatus } from './session.ts';

/** As the schema of `inventory` has it. */
const INVENTORY_PART = 4096;
/** After the start the tracker gets this long to answer before Downloads read without it. */
const FIRST_CONNECT_MS = 2_000;
/** Without the tracker a Download waits so long for its peers to say what they hold before it reads the origin. */
const MEET_PEERS_MS = 300;
/**
 * Where the tracker is lost, no Download begins to read by the rules without it before it can know what the tracker's last leases are: peers
 * tell within a second what they read, and links are full. Meanwhile those leases keep the origin busy.
 */
export const LAST_LEASES_MS = 1_500;

export type CoordinatorComponents = Omit<SessionComponents, 'client'>;

export interface CoordinatorInit extends Pick<SessionInit, 'describe' | 'stats' | 'urgent'> {
  /** Absent: there is no tracker, the agent works by the rules without one. */
  readonly tracker?: { readonly urls: readonly string[]; readonly joinTokenFile: string } & TrackerClientInit;
  /** All finished blobs of the store. */
  inventory(): Promise<readonly BlobKey[]>;
  /** The standing mesh: whom to be connected to. Replaces the last one. */
  onMesh(peers: readonly PeerInfo[]): void;
  /** The session has begun, or is lost. */
  onConnected?(connected: boolean): void;
  /** All that this host has to do for rollouts. Replaces the last list; told after every start of a session. */
  onRollouts?(tasks: readonly RolloutTask[]): void;
  /** What operators hold back on this host. Replaces the last list. */
  onBrakes?(brakes: readonly BrakeOrder[]): void;
  /** How the fleet is, as the tracker says now and then. */
  onFleetWord?(word: FleetWord): void;
  /** Somebody looks at this host for so long. */
  onWatch?(forMs: number): void;
  /** Whether the tracker may hear an image's name. @default always */
  mayName?(source: Source): boolean;
}

export type CoordinatorStatus = Omit<SessionStatus, 'state'> & { readonly state: SessionStatus['state'] | 'alone' };

export class TrackerCoordinator implements Coordinator {
  readonly #with: CoordinatorComponents;
  readonly #init: CoordinatorInit;
  readonly #client: TrackerClient | undefined;
  readonly #session: TrackerSession | undefined;
  readonly #createdMs: number;
  readonly #joined = new Map<string, Joined>();
  #epoch = 0;
  #firstTryOver = false;
  #closed = false;
  #byItself = false;

  /** @throws CONFIG_INVALID where a tracker's URL is none */
  constructor(components: CoordinatorComponents, init: CoordinatorInit) {
    this.#with = components;
    this.#init = init;
    this.#createdMs = this.#clock.nowMs();
    if (init.tracker === undefined) return;
    const { urls, joinTokenFile } = init.tracker;
    this.#client = new TrackerClient(init.tracker);
    this.#session = new TrackerSession(
      { ...components, client: this.#client },
      {
        urls: urls.map(trackerUrl),
        joinToken: () => readJoinToken(joinTokenFile),
        describe: () => init.describe(),
        stats: () => init.stats(),
        ...(init.urgent && { urgent: init.urgent }),
      },
      {
        opened: (epoch) => this.#opened(epoch),
        event: (event) => this.#event(event),
        lost: (error) => this.#lost(error),
        failed: () => this.#tryFailed(),
      },
    );
  }

  get connected(): boolean {
    return this.#session?.connected ?? false;
  }

  /** Begins to connect. Never throws: what is wrong stands in the status and the log. */
  start(): void {
    this.#session?.start();
  }

  join(member: LeaseMember, source: Source, canRead: boolean): LeaseHandle {
    const { identity } = this.#with;
    const joined = new Joined(member, source, canRead, {
      self: identity.peerId,
      clock: this.#clock,
      send: (message) => this.#session?.send(message),
      sign: (bytes) => identity.sign(bytes),
      byItself: this.#byItself,
      mayName: (named) => this.#init.mayName?.(named) ?? true,
      left: (gone) => {
        if (this.#joined.get(keyOf(member.key)) === gone) this.#joined.delete(keyOf(member.key));
      },
    });
    this.#joined.set(keyOf(member.key), joined);
    if (this.connected) joined.opened();
    else joined.alone(this.#holdUntilMs());
    return joined;
  }

  accuse(blob: BlobKey, index: number, peer: string): void {
    this.#session?.send({ type: 'accuse', blob: plain(blob), index, peer });
  }

  /** Of a task of the open session; without one it is dropped, as the next session tells all tasks again. */
  report(message: Extract<AgentMessage, { type: 'rollout-progress' | 'rollout-result' }>): void {
    this.#session?.send(message);
  }

  /** This host reads its origin alone, whatever the tracker leases; or by the tracker's leases again. */
  readByItself(on: boolean): void {
    this.#byItself = on;
    for (const joined of this.#joined.values()) joined.byItself(on);
  }

  /** A finished blob is held no more. */
  evicted(blob: BlobKey): void {
    // A Download that has begun since tells what it holds itself; this word would come after its own and undo it.
    if (this.#joined.has(keyOf(blob))) return;
    this.#session?.send({ type: 'lost', blob: plain(blob), ranges: [[0, chunkCount(blob.size)]] });
  }

  /** @throws AgentError where the tracker is connected and fails to answer */
  async locate({ origin, repository }: Repository, digest: Digest, signal: AbortSignal): Promise<LocateResponse['found']> {
    return this.#session?.locate({ origin, repository, digest }, signal);
  }

  /** @throws AgentError where the tracker fails to answer; undefined: there is none, or it does not ask origins */
  async resolve(request: ResolveRequest, signal: AbortSignal): Promise<ResolveResponse | undefined> {
    return this.#session?.resolve(request, signal);
  }

  status(): CoordinatorStatus {
    if (this.#session !== undefined) return this.#session.status();
    return { state: 'alone', url: undefined, sinceMs: this.#createdMs, sessionId: undefined, lastError: undefined, messagesDropped: 0, eventsIgnored: 0 };
  }

  /** Tells the tracker what waits to be told, for a second at most, and ends. */
  async close(): Promise<void> {
    await this.#session?.close();
    this.#closed = true;
    for (const joined of this.#joined.values()) joined.stop();
    await this.#client?.close();
  }

  get #clock(): NonNullable<CoordinatorComponents['clock']> {
    return this.#with.clock ?? systemClock;
  }

  /** A host must not take a blob by itself that its fleet has, only because it has met neither the tracker nor the blob's peers yet. */
  #holdUntilMs(): number {
    if (this.#session === undefined) return 0;
    return this.#firstTryOver ? this.#clock.nowMs() + MEET_PEERS_MS : this.#createdMs + FIRST_CONNECT_MS;
  }

  #opened(epoch: number): void {
    this.#epoch = epoch;
    this.#firstTryOver = true;
    this.#init.onConnected?.(true);
    for (const joined of this.#joined.values()) joined.opened();
    for (const joined of this.#joined.values()) joined.member.trackerChanged(true);
    void this.#tellInventory();
  }

  #lost(error: AgentError): void {
    this.#with.log.warn({ code: error.code, downloads: this.#joined.size }, 'leases follow the rules without a tracker');
    this.#init.onConnected?.(false);
    const holdUntilMs = this.#clock.nowMs() + LAST_LEASES_MS;
    for (const joined of this.#joined.values()) joined.alone(holdUntilMs);
    for (const joined of this.#joined.values()) joined.member.trackerChanged(false);
  }

  #tryFailed(): void {
    if (this.#firstTryOver) return;
    this.#firstTryOver = true;
    for (const joined of this.#joined.values()) joined.alone(0);
  }

  async #tellInventory(): Promise<void> {
    const { sessionId } = this.#session!.status();
    let blobs: readonly BlobKey[];
    try {
      blobs = await this.#init.inventory();
    } catch (error) {
      this.#with.log.warn({ err: error }, 'the store could not be listed for the tracker');
      blobs = [];
    }
    if (this.#closed || this.#session!.status().sessionId !== sessionId) return;
    for (let from = 0; from === 0 || from < blobs.length; from += INVENTORY_PART) {
      const seeds = blobs.slice(from, from + INVENTORY_PART).map(plain);
      this.#session!.send({ type: 'inventory', seeds, complete: from + INVENTORY_PART >= blobs.length });
    }
  }

  #event(event: TrackerEvent): void {
    switch (event.type) {
      case 'mesh':
        this.#init.onMesh(event.peers);
        return;
      case 'banned':
        this.#with.membership.ban(event.peers).catch((error: unknown) => this.#with.log.warn({ err: error }, 'the list of banned members was not stored'));
        return;
      case 'grant':
        this.#granted(event);
        return;
      case 'revoke':
        for (const joined of this.#joined.values()) if (joined.revoke(event)) return;
        return;
      case 'peers':
      case 'importer':
      case 'digests':
      case 'invalid':
        this.#joined.get(keyOf(event.blob))?.event(event);
        return;
      case 'rollouts':
        this.#init.onRollouts?.(event.tasks);
        return;
      case 'brakes':
        this.#init.onBrakes?.(event.brakes);
        return;
      case 'watch':
        this.#init.onWatch?.(event.forMs);
        return;
      case 'ping':
        if (event.fleet !== undefined) this.#init.onFleetWord?.(event.fleet);
        return;
      case 'welcome':
    }
  }

  #granted(event: Extract<TrackerEvent, { type: 'grant' }>): void {
    const joined = this.#joined.get(keyOf(event.blob));
    // A grant that crossed our leave, or one of an epoch that is over, is given back so that nobody waits for it.
    if (joined === undefined || event.epoch !== this.#epoch) this.#session?.send({ type: 'release', leaseId: event.leaseId, reason: 'unneeded' });
    else joined.event(event);
  }
}

function keyOf(key: { readonly digest: string; readonly size: number }): string {
  return `${key.digest} ${key.size}`;
}

/** Only what belongs on the wire: a key may be part of a larger object. */
function plain({ digest, size }: BlobKey): { digest: string; size: number } {
  return { digest, size };
}
