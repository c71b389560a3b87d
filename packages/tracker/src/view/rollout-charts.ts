// Rollouts while they move: the chart of hosts done over time, and each host's row with why it is slow.
//
// Bounds: MAX_POINTS points per rollout (then every second one goes), the rollouts that are kept. Non-goals: rollouts themselves (rollouts/).

import { ROLLOUT_HOST_STATES, type ProgressPoint, type RolloutNow, type RolloutRow } from '@flotilla/shared/live-api';
import type { RolloutSummary } from '@flotilla/shared/rollout-api';
import type { Rollouts } from '../rollouts/rollouts.ts';
import type { ActiveImages } from './active-images.ts';
import { groupsOf, type Grouped } from './groups.ts';
import type { Hosts } from './hosts.ts';
import { slowHost } from './image-progress.ts';

const MAX_POINTS = 1_200;
const SLOWEST = 10;

interface Chart {
  readonly points: ProgressPoint[];
  point: ProgressPoint | undefined;
  every: number;
  ticks: number;
}

export class RolloutCharts {
  readonly #rollouts: Pick<Rollouts, 'list' | 'detail' | 'hosts'>;
  readonly #hosts: Hosts;
  readonly #images: ActiveImages;
  readonly #charts = new Map<string, Chart>();

  constructor(rollouts: Pick<Rollouts, 'list' | 'detail' | 'hosts'>, hosts: Hosts, images: ActiveImages) {
    this.#rollouts = rollouts;
    this.#hosts = hosts;
    this.#images = images;
  }

  /** Each second. */
  look(nowMs: number): void {
    const list = this.#rollouts.list(nowMs);
    const known = new Set(list.map(({ id }) => id));
    for (const id of this.#charts.keys()) if (!known.has(id)) this.#charts.delete(id);
    for (const summary of list) this.#sample(summary, nowMs);
  }

  has(id: string, nowMs: number): boolean {
    return this.#rollouts.list(nowMs).some((rollout) => rollout.id === id);
  }

  points(id: string): readonly ProgressPoint[] {
    return this.#charts.get(id)?.points ?? [];
  }

  /** That the last look has added. */
  point(id: string): ProgressPoint | undefined {
    return this.#charts.get(id)?.point;
  }

  /** @throws TrackerError ROLLOUT_UNKNOWN */
  now(id: string, nowMs: number): { readonly now: RolloutNow; readonly rows: RolloutRow[] } {
    const detail = this.#rollouts.detail(id, nowMs);
    const rows: RolloutRow[] = [];
    const grouped: Grouped[] = [];
    const slow: { readonly entry: RolloutNow['slowest'][number]; readonly leftMs: number }[] = [];
    for (const [peerId, , , state, connected, wave, share, rate, word] of this.#rollouts.hosts(id, nowMs).rows) {
      const host = this.#hosts.find(peerId);
      if (host === undefined) continue;
      const working = state === 'working';
      rows.push([host.n, ROLLOUT_HOST_STATES.indexOf(state), connected, wave, share, rate, word, working ? host.slowIndex : 0]);
      grouped.push({ host, held: Math.max(0, share), size: 1000, whole: state === 'done', fetching: working });
      if (!working) continue;
      const { held, size } = host.fetching;
      const leftMs = rate === 0 ? Number.MAX_SAFE_INTEGER : Math.ceil(((size - held) * 1000) / rate);
      slow.push({ leftMs, entry: { ...slowHost(host, held, size, rate, rate === 0 ? undefined : leftMs), share: Math.max(0, share) } });
    }
    slow.sort((a, b) => b.leftMs - a.leftMs || a.entry.share - b.entry.share);
    const bound = detail.manifests.map(({ manifest }) => this.#images.progressOf(manifest, nowMs)?.now.bound).find((each) => each !== undefined);
    return { now: { detail, slowest: slow.slice(0, SLOWEST).map(({ entry }) => entry), groups: groupsOf(grouped, nowMs), ...(bound !== undefined && { bound }) }, rows };
  }

  #sample({ id, createdAtMs, hosts, bytes }: RolloutSummary, nowMs: number): void {
    const chart = this.#charts.get(id) ?? { points: [], point: undefined, every: 1, ticks: 0 };
    this.#charts.set(id, chart);
    chart.point = undefined;
    const last = chart.points.at(-1);
    const share = bytes.total === 0 ? 0 : Math.min(1000, Math.floor((1000 * bytes.held) / bytes.total));
    if (last !== undefined && last[1] === hosts.done && last[2] === share) return;
    if (chart.ticks++ % chart.every !== 0 && hosts.working > 0) return;
    chart.point = [Math.round((nowMs - createdAtMs) / 100) / 10, hosts.done, share, hosts.total];
    chart.points.push(chart.point);
    if (chart.points.length <= MAX_POINTS) return;
    chart.every *= 2;
    chart.points.splice(0, chart.points.length, ...chart.points.filter((_, index) => index % 2 === 0));
  }
}
