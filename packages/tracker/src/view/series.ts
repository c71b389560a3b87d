// Throughput over time: a point each second for an hour, a point each minute for 7 days. Pure but for its table; minutes are durable.
//
// Bounds: HOUR_POINTS and WEEK_POINTS; what is older goes. Seconds in which nothing moved are not kept.

import type { ThroughputPoint } from '@flotilla/shared/live-api';
import type { Table } from '../state.ts';

const HOUR_POINTS = 3_600;
const WEEK_POINTS = 7 * 24 * 60;
const KEY_DIGITS = 12;
type Rates = readonly [peer: number, origin: number, uploaded: number, store: number];

export class Series {
  readonly #table: Table<Rates>;
  /** Oldest first. */
  readonly #seconds: ThroughputPoint[] = [];
  readonly #minutes: ThroughputPoint[];
  #sum: [number, number, number, number] = [0, 0, 0, 0];
  #minute = -1;
  #last = 0;
  #changes = 0;

  private constructor(table: Table<Rates>, minutes: ThroughputPoint[]) {
    this.#table = table;
    this.#minutes = minutes;
  }

  static async open(table: Table<Rates>, nowMs: number): Promise<Series> {
    const minutes: ThroughputPoint[] = [];
    const old = new Map<string, undefined>();
    const oldestS = Math.floor(nowMs / 1000) - WEEK_POINTS * 60;
    for await (const [key, rates] of table.entries()) {
      if (Number(key) < oldestS) old.set(key, undefined);
      else minutes.push([Number(key), ...rates]);
    }
    if (old.size > 0) await table.write(old);
    return new Series(table, minutes);
  }

  /** The mean of one second. @returns its point, and the write of a minute that has ended */
  add(rates: Rates, nowMs: number): { readonly point: ThroughputPoint; readonly write: Promise<void> | undefined } {
    const second = Math.floor(nowMs / 1000);
    const point: ThroughputPoint = [second, ...rates];
    const minute = second - (second % 60);
    const write = this.#minute >= 0 && minute !== this.#minute ? this.#endMinute() : undefined;
    this.#minute = minute;
    rates.forEach((rate, kind) => (this.#sum[kind]! += rate));
    const idle = rates.every((rate) => rate === 0);
    // The first zero after something moved brings the curve down.
    if (second > this.#last && (!idle || (this.#seconds.at(-1)?.slice(1).some((rate) => rate > 0) ?? false))) this.#seconds.push(point);
    this.#last = second;
    while (this.#seconds.length > 0 && this.#seconds[0]![0] <= second - HOUR_POINTS) this.#seconds.shift();
    return { point, write };
  }

  /** Another number after each change of the minutes. */
  get changes(): number {
    return this.#changes;
  }

  lastHour(): readonly ThroughputPoint[] {
    return this.#seconds;
  }

  lastWeek(): readonly ThroughputPoint[] {
    return this.#minutes;
  }

  #endMinute(): Promise<void> {
    const rates: Rates = [mean(this.#sum[0]), mean(this.#sum[1]), mean(this.#sum[2]), mean(this.#sum[3])];
    const minute = this.#minute;
    this.#sum = [0, 0, 0, 0];
    const before = this.#minutes.at(-1);
    const idle = rates.every((rate) => rate === 0) && (before === undefined || before.slice(1).every((rate) => rate === 0));
    if (idle) return Promise.resolve();
    this.#minutes.push([minute, ...rates]);
    this.#changes++;
    const changes = new Map<string, Rates | undefined>([[keyOf(minute), rates]]);
    while (this.#minutes.length > WEEK_POINTS || this.#minutes[0]![0] < minute - WEEK_POINTS * 60) changes.set(keyOf(this.#minutes.shift()![0]), undefined);
    return this.#table.write(changes);
  }
}

/** Of a minute, whatever part of it was told. */
function mean(sum: number): number {
  return Math.round(sum / 60);
}

function keyOf(second: number): string {
  return String(second).padStart(KEY_DIGITS, '0');
}
