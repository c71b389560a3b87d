// Brings one session's messages to the tracker: one post in flight, numbered and sealed, in order.
// A post that got no answer is repeated as it was (same number, same bytes): had it arrived, it does not count twice. Any
// refusal ends the session, and the next is told everything afresh. Totals are told every heartbeat, each second while pulling.

import { MAC_HEADER, messageMac, ROUTES, SEQUENCE_HEADER, type AgentMessage, type TrackerEvent } from '@flotilla/shared/tracker-api';
import { AgentError, toAgentError } from '../errors.ts';
import { backoffMs } from './backoff.ts';
import type { TrackerAddress, TrackerClient } from './client.ts';
import type { Clock } from './clock.ts';
import { Outbox, type OutboxBatch } from './outbox.ts';

/** How often one batch is tried before the session is given up. */
const MAX_TRIES = 3;
/** How often within the time between two reports it is looked whether one is due. */
const STATS_LOOKS = 4;

interface PosterComponents {
  readonly client: TrackerClient;
  readonly clock: Clock;
  readonly random: () => number;
}

interface PosterInit {
  readonly address: TrackerAddress;
  readonly welcome: Extract<TrackerEvent, { type: 'welcome' }>;
  stats(): Omit<Extract<AgentMessage, { type: 'stats' }>, 'type'>;
  /** Stats are told each second as long as this is so, and once more. */
  urgent(): boolean;
  readonly busyStatsMs: number;
}

interface PosterListener {
  /** The tracker took a batch. */
  accepted(): void;
  /** The session is of no more use. */
  failed(error: AgentError): void;
}

export class Poster {
  readonly #with: PosterComponents;
  readonly #init: PosterInit;
  readonly #listener: PosterListener;
  readonly #key: Uint8Array;
  readonly #outbox = new Outbox();
  readonly #abort = new AbortController();
  #sequence = 0;
  #posting: Promise<void> | undefined;
  #cancelDue: () => void = () => undefined;
  /** For when the timer of the next post is set. */
  #plannedMs = Number.POSITIVE_INFINITY;
  #cancelStats: () => void = () => undefined;
  #statsAtMs = 0;
  #wasBusy = false;

  constructor(components: PosterComponents, init: PosterInit, listener: PosterListener) {
    this.#with = components;
    this.#init = init;
    this.#listener = listener;
    this.#key = Buffer.from(init.welcome.key, 'base64url');
  }

  get dropped(): number {
    return this.#outbox.dropped;
  }

  /** Tells the totals now, and from now on regularly. */
  start(): void {
    this.#tellStats();
  }

  send(message: AgentMessage): void {
    if (this.#abort.signal.aborted) return;
    this.#outbox.push(message, this.#with.clock.nowMs());
    if (this.#outbox.overfull) this.#fail(new AgentError('TRACKER_UNREACHABLE', 'the tracker takes messages more slowly than they arise'));
    else this.#schedule();
  }

  /** Posts all that waits, as far as `signal` allows. Never rejects. */
  async drain(signal: AbortSignal): Promise<void> {
    const { promise: stopped, resolve } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve(), { once: true });
    const emptied = async (): Promise<void> => {
      while (!this.#abort.signal.aborted && (this.#posting !== undefined || this.#outbox.queued > 0)) {
        this.#startPosting();
        await this.#posting;
      }
    };
    await Promise.race([emptied(), stopped]);
  }

  /** Cuts the post in flight and forgets what waits. */
  stop(): void {
    this.#abort.abort(new AgentError('TRACKER_UNREACHABLE', 'the session has ended'));
    this.#cancelDue();
    this.#cancelStats();
    this.#outbox.clear();
  }

  /** A timer that is set stays: set anew by each message, it would never come to its turn on a loop that is full. */
  #schedule(): void {
    const { dueMs } = this.#outbox;
    if (this.#posting !== undefined || dueMs >= this.#plannedMs) return;
    this.#cancelDue();
    this.#plannedMs = dueMs;
    // Even what is due at once waits for the end of this turn of the loop, and takes along what else it brings.
    this.#cancelDue = this.#with.clock.after(Math.max(0, dueMs - this.#with.clock.nowMs()), () => this.#startPosting());
  }

  #startPosting(): void {
    this.#cancelDue();
    this.#plannedMs = Number.POSITIVE_INFINITY;
    this.#posting ??= this.#postOne()
      .catch((error: unknown) => this.#fail(toAgentError(error)))
      .finally(() => {
        this.#posting = undefined;
        if (this.#abort.signal.aborted) return;
        // What became due meanwhile has waited: turns of a busy loop are long.
        if (this.#outbox.dueMs <= this.#with.clock.nowMs()) this.#startPosting();
        else this.#schedule();
      });
  }

  async #postOne(): Promise<void> {
    const batch = this.#outbox.take(this.#with.clock.nowMs());
    if (batch === undefined) return;
    await this.#deliver(batch, ++this.#sequence);
    this.#listener.accepted();
  }

  async #deliver({ body }: OutboxBatch, sequence: number): Promise<void> {
    const { address, welcome } = this.#init;
    const path = ROUTES.messages(welcome.sessionId);
    const headers = { [SEQUENCE_HEADER]: String(sequence), [MAC_HEADER]: messageMac(this.#key, welcome.sessionId, sequence, body) };
    for (let tries = 1; ; tries++) {
      try {
        await this.#with.client.post(address, path, body, this.#abort.signal, headers);
        return;
      } catch (error) {
        const passing = error instanceof AgentError && error.code === 'TRACKER_UNREACHABLE';
        if (!passing || tries === MAX_TRIES || this.#abort.signal.aborted) throw error;
        await this.#wait(backoffMs(tries, this.#with.random()));
      }
    }
  }

  #fail(error: AgentError): void {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort(error);
    this.#listener.failed(error);
  }

  /** Looked at more often than told: on a loop that is full a timer comes a turn or two late. */
  #tellStats(): void {
    const { clock } = this.#with;
    const { heartbeatMs } = this.#init.welcome;
    const everyMs = Math.min(this.#init.busyStatsMs, heartbeatMs);
    this.#cancelStats = clock.after(everyMs / STATS_LOOKS, () => this.#tellStats());
    const nowMs = clock.nowMs();
    const sinceMs = nowMs - this.#statsAtMs;
    if (sinceMs < everyMs * (1 - 0.5 / STATS_LOOKS)) return;
    const busy = this.#init.urgent();
    // Once more after the last pull, so that the tracker sees it end.
    if (busy || this.#wasBusy || sinceMs >= heartbeatMs) {
      this.#statsAtMs = nowMs;
      this.send({ type: 'stats', ...this.#init.stats() });
      if (this.#outbox.dueMs <= nowMs) this.#startPosting();
    }
    this.#wasBusy = busy;
  }

  #wait(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#with.clock.after(delayMs, resolve);
    const stop = (): void => {
      cancel();
      resolve();
    };
    this.#abort.signal.addEventListener('abort', stop, { once: true });
    return promise.finally(() => this.#abort.signal.removeEventListener('abort', stop));
  }
}
