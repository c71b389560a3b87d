// The lab's network: a namespace per host, bridges in a namespace of their own, a token bucket on both ends of each link.
//
//   [host h1] eth0 ─tbf─ ─tbf─ h1 ┐
//   [host h2] eth0 ─tbf─ ─tbf─ h2 ├ br0   [the bridge's namespace]
//   [origin]  eth0 ─tbf─ ─tbf─ …  ┘
//
// A zone is a bridge of its own, joined to br0 by a link with token buckets at both ends:   br0 ─ zone1 ─tbf─ ─tbf─ zone1in ─ br1
//
// Invariant: nothing of the machine's own network is touched; deleting the namespaces removes all of it.
// A namespace is deleted only once no process is left in it, so processes are ended first.

import { readFileSync } from 'node:fs';
import { run } from './command.ts';
import { NAMESPACE_PREFIX, removeNamespace } from './leftovers.ts';
import { startIn, type LabProcess } from './processes.ts';

const SUBNET = '10.77.0.0/16';
/** A packet may wait 50 ms for its turn. */
const BUCKET = ['burst', '64kb', 'latency', '50ms'];

/** A host's place in the network. */
export interface Link {
  readonly namespace: string;
  readonly address: string;
  /** Of its network card. */
  readonly mac: string;
  /** Name of the bridge's end. */
  readonly port: string;
  /** Bits per second, each way. */
  readonly rateBps: number;
}

/** Bytes since the link was made, seen from the host. */
export interface Traffic {
  readonly down: number;
  readonly up: number;
}

export class Network {
  readonly #prefix: string;
  readonly #bridge: string;
  readonly #congestion: string | undefined;
  readonly #signal: AbortSignal;
  readonly #namespaces: string[] = [];
  #keeper: LabProcess | undefined;
  #hosts = 0;
  /** Devices that are nobody's link: bridges, the loopback, the inner ends of the zones' links. */
  readonly #apart = new Set(['br0', 'lo']);

  private constructor(congestion: string | undefined, signal: AbortSignal) {
    this.#prefix = `${NAMESPACE_PREFIX}${process.pid}-`;
    this.#bridge = `${this.#prefix}bridge`;
    this.#congestion = congestion;
    this.#signal = signal;
  }

