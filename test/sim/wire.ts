// A session between two simulated hosts: what the agent's outbox, session and intake are over sockets, over pipes and a clock.
//
// Bytes of chunks go one after the other through one flow per direction; the socket takes a piece more while no more than SOCKET_BYTES are unsent,
// and whoever handed in the last piece is told that it is gone, as in outbox.ts. Control waits behind what the socket has, and arrives a fixed
// latency after it left, which stands for the queues of full links. What it costs where it does not wait, and acknowledgements, is added to the next chunk of their direction.
// Chunks are passed by their length: nobody copies or hashes bytes here.

import type { BlobSwarm, BlobLink } from '@flotilla/agent/swarm/blob-swarm';
import { Intake, type Arrival } from '@flotilla/agent/swarm/intake';
import type { Account } from '@flotilla/agent/swarm/ledger';
import { Link, type LinkSession } from '@flotilla/agent/swarm/link';
import type { OutgoingChunk } from '@flotilla/agent/swarm/outbox';
import type { ReadyFrame } from '@flotilla/agent/swarm/session';
import { CHUNK_PIECE_BYTES, type ChunkPiece, type ExchangeFrame } from '@flotilla/shared/exchange';
import { TICK_MS, type Clock, type Due } from './clock.ts';
import type { Flow, Links, Pipe } from './links.ts';

/** What the kernel has of a connection and has not sent yet. */
const SOCKET_BYTES = 64 * 1024;
/** Headers of TCP, IP, Ethernet, noise and yamux around what one write says, and about as much for the frames in it. */
const WRITE_BYTES = 66 + 28 + 24;
/** Acknowledgements of what came: one of 66 bytes for two full segments. */
const ACK_SHARE = 66 / (2 * 1448);

/** Where frames and sessions of a host end up. */
export interface WireEnd {
  readonly peerId: string;
  readonly up: Pipe;
  readonly down: Pipe;
  account(peerId: string): Account;
  opened(link: BlobLink): void;
  closed(link: BlobLink): void;
  frame(link: BlobLink, frame: ReadyFrame): void;
  stray(bytes: number): void;
}

export interface FrameObserver {
  sent(from: string, to: string, frame: ReadyFrame): void;
  taken(from: string, to: string, frame: ReadyFrame): void;
  /** From now on `by` has nothing to do with `peer`. */
  banned(by: string, peer: string): void;
}

export interface WireNetwork {
  readonly clock: Clock;
  readonly links: Links;
  /** One way, ms. */
  readonly latencyMs: number;
  /** This pair is told what it holds once and no more: for asking what becomes of a swarm whose news does not go everywhere. */
  quiet(from: string, to: string): boolean;
  /** Sees every frame as it is sent, and as it is taken in. */
  readonly observe?: FrameObserver | undefined;
}

/** Opens a session between two hosts. @returns what ends it, seen from `a` first, or from `b` */
export function connect(network: WireNetwork, a: WireEnd, b: WireEnd): { close(end: WireEnd): void } {
  const toB = new Side(network, a, b);
  const toA = new Side(network, b, a);
  toB.far = toA;
  toA.far = toB;
  a.opened(toB.link);
  b.opened(toA.link);
  return { close: (end) => (end === a ? toB : toA).close() };
}

/** One end of a session. */
class Side implements LinkSession {
  readonly peerId: string;
  readonly outbox: SimOutbox;
  readonly link: SimLink;
  far!: Side;
  closed = false;
  readonly #network: WireNetwork;
  readonly #end: WireEnd;

  constructor(network: WireNetwork, end: WireEnd, remote: WireEnd) {
    this.#network = network;
    this.#end = end;
    this.peerId = remote.peerId;
    this.outbox = new SimOutbox(network, end, remote, this);
    this.link = new SimLink(this, end.account(remote.peerId), (bytes) => end.stray(bytes), network.clock.nowMs, 2 * network.latencyMs);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.outbox.close();
    this.#end.closed(this.link);
    this.#network.clock.after(this.#network.latencyMs, () => this.far.close());
  }

  receive(frame: ReadyFrame): void {
    if (this.closed) return;
    this.#network.observe?.taken(this.peerId, this.#end.peerId, frame);
    this.#end.frame(this.link, frame);
  }
}

class SimLink extends Link<BlobSwarm> {
  override readonly intake: SimIntake;

  constructor(side: Side, account: Account, stray: (bytes: number) => void, sinceMs: number, roundTripMs: number) {
    super(side, account, stray, sinceMs, roundTripMs);
    this.intake = new SimIntake(stray, () => side.far.outbox.movingAtMs());
  }
}

/** Takes whole chunks as they are. */
class SimIntake extends Intake<BlobSwarm> {
  readonly #movingAtMs: () => number;
  readonly #stray: (bytes: number) => void;

  constructor(stray: (bytes: number) => void, movingAtMs: () => number) {
    super(stray);
    this.#stray = stray;
    this.#movingAtMs = movingAtMs;
  }

  override get movedAtMs(): number {
    return Math.max(super.movedAtMs, this.#movingAtMs());
  }

  override take({ index, payload, digest }: ChunkPiece, channel: number | undefined): Arrival<BlobSwarm> | undefined {
    const fetch = channel === undefined ? undefined : this.drop(channel, index);
    if (fetch !== undefined) return { fetch, digest: digest!, bytes: payload };
    this.#stray(payload.length);
    return undefined;
  }
}

/** Frames that one tick writes: they arrive together. */
class Letter implements Due {
  readonly frames: ReadyFrame[] = [];
  readonly tick: number;
  readonly #to: Side;

  constructor(to: Side, tick: number) {
    this.#to = to;
    this.tick = tick;
  }

