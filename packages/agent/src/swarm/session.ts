// One exchange stream with one peer: both say hello, then frames flow.
//
//   open --hello of the other side, verified--> ready --any fault, or close()--> closed
//
// Invariants: until the other side's membership is verified nothing but our own hello is sent, and anything but its hello
// is a fault; a fault aborts the stream at once; `closed` is told exactly once.
// Reading is never paused: frames are handled as they come, and what they may make us keep is bounded elsewhere (chunks by
// our own requests, requests by the upload queue, announcements by the blob's size).
// Non-goals: what the frames mean (exchange.ts), which of two sessions with a peer stays (swarm.ts).

import type { Connection, Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import { FrameDecoder, PROTOCOL_VERSION, type ExchangeFrame } from '@flotilla/shared/exchange';
import { versionFit } from '@flotilla/shared/protocol-version';
import type { TokenBucket } from './limits.ts';
import { free, LARGE_BYTES } from '../chunk-memory.ts';
import { Outbox } from './outbox.ts';
import { PeerFault } from './peer-fault.ts';
import { apart } from './place.ts';
import { updateWindowByHalves } from './window-updates.ts';

/** Header of a yamux frame, bytes. */
const YAMUX_HEADER_BYTES = 12;

/** What follows the hellos. */
export type ReadyFrame = Exclude<ExchangeFrame, { type: 'hello' }>;

export interface SessionEvents {
  ready(session: PeerSession): void;
  /** May throw a PeerFault, which ends the session. */
  frame(session: PeerSession, frame: ReadyFrame): void;
  /** A frame of a kind that only a newer release knows was passed over. */
  skipped(): void;
  closed(session: PeerSession, fault: PeerFault): void;
}

export interface SessionInit {
  readonly stream: Stream;
  readonly connection: Connection;
  /** Id of the peer that opened the stream: ours or theirs. */
  readonly openedBy: string;
  /** Our own membership. */
  readonly membership: string;
  readonly agentVersion: string;
  /** Where this host stands. */
  readonly zone: string | undefined;
  /** Throws where `membership` does not make `peerId` a member. */
  readonly check: (membership: string, peerId: string) => void;
  readonly uploadLimit: TokenBucket;
  /** Of what goes to peers of other zones, besides. */
  readonly zoneUploadLimit: TokenBucket;
  readonly helloTimeoutMs: number;
  readonly nowMs: () => number;
  readonly events: SessionEvents;
}

export class PeerSession {
  /** Proven by the connection. */
  readonly peerId: string;
  readonly connection: Connection;
  readonly openedBy: string;
  readonly outbox: Outbox;
  /** Where the peer stands, as it says; known once ready. */
  zone: string | undefined;
  /** When anything last came from the peer. */
  heardAtMs: number;
  readonly #init: SessionInit;
  readonly #decoder = new FrameDecoder();
  readonly #helloTimer: NodeJS.Timeout;
  #state: 'open' | 'ready' | 'closed' = 'open';
  #membership = '';
  readonly #settled = Promise.withResolvers<void>();

  constructor(init: SessionInit) {
    this.#init = init;
    // Whoever waits for it hears of a failure; nobody needs to.
    this.#settled.promise.catch(() => undefined);
    this.connection = init.connection;
    this.peerId = init.connection.remotePeer.toString();
    this.openedBy = init.openedBy;
    this.heardAtMs = init.nowMs();
    this.outbox = new Outbox({
      stream: init.stream,
      limit: init.uploadLimit,
      nowMs: init.nowMs,
      failed: (error) => this.close(error),
    });
    this.#helloTimer = setTimeout(
      () => this.close(new PeerFault('PEER_TIMEOUT', `no hello in ${init.helloTimeoutMs} ms`)),
      init.helloTimeoutMs,
    );
    const { stream } = init;
    updateWindowByHalves(stream);
    stream.addEventListener('message', (event) => this.#read(event));
    stream.addEventListener('end', () => this.close(new PeerFault('PEER_LOST', 'the peer closed the stream')));
    stream.addEventListener('close', ({ error }: StreamCloseEvent) => {
      this.close(new PeerFault('PEER_LOST', 'the stream closed', { cause: error }));
    });
    this.outbox.send({
      type: 'hello',
      version: PROTOCOL_VERSION,
      membership: init.membership,
      capabilities: [],
      agentVersion: init.agentVersion,
      ...(init.zone !== undefined && { zone: init.zone }),
    });
  }

  get ready(): boolean {
    return this.#state === 'ready';
  }

  /** Resolves when ready. @throws PeerFault where it is closed before */
  get whenReady(): Promise<void> {
    return this.#settled.promise;
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** Checks the peer's membership once more: it may have ended since. */
  recheck(): void {
    if (this.#state === 'ready') this.#verify(this.#membership);
  }

  /** Ends the session; the stream is aborted with the reason. */
  close(reason: Error): void {
    if (this.#state === 'closed') return;
    this.#end(reason);
    this.#init.stream.abort(reason);
  }

  /** Ends the session after what is queued has been written. */
  async finish(signal: AbortSignal): Promise<void> {
    if (this.#state === 'closed') return;
    const { stream } = this.#init;
    await this.outbox.flushed(signal);
    this.#end(new PeerFault('PEER_CLOSED', 'this side closes'));
    await stream.close({ signal });
  }

  #end(reason: Error): void {
    this.#state = 'closed';
    clearTimeout(this.#helloTimer);
    this.outbox.close();
    const fault = reason instanceof PeerFault ? reason : new PeerFault('PEER_LOST', reason.message, { cause: reason });
    this.#settled.reject(fault);
    this.#init.events.closed(this, fault);
  }

  #read({ data }: StreamMessageEvent): void {
    this.heardAtMs = this.#init.nowMs();
    try {
      for (const bytes of data instanceof Uint8Array ? [data] : data) {
        for (const frame of this.#decoder.push(bytes)) {
          if (this.#state === 'closed') return;
          this.#frame(frame);
        }
      }
      // Whoever handles a frame copies what it keeps of it.
      if (this.#decoder.empty) for (const bytes of data instanceof Uint8Array ? [data] : data) freeWholeFrame(bytes);
    } catch (error) {
      this.close(
        error instanceof PeerFault ? error : new PeerFault('PEER_PROTOCOL', error instanceof Error ? error.message : String(error), { cause: error }),
      );
    }
  }

  #frame(frame: ExchangeFrame): void {
    if (frame.type !== 'hello') {
      if (this.#state !== 'ready') throw new PeerFault('PEER_PROTOCOL', `${frame.type} before hello`);
      this.#init.events.frame(this, frame);
      return;
    }
    if (this.#state === 'ready') throw new PeerFault('PEER_PROTOCOL', 'a second hello');
    this.#checkVersion(frame.version, frame.agentVersion);
    this.#verify(frame.membership);
    this.#membership = frame.membership;
    this.zone = frame.zone;
    if (apart(this.#init.zone, frame.zone)) this.outbox.limitBy(this.#init.zoneUploadLimit);
    this.#state = 'ready';
    clearTimeout(this.#helloTimer);
    this.#settled.resolve();
    this.#init.events.ready(this);
  }

  #checkVersion(version: number, agentVersion: string): void {
    const fit = versionFit(PROTOCOL_VERSION, version);
    if (fit !== 'fits') {
      const upgrade = fit === 'they-are-old' ? 'upgrade the agent there' : 'upgrade the agent here';
      throw new PeerFault('PEER_VERSION', `agent ${agentVersion} of ${this.peerId} speaks exchange version ${version}, this one ${PROTOCOL_VERSION}: ${upgrade}`);
    }
    if (version > PROTOCOL_VERSION) this.#decoder.onUnknown = () => this.#init.events.skipped();
  }

  #verify(membership: string): void {
    try {
      this.#init.check(membership, this.peerId);
    } catch (error) {
      const fault = new PeerFault('PEER_REFUSED', `${this.peerId} is no member of this fleet`, { cause: error });
      if (this.#state !== 'ready') throw fault;
      this.close(fault);
    }
  }
}

/**
 * Frees what noise has decrypted, now and not when V8 comes to collect it: half of the memory that a chunk takes on its way. Only where the
 * noise message held one yamux frame and nothing else, as Flotilla sends them: of another frame's beginning yamux would still need the bytes.
 */
function freeWholeFrame(bytes: Uint8Array): void {
  const { byteOffset, byteLength, buffer } = bytes;
  if (byteLength < LARGE_BYTES || byteOffset !== YAMUX_HEADER_BYTES || byteOffset + byteLength !== buffer.byteLength) return;
  free(buffer);
}
