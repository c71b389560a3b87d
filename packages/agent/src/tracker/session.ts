// The agent's standing with the tracker: enrol once, open the session, read its events, and come back whenever it ends.
//
//   enrol (no membership yet, or it was refused) -> POST session -> welcome -> events … | posts (poster.ts) … -> end -> backoff
//
// A session ends with its stream, with silence of three heartbeats, with an event that cannot be read, or with a post that
// was refused. Its end is told at once: nothing of it is worth keeping, the next session is told everything afresh.
// Non-goals: what the messages mean (coordinator.ts).

import { randomBytes } from 'node:crypto';
import { enrolmentMac, enrolmentText, type JoinToken } from '@flotilla/shared/join-token';
import { TRACKER_PROTOCOL, UNTOLD_PROTOCOL, versionFit } from '@flotilla/shared/protocol-version';
import {
  EnrollResponse,
  LocateResponse,
  messageMac,
  MAC_HEADER,
  ResolveResponse,
  ROUTES,
  SEQUENCE_HEADER,
  sessionText,
  type AgentMessage,
  type EnrollRequest,
  type LocateRequest,
  type ResolveRequest,
  type SessionRequest,
  type TrackerEvent,
} from '@flotilla/shared/tracker-api';
import { Compile } from 'typebox/compile';
import type { Membership } from '../access/membership.ts';
import { AgentError, toAgentError } from '../errors.ts';
import type { Identity } from '../identity.ts';
import { backoffMs } from './backoff.ts';
import type { TrackerAddress, TrackerClient } from './client.ts';
import { systemClock, type Clock } from './clock.ts';
import { readEvents } from './events.ts';
import { Poster } from './poster.ts';

/** Between the head of the stream and its `welcome`. */
const WELCOME_TIMEOUT_MS = 10_000;
/** Silence of this many heartbeats is the end of the stream. */
const SILENT_HEARTBEATS = 3;
/** While it pulls, an agent tells its totals this often. */
const BUSY_STATS_MS = 1_000;
/** What waits at the end is posted for so long. */
const FAREWELL_MS = 1_000;

const checkEnrollment = Compile(EnrollResponse);
const checkLocation = Compile(LocateResponse);
const checkResolution = Compile(ResolveResponse);

type Welcome = Extract<TrackerEvent, { type: 'welcome' }>;
type Stats = Omit<Extract<AgentMessage, { type: 'stats' }>, 'type'>;

/** What the tracker is told of this agent when a session opens; asked for each time, as addresses come and go. */
export type AgentDescription = Pick<SessionRequest, 'addresses' | 'name' | 'zone' | 'labels' | 'agentVersion'>;

/** Structured log, as pino has it. */
export interface SessionLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface SessionComponents {
  readonly client: TrackerClient;
  readonly identity: Pick<Identity, 'peerId' | 'publicKey' | 'sign'>;
  readonly membership: Membership;
  readonly log: SessionLog;
  readonly clock?: Clock;
  /** In [0, 1). @default Math.random */
  readonly random?: () => number;
}

export interface SessionInit {
  /** Tried in this order. At least one. */
  readonly urls: readonly string[];
  /** Read before every try, so that a corrected file counts without a restart. */
  joinToken(): Promise<JoinToken>;
  describe(): AgentDescription;
  /** Asked only where it is told: what is in it once counts as told. */
  stats(): Stats;
  /** There is something to tell each second: pulls, faults, or somebody looks. @default while pulls are active */
  urgent?(): boolean;
}

export interface SessionListener {
  /** The welcome is here; what is sent from now on belongs to this session. */
  opened(epoch: number): void;
  /** Every known event but `welcome`, and pings that say nothing. What it throws ends the session. */
  event(event: TrackerEvent): void;
  /** The session that was `opened` has ended. */
  lost(error: AgentError): void;
  /** No tracker opened a session; another try follows. */
  failed(error: AgentError): void;
}

export type SessionState = 'connecting' | 'connected' | 'waiting' | 'closed';

