// The topics of the live stream: what each one's snapshot and deltas are made of (shared/live-api.ts has the contract).

import type { HostInfo, ImageNow, ProgressPoint, ProgressRow, RolloutNow, RolloutRow, ThroughputPoint } from '@flotilla/shared/live-api';
import type { Image } from './image-catalogue.ts';
import { GONE, type Topic } from './live.ts';
import { RowDiff } from './row-diff.ts';

/** What changes as a whole: told whole, when it changed. */
export class WholeTopic implements Topic {
  readonly #make: (nowMs: number) => object | undefined;
  #last = '';

  /** @param make undefined: there is no such thing any more */
  constructor(make: (nowMs: number) => object | undefined) {
    this.#make = make;
  }

  tick(nowMs: number): string | typeof GONE | undefined {
    const made = this.#make(nowMs);
    if (made === undefined) return GONE;
    const text = JSON.stringify(made);
    // `atMs` alone is no news.
    const news = JSON.stringify({ ...made, atMs: 0 });
    if (news === this.#last) return undefined;
    this.#last = news;
    return text;
  }

  snapshot(nowMs: number): string {
    const made = this.#make(nowMs) ?? {};
    this.#last = JSON.stringify({ ...made, atMs: 0 });
    return JSON.stringify(made);
  }
}

/** As of the last tick of the view. */
export interface FleetTexts {
  /** JSON of FleetNow. */
  now(): string;
  point(): ThroughputPoint;
  series(): readonly ThroughputPoint[];
  /** epoch, version, startedAtMs as JSON members. */
  readonly head: string;
}

export class FleetTopic implements Topic {
  readonly #from: FleetTexts;

  constructor(from: FleetTexts) {
    this.#from = from;
  }

  tick(nowMs: number): string {
    return `{"topic":"fleet","atMs":${nowMs},"now":${this.#from.now()},"point":${JSON.stringify(this.#from.point())}}`;
  }

  snapshot(nowMs: number): string {
    return `{"topic":"fleet","atMs":${nowMs},${this.#from.head},"now":${this.#from.now()},"series":${JSON.stringify(this.#from.series())}}`;
  }
}

export interface HostRows {
  infos(): Iterable<HostInfo>;
  /** `[n, JSON of HostFigures]` */
  figures(nowMs: number): Iterable<readonly [n: number, text: string]>;
}

export class HostsTopic implements Topic {
  readonly #from: HostRows;
  readonly #infos = new RowDiff();
  readonly #figures = new RowDiff();
  /** Of each host the object that its text was made of: it is replaced when it changes. */
  readonly #texts = new WeakMap<HostInfo, string>();

  constructor(from: HostRows, nowMs: number) {
    this.#from = from;
    this.#update(nowMs);
  }

  tick(nowMs: number): string | undefined {
    const { infos, figures } = this.#update(nowMs);
    if (infos.changed.length + figures.changed.length + infos.gone.length === 0) return undefined;
    return `{"topic":"hosts","atMs":${nowMs},"infos":[${infos.changed.join(',')}],"figures":[${figures.changed.join(',')}],"gone":[${infos.gone.join(',')}]}`;
  }

  snapshot(nowMs: number): string {
    return `{"topic":"hosts","atMs":${nowMs},"infos":[${this.#infos.all()}],"figures":[${this.#figures.all()}]}`;
  }

  #update(nowMs: number): { infos: ReturnType<RowDiff['update']>; figures: ReturnType<RowDiff['update']> } {
    return { infos: this.#infos.update(this.#infoTexts()), figures: this.#figures.update(this.#from.figures(nowMs)) };
  }

  *#infoTexts(): Generator<readonly [number, string]> {
    for (const info of this.#from.infos()) {
      let text = this.#texts.get(info);
      if (text === undefined) this.#texts.set(info, (text = JSON.stringify(info)));
      yield [info.n, text];
    }
  }
}

