// A peer for tests that speaks the protocol's frames by hand, and so can break its rules.

import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Libp2p, PrivateKey, Stream, StreamMessageEvent } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { chunkBounds, type BlobKey } from '@flotilla/shared/chunk-map';
import { CHUNK_PIECE_BYTES, encodeFrameHeader, FrameDecoder, PROTOCOL_ID, PROTOCOL_VERSION, type ExchangeFrame } from '@flotilla/shared/exchange';
import type { PeerInfo } from '@flotilla/shared/tracker-api';
import { startNode } from './node.ts';

type FrameOf<Type extends ExchangeFrame['type']> = Extract<ExchangeFrame, { type: Type }>;

/** One exchange stream, seen from a side that follows no rules. */
export class RawStream {
  readonly stream: Stream;
  /** All that came, in order. */
  readonly frames: ExchangeFrame[] = [];
  readonly closed: Promise<void>;
  onFrame: (frame: ExchangeFrame) => void = () => undefined;
  readonly #decoder = new FrameDecoder();
  readonly #waiting: { test: (frame: ExchangeFrame) => boolean; resolve: (frame: ExchangeFrame) => void }[] = [];

  constructor(stream: Stream) {
    this.stream = stream;
    this.closed = new Promise((resolve) => {
      if (stream.status === 'open') stream.addEventListener('close', () => resolve());
      else resolve();
    });
    stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
      for (const bytes of data instanceof Uint8Array ? [data] : data) for (const frame of this.#decoder.push(bytes)) this.#take(frame);
    });
  }

  send(...frames: ExchangeFrame[]): void {
    for (const frame of frames) {
      this.stream.send(encodeFrameHeader(frame));
      if (frame.type === 'chunk') this.stream.send(frame.payload);
    }
  }

  hello(membership: string): void {
    this.send({ type: 'hello', version: PROTOCOL_VERSION, membership, capabilities: ['unheard-of'], agentVersion: 'raw' });
  }

  /** A whole chunk in pieces, with any digest. */
  chunk(channel: number, key: BlobKey, index: number, bytes: Uint8Array, digest: Uint8Array): void {
    const { start, end } = chunkBounds(key.size, index);
    for (let offset = 0; offset < end - start; offset += CHUNK_PIECE_BYTES) {
      const payload = bytes.subarray(offset, Math.min(offset + CHUNK_PIECE_BYTES, end - start));
      this.send({ type: 'chunk', channel, index, offset, payload, ...(offset === 0 && { digest }) });
    }
  }

  /** The first frame of this kind, past or to come, that passes. */
  next<Type extends ExchangeFrame['type']>(type: Type, test: (frame: FrameOf<Type>) => boolean = () => true): Promise<FrameOf<Type>> {
    const fits = (frame: ExchangeFrame): boolean => frame.type === type && test(frame as FrameOf<Type>);
    const found = this.frames.find(fits);
    if (found !== undefined) return Promise.resolve(found as FrameOf<Type>);
    return new Promise((resolve) => this.#waiting.push({ test: fits, resolve: (frame) => resolve(frame as FrameOf<Type>) }));
  }

  #take(frame: ExchangeFrame): void {
    this.frames.push(frame);
    for (const waiter of this.#waiting.filter(({ test }) => test(frame))) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resolve(frame);
    }
    this.onFrame(frame);
  }
}

export class RawPeer {
  readonly node: Libp2p;
  readonly info: PeerInfo;
  /** Streams that others opened, in order. */
  readonly inbound: RawStream[] = [];
  onInbound: (stream: RawStream) => void = () => undefined;

  private constructor(node: Libp2p) {
    this.node = node;
    this.info = { peerId: node.peerId.toString(), addresses: node.getMultiaddrs().map((address) => address.toString().split('/p2p/')[0]!) };
  }

  static async start(privateKey?: PrivateKey): Promise<RawPeer> {
    const node = await startNode({ privateKey: privateKey ?? (await generateKeyPair('Ed25519')), listen: '127.0.0.1:0', banned: () => false });
    const peer = new RawPeer(node);
    await node.handle(PROTOCOL_ID, (stream) => {
      const raw = new RawStream(stream);
      peer.inbound.push(raw);
      peer.onInbound(raw);
    });
    return peer;
  }

  get peerId(): string {
    return this.info.peerId;
  }

  /** Opens a stream; says nothing yet. */
  async open(to: PeerInfo): Promise<RawStream> {
    const connection = await this.node.dial(to.addresses.map((address) => multiaddr(`${address}/p2p/${to.peerId}`)));
    return new RawStream(await connection.newStream(PROTOCOL_ID));
  }

  /** Opens a stream, says hello and waits for the answer. */
  async greet(to: PeerInfo, membership: string): Promise<RawStream> {
    const stream = await this.open(to);
    stream.hello(membership);
    await stream.next('hello');
    return stream;
  }

  async stop(): Promise<void> {
    await this.node.stop();
  }
}
