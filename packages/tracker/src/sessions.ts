// The sessions of agents: one stream of events out, numbered and sealed posts in.
//
//   open -> welcome -> events, pings … -> end: the stream closed, a newer session of the same agent, silence of three
//                                              heartbeats, a stream that does not drain, a ban, or the tracker stops
//
// Bounds: one session per agent; maxQueuedBytes per stream. What is above that has SLOW_MS to drain (an agent with many downloads
// is told much at once), HARD_FACTOR times that ends it at once: the agent is too slow and has to start anew.
// Non-goals: what messages mean (swarms.ts), who may open one (members.ts).

import { randomBytes } from 'node:crypto';
import type { FleetWord } from '@flotilla/shared/agent-report';
import { sameMac } from '@flotilla/shared/join-token';
import { messageMac, type SessionRequest, type TrackerEvent } from '@flotilla/shared/tracker-api';
import { TrackerError } from './errors.ts';

const SILENT_HEARTBEATS = 3;
const SLOW_MS = 5_000;
const HARD_FACTOR = 8;

/** Why a session ended. `gone`: the agent's side closed the stream. */
export type EndReason = 'gone' | 'replaced' | 'silent' | 'slow' | 'banned' | 'stopping';

/** Where a session's events go. */
export interface EventStream {
  /** Bytes that were written and have not left. */
  readonly queuedBytes: number;
  write(text: string): void;
  /** Cuts it at once. */
  end(): void;
}

export interface Session {
  readonly id: string;
  readonly peerId: string;
  readonly request: SessionRequest;
  readonly openedAtMs: number;
  readonly key: Uint8Array;
  readonly stream: EventStream;
  sequence: number;
  lastMac: string;
  heardAtMs: number;
  pingedAtMs: number;
  /** Since when its queue is over the bound. */
  fullSinceMs: number | undefined;
  /** Lines that go out together at the end of this turn. */
  pending: string;
}

export interface SessionsInit {
  readonly heartbeatMs: number;
  /** @default 8 MiB */
  readonly maxQueuedBytes?: number;
}

export class Sessions {
  readonly heartbeatMs: number;
  readonly #maxQueuedBytes: number;
  readonly #onEnd: (session: Session, reason: EndReason) => void;
  readonly #byId = new Map<string, Session>();
  readonly #byPeer = new Map<string, Session>();
  readonly #unflushed = new Set<Session>();
  #ping: TrackerEvent = { type: 'ping' };
  /** The event that was last turned into a line: most events go to many agents. */
  #line: { event: TrackerEvent; text: string } | undefined;

  /** @param onEnd told once per session, at once */
  constructor({ heartbeatMs, maxQueuedBytes = 8 * 1024 * 1024 }: SessionsInit, onEnd: (session: Session, reason: EndReason) => void) {
    this.heartbeatMs = heartbeatMs;
    this.#maxQueuedBytes = maxQueuedBytes;
    this.#onEnd = onEnd;
  }

  get size(): number {
    return this.#byId.size;
  }

  all(): Iterable<Session> {
    return this.#byId.values();
  }

  of(peerId: string): Session | undefined {
    return this.#byPeer.get(peerId);
  }

  /** Opens a session; the agent's last one ends first. */
  open(request: SessionRequest, stream: EventStream, nowMs: number): Session {
    this.end(request.peerId, 'replaced');
    const session: Session = {
      id: randomBytes(12).toString('base64url'),
      peerId: request.peerId,
      request,
      openedAtMs: nowMs,
      key: randomBytes(32),
      stream,
      sequence: 0,
      lastMac: '',
      heardAtMs: nowMs,
      pingedAtMs: nowMs,
      fullSinceMs: undefined,
      pending: '',
    };
    this.#byId.set(session.id, session);
    this.#byPeer.set(session.peerId, session);
    return session;
  }

