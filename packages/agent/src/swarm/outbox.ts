// What waits to be written to one peer. Control frames first, then chunk pieces of almost 64 KiB, the next only when the stream is
// not full: Node cannot tell how much the kernel still holds, so at most MAX_UNSENT_BYTES wait above it per connection.
//
// Frames of one tick leave in one write. Late frames (`later`) wait for a write that goes anyway, as long as they may.
// Invariants: at most MAX_CONTROL_BYTES of control wait (a peer that reads slower is cut off: PEER_SLOW); chunks are
// bounded by the upload slots. `drain` is awaited as an event: stream.onDrain() resolves only once in its life.

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Stream } from '@libp2p/interface';
import { CHUNK_PIECE_BYTES, encodeFrameHeader, type ExchangeFrame } from '@flotilla/shared/exchange';
import { pEvent } from 'p-event';
import { Uint8ArrayList } from 'uint8arraylist';
import { share } from '../chunk-memory.ts';
import type { TokenBucket } from './limits.ts';
import { PeerFault } from './peer-fault.ts';

/**
 * Payload of a piece: with its header, and those of yamux and noise, it fits one noise message (65535 bytes), which the receiver
 * decrypts and reads without putting parts together.
 */
const PIECE_BYTES = CHUNK_PIECE_BYTES - 256;
/** Written but not yet taken by the kernel, per connection. */
export const MAX_UNSENT_BYTES = 128 * 1024;
/** Control frames that wait for a stream that is full. */
export const MAX_CONTROL_BYTES = 1024 * 1024;
/** Bytes written before other sockets get their turn. */
const TURN_BYTES = 4 * PIECE_BYTES;

/** One chunk on its way to one peer. `bytes` is not changed. */
export interface OutgoingChunk {
  readonly channel: number;
  readonly index: number;
  readonly digest: Uint8Array;
  readonly bytes: Uint8Array;
  /** A piece was handed to the stream. */
  moved(bytes: number): void;
  /** The last piece was handed to the stream. */
  done(): void;
}

export interface OutboxInit {
  readonly stream: Stream;
  /** Upload limit of this host. */
  readonly limit: TokenBucket;
  readonly nowMs: () => number;
  /** The peer reads too slowly, or the stream failed. Called once. */
  readonly failed: (error: Error) => void;
}

export class Outbox {
  readonly #init: OutboxInit;
  readonly #control: Uint8Array[] = [];
  readonly #later = new Map<number, () => ExchangeFrame[]>();
  readonly #chunks: OutgoingChunk[] = [];
  readonly #limits: TokenBucket[];
  readonly #closed = new AbortController();
  #controlBytes = 0;
  #offset = 0;
  #timer: NodeJS.Timeout | undefined;
  #laterDueMs = 0;
  #pumping = false;
  #blockedSinceMs: number | undefined;
  #wake: (() => void) | undefined;

  constructor(init: OutboxInit) {
    this.#init = init;
    this.#limits = [init.limit];
  }

  /** Another limit on the chunks that go to this peer. */
  limitBy(limit: TokenBucket): void {
    this.#limits.push(limit);
  }

  /** Bytes that wait here and in the stream: control and the piece being written; chunk bytes are the uploader's. */
  get queuedBytes(): number {
    return this.#controlBytes + this.#init.stream.writeBufferLength;
  }

  /** How long the stream has been full, in ms; 0 while it takes what we write. */
  blockedMs(nowMs: number): number {
    return this.#blockedSinceMs === undefined ? 0 : nowMs - this.#blockedSinceMs;
  }

