// The libp2p node: tcp, noise, yamux, nothing else. Peers and addresses come from the tracker, so there is no discovery, no
// identify and no DHT; the peer store is in memory.
//
// The yamux windows are the protocol's (a different initial window breaks the accounting of the other side); the limits
// that js-libp2p sets for public networks are raised where a fleet's cold start or one NAT would run into them.

import { yamux } from '@chainsafe/libp2p-yamux';
import type { Libp2p, PrivateKey } from '@libp2p/interface';
import { ping, type Ping } from '@libp2p/ping';
import type { ReadPace } from '../turn-rest.ts';
import { wholeMessageTcp } from './transport.ts';
import { wholeNoise } from './whole-noise.ts';
import { multiaddr } from '@multiformats/multiaddr';
import { YAMUX_WINDOW_BYTES } from '@flotilla/shared/exchange';
import { createLibp2p } from 'libp2p';
import { AgentError } from '../errors.ts';

/** Connections at most, in both directions; a mesh is ten, the rest are extra holders and those who dial us. */
const MAX_CONNECTIONS = 300;
const UPGRADE_TIMEOUT_MS = 5_000;
export const DIAL_TIMEOUT_MS = 3_000;
const ADDRESS_DIAL_TIMEOUT_MS = 1_500;
/** A whole fleet may stand behind one address. */
const MAX_INBOUND_PER_SECOND = 200;
const MAX_INBOUND_PENDING = 64;

/** The node with the one service that is used. */
export type PeerNode = Libp2p<{ ping: Ping }>;

export interface NodeInit {
  readonly privateKey: PrivateKey;
  /** `host:port` or `[v6]:port`; port 0: any. */
  readonly listen: string;
  /** Checked as soon as the identity of the other side is proven, and before a dial. */
  readonly banned: (peerId: string) => boolean;
  /** Told of what its sockets read. @default nobody */
  readonly pace?: ReadPace | undefined;
}

/** Starts the node. @throws AgentError PORT_IN_USE */
export async function startNode({ privateKey, listen, banned, pace }: NodeInit): Promise<PeerNode> {
  const deny = (peerId: { toString(): string }): boolean => banned(peerId.toString());
  try {
    return await createLibp2p({
      privateKey,
      addresses: { listen: [toMultiaddr(listen)] },
      transports: [wholeMessageTcp(pace)],
      connectionEncrypters: [wholeNoise()],
      streamMuxers: [
        yamux({ streamOptions: { initialStreamWindowSize: YAMUX_WINDOW_BYTES, maxStreamWindowSize: YAMUX_WINDOW_BYTES } }),
      ],
      services: { ping: ping() },
      connectionGater: {
        denyDialPeer: deny,
        denyInboundEncryptedConnection: deny,
        denyOutboundEncryptedConnection: deny,
      },
      // It aborts busy connections, whose first ping comes late: liveness.ts looks instead.
      connectionMonitor: { enabled: false },
      connectionManager: {
        maxConnections: MAX_CONNECTIONS,
        inboundConnectionThreshold: MAX_INBOUND_PER_SECOND,
        maxIncomingPendingConnections: MAX_INBOUND_PENDING,
        inboundUpgradeTimeout: UPGRADE_TIMEOUT_MS,
        dialTimeout: DIAL_TIMEOUT_MS,
        addressDialTimeout: ADDRESS_DIAL_TIMEOUT_MS,
        reconnectRetries: 0,
      },
    });
  } catch (error) {
    if (error instanceof Error && error.message.includes('EADDRINUSE')) {
      throw new AgentError('PORT_IN_USE', `${listen} is in use: choose another with --p2p-listen`, { cause: error, detail: { listen } });
    }
    throw error;
  }
}

/**
 * The multiaddr of `host:port`, `[v6]:port`, `name:port`, or of a host alone where a port is given.
 * @throws AgentError CONFIG_INVALID
 */
export function toMultiaddr(text: string, defaultPort?: number): string {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<host>[A-Za-z0-9._-]+))(?::(?<port>\d{1,5}))?$/.exec(text);
  const { v6, host, port = defaultPort } = match?.groups ?? {};
  const name = v6 ?? host;
  if (name === undefined || port === undefined || Number(port) > 65535) {
    throw new AgentError('CONFIG_INVALID', `"${text}" is no host:port`, { detail: { value: text } });
  }
  const kind = v6 !== undefined ? 'ip6' : /^\d+(\.\d+){3}$/.test(name) ? 'ip4' : 'dns';
  try {
    return multiaddr(`/${kind}/${name}/tcp/${port}`).toString();
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `"${text}" is no host:port`, { cause: error, detail: { value: text } });
  }
}

/** Where other agents reach this node: what was announced, else every address it listens on, loopback only if alone. */
export function reachableAt(node: Libp2p, announce: readonly string[]): string[] {
  const listening = node.getMultiaddrs().map((address) => address.toString().split('/p2p/')[0]!);
  const port = Number(/\/tcp\/(\d+)/.exec(listening[0] ?? '')?.[1] ?? 0);
  if (announce.length > 0) return announce.map((text) => toMultiaddr(text, port));
  const outward = listening.filter((address) => !/^\/ip4\/127\.|^\/ip6\/(::1|fe80)/.test(address));
  return outward.length > 0 ? outward : listening;
}