  /**
   * Starts with an empty bridge. `opened` takes it down again, whatever was built by then.
   * @param congestion the hosts' TCP congestion control; undefined: the machine's own
   */
  static async create(congestion: string | undefined, opened: AsyncDisposableStack, signal: AbortSignal): Promise<Network> {
    const network = new Network(congestion, signal);
    opened.defer(() => network.#remove());
    await network.#addNamespace(network.#bridge);
    await run('ip', ['-n', network.#bridge, '-batch', '-'], { signal, input: 'link set dev lo up\nlink add name br0 type bridge\nlink set dev br0 up addrgenmode none\n' });
    // Its /proc/PID/net/dev shows every port at once, without starting a program per look.
    network.#keeper = startIn(network.#bridge, 'sleep', ['infinity']);
    return network;
  }

  /** A new zone, with a link of this rate, each way, to where everything else is. @returns the port that counts what goes in (down) and out (up) */
  async addZone(number: number, rateBps: number): Promise<string> {
    const [port, inner, bridge] = [`zone${number}`, `zone${number}in`, `br${number}`];
    await run('ip', ['-n', this.#bridge, '-batch', '-'], {
      signal: this.#signal,
      input: [
        `link add name ${bridge} type bridge`,
        `link set dev ${bridge} up addrgenmode none`,
        `link add name ${port} type veth peer name ${inner}`,
        `link set dev ${port} master br0 addrgenmode none up`,
        `link set dev ${inner} master ${bridge} addrgenmode none up\n`,
      ].join('\n'),
    });
    for (const device of [port, inner]) await run('tc', ['-n', this.#bridge, 'qdisc', 'add', 'dev', device, 'root', 'tbf', 'rate', `${rateBps}bit`, ...BUCKET], { signal: this.#signal });
    this.#apart.add(inner).add(bridge);
    return port;
  }

  /** A new host. @param zone its number; absent: where the origin is */
  async attach(name: string, rateBps: number, zone = 0): Promise<Link> {
    const at = ++this.#hosts;
    const [high, low] = [at >> 7, (at & 127) + 1];
    const mac = ['02', '00', '0a', '4d', ...[high, low].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
    const link: Link = { namespace: this.#prefix + name, address: `10.77.${high}.${low}`, mac, port: name, rateBps };
    const signal = this.#signal;
    await this.#addNamespace(link.namespace);
    await run('ip', ['-n', this.#bridge, '-batch', '-'], {
      signal,
      input: `link add name ${link.port} type veth peer name eth0 netns ${link.namespace}\nlink set dev ${link.port} master br${zone} addrgenmode none up\n`,
    });
    await run('ip', ['-n', link.namespace, '-batch', '-'], {
      signal,
      input: `link set dev lo up\nlink set dev eth0 address ${mac} addrgenmode none up\naddr add ${link.address}/16 dev eth0\n`,
    });
    if (this.#congestion !== undefined) {
      // By route: a namespace may not choose what the machine does not allow to everybody.
      await run('ip', ['-n', link.namespace, 'route', 'change', SUBNET, 'dev', 'eth0', 'proto', 'kernel', 'scope', 'link', 'src', link.address, 'congctl', this.#congestion], { signal });
    }
    for (const [namespace, device] of [[this.#bridge, link.port], [link.namespace, 'eth0']] as const) {
      await run('tc', ['-n', namespace, 'qdisc', 'add', 'dev', device, 'root', 'tbf', 'rate', `${rateBps}bit`, ...BUCKET], { signal });
    }
    return link;
  }

  /**
   * Tells each of these hosts where the others are, for good. The kernel keeps 1024 neighbours that it has to ask for, in all namespaces together:
   * with 33 hosts that all talk to one another some would find nobody.
   */
  async introduce(links: readonly Link[]): Promise<void> {
    for (const { namespace } of links) {
      const others = links.filter((link) => link.namespace !== namespace);
      const input = others.map(({ address, mac }) => `neigh add ${address} lladdr ${mac} dev eth0 nud permanent\n`).join('');
      await run('ip', ['-n', namespace, '-batch', '-'], { signal: this.#signal, input });
    }
  }

  /** Another rate towards the host, in the middle of what it does. */
  async narrow({ port }: Link, rateBps: number): Promise<void> {
    await run('tc', ['-n', this.#bridge, 'qdisc', 'change', 'dev', port, 'root', 'tbf', 'rate', `${rateBps}bit`, ...BUCKET], { signal: this.#signal });
  }

  /** The interfaces' counters, by port. They count a segment that the network card would split as one packet, so headers are undercounted. */
  traffic(): Map<string, Traffic> {
    const counters = new Map<string, Traffic>();
    for (const line of readFileSync(`/proc/${this.#keeper!.pid}/net/dev`, 'utf8').split('\n')) {
      const [name, figures] = line.split(':');
      const [up = 0, , , , , , , , down = 0] = (figures ?? '').trim().split(/\s+/).map(Number);
      if (figures !== undefined && !this.#apart.has(name!.trim())) counters.set(name!.trim(), { down, up });
    }
    return counters;
  }

  /** Bytes towards each host as the token bucket counts them: every frame with its own headers, as on a cable. By port. */
  async framesDown(): Promise<Map<string, number>> {
    const buckets = JSON.parse(await run('tc', ['-n', this.#bridge, '-s', '-j', 'qdisc', 'show'], { signal: this.#signal })) as { kind: string; dev: string; bytes: number }[];
    return new Map(buckets.filter(({ kind }) => kind === 'tbf').map(({ dev, bytes }) => [dev, bytes]));
  }

  async #addNamespace(name: string): Promise<void> {
    this.#namespaces.push(name);
    await run('ip', ['netns', 'add', name], { signal: this.#signal });
  }

  async #remove(): Promise<void> {
    await this.#keeper?.end('SIGKILL');
    for (const name of this.#namespaces) await removeNamespace(name);
  }
}
