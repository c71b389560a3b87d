// How far every host is with one image, read off the swarms of its blobs. One instance while the image is active or looked at; `tick` each second.
//
// Pure but for what it reads. Bounds: a row per host, MAX_POINTS points of its chart (then every second one goes).
// Non-goals: what the image is (image-catalogue.ts), who listens (live.ts).

import { chunkSize } from '@flotilla/shared/chunk-map';
import type { ImageNow, LayerProgress, ProgressPoint, ProgressRow, SlowHost } from '@flotilla/shared/live-api';
import type { Swarm } from '../swarm.ts';
import { groupsOf } from './groups.ts';
import type { Host } from './host.ts';
import type { Hosts } from './hosts.ts';
import type { Image } from './image-catalogue.ts';

const SLOWEST = 10;
const MAX_POINTS = 1_200;
/** After so long without a host at work the next one begins a new chart. */
const PAUSE_MS = 60_000;

export interface ProgressSources {
  readonly hosts: Hosts;
  find(digest: string, size: number): Swarm | undefined;
  /** Who asked for it: at work although it holds nothing yet. */
  askers(): ReadonlyMap<string, number>;
}

/** One host on its way. */
interface Standing {
  readonly host: Host;
  held: number;
  /** Of what it holds nothing less is missing. */
  whole: boolean;
  fetching: boolean;
}

export class ImageProgress {
  readonly #image: () => Image;
  readonly #from: ProgressSources;
  readonly #points: ProgressPoint[] = [];
  #everyPoint = 1;
  #ticks = 0;
  #standings: readonly Standing[] = [];
  #now: ImageNow = { hosts: 0, done: 0, share: 0, rate: 0, layers: [], slowest: [], groups: { byReason: [], byZone: [], byVersion: [] } };
  #beganAtMs: number | undefined;
  #workedAtMs = 0;
  #best = { originRate: 0, downRate: 0, upRate: 0 };
  #point: ProgressPoint | undefined;

  /** @param image as it is known now: names come later */
  constructor(image: () => Image, from: ProgressSources) {
    this.#image = image;
    this.#from = from;
  }

  get image(): Image {
    return this.#image();
  }

  get now(): ImageNow {
    return this.#now;
  }

  get beganAtMs(): number | undefined {
    return this.#beganAtMs;
  }

  get points(): readonly ProgressPoint[] {
    return this.#points;
  }

  /** The point that the last tick has added. */
  get point(): ProgressPoint | undefined {
    return this.#point;
  }

  /** Hosts that fetch it now. */
  get atWork(): number {
    return this.#standings.filter(({ whole, fetching }) => fetching && !whole).length;
  }

  /** Hosts that have begun with it in this go, those that are done included. */
  get begun(): { readonly hosts: number; readonly done: number } {
    const askers = this.#from.askers();
    const began = this.#beganAtMs ?? 0;
    const mine = this.#standings.filter(({ host, fetching }) => fetching || (askers.get(host.peerId) ?? 0) >= began);
    return { hosts: mine.length, done: mine.filter(({ whole }) => whole).length };
  }

