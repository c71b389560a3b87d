// `flotilla pull IMAGE`: has an image on this host before anybody asks for it, and shows how it comes.
//
// On a terminal the blobs under way are bars at the bottom, finished ones lines above them; elsewhere there is a line for each that is
// finished, and with --json every event of the agent as it is, one a line.

import { MultiBar, Presets, type SingleBar } from 'cli-progress';
import { loadDataDir, type ConfigInput } from '../config.ts';
import { parsePlatform } from '../content/platform.ts';
import type { BlobProgress, PullDone, PullEvent, PulledBlob } from '../pull.ts';
import { ControlClient } from './control-client.ts';
import { EXIT } from './exit-codes.ts';
import { CommandFailure } from './failure.ts';
import { humanBytes, humanDuration, type Terminal } from './terminal.ts';

export interface PullOptions {
  readonly platform?: string | undefined;
  readonly json?: boolean | undefined;
}

/** @returns 0 it is here, 1 it is not @throws CommandFailure, AgentError CONFIG_INVALID */
export async function pullImage(image: string, { platform, json = false }: PullOptions, input: ConfigInput, terminal: Terminal, signal: AbortSignal): Promise<number> {
  if (platform !== undefined && parsePlatform(platform) === undefined) {
    throw new CommandFailure(`"${platform}" is no platform`, 'Write os/architecture, such as linux/arm64 or linux/arm/v7.', { exitCode: EXIT.usage });
  }
  const client = new ControlClient(loadDataDir(input));
  const view = json ? new Lines(terminal) : terminal.screen === undefined ? new Report(terminal) : new Bars(terminal, terminal.screen);
  try {
    for await (const event of client.pull(image, platform, signal)) {
      view.show(event);
      if (event.type === 'done') return EXIT.ok;
      if (event.type === 'failed') {
        view.close();
        throw new CommandFailure(`${event.code}: ${event.message}`, event.help);
      }
    }
    throw new CommandFailure('the agent stopped before the image was here', 'Start it again; what has come stays.');
  } finally {
    view.close();
  }
}

interface View {
  show(event: PullEvent): void;
  close(): void;
}

/** For programs. */
class Lines implements View {
  readonly #terminal: Terminal;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(event: PullEvent): void {
    this.#terminal.out(`${JSON.stringify(event)}\n`);
  }

  close(): void {}
}

/** For logs. */
class Report implements View {
  readonly #terminal: Terminal;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(event: PullEvent): void {
    if (event.type === 'blob') this.#terminal.out(`${describeBlob(event)}\n`);
    if (event.type === 'manifest') for (const blob of event.blobs.filter(({ state }) => state === 'elsewhere')) this.#terminal.out(`${describeElsewhere(blob)}\n`);
    if (event.type === 'done') this.#terminal.out(describeDone(event));
  }

  close(): void {}
}

/** For people. */
class Bars implements View {
  readonly #terminal: Terminal;
  readonly #bars: MultiBar;
  readonly #running = new Map<string, { readonly bar: SingleBar; readonly rate: Rate }>();
  readonly #blobs = new Map<string, PulledBlob>();

  constructor(terminal: Terminal, screen: NodeJS.WriteStream) {
    this.#terminal = terminal;
    this.#bars = new MultiBar(
      { stream: screen, format: '{name} {bar} {here} of {size}  {rate}/s  {share}', barsize: 24, hideCursor: true, clearOnComplete: true, fps: 5, gracefulExit: false, linewrap: false },
      Presets.shades_classic,
    );
  }

  show(event: PullEvent): void {
    switch (event.type) {
      case 'resolved':
        break;
      case 'manifest':
        for (const blob of event.blobs) this.#blobs.set(blob.digest, blob);
        for (const blob of event.blobs.filter(({ state }) => state === 'elsewhere')) this.#bars.log(`${describeElsewhere(blob)}\n`);
        break;
      case 'progress':
        for (const blob of event.blobs) this.#move(blob);
        break;
      case 'blob':
        this.#end(event.digest);
        this.#bars.log(`${describeBlob(event)}\n`);
        // Lines above the bars appear with the next drawing.
        this.#bars.update();
        break;
      case 'done':
        this.close();
        this.#terminal.out(describeDone(event));
        break;
      case 'failed':
        break;
    }
  }

  close(): void {
    for (const digest of this.#running.keys()) this.#end(digest);
    this.#bars.stop();
  }

  #move(blob: BlobProgress): void {
    const { digest, bytes } = blob;
    const size = this.#blobs.get(digest)?.size ?? bytes;
    const { bar, rate } = this.#running.get(digest) ?? this.#begin(digest, size);
    rate.count(bytes, performance.now());
    bar.update(bytes, { name: shortDigest(digest), here: humanBytes(bytes), size: humanBytes(size), rate: humanBytes(Math.round(rate.perSecond)), share: share(blob) });
  }

  #begin(digest: string, size: number): { bar: SingleBar; rate: Rate } {
    const entry = { bar: this.#bars.create(size, 0, { name: shortDigest(digest), here: '0 B', size: humanBytes(size), rate: '0 B', share: '' }), rate: new Rate() };
    this.#running.set(digest, entry);
    return entry;
  }

  #end(digest: string): void {
    const running = this.#running.get(digest);
    if (running !== undefined) this.#bars.remove(running.bar);
    this.#running.delete(digest);
  }
}

/** Bytes per second, the last few seconds counting most. */
class Rate {
  perSecond = 0;
  #last: { readonly bytes: number; readonly atMs: number } | undefined;

  count(bytes: number, atMs: number): void {
    const last = this.#last;
    this.#last = { bytes, atMs };
    if (last === undefined || atMs <= last.atMs) return;
    const now = (1000 * Math.max(0, bytes - last.bytes)) / (atMs - last.atMs);
    const weight = Math.min(1, (atMs - last.atMs) / 2000);
    this.perSecond = this.perSecond === 0 ? now : this.perSecond * (1 - weight) + now * weight;
  }
}

function describeBlob(blob: BlobProgress & { readonly ms: number }): string {
  return [shortDigest(blob.digest), humanBytes(blob.bytes), `in ${humanMs(blob.ms)}`, share(blob)].filter((part) => part !== '').join('  ');
}

function describeElsewhere({ digest, size }: PulledBlob): string {
  return `${shortDigest(digest)}  ${humanBytes(size)}  not in the registry: its client fetches it from elsewhere`;
}

function describeDone({ image, digest, bytes, storedBytes, peerBytes, originBytes, ms }: PullDone): string {
  if (storedBytes === bytes) return `${image} is here already: ${humanBytes(bytes)}, ${digest}\n`;
  const before = storedBytes === 0 ? '' : `, ${humanBytes(storedBytes)} of it before`;
  return `${image} is here: ${humanBytes(bytes)}${before}, in ${humanMs(ms)}; ${humanBytes(peerBytes)} from peers, ${humanBytes(originBytes)} from the origin\n${digest}\n`;
}

/** What came from peers, of what came. */
function share({ peerBytes, originBytes }: Pick<BlobProgress, 'peerBytes' | 'originBytes'>): string {
  const all = peerBytes + originBytes;
  return all === 0 ? '' : `${Math.round((100 * peerBytes) / all)} % from peers`;
}

function shortDigest(digest: string): string {
  return digest.slice(0, digest.indexOf(':') + 13);
}

function humanMs(ms: number): string {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : humanDuration(ms);
}