  /**
   * Checks that a post is of this session and the next one of it.
   * @returns `repeated` where it is the last one again, whose answer was lost: it must not count twice
   * @throws SESSION_UNKNOWN, MAC_WRONG, SEQUENCE_WRONG
   */
  accept(sessionId: string, sequence: number, mac: string, body: string, nowMs: number): { session: Session; repeated: boolean } {
    const session = this.#authentic(sessionId, sequence, mac, body);
    const repeated = sequence === session.sequence && mac === session.lastMac;
    if (!repeated && sequence !== session.sequence + 1) {
      throw new TrackerError('SEQUENCE_WRONG', `message ${sequence} came where ${session.sequence + 1} was due`);
    }
    session.sequence = sequence;
    session.lastMac = mac;
    session.heardAtMs = nowMs;
    return { session, repeated };
  }

  /** A question changes nothing: it has no number (0), and may be asked at any time. @throws SESSION_UNKNOWN, MAC_WRONG, SEQUENCE_WRONG */
  acceptQuestion(sessionId: string, sequence: number, mac: string, body: string): Session {
    const session = this.#authentic(sessionId, sequence, mac, body);
    if (sequence !== 0) throw new TrackerError('SEQUENCE_WRONG', 'a question has the number 0');
    return session;
  }

  send(peerId: string, event: TrackerEvent): void {
    const session = this.#byPeer.get(peerId);
    if (session === undefined) return;
    if (this.#line?.event !== event) this.#line = { event, text: `${JSON.stringify(event)}\n` };
    if (this.#unflushed.size === 0) queueMicrotask(() => this.#flush());
    this.#unflushed.add(session);
    session.pending += this.#line.text;
  }

  /** Ends the session of an agent, if it has one. */
  end(peerId: string, reason: EndReason): void {
    const session = this.#byPeer.get(peerId);
    if (session !== undefined) this.#end(session, reason);
  }

  /** The stream of this very session has closed; a newer one of the same agent lives on. */
  streamClosed(session: Session): void {
    if (this.#byId.get(session.id) === session) this.#end(session, 'gone');
  }

  endAll(reason: EndReason): void {
    for (const session of this.#byId.values()) this.#end(session, reason);
  }

  /** What pings say from now on. */
  sayWithPings(fleet: FleetWord): void {
    this.#ping = { type: 'ping', fleet };
  }

  /** Pings, and the end of sessions that are silent or too slow. Every second or so. */
  tick(nowMs: number): void {
    for (const session of this.#byId.values()) {
      session.fullSinceMs = session.stream.queuedBytes > this.#maxQueuedBytes ? (session.fullSinceMs ?? nowMs) : undefined;
      if (nowMs - session.heardAtMs > SILENT_HEARTBEATS * this.heartbeatMs) this.#end(session, 'silent');
      else if (session.fullSinceMs !== undefined && nowMs - session.fullSinceMs >= SLOW_MS) this.#end(session, 'slow');
      else if (nowMs - session.pingedAtMs >= this.heartbeatMs) {
        session.pingedAtMs = nowMs;
        this.send(session.peerId, this.#ping);
      }
    }
  }

  #authentic(sessionId: string, sequence: number, mac: string, body: string): Session {
    const session = this.#byId.get(sessionId);
    if (session === undefined) throw new TrackerError('SESSION_UNKNOWN', 'the session has ended, or was never opened here');
    if (!sameMac(mac, messageMac(session.key, sessionId, sequence, body))) throw new TrackerError('MAC_WRONG', `message ${sequence} is not sealed with the session's key`);
    return session;
  }

  #flush(): void {
    const sessions = [...this.#unflushed];
    this.#unflushed.clear();
    this.#line = undefined;
    for (const session of sessions) {
      const text = session.pending;
      session.pending = '';
      if (text === '' || this.#byId.get(session.id) !== session) continue;
      session.stream.write(text);
      if (session.stream.queuedBytes > this.#maxQueuedBytes * HARD_FACTOR) this.#end(session, 'slow');
    }
  }

  #end(session: Session, reason: EndReason): void {
    this.#byId.delete(session.id);
    if (this.#byPeer.get(session.peerId) === session) this.#byPeer.delete(session.peerId);
    session.pending = '';
    session.stream.end();
    this.#onEnd(session, reason);
  }
}

