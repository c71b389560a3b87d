// The topics of the live stream as pages use them: `useFleet()`, `useHosts()`, `useTopic(...)`. Snapshots and deltas are put together here.
//
// Tables (Map by host number) are changed in place and handed on in a new object, so that 2,000 rows a second cost no copies: read them, keep nothing.

import type {
  Changes,
  FleetDelta,
  FleetSnapshot,
  HostDetail,
  HostFigures,
  HostInfo,
  HostsDelta,
  HostsSnapshot,
  ImageDelta,
  ImageSnapshot,
  ProgressPoint,
  ProgressRow,
  RolloutDelta,
  RolloutRow,
  RolloutSnapshot,
  SwarmLive,
} from '@flotilla/shared/live-api';
import type { RolloutList } from '@flotilla/shared/rollout-api';
import { useEffect, useMemo } from 'preact/hooks';
import { live, WAITING, type Reducer, type TopicState } from './live.ts';

/** Of the last hour, a point each second. */
const MAX_POINTS = 3_600;

export type FleetState = Omit<FleetSnapshot, 'topic'>;
export interface HostsState {
  readonly infos: ReadonlyMap<number, HostInfo>;
  readonly figures: ReadonlyMap<number, HostFigures>;
}
export type ImageState = Omit<ImageSnapshot, 'topic' | 'rows'> & { readonly rows: ReadonlyMap<number, ProgressRow> };
export type RolloutState = Omit<RolloutSnapshot, 'topic' | 'rows'> & { readonly rows: ReadonlyMap<number, RolloutRow> };

/** Of the tracker that this page is of. */
let release: string | undefined;

const FLEET: Reducer<FleetState> = {
  snapshot: (data: FleetSnapshot) => {
    // A tracker of another release has pages of its own.
    if (release !== undefined && data.version !== release) location.reload();
    release ??= data.version;
    return data;
  },
  delta: (before, { atMs, now, point }: FleetDelta) => {
    const { series } = before;
    const last = series.at(-1)?.[0] ?? 0;
    if (point[0] > last) series.push(point);
    if (series.length > MAX_POINTS) series.splice(0, series.length - MAX_POINTS);
    return { ...before, atMs, now };
  },
};

const HOSTS: Reducer<HostsState> = {
  snapshot: ({ infos, figures }: HostsSnapshot) => ({ infos: new Map(infos.map((info) => [info.n, info])), figures: byNumber(figures) }),
  delta: (before, { infos, figures, gone }: HostsDelta) => {
    const [knownInfos, knownFigures] = [before.infos as Map<number, HostInfo>, before.figures as Map<number, HostFigures>];
    for (const info of infos) knownInfos.set(info.n, info);
    for (const row of figures) knownFigures.set(row[0], row);
    for (const n of gone) {
      knownInfos.delete(n);
      knownFigures.delete(n);
    }
    return { ...before };
  },
};

const IMAGE: Reducer<ImageState> = {
  snapshot: ({ rows, ...rest }: ImageSnapshot) => ({ ...rest, rows: byNumber(rows) }),
  delta: (before, { atMs, now, rows, gone, point }: ImageDelta) => {
    if (point !== undefined) addPoint(before.series, point);
    return { ...before, atMs, now, rows: changed(before.rows, rows, gone) };
  },
};

const ROLLOUT: Reducer<RolloutState> = {
  snapshot: ({ rows, ...rest }: RolloutSnapshot) => ({ ...rest, rows: byNumber(rows) }),
  delta: (before, { atMs, now, rows, gone, point }: RolloutDelta) => {
    if (point !== undefined) addPoint(before.series, point);
    return { ...before, atMs, now, rows: changed(before.rows, rows, gone) };
  },
};

/** Told whole each time. */
const WHOLE = { snapshot: (data: never) => data as unknown, delta: (_before: unknown, data: never) => data as unknown };

export const useFleet = (): TopicState<FleetState> => useLive('fleet', FLEET);
export const useHosts = (): TopicState<HostsState> => useLive('hosts', HOSTS);
export const useImage = (digest: string): TopicState<ImageState> => useLive(`image:${digest}`, IMAGE);
export const useRollout = (id: string): TopicState<RolloutState> => useLive(`rollout:${id}`, ROLLOUT);
export const useRollouts = (): TopicState<RolloutList> => useLive('rollouts', WHOLE as Reducer<RolloutList>);
export const useSwarm = (digest: string): TopicState<SwarmLive> => useLive(`swarm:${digest}`, WHOLE as Reducer<SwarmLive>);
/** @param wanted false: nothing is listened to */
export const useChanges = (wanted: boolean): Changes | undefined => useLive(wanted ? 'changes' : undefined, WHOLE as Reducer<Changes>).value;
export const useHost = (peerId: string): TopicState<HostDetail> => useLive(`host:${peerId}`, WHOLE as Reducer<HostDetail>);

function useLive<T>(name: string | undefined, reducer: Reducer<T>): TopicState<T> {
  const used = useMemo(() => (name === undefined ? undefined : live.use(name, reducer)), [name]);
  useEffect(() => used?.release, [used]);
  return used?.state.value ?? WAITING;
}

/** A page that is open for days keeps a curve of every second point. */
function addPoint(series: ProgressPoint[], point: ProgressPoint): void {
  series.push(point);
  if (series.length > MAX_POINTS) series.splice(0, series.length, ...series.filter((_, index) => index % 2 === 0));
}

function byNumber<Row extends readonly [number, ...unknown[]]>(rows: readonly Row[]): Map<number, Row> {
  return new Map(rows.map((row) => [row[0], row]));
}

function changed<Row extends readonly [number, ...unknown[]]>(known: ReadonlyMap<number, Row>, rows: readonly Row[], gone: readonly number[]): ReadonlyMap<number, Row> {
  const table = known as Map<number, Row>;
  for (const row of rows) table.set(row[0], row);
  for (const n of gone) table.delete(n);
  return table;
}
