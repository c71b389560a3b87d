// Server-sent events: topics, who listens to them, and one tick a second that makes each topic's event once for all.
//
//   listen: a snapshot of each topic as of the last tick -> deltas        tick: topics with listeners make their delta, as text, once
//
// Bounds: MAX_LISTENERS; a listener that does not take what it is told (MAX_QUEUED_BYTES) is cut off and comes back to a fresh snapshot.
// Non-goals: what topics are about (view.ts), HTTP (view-routes.ts).

import { TrackerError } from '../errors.ts';

const MAX_LISTENERS = 500;
const MAX_QUEUED_BYTES = 16 * 1024 * 1024;
const COMMENT_MS = 15_000;
const COMMENT = Buffer.from(': still here\n\n');

export const GONE = Symbol('gone');

/** Something to be looked at. Texts are JSON of one event's data, without line ends. */
export interface Topic {
  /** Brings it up to `nowMs`. @returns the delta; undefined: nothing changed; GONE: there is no such thing any more */
  tick(nowMs: number): string | typeof GONE | undefined;
  /** All of it, as of the last tick. */
  snapshot(nowMs: number): string;
}

/** Makes a topic: `argument` is what stands behind the colon. undefined: there is no such thing now. */
export type OpenTopic = (argument: string, topic: string, nowMs: number) => Topic | undefined;

/** Where a listener's events go. */
export interface LiveStream {
  readonly queuedBytes: number;
  /** Whether who listens may still: signing out, or a revoked token, ends the stream. */
  allowed(): boolean;
  write(bytes: Uint8Array): void;
  end(): void;
}

interface Listener {
  readonly stream: LiveStream;
  readonly topics: ReadonlySet<string>;
}

interface Open {
  /** undefined: it is gone, or not there yet. */
  topic: Topic | undefined;
  readonly listeners: Set<Listener>;
}

export class Live {
  readonly #epoch: number;
  readonly #kinds = new Map<string, OpenTopic>();
  readonly #open = new Map<string, Open>();
  readonly #listeners = new Set<Listener>();
  #tick = 0;
  #commentedAtMs = 0;

  constructor(epoch: number) {
    this.#epoch = epoch;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  /** @param kind the topic's name, or what stands before its colon */
  register(kind: string, open: OpenTopic): void {
    this.#kinds.set(kind, open);
  }

  /** Sends a snapshot of each topic, and from then on what changes. @returns a function that ends it @throws TOPICS_INVALID, LISTENERS_FULL */
  listen(topics: readonly string[], stream: LiveStream, nowMs: number): () => void {
    for (const name of topics) if (!this.#kinds.has(kindOf(name))) throw new TrackerError('TOPICS_INVALID', `there is no topic ${name}`);
    if (this.#listeners.size >= MAX_LISTENERS) throw new TrackerError('LISTENERS_FULL', `${MAX_LISTENERS} listen`);
    const listener: Listener = { stream, topics: new Set(topics) };
    this.#listeners.add(listener);
    stream.write(Buffer.from('retry: 1000\n\n'));
    for (const name of listener.topics) {
      const open = this.#join(name, nowMs);
      open.listeners.add(listener);
      stream.write(open.topic === undefined ? this.#event('gone', gone(name, nowMs)) : this.#event('snapshot', open.topic.snapshot(nowMs)));
    }
    return () => this.#leave(listener);
  }

  /** Once a second. */
  tick(nowMs: number): void {
    this.#tick++;
    for (const [name, open] of this.#open) this.#tell(name, open, nowMs);
    const comment = nowMs - this.#commentedAtMs >= COMMENT_MS;
    if (comment) this.#commentedAtMs = nowMs;
    for (const listener of this.#listeners) {
      const { stream } = listener;
      if (comment) stream.write(COMMENT);
      if (stream.queuedBytes <= MAX_QUEUED_BYTES && (!comment || stream.allowed())) continue;
      this.#leave(listener);
      stream.end();
    }
  }

  /** The topic as it is now, for who does not listen. */
  once(name: string, nowMs: number): string | undefined {
    return (this.#open.get(name)?.topic ?? this.#make(name, nowMs))?.snapshot(nowMs);
  }

  close(): void {
    for (const listener of this.#listeners) {
      this.#leave(listener);
      listener.stream.end();
    }
  }

  #tell(name: string, open: Open, nowMs: number): void {
    if (open.topic === undefined) {
      // What was not there may come, such as an image that somebody begins to pull.
      open.topic = this.#make(name, nowMs);
      if (open.topic !== undefined) this.#send(open, this.#event('snapshot', open.topic.snapshot(nowMs)));
      return;
    }
    const delta = open.topic.tick(nowMs);
    if (delta === undefined) return;
    if (delta === GONE) open.topic = undefined;
    this.#send(open, delta === GONE ? this.#event('gone', gone(name, nowMs)) : this.#event('delta', delta));
  }

  #send({ listeners }: Open, event: Uint8Array): void {
    for (const { stream } of listeners) stream.write(event);
  }

  /** Encoded once, whoever gets it. */
  #event(kind: 'snapshot' | 'delta' | 'gone', data: string): Uint8Array {
    return Buffer.from(`id: ${this.#epoch}-${this.#tick}\nevent: ${kind}\ndata: ${data}\n\n`);
  }

  #join(name: string, nowMs: number): Open {
    let open = this.#open.get(name);
    if (open === undefined) this.#open.set(name, (open = { topic: this.#make(name, nowMs), listeners: new Set() }));
    return open;
  }

  #make(name: string, nowMs: number): Topic | undefined {
    const kind = kindOf(name);
    return this.#kinds.get(kind)?.(name.slice(kind.length + 1), name, nowMs);
  }

  #leave(listener: Listener): void {
    if (!this.#listeners.delete(listener)) return;
    for (const name of listener.topics) {
      const open = this.#open.get(name);
      if (open?.listeners.delete(listener) === true && open.listeners.size === 0) this.#open.delete(name);
    }
  }
}

function kindOf(name: string): string {
  const colon = name.indexOf(':');
  return colon < 0 ? name : name.slice(0, colon);
}

function gone(topic: string, atMs: number): string {
  return JSON.stringify({ topic, atMs });
}