export interface SessionStatus {
  readonly url: string | undefined;
  readonly state: SessionState;
  /** Unix time in ms since when it is in this state. */
  readonly sinceMs: number;
  readonly sessionId: string | undefined;
  readonly lastError: { readonly code: string; readonly message: string } | undefined;
  readonly messagesDropped: number;
  /** Events of types that this release does not know. */
  readonly eventsIgnored: number;
}

/** A session that is open. */
interface Opened {
  readonly address: TrackerAddress;
  readonly welcome: Welcome;
  readonly abort: AbortController;
  readonly poster: Poster;
}

export class TrackerSession {
  readonly #with: Required<SessionComponents>;
  readonly #init: SessionInit;
  readonly #listener: SessionListener;
  readonly #closing = new AbortController();
  #opened: Opened | undefined;
  #run: Promise<void> | undefined;
  #state: { state: SessionState; url: string | undefined; sinceMs: number };
  #lastError: AgentError | undefined;
  #failures = 0;
  #messagesDropped = 0;
  #eventsIgnored = 0;

  constructor(components: SessionComponents, init: SessionInit, listener: SessionListener) {
    this.#with = { clock: systemClock, random: Math.random, ...components };
    this.#init = init;
    this.#listener = listener;
    this.#state = { state: 'connecting', url: init.urls[0], sinceMs: this.#with.clock.nowMs() };
  }

  get connected(): boolean {
    return this.#opened !== undefined;
  }

  start(): void {
    this.#run ??= this.#keepOpen();
  }

  /** Queues a message; without a session it is dropped, as the next one is told everything afresh. */
  send(message: AgentMessage): void {
    this.#opened?.poster.send(message);
  }

  /** @throws AgentError when the tracker fails; undefined: no session, or nobody in the fleet knows it */
  async locate(request: LocateRequest, signal: AbortSignal): Promise<LocateResponse['found']> {
    const opened = this.#opened;
    if (opened === undefined) return undefined;
    const reply = await this.#question(opened, ROUTES.locate(opened.welcome.sessionId), request, signal);
    if (!checkLocation.Check(reply)) throw new AgentError('TRACKER_PROTOCOL', 'the tracker answered a locate with something else');
    return reply.found;
  }

  /** @throws AgentError when the tracker fails; undefined: no session, or one of a tracker that does not ask origins */
  async resolve(request: ResolveRequest, signal: AbortSignal): Promise<ResolveResponse | undefined> {
    const opened = this.#opened;
    if (opened?.welcome.resolves !== true) return undefined;
    const reply = await this.#question(opened, ROUTES.resolve(opened.welcome.sessionId), request, signal);
    if (!checkResolution.Check(reply)) throw new AgentError('TRACKER_PROTOCOL', 'the tracker answered a resolve with something else');
    return reply;
  }

  status(): SessionStatus {
    return {
      ...this.#state,
      sessionId: this.#opened?.welcome.sessionId,
      lastError: this.#lastError && { code: this.#lastError.code, message: this.#lastError.message },
      messagesDropped: this.#messagesDropped + (this.#opened?.poster.dropped ?? 0),
      eventsIgnored: this.#eventsIgnored,
    };
  }

  /** Posts what waits, for a second at most, and ends the session for good. */
  async close(): Promise<void> {
    await this.#opened?.poster.drain(AbortSignal.timeout(FAREWELL_MS));
    this.#closing.abort(new AgentError('DRAINING', 'the agent is stopping'));
    await this.#run;
    await this.#with.membership.settled();
    this.#setState('closed', this.#state.url);
  }

