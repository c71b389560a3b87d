// The tracker's state machine on simulated time, and the line of each host to it: messages wait, are batched and posted as the
// agent's own outbox says, one post under way at a time; events come back. Both take the latency of control.

import { Outbox } from '@flotilla/agent/tracker/outbox';
import type { AgentMessage, MessageBatch, TrackerEvent } from '@flotilla/shared/tracker-api';
import type { RunSizes } from '@flotilla/tracker/lease';
import { RestartWindow } from '@flotilla/tracker/restart-window';
import { Swarms } from '@flotilla/tracker/swarms';
import type { Clock } from './clock.ts';

const TICK_MS = 50;

export interface TrackerInit {
  readonly clock: Clock;
  readonly latencyMs: number;
  readonly random: () => number;
  readonly runSizes: RunSizes;
}

/** What a host hears. */
export interface TrackerClient {
  readonly peerId: string;
  event(event: TrackerEvent): void;
}

export class SimTracker {
  readonly swarms: Swarms;
  readonly #init: TrackerInit;
  readonly #clients = new Map<string, TrackerClient>();
  readonly #banned: string[] = [];

  constructor(init: TrackerInit) {
    this.#init = init;
    const { clock, random, runSizes } = init;
    this.swarms = new Swarms(
      { epoch: 1, random, window: new RestartWindow([], clock.nowMs), runSizes },
      {
        send: (peer, event) => this.#send(peer, event),
        blameChanged: () => undefined,
        quarantine: (peer) => this.#ban(peer),
        originBlamed: ({ digest }) => {
          throw new Error(`the origin is blamed for ${digest}: nobody vouches for wrong bytes here`);
        },
        signedBy: () => true,
      },
    );
    clock.every(TICK_MS, () => this.swarms.tick(clock.nowMs));
  }

  /** Members that are out. */
  get banned(): readonly string[] {
    return this.#banned;
  }

  join(client: TrackerClient): Line {
    this.#clients.set(client.peerId, client);
    this.swarms.join({ peerId: client.peerId, addresses: [] });
    return new Line(this.#init, (messages) => this.#take(client.peerId, messages));
  }

  /** The session of this host has ended. */
  leave(peerId: string): void {
    if (!this.#clients.delete(peerId)) return;
    this.swarms.leave(peerId);
    this.swarms.settle(this.#init.clock.nowMs);
  }

  #take(peerId: string, messages: readonly AgentMessage[]): void {
    if (!this.#clients.has(peerId)) return;
    const { nowMs } = this.#init.clock;
    for (const message of messages) {
      if (!this.swarms.apply(peerId, message, nowMs)) throw new Error(`${message.type} of ${peerId} made no sense for its blob`);
    }
    this.swarms.settle(nowMs);
  }

  #send(peer: string, event: TrackerEvent): void {
    // Every chunk here is what everybody says that it is: what is vouched for changes nothing.
    if (event.type === 'digests') return;
    this.#init.clock.after(this.#init.latencyMs, () => this.#clients.get(peer)?.event(event));
  }

  #ban(peer: string): void {
    this.#banned.push(peer);
    const out = this.#clients.get(peer);
    this.leave(peer);
    const event: TrackerEvent = { type: 'banned', peers: [...this.#banned] };
    for (const client of this.#clients.keys()) this.#send(client, event);
    this.#init.clock.after(this.#init.latencyMs, () => out?.event(event));
  }
}

/** A host's way to the tracker. */
export class Line {
  readonly #outbox = new Outbox();
  readonly #with: Pick<TrackerInit, 'clock' | 'latencyMs'>;
  readonly #take: (messages: readonly AgentMessage[]) => void;
  #posting = false;
  #cancelDue: () => void = () => undefined;
  #closed = false;

  constructor(components: Pick<TrackerInit, 'clock' | 'latencyMs'>, take: (messages: readonly AgentMessage[]) => void) {
    this.#with = components;
    this.#take = take;
  }

  send(message: AgentMessage): void {
    if (this.#closed) return;
    this.#outbox.push(message, this.#with.clock.nowMs);
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#cancelDue();
  }

  #schedule(): void {
    this.#cancelDue();
    if (this.#posting || this.#outbox.queued === 0 || this.#closed) return;
    const { clock } = this.#with;
    const inMs = this.#outbox.dueMs - clock.nowMs;
    // What one turn says goes out in one post.
    this.#cancelDue = inMs > 0 ? clock.after(inMs, () => this.#post()) : clock.soon(() => this.#post());
  }

  #post(): void {
    const { clock, latencyMs } = this.#with;
    const batch = this.#outbox.take(clock.nowMs);
    if (batch === undefined || this.#closed) return;
    this.#posting = true;
    clock.after(latencyMs, () => this.#take((JSON.parse(batch.body) as MessageBatch).messages));
    clock.after(2 * latencyMs, () => {
      this.#posting = false;
      this.#schedule();
    });
  }
}
