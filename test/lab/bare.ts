// One bare transfer: plain libp2p programs (bare-peer.ts) in the places of tracker-less agents, connected before the clock starts, watched
// and counted as a rollout is. What it costs is what Flotilla is held against.

import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { COLLECTOR_FLAGS, MALLOC_ENVIRONMENT } from '@flotilla/agent/node-flags';
import { chunkSize } from '@flotilla/shared/chunk-map';
import type { BareConfig, BareOrder, BareWord } from './bare-peer.ts';
import type { ClientOutcome } from './clients.ts';
import type { Image } from './image.ts';
import { figuresOf, type Figures } from './measure.ts';
import { useMemoryOnce } from './memory.ts';
import type { Link } from './network.ts';
import { machineTime, startIn, type LabProcess } from './processes.ts';
import type { Places } from './rollout.ts';
import type { Plan } from './scenarios.ts';
import { Timeline } from './timeline.ts';

const PROGRAM = fileURLToPath(new URL('bare-peer.ts', import.meta.url));
/** Programs that start at the same moment: a start is all processor. */
const STARTS_AT_ONCE = 4;
const PATIENCE = 4;
const PATIENCE_S = 60;

export interface BareInit {
  readonly places: Places;
  readonly plan: Plan;
  readonly image: Image;
  /** For what it keeps on disk; removed by the caller. */
  readonly dir: string;
  /** Over the agent's own transport, with the flags of its process; else libp2p and Node as they come. */
  readonly own: boolean;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** @throws what the signal was aborted with, or where a program fails; all have ended by then */
export async function runBare({ places, plan, image, dir, own, signal, say }: BareInit): Promise<Figures> {
  await using opened = new AsyncDisposableStack();
  const file = join(dir, 'image');
  const digest = await writeImage(image, file);
  const common = { hosts: places.hosts.length, pieces: { bytes: image.bytes, pieceBytes: Math.max(...image.blobs.map(({ size }) => chunkSize(size))) }, file, own };
  const origin = await BarePeer.start({ ...common, host: undefined, address: places.origin.address }, places.origin, dir, opened);
  const hosts: BarePeer[] = [];
  for (let first = 0; first < places.hosts.length; first += STARTS_AT_ONCE) {
    const batch = places.hosts.slice(first, first + STARTS_AT_ONCE);
    hosts.push(...(await Promise.all(batch.map((link, at) => BarePeer.start({ ...common, host: first + at, address: link.address }, link, dir, opened)))));
    signal.throwIfAborted();
  }
  // One after the other: each dials the origin and those before it.
  for (const [host, peer] of hosts.entries()) peer.order({ peers: [origin.at, ...hosts.slice(0, host).map(({ at }) => at)] });
  for (const peer of [...hosts, origin]) await peer.heard('connected', signal);
  say(`${hosts.length} bare peers are connected`);
  const all = [origin, ...hosts].map(({ process }) => process);
  await useMemoryOnce(places.hosts.length, image.bytes, signal);
  const before = { machine: machineTime(), cpu: all.map((process) => process.cpuSeconds()), frames: await places.network.framesDown() };

  const timeline = new Timeline(places.network, opened);
  const patience = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil((PATIENCE * plan.boundS + PATIENCE_S) * 1000))]);
  origin.order({ go: true });
  const ends = await Promise.all(hosts.map((peer) => peer.heard('received', patience).then(() => performance.now())));
  const samples = timeline.stop();

  const after = { machine: machineTime(), cpu: all.map((process) => process.cpuSeconds()), frames: await places.network.framesDown() };
  const memory = hosts.map(({ process }) => process.memory());
  const outcomes: ClientOutcome[] = [];
  for (const [host, peer] of hosts.entries()) {
    peer.order({ check: true });
    const right = (await peer.heard('sha256', signal)) === digest;
    outcomes.push({ host, startedMs: timeline.startedMs, endedMs: ends[host]!, broken: 0, outcome: right ? 'right' : 'wrong' });
  }
  const [originCpu = 0, ...hostsCpu] = after.cpu.map((seconds, at) => seconds - before.cpu[at]!);
  const ports = places.hosts.map(({ port }) => port);
  const traffic = samples.at(-1)?.ports;
  return figuresOf({
    plan,
    blobs: image.blobs,
    startedMs: timeline.startedMs,
    outcomes,
    // By design: the origin's program has nothing that sends a piece twice.
    origin: { requests: 0, blobReads: 0, other: {}, payload: new Map(image.blobs.map(({ digest: blob, size }) => [blob, size])), payloadByClient: new Map() },
    zones: [],
    wire: {
      interfaces: sum(ports.map((port) => traffic?.get(port)?.down ?? 0)),
      frames: sum(ports.map((port) => (after.frames.get(port) ?? 0) - (before.frames.get(port) ?? 0))),
      sent: sum([...(traffic?.values() ?? [])].map(({ up }) => up)),
      received: sum([...(traffic?.values() ?? [])].map(({ down }) => down)),
    },
    originPort: places.origin.port,
    samples,
    cpuSeconds: { agents: sum(hostsCpu), tracker: 0, registry: originCpu },
    memory,
    idleShare: (after.machine.idle - before.machine.idle) / (after.machine.all - before.machine.all),
    metrics: [],
    died: [],
  });
}

class BarePeer {
  readonly process: LabProcess;
  readonly #words = new Map<string, unknown>();
  #look: () => void = () => undefined;
  #said = '';

  private constructor(process: LabProcess) {
    this.process = process;
    createInterface({ input: process.child.stdout! }).on('line', (line) => {
      for (const [word, value] of Object.entries(JSON.parse(line) as BareWord)) this.#words.set(word, value);
      this.#look();
    });
    process.child.stderr!.on('data', (bytes: Buffer) => (this.#said = `${this.#said}${bytes.toString()}`.slice(-1500)));
    process.child.stdin!.on('error', () => undefined);
    process.child.once('close', () => this.#look());
  }

  static async start(config: BareConfig, link: Link, dir: string, opened: AsyncDisposableStack): Promise<BarePeer> {
    const flags = config.own ? COLLECTOR_FLAGS : [];
    const peer = new BarePeer(startIn(link.namespace, process.execPath, [...flags, PROGRAM, JSON.stringify(config)], { piped: true, cwd: dir, ...(config.own && { env: MALLOC_ENVIRONMENT }) }));
    opened.defer(() => peer.process.end('SIGKILL'));
    await peer.heard('at', AbortSignal.timeout(PATIENCE_S * 1000));
    return peer;
  }

  /** Where it can be dialled. */
  get at(): string {
    return String(this.#words.get('at'));
  }

  order(order: BareOrder): void {
    this.process.child.stdin!.write(`${JSON.stringify(order)}\n`);
  }

  /** Waits until it says so. @throws the signal's reason, or where it ends before */
  async heard(word: 'at' | 'connected' | 'received' | 'sha256', signal: AbortSignal): Promise<unknown> {
    while (!this.#words.has(word)) {
      signal.throwIfAborted();
      if (this.process.exit !== undefined) throw new Error(`a bare peer has ended before it said "${word}": ${this.#said}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#look = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
      await promise;
    }
    return this.#words.get(word);
  }
}

/** @returns the digest of all blobs, one after the other */
async function writeImage(image: Image, file: string): Promise<string> {
  const hash = createHash('sha256');
  await writeFile(file, '');
  for (const { content } of image.blobs) {
    for await (const piece of content() as AsyncIterable<Buffer>) {
      hash.update(piece);
      await writeFile(file, piece, { flag: 'a' });
    }
  }
  return hash.digest('hex');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