  /** A question changes nothing at the tracker: it has no number, and waits for no other post. */
  #question({ address, welcome, abort }: Opened, route: string, request: object, signal: AbortSignal): Promise<unknown> {
    const body = JSON.stringify(request);
    const mac = messageMac(Buffer.from(welcome.key, 'base64url'), welcome.sessionId, 0, body);
    return this.#with.client.post(address, route, body, AbortSignal.any([signal, abort.signal]), { [SEQUENCE_HEADER]: '0', [MAC_HEADER]: mac });
  }

  async #keepOpen(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      const error = await this.#tryEach();
      if (this.#closing.signal.aborted) return;
      this.#lastError = error;
      this.#failures++;
      const waitMs = backoffMs(this.#failures, this.#with.random());
      this.#with.log.warn({ tracker: this.#state.url, code: error.code, err: error, retryMs: waitMs }, 'tracker lost');
      this.#setState('waiting', this.#state.url);
      await this.#wait(waitMs);
    }
  }

  /** Tries the trackers in order and stays with the first that opens a session. @returns why it is over */
  async #tryEach(): Promise<AgentError> {
    let error = new AgentError('CONFIG_INVALID', 'no tracker is configured');
    for (const url of this.#init.urls) {
      this.#setState('connecting', url);
      const abort = new AbortController();
      const stop = (): void => abort.abort(this.#closing.signal.reason);
      this.#closing.signal.addEventListener('abort', stop, { once: true });
      try {
        if (this.#closing.signal.aborted) stop();
        await this.#hold(url, abort);
      } catch (thrown) {
        error = toAgentError(thrown);
      } finally {
        this.#closing.signal.removeEventListener('abort', stop);
        abort.abort(error);
      }
      if (this.#end(error) || this.#closing.signal.aborted) return error;
    }
    this.#listener.failed(error);
    return error;
  }

  /** Opens a session and reads it to its end. Always throws. */
  async #hold(url: string, abort: AbortController): Promise<never> {
    const token = await this.#init.joinToken();
    const address: TrackerAddress = { url, caPin: token.caPin };
    const stream = await this.#openStream(address, token, abort.signal);
    const { clock } = this.#with;
    const silence = new AgentError('TRACKER_UNREACHABLE', `${url} has fallen silent`);
    let watch = clock.after(WELCOME_TIMEOUT_MS, () => abort.abort(silence));
    try {
      for await (const event of readEvents(stream, () => this.#eventsIgnored++)) {
        watch();
        if (event.type === 'welcome') this.#welcomed(event, address, abort);
        else if (this.#opened === undefined) throw new AgentError('TRACKER_PROTOCOL', `the tracker sent "${event.type}" before its welcome`);
        else if (event.type !== 'ping' || event.fleet !== undefined) this.#listener.event(event);
        const quietMs = SILENT_HEARTBEATS * (this.#opened?.welcome.heartbeatMs ?? WELCOME_TIMEOUT_MS);
        watch = clock.after(quietMs, () => abort.abort(silence));
      }
    } finally {
      watch();
    }
    throw new AgentError('TRACKER_UNREACHABLE', `${url} has ended the session`);
  }

  async #openStream(address: TrackerAddress, token: JoinToken, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const enrolled = this.#with.membership.own() !== undefined;
    if (!enrolled) await this.#enrol(address, token, signal);
    try {
      return await this.#requestStream(address, signal);
    } catch (error) {
      if (!enrolled || !isRefusal(error)) throw error;
      this.#with.log.info({ tracker: address.url, err: error }, 'membership refused, enrolling again');
      await this.#enrol(address, token, signal);
      return await this.#requestStream(address, signal);
    }
  }

  #requestStream(address: TrackerAddress, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const { identity, client, clock } = this.#with;
    const { peerId } = identity;
    const nonce = randomBytes(16).toString('base64url');
    const timestampMs = clock.nowMs();
    const signature = Buffer.from(identity.sign(Buffer.from(sessionText(peerId, nonce, timestampMs)))).toString('base64url');
    const request: SessionRequest = { peerId, nonce, timestampMs, signature, protocol: TRACKER_PROTOCOL, ...this.#init.describe() };
    return client.stream(address, ROUTES.session, JSON.stringify(request), signal);
  }

  async #enrol(address: TrackerAddress, token: JoinToken, signal: AbortSignal): Promise<void> {
    const { identity, client, clock, log } = this.#with;
    const { peerId } = identity;
    const timestampMs = clock.nowMs();
    const request: EnrollRequest = {
      tokenId: token.id,
      peerId,
      publicKey: Buffer.from(identity.publicKey).toString('base64url'),
      timestampMs,
      mac: enrolmentMac(token, peerId, timestampMs),
      signature: Buffer.from(identity.sign(Buffer.from(enrolmentText(token.id, peerId, timestampMs)))).toString('base64url'),
    };
    const reply = await client.post(address, ROUTES.enroll, JSON.stringify(request), signal);
    if (!checkEnrollment.Check(reply)) throw new AgentError('TRACKER_PROTOCOL', 'the tracker answered the enrolment with something else');
    this.#takeMembership(reply);
    log.info({ tracker: address.url, fleet: reply.fleetId, peer: peerId }, 'enrolled');
  }

  #welcomed(welcome: Welcome, address: TrackerAddress, abort: AbortController): void {
    if (this.#opened !== undefined) throw new AgentError('TRACKER_PROTOCOL', 'the tracker sent a second welcome');
    checkProtocol(welcome, address.url);
    this.#takeMembership(welcome);
    const { client, clock, log } = this.#with;
    const poster = new Poster({ client, clock, random: this.#with.random }, { address, welcome, stats: () => this.#init.stats(), urgent: () => this.#init.urgent?.() ?? this.#init.stats().pulls.active > 0, busyStatsMs: BUSY_STATS_MS }, {
      accepted: () => (this.#failures = 0),
      failed: (error) => abort.abort(error),
    });
    this.#opened = { address, welcome, abort, poster };
    this.#setState('connected', address.url);
    log.info({ tracker: address.url, session: welcome.sessionId, epoch: welcome.epoch }, 'tracker connected');
    this.#listener.opened(welcome.epoch);
    poster.start();
  }

  /** In force at once; that it could not be written costs an enrolment after a restart, no more. @throws TRACKER_PROTOCOL */
  #takeMembership({ fleetId, fleetKey, membership }: EnrollResponse): void {
    this.#with.membership.enrolled({ fleetId, fleetKey, membership }).catch((error: unknown) => {
      this.#with.log.warn({ err: error }, 'membership was not stored');
    });
    if (this.#with.membership.own() !== membership) throw new AgentError('TRACKER_PROTOCOL', "the tracker sent a fleet key that is none");
  }

  /** @returns whether a session had been open */
  #end(error: AgentError): boolean {
    const opened = this.#opened;
    if (opened === undefined) return false;
    this.#opened = undefined;
    opened.poster.stop();
    this.#messagesDropped += opened.poster.dropped;
    this.#listener.lost(error);
    return true;
  }

  #setState(state: SessionState, url: string | undefined): void {
    this.#state = { state, url, sinceMs: this.#with.clock.nowMs() };
  }

  #wait(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#with.clock.after(delayMs, resolve);
    const stop = (): void => {
      cancel();
      resolve();
    };
    this.#closing.signal.addEventListener('abort', stop, { once: true });
    return promise.finally(() => this.#closing.signal.removeEventListener('abort', stop));
  }
}

/** @throws TRACKER_VERSION */
function checkProtocol({ protocol = UNTOLD_PROTOCOL }: Welcome, url: string): void {
  const fit = versionFit(TRACKER_PROTOCOL, protocol);
  if (fit === 'fits') return;
  const upgrade = fit === 'they-are-old' ? 'upgrade the tracker' : 'upgrade this agent';
  throw new AgentError('TRACKER_VERSION', `${url} speaks protocol ${protocol}, this agent ${TRACKER_PROTOCOL}: ${upgrade}`, { detail: { tracker: url, protocol } });
}

/** The tracker understood and said no, as it does to a member that it does not know. */
function isRefusal(error: unknown): boolean {
  return error instanceof AgentError && error.code === 'TRACKER_REFUSED' && [401, 403, 404].includes(error.detail?.['status'] as number);
}
