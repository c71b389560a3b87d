// The program of a bare transfer: plain libp2p that moves one file to all hosts, for comparison. `node bare-peer.ts CONFIG` (JSON).
//
// The origin sends each piece to one host, by turns; that host sends it on to every other host. So each piece leaves the origin once and
// crosses every host's downlink once: nothing with the same links and bytes takes less. No requests, no hashing, no disk, no HTTP, no tracker.
//
// Talks with the lab by lines: {at} out, {peers} in, {connected} out, {go} in, {received} out, {check} in, {sha256} out. What comes before
// `go` and after `received` is not measured. Non-goals: faults of any kind; a broken stream ends the program.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { startMemoryValve } from '@flotilla/agent/memory-valve';
import { startNode } from '@flotilla/agent/swarm/node';
import { updateWindowByHalves } from '@flotilla/agent/swarm/window-updates';
import { YAMUX_WINDOW_BYTES } from '@flotilla/shared/exchange';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Libp2p, Stream } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { Uint8ArrayList } from 'uint8arraylist';
import { PieceReader, pieceMessages, type Pieces } from './bare-pieces.ts';

export interface BareConfig {
  /** Of the hosts, from 0; undefined: the origin. */
  readonly host: number | undefined;
  readonly hosts: number;
  readonly address: string;
  readonly pieces: Pieces;
  /** What the origin sends. */
  readonly file: string;
  /** With the agent's own transport, in place of libp2p as it comes. */
  readonly own: boolean;
}

/** What the lab is told, one object a line. */
export type BareWord = { readonly at: string } | { readonly connected: true } | { readonly received: true } | { readonly sha256: string };

/** What the lab says. `peers`: whom to dial. `check`: what is the digest of all that came? */
export type BareOrder = { readonly peers: readonly string[] } | { readonly go: true } | { readonly check: true };

const PROTOCOL = '/flotilla-lab/bare/1';

const config = JSON.parse(process.argv[2]!) as BareConfig;
const { host, hosts, pieces, own } = config;
const count = Math.ceil(pieces.bytes / pieces.pieceBytes);
/** All that is moved; the pages are touched before the clock starts. */
const image = host === undefined ? await readFile(config.file) : Buffer.alloc(pieces.bytes, 1);
/** Streams to send to: by host at the origin, in any order at a host. */
const outlets: Outlet[] = [];
let missing = count;

/** Pieces on their way to one peer: the next message only when the stream is not full. */
class Outlet {
  readonly #stream: Stream;
  readonly #waiting: Uint8ArrayList[] = [];

  constructor(stream: Stream) {
    this.#stream = stream;
    stream.addEventListener('drain', () => this.#pump());
  }

  send(index: number): void {
    for (const message of pieceMessages(pieces, index, image)) this.#waiting.push(new Uint8ArrayList(...message));
    this.#pump();
  }

  #pump(): void {
    while (!this.#stream.writableNeedsDrain) {
      const message = this.#waiting.shift();
      if (message === undefined) return;
      this.#stream.send(message);
    }
  }
}

const node = own ? await startNode({ privateKey: await generateKeyPair('Ed25519'), listen: `${config.address}:5051`, banned: () => false }) : await startStock();
if (own) startMemoryValve();
await node.handle(PROTOCOL, (stream) => {
  adapt(stream);
  // The dialler says first which host it is.
  stream.addEventListener(
    'message',
    ({ data }) => {
      outlets[host === undefined ? data.subarray(0, 1)[0]! : outlets.length] = new Outlet(stream);
      if (host !== undefined) read(stream, false);
      tellConnected();
    },
    { once: true },
  );
});
say({ at: node.getMultiaddrs()[0]!.toString() });
for await (const line of createInterface({ input: process.stdin })) await follow(JSON.parse(line) as BareOrder);
process.exit(0);

async function follow(order: BareOrder): Promise<void> {
  if ('peers' in order) {
    for (const [at, peer] of order.peers.entries()) await dial(peer, at === 0);
    tellConnected();
  } else if ('go' in order) {
    for (let index = 0; index < count; index++) outlets[index % hosts]!.send(index);
  } else say({ sha256: createHash('sha256').update(image).digest('hex') });
}

/** libp2p as its users set it up; the windows are the agents'. */
function startStock(): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: [`/ip4/${config.address}/tcp/5051`] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ streamOptions: { initialStreamWindowSize: YAMUX_WINDOW_BYTES, maxStreamWindowSize: YAMUX_WINDOW_BYTES } })],
    // It would end connections that are busy.
    connectionMonitor: { enabled: false },
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
  });
}

async function dial(peer: string, fromOrigin: boolean): Promise<void> {
  const stream = await node.dialProtocol(multiaddr(peer), PROTOCOL);
  adapt(stream);
  if (!fromOrigin) outlets.push(new Outlet(stream));
  read(stream, fromOrigin);
  stream.send(Uint8Array.of(host!));
}

function adapt(stream: Stream): void {
  if (own) updateWindowByHalves(stream);
  stream.addEventListener('close', () => {
    throw new Error('a stream has ended');
  });
}

function read(stream: Stream, fromOrigin: boolean): void {
  const reader = new PieceReader(pieces, image, (index) => {
    if (fromOrigin) for (const outlet of outlets) outlet.send(index);
    if (--missing === 0) say({ received: true });
  });
  stream.addEventListener('message', ({ data }) => {
    if (data instanceof Uint8Array) reader.take(data);
    else for (const part of data) reader.take(part);
  });
}

function tellConnected(): void {
  if (outlets.filter(() => true).length === (host === undefined ? hosts : hosts - 1)) say({ connected: true });
}

function say(word: BareWord): void {
  process.stdout.write(`${JSON.stringify(word)}\n`);
}