  happen(): void {
    for (const frame of this.frames) this.#to.receive(frame);
  }
}

/** What the socket has: a part of a chunk, or frames that were written behind one. */
type Segment = {
  readonly bytes: number;
} & ({ readonly chunk: OutgoingChunk; /** It ends the chunk. */ readonly last: boolean } | { readonly letter: Letter });

class SimOutbox implements Due {
  readonly #network: WireNetwork;
  readonly #side: Side;
  readonly #flow: Flow;
  readonly #quiet: boolean;
  readonly #self: string;
  readonly #chunks: OutgoingChunk[] = [];
  readonly #sent: Segment[] = [];
  readonly #later = new Map<number, () => ExchangeFrame[]>();
  #letter: Letter | undefined;
  /** Of the first chunk, so much is in `sent`. */
  #offset = 0;
  #unsent = 0;
  /** Cost of control and acknowledgements, to be sent along. */
  #owed = 0;
  #movedAtMs = 0;
  /** When late frames go at the latest; 0: none wait. */
  #laterTick = 0;

  constructor(network: WireNetwork, end: WireEnd, remote: WireEnd, side: Side) {
    this.#network = network;
    this.#side = side;
    this.#self = end.peerId;
    this.#quiet = network.quiet(end.peerId, remote.peerId);
    this.#flow = network.links.flow(end.up, remote.down, () => this.#gone());
  }

  // ---- as the exchange uses it

  send(frame: ExchangeFrame): void {
    if (this.#side.closed) return;
    if (frame.type === 'hello') throw new Error('sessions open by themselves here');
    this.#write(frame);
    this.#flushLater();
  }

  later(channel: number, withinMs: number, make: () => ExchangeFrame[]): void {
    if (this.#side.closed) return;
    const { clock } = this.#network;
    this.#later.set(channel, make);
    const dueMs = clock.nowMs + withinMs;
    if (this.#laterTick === 0 || dueMs < this.#laterTick * TICK_MS) this.#laterTick = clock.at(dueMs, this);
  }

  /** A date for late frames: unless they have gone meanwhile, or have an earlier one. */
  happen(): void {
    if (this.#laterTick === this.#network.clock.tick) this.#flushLater();
  }

  sendChunk(chunk: OutgoingChunk): void {
    if (this.#side.closed) return;
    this.#chunks.push(chunk);
    this.#pump();
  }

  dropChunk(chunk: OutgoingChunk): boolean {
    const at = this.#chunks.indexOf(chunk);
    if (at < 0) return false;
    this.#chunks.splice(at, 1);
    if (at === 0) this.#offset = 0;
    return true;
  }

  blockedMs(): number {
    return 0;
  }

  // ---- as the other side sees it

  /** Now, while bytes come; else when they last did. */
  movingAtMs(): number {
    return this.#flow.active ? this.#network.clock.nowMs : this.#movedAtMs;
  }

  /** The other side owes acknowledgements for what came here. */
  owe(bytes: number): void {
    this.#owed += bytes;
  }

  close(): void {
    this.#flow.stop();
    this.#later.clear();
    this.#chunks.length = 0;
  }

  // ---- inside

  #write(frame: ReadyFrame): void {
    this.#network.observe?.sent(this.#self, this.#side.peerId, frame);
    const { clock, latencyMs } = this.#network;
    if (this.#letter?.tick !== clock.tick) {
      this.#letter = new Letter(this.#side.far, clock.tick);
      if (this.#sent.length > 0) {
        this.#sent.push({ letter: this.#letter, bytes: WRITE_BYTES });
        this.#unsent += WRITE_BYTES;
      } else {
        this.#owed += WRITE_BYTES;
        clock.at(clock.nowMs + latencyMs, this.#letter);
      }
    }
    this.#letter.frames.push(frame);
  }

  #flushLater(): void {
    if (this.#laterTick === 0) return;
    this.#laterTick = 0;
    const makers = [...this.#later.values()];
    this.#later.clear();
    for (const make of makers) {
      for (const frame of make()) if (!(this.#quiet && frame.type === 'have')) this.#write(frame as ReadyFrame);
    }
  }

  /** Hands pieces to the socket while it takes them. */
  #pump(): void {
    while (this.#chunks.length > 0 && this.#unsent <= SOCKET_BYTES) {
      this.#flushLater();
      const chunk = this.#chunks[0]!;
      const bytes = Math.min(CHUNK_PIECE_BYTES, chunk.bytes.length - this.#offset);
      this.#offset += bytes;
      const last = this.#offset >= chunk.bytes.length;
      this.#sent.push({ chunk, bytes: bytes + this.#owed, last });
      this.#unsent += bytes + this.#owed;
      this.#owed = 0;
      if (last) {
        this.#chunks.shift();
        this.#offset = 0;
      }
      chunk.moved(bytes);
      if (last) chunk.done();
    }
    if (!this.#flow.active && this.#sent.length > 0) this.#flow.start(this.#sent[0]!.bytes);
  }

  /** The first segment has gone. @returns the bytes of the next */
  #gone(): number {
    const { clock, latencyMs } = this.#network;
    const segment = this.#sent.shift()!;
    this.#unsent -= segment.bytes;
    this.#movedAtMs = clock.nowMs;
    if ('letter' in segment) {
      // It is on its way: what this tick still says goes with the next.
      if (segment.letter === this.#letter) this.#letter = undefined;
      clock.at(clock.nowMs + latencyMs, segment.letter);
    } else if (segment.last) {
      const { channel, index, digest, bytes } = segment.chunk;
      this.#side.far.outbox.owe(bytes.length * ACK_SHARE);
      this.#side.far.receive({ type: 'chunk', channel, index, offset: 0, payload: bytes, digest });
    }
    if (this.#side.closed) return 0;
    this.#pump();
    return this.#sent[0]?.bytes ?? 0;
  }
}
