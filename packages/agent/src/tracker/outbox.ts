// What the agent has to tell the tracker, until a post takes it. Pure: says when a post is due and what is in it.
//
// Order is kept per blob. What somebody waits for is due at once and takes along what waits before it; the rest is due 400 ms (figures: 100 ms) after the first of
// it, or as soon as MANY_DONE_BYTES of chunks that were read are told of (docs/decisions/0020). `have` grows the blob's last `have`, if nothing but what was read
// under leases was said of the blob since; newer progress and stats replace older ones.
// Bound: MAX_QUEUED messages. Past it progress and stats are dropped, then the outbox is overfull: the session must be opened
// anew, which tells everything afresh from the members' own state. Nothing else is ever lost silently.

import { FULL_LOOP } from '@flotilla/shared/agent-report';
import { mergeRanges } from '@flotilla/shared/bitfield';
import { chunkSize } from '@flotilla/shared/chunk-map';
import { MAX_BATCH_BYTES, type AgentMessage } from '@flotilla/shared/tracker-api';

export const MAX_QUEUED = 8192;
export const COALESCE_MS = 400;
/** What operators look at waits less: the figures of a dashboard are to be a second old at most. */
export const STATS_MS = 100;
/** Chunks from a fast origin: readers of ranges elsewhere go by their digests, and would fall behind. As much as such a reader has fetched ahead at first. */
export const MANY_DONE_BYTES = 1024 * 1024;
/** As the schema of MessageBatch has it. */
const MAX_BATCH_MESSAGES = 4096;
const ENVELOPE_BYTES = Buffer.byteLength('{"messages":[]}');

const URGENT: ReadonlySet<AgentMessage['type']> = new Set(['need', 'want', 'hedge', 'release', 'conflict', 'mismatch', 'rollout-result']);
const DISPENSABLE: ReadonlySet<AgentMessage['type']> = new Set(['progress', 'stats']);

export interface OutboxBatch {
  readonly messages: number;
  /** JSON of a MessageBatch, at most MAX_BATCH_BYTES. */
  readonly body: string;
}

export class Outbox {
  /** A Set keeps the order of insertion; a slot's message may grow or be replaced while it waits. */
  readonly #slots = new Set<{ message: AgentMessage }>();
  /** The last slot of a blob, or of a lease's progress, or of stats. */
  readonly #last = new Map<string, { message: AgentMessage }>();
  #dueMs = Number.POSITIVE_INFINITY;
  /** Bytes of chunks that were read and are told of by what waits. */
  #doneBytes = 0;
  #dropped = 0;
  #overfull = false;

  /** Messages dropped since the start: for want of room, because the session ended, or too large for any batch. */
  get dropped(): number {
    return this.#dropped;
  }

  get queued(): number {
    return this.#slots.size;
  }

  /** Too much waits: the session has to be opened anew. */
  get overfull(): boolean {
    return this.#overfull;
  }

  /** When the next post is due; Infinity: nothing waits. */
  get dueMs(): number {
    return this.#dueMs;
  }

  push(message: AgentMessage, nowMs: number): void {
    if (!this.#merge(message) && !this.#append(message)) return;
    if (message.type === 'done') this.#doneBytes += chunkSize(message.blob.size);
    if (isUrgent(message) || this.#doneBytes >= MANY_DONE_BYTES) this.#dueMs = nowMs;
    else this.#dueMs = Math.min(this.#dueMs, nowMs + (message.type === 'stats' ? STATS_MS : COALESCE_MS));
  }

  /** The oldest messages that fit into one post; undefined: nothing waits. What stays is due at once. */
  take(nowMs: number): OutboxBatch | undefined {
    const texts: string[] = [];
    let bytes = ENVELOPE_BYTES;
    for (const slot of this.#slots) {
      const text = JSON.stringify(slot.message);
      const length = Buffer.byteLength(text) + 1;
      if (ENVELOPE_BYTES + length > MAX_BATCH_BYTES) {
        this.#remove(slot);
        this.#dropped++;
        continue;
      }
      if (bytes + length > MAX_BATCH_BYTES || texts.length === MAX_BATCH_MESSAGES) break;
      bytes += length;
      texts.push(text);
      this.#remove(slot);
    }
    this.#dueMs = this.#slots.size > 0 ? nowMs : Number.POSITIVE_INFINITY;
    this.#doneBytes = 0;
    return texts.length === 0 ? undefined : { messages: texts.length, body: `{"messages":[${texts.join(',')}]}` };
  }

  /** Forgets everything: the session has ended. */
  clear(): void {
    this.#dropped += this.#slots.size;
    this.#slots.clear();
    this.#last.clear();
    this.#doneBytes = 0;
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#overfull = false;
  }

  /** @returns whether a waiting message has taken it up */
  #merge(message: AgentMessage): boolean {
    const waiting = this.#last.get(laneOf(message));
    if (waiting === undefined || waiting.message.type !== message.type) return false;
    if (message.type === 'have' && waiting.message.type === 'have') {
      // What was had before an `invalid` was heard is not had with it.
      if (message.round !== waiting.message.round) return false;
      waiting.message = { ...message, ranges: mergeRanges(waiting.message.ranges, message.ranges) };
      return true;
    }
    if (!DISPENSABLE.has(message.type)) return false;
    // What is told once is not lost with older figures: it goes by itself.
    if (waiting.message.type === 'stats' && (waiting.message.finished ?? waiting.message.manifests) !== undefined) return false;
    waiting.message = message;
    return true;
  }

  /** @returns whether there was room */
  #append(message: AgentMessage): boolean {
    if (this.#slots.size >= MAX_QUEUED) this.#makeRoom();
    if (this.#slots.size >= MAX_QUEUED) {
      this.#dropped++;
      if (!DISPENSABLE.has(message.type)) this.#overfull = true;
      return false;
    }
    const slot = { message };
    this.#slots.add(slot);
    const lane = laneOf(message);
    // What was read is had as well, in whichever order that is said.
    if (message.type !== 'done' || this.#last.get(lane)?.message.type !== 'have') this.#last.set(lane, slot);
    return true;
  }

  #makeRoom(): void {
    for (const slot of this.#slots) {
      if (!DISPENSABLE.has(slot.message.type)) continue;
      this.#remove(slot);
      this.#dropped++;
      return;
    }
  }

  #remove(slot: { message: AgentMessage }): void {
    this.#slots.delete(slot);
    const lane = laneOf(slot.message);
    if (this.#last.get(lane) === slot) this.#last.delete(lane);
  }
}

/** A host whose thread is full comes late to whatever it puts off, and somebody waits to hear why it is slow. */
function isUrgent(message: AgentMessage): boolean {
  return URGENT.has(message.type) || (message.type === 'stats' && (message.vitals?.loop ?? 0) >= FULL_LOOP);
}

/** Messages of one lane stay in order and may be merged; lanes do not depend on one another. */
function laneOf(message: AgentMessage): string {
  if (message.type === 'progress') return `progress ${message.leaseId}`;
  if (message.type === 'rollout-progress' || message.type === 'rollout-result') return `rollout ${message.rolloutId}`;
  return 'blob' in message ? `${message.blob.digest} ${message.blob.size}` : message.type;
}