  /** Sends a control frame as soon as the stream takes it. */
  send(frame: ExchangeFrame): void {
    if (this.#closed.signal.aborted) return;
    const bytes = encodeFrameHeader(frame);
    this.#control.push(bytes);
    this.#controlBytes += bytes.length;
    if (this.#controlBytes > MAX_CONTROL_BYTES) {
      this.#fail(new PeerFault('PEER_SLOW', `${this.#controlBytes} bytes of control wait for a peer that does not read`));
      return;
    }
    this.#pumpSoon();
  }

  /** Sends what `make` gives then: with the next write, `withinMs` at the latest. One per channel: the last stays. */
  later(channel: number, withinMs: number, make: () => ExchangeFrame[]): void {
    if (this.#closed.signal.aborted) return;
    this.#later.set(channel, make);
    const dueMs = this.#init.nowMs() + withinMs;
    if (this.#timer !== undefined && dueMs >= this.#laterDueMs) return;
    clearTimeout(this.#timer);
    this.#laterDueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flushLater();
    }, withinMs);
  }

  sendChunk(chunk: OutgoingChunk): void {
    if (this.#closed.signal.aborted) return;
    this.#chunks.push(chunk);
    this.#pumpSoon();
  }

  /** Stops a chunk, pieces of which may have gone. @returns whether it was here */
  dropChunk(chunk: OutgoingChunk): boolean {
    const at = this.#chunks.indexOf(chunk);
    if (at < 0) return false;
    this.#chunks.splice(at, 1);
    if (at === 0) this.#offset = 0;
    return true;
  }

  /** Resolves when all control has been written: to the stream, which writes it before it closes. */
  async flushed(signal: AbortSignal): Promise<void> {
    this.#chunks.length = 0;
    this.#offset = 0;
    while (this.#control.length > 0 && !this.#closed.signal.aborted) {
      signal.throwIfAborted();
      await nextTurn();
    }
  }

  /** Nothing more is sent. */
  close(): void {
    this.#closed.abort();
    clearTimeout(this.#timer);
    this.#later.clear();
    this.#control.length = 0;
    this.#controlBytes = 0;
    this.#chunks.length = 0;
    this.#wake?.();
  }

  #pumpSoon(): void {
    this.#wake?.();
    if (this.#pumping) return;
    this.#pumping = true;
    // A microtask: whatever else this tick sends goes out in the same write.
    queueMicrotask(() => {
      this.#pump().catch((error: unknown) => this.#fail(error));
    });
  }

  async #pump(): Promise<void> {
    try {
      let turnBytes = 0;
      while (!this.#closed.signal.aborted && (this.#control.length > 0 || this.#chunks.length > 0)) {
        if (this.#full()) {
          await this.#drained();
          continue;
        }
        const chunk = this.#chunks[0];
        const waitMs = chunk === undefined ? 0 : this.#waitMs(Math.min(PIECE_BYTES, chunk.bytes.length - this.#offset));
        if (waitMs > 0 && this.#control.length === 0) {
          await this.#pause(waitMs);
          continue;
        }
        turnBytes += this.#write(waitMs === 0 ? chunk : undefined);
        if (turnBytes >= TURN_BYTES) {
          await nextTurn();
          turnBytes = 0;
        }
      }
    } finally {
      // In the same turn as the look at the queues, so that nothing queued in between is left lying.
      this.#pumping = false;
    }
  }

  #waitMs(bytes: number): number {
    const nowMs = this.#init.nowMs();
    let waitMs = 0;
    for (const limit of this.#limits) waitMs = Math.max(waitMs, limit.waitMs(bytes, nowMs));
    return waitMs;
  }

  #full(): boolean {
    const { stream } = this.#init;
    return stream.writableNeedsDrain || stream.writeBufferLength > MAX_UNSENT_BYTES - PIECE_BYTES;
  }

  async #drained(): Promise<void> {
    this.#blockedSinceMs ??= this.#init.nowMs();
    await pEvent(this.#init.stream, 'drain', { rejectionEvents: ['close'], signal: this.#closed.signal });
    if (!this.#full()) this.#blockedSinceMs = undefined;
  }

  /** Waits for the upload limit, or until there is control to send. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }

  /** One write: all control, and one piece of `chunk`. @returns its bytes */
  #write(chunk: OutgoingChunk | undefined): number {
    this.#flushLater();
    const batch = new Uint8ArrayList(...this.#control);
    this.#control.length = 0;
    this.#controlBytes = 0;
    if (chunk === undefined) {
      this.#init.stream.send(batch);
      return batch.byteLength;
    }
    const { channel, index, digest, bytes } = chunk;
    const payload = bytes.subarray(this.#offset, this.#offset + PIECE_BYTES);
    batch.append(encodeFrameHeader({ type: 'chunk', channel, index, offset: this.#offset, payload, ...(this.#offset === 0 && { digest }) }));
    batch.append(payload);
    // Until it is encrypted, whoever has it meanwhile (whole-noise.ts).
    share(payload, payload.length);
    this.#offset += payload.length;
    for (const limit of this.#limits) limit.take(payload.length, this.#init.nowMs());
    const size = batch.byteLength;
    this.#init.stream.send(batch);
    chunk.moved(payload.length);
    if (this.#chunks[0] === chunk && this.#offset >= bytes.length) {
      this.#chunks.shift();
      this.#offset = 0;
      chunk.done();
    }
    return size;
  }

  #flushLater(): void {
    if (this.#later.size === 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const makers = [...this.#later.values()];
    this.#later.clear();
    for (const make of makers) {
      for (const frame of make()) this.send(frame);
    }
  }

  #fail(error: unknown): void {
    if (this.#closed.signal.aborted) return;
    this.close();
    this.#init.failed(error instanceof Error ? error : new PeerFault('PEER_LOST', 'the stream closed', { cause: error }));
  }
}