/** The progress of an image, as of the last tick of the view. */
export interface ProgressState {
  readonly image: Image;
  readonly now: ImageNow;
  readonly beganAtMs: number | undefined;
  readonly points: readonly ProgressPoint[];
  readonly point: ProgressPoint | undefined;
  rows(nowMs: number): Iterable<ProgressRow>;
}

export class ImageTopic implements Topic {
  readonly #topic: string;
  readonly #progress: () => ProgressState | undefined;
  readonly #rows = new RowDiff();
  #beganAtMs: number | undefined;
  #last: ProgressState;

  /** @param progress undefined: it is not known any more */
  constructor(topic: string, first: ProgressState, progress: () => ProgressState | undefined, nowMs: number) {
    this.#topic = topic;
    this.#progress = progress;
    this.#last = first;
    this.#beganAtMs = first.beganAtMs;
    this.#update(nowMs);
  }

  tick(nowMs: number): string | typeof GONE | undefined {
    const progress = this.#progress();
    // A pull that begins anew has a new chart: that is a new snapshot.
    if (progress === undefined || progress.beganAtMs !== this.#beganAtMs) return GONE;
    this.#last = progress;
    const { changed, gone } = this.#update(nowMs);
    const { now, point } = progress;
    if (changed.length + gone.length === 0 && point === undefined) return undefined;
    const tail = point === undefined ? '' : `,"point":${JSON.stringify(point)}`;
    return `{"topic":${JSON.stringify(this.#topic)},"atMs":${nowMs},"now":${JSON.stringify(now)},"rows":[${changed.join(',')}],"gone":[${gone.join(',')}]${tail}}`;
  }

  snapshot(nowMs: number): string {
    const { image, now, beganAtMs, points } = this.#last;
    const head = JSON.stringify({ topic: this.#topic, atMs: nowMs, digest: image.digest, names: image.names, size: image.size, ...(beganAtMs !== undefined && { beganAtMs }), now, series: points });
    return `${head.slice(0, -1)},"rows":[${this.#rows.all()}]}`;
  }

  #update(nowMs: number): ReturnType<RowDiff['update']> {
    return this.#rows.update(texts(this.#last.rows(nowMs)));
  }
}

/** A rollout, as of the last tick of the view. */
export interface RolloutState {
  /** undefined: it is not kept any more. */
  now(nowMs: number): { readonly now: RolloutNow; readonly rows: readonly RolloutRow[] } | undefined;
  points(): readonly ProgressPoint[];
  point(): ProgressPoint | undefined;
}

export class RolloutTopic implements Topic {
  readonly #topic: string;
  readonly #from: RolloutState;
  readonly #rows = new RowDiff();
  #now: string;

  constructor(topic: string, from: RolloutState, first: NonNullable<ReturnType<RolloutState['now']>>) {
    this.#topic = JSON.stringify(topic);
    this.#from = from;
    this.#now = JSON.stringify(first.now);
    this.#rows.update(texts(first.rows));
  }

  tick(nowMs: number): string | typeof GONE | undefined {
    const made = this.#from.now(nowMs);
    if (made === undefined) return GONE;
    const now = JSON.stringify(made.now);
    const { changed, gone } = this.#rows.update(texts(made.rows));
    const point = this.#from.point();
    if (now === this.#now && changed.length + gone.length === 0 && point === undefined) return undefined;
    this.#now = now;
    const tail = point === undefined ? '' : `,"point":${JSON.stringify(point)}`;
    return `{"topic":${this.#topic},"atMs":${nowMs},"now":${now},"rows":[${changed.join(',')}],"gone":[${gone.join(',')}]${tail}}`;
  }

  snapshot(nowMs: number): string {
    return `{"topic":${this.#topic},"atMs":${nowMs},"now":${this.#now},"rows":[${this.#rows.all()}],"series":${JSON.stringify(this.#from.points())}}`;
  }
}

function* texts(rows: Iterable<ProgressRow | RolloutRow>): Generator<readonly [number, string]> {
  for (const row of rows) yield [row[0], JSON.stringify(row)];
}