  rows(nowMs: number): ProgressRow[] {
    return this.#standings.map(({ host, held, whole, fetching }) => {
      const share = whole ? 1000 : Math.min(999, Math.floor((1000 * held) / Math.max(1, this.image.size)));
      const rate = fetching && !whole ? host.rate(nowMs) : 0;
      const left = whole || rate === 0 ? -1 : Math.ceil((this.image.size - held) / rate);
      return [host.n, share, rate, whole ? 0 : host.slowIndex, left];
    });
  }

  tick(nowMs: number): void {
    const layers: LayerProgress[] = [];
    const standings = new Map<string, Standing>();
    const standing = (peer: string): Standing | undefined => {
      const known = standings.get(peer);
      if (known !== undefined) return known;
      const host = this.#from.hosts.find(peer);
      if (host === undefined || !host.connected) return undefined;
      const made: Standing = { host, held: 0, whole: true, fetching: false };
      standings.set(peer, made);
      return made;
    };
    for (const peer of this.#from.askers().keys()) standing(peer);
    for (const blob of this.image.blobs) layers.push(this.#layer(blob, standing));
    this.#settleWhole(standings);
    this.#standings = [...standings.values()];
    const working = this.#standings.filter(({ whole, fetching }) => fetching && !whole);
    if (working.length > 0) {
      if (this.#beganAtMs === undefined || nowMs - this.#workedAtMs >= PAUSE_MS) this.#begin(nowMs);
      this.#workedAtMs = nowMs;
    }
    this.#now = this.#summary(layers, working, nowMs);
    this.#addPoint(nowMs, working.length > 0);
  }

  #layer({ digest, size, mediaType }: Image['blobs'][number], standing: (peer: string) => Standing | undefined): LayerProgress {
    const swarm = this.#from.find(digest, size);
    const layer = { digest, size, mediaType, hosts: 0, done: 0, share: 0, originBytes: 0 };
    if (swarm === undefined) return layer;
    const { book } = swarm;
    const { holdings, readers, chunks } = book;
    const bytesOfChunk = chunkSize(size);
    const askers = this.#from.askers();
    let held = 0;
    const count = (peer: string, chunksHeld: number, fetching: boolean): void => {
      const of = standing(peer);
      if (of === undefined) return;
      const bytes = Math.min(size, chunksHeld * bytesOfChunk);
      of.held += bytes;
      held += bytes;
      // A layer of several images is fetched for the one that the host has asked for.
      of.fetching ||= fetching && (askers.size === 0 || askers.has(peer));
      layer.hosts++;
      if (chunksHeld === chunks) layer.done++;
    };
    for (const peer of holdings.seeds) count(peer, chunks, false);
    for (const peer of readers.keys()) if (!holdings.isSeed(peer)) count(peer, holdings.count(peer), true);
    for (const peer of holdings.partials()) if (!readers.has(peer) && !holdings.isSeed(peer)) count(peer, holdings.count(peer), false);
    layer.share = layer.hosts === 0 || size === 0 ? 0 : Math.floor((1000 * held) / (layer.hosts * size));
    layer.originBytes = swarm.counted.originBytes;
    return layer;
  }

  /** Whole is who holds all bytes; an image of empty blobs alone is whole for who asked. */
  #settleWhole(standings: ReadonlyMap<string, Standing>): void {
    for (const each of standings.values()) each.whole = each.held >= this.image.size;
  }

  #summary(layers: LayerProgress[], working: readonly Standing[], nowMs: number): ImageNow {
    const all = this.#standings;
    const done = all.filter(({ whole }) => whole).length;
    const held = all.reduce((sum, each) => sum + each.held, 0);
    let rate = 0;
    let originRate = 0;
    let upRate = 0;
    /** Of those that move: what stands still would take for ever, and is told by its reason. */
    let left: number | undefined;
    const slow: { readonly entry: SlowHost; readonly slowness: number }[] = [];
    for (const { host, held: own } of working) {
      const mine = host.rate(nowMs);
      rate += mine;
      originRate += host.rateOf('origin', nowMs);
      upRate = Math.max(upRate, host.rateOf('uploaded', nowMs));
      this.#best.downRate = Math.max(this.#best.downRate, mine);
      const timeLeftMs = mine === 0 ? undefined : Math.ceil(((this.image.size - own) * 1000) / mine);
      if (timeLeftMs !== undefined) left = Math.max(left ?? 0, timeLeftMs);
      slow.push({ entry: slowHost(host, own, this.image.size, mine, timeLeftMs), slowness: timeLeftMs ?? Number.POSITIVE_INFINITY });
    }
    for (const { host, whole } of all) if (whole) upRate = Math.max(upRate, host.rateOf('uploaded', nowMs));
    this.#best.originRate = Math.max(this.#best.originRate, originRate);
    this.#best.upRate = Math.max(this.#best.upRate, upRate);
    slow.sort((a, b) => b.slowness - a.slowness || a.entry.rate - b.entry.rate);
    const bound = this.#bound(all.length);
    return {
      hosts: all.length,
      done,
      share: all.length === 0 || this.image.size === 0 ? 0 : Math.floor((1000 * held) / (all.length * this.image.size)),
      rate,
      ...(left !== undefined && { timeLeftMs: left }),
      layers,
      slowest: slow.slice(0, SLOWEST).map(({ entry }) => entry),
      groups: groupsOf(all.map((each) => ({ ...each, size: this.image.size })), nowMs),
      ...(bound !== undefined && { bound }),
    };
  }

  /** The fluid bound of a crowd: the first copy out of the origin, the last byte into a host, and all copies out of all links. */
  #bound(hosts: number): ImageNow['bound'] {
    const { originRate, downRate, upRate } = this.#best;
    if (originRate === 0 || downRate === 0) return undefined;
    const { size } = this.image;
    const seconds = Math.max(size / originRate, size / downRate, (hosts * size) / (originRate + hosts * Math.max(upRate, 1)));
    return { ms: Math.ceil(seconds * 1000), originRate, downRate, upRate };
  }

  #begin(nowMs: number): void {
    this.#beganAtMs = nowMs;
    this.#points.length = 0;
    this.#everyPoint = 1;
    this.#ticks = 0;
    this.#best = { originRate: 0, downRate: 0, upRate: 0 };
  }

  #addPoint(nowMs: number, working: boolean): void {
    this.#point = undefined;
    if (this.#beganAtMs === undefined) return;
    const last = this.#points.at(-1);
    const { done, share, hosts } = this.#now;
    // One point after the last host is done ends the curve.
    if (!working && last !== undefined && last[1] === done && last[2] === share && last[3] === hosts) return;
    if (this.#ticks++ % this.#everyPoint !== 0 && working) return;
    this.#point = [Math.round((nowMs - this.#beganAtMs) / 100) / 10, done, share, hosts];
    this.#points.push(this.#point);
    if (this.#points.length <= MAX_POINTS) return;
    this.#everyPoint *= 2;
    this.#points.splice(0, this.#points.length, ...this.#points.filter((_, index) => index % 2 === 0));
  }
}

export function slowHost(host: Host, held: number, size: number, rate: number, timeLeftMs: number | undefined): SlowHost {
  const share = size === 0 ? 0 : Math.min(1000, Math.floor((1000 * held) / size));
  return { n: host.n, reason: host.verdict.reason, evidence: host.verdict.evidence, rate, share, ...(timeLeftMs !== undefined && { timeLeftMs }) };
}
