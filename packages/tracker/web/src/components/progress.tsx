// How far the hosts of an image or a rollout are: all of them as a grid, how many were done over time against what links would allow, and each layer.

import { HOST_STATES, SLOW_REASONS } from '@flotilla/shared/live-lists';
import type { ImageNow, ProgressPoint } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { count, duration, plural, rate, share, shortDigest, shortPeer, bytes } from '../format.ts';
import { navigate } from '../router.ts';
import { useHosts, type HostsState } from '../topics.ts';
import { REASON_NAMES } from './badge.tsx';
import { Legend, ShareBar } from './bar.tsx';
import { Chart, type ChartData } from './chart.tsx';
import { HostGrid, type GridCell } from './host-grid.tsx';
import { Empty } from './note.tsx';
import { Panel } from './panel.tsx';
import { Table } from './table.tsx';

const UP = HOST_STATES.indexOf('up');

/** A host on its way. */
export interface HostProgress {
  readonly n: number;
  /** Thousandths; -1: not known. */
  readonly share: number;
  readonly rate: number;
  /** Index into SLOW_REASONS. */
  readonly reason: number;
  /** Seconds; -1: not known. */
  readonly leftS: number;
  readonly failed: boolean;
  /** What it is at, or why it failed; empty: what its share says. */
  readonly at: string;
}

/** The grid, with its legend. `hosts` is read anew when it is another array. */
export function ProgressGrid({ hosts, title, aside }: { readonly hosts: readonly HostProgress[]; readonly title: string; readonly aside: string }): JSX.Element {
  const known = useHosts().value;
  const byNumber = useMemo(() => new Map(hosts.map((host) => [host.n, host])), [hosts]);
  const cells = useMemo(() => hosts.map((host) => cellOf(host, known)), [hosts, known]);
  const sums = useMemo(() => sumsOf(cells), [cells]);
  const open = ({ n }: GridCell): void => {
    const info = known?.infos.get(n);
    if (info !== undefined) navigate(`/hosts/${info.peerId}`);
  };
  const lines = (cell: GridCell): string[] => linesOf(cell, byNumber.get(cell.n));
  return (
    <Panel title={title} aside={aside}>
      {cells.length === 0 ? (
        <Empty title="No host yet" />
      ) : (
        <>
          <HostGrid
            cells={cells}
            label={`${plural(cells.length, 'host')}: ${count(sums.done)} done, ${count(sums.moving)} under way, ${count(sums.slow)} slow, ${count(sums.failed)} failed, ${count(sums.away)} away`}
            details={(cell) => (
              <>
                <strong>{cell.name}</strong>
                {lines(cell).map((line) => (
                  <div key={line}>{line}</div>
                ))}
              </>
            )}
            spoken={(cell) => [cell.name, ...lines(cell)].join(', ')}
            open={open}
          />
          <Legend>
            <Sign kind="done" text="all of it" number={sums.done} />
            <Sign kind="moving" text="some of it" number={sums.moving} />
            <Sign kind="none" text="nothing yet" number={sums.none} />
            <Sign kind="slow" text="slow" number={sums.slow} />
            <Sign kind="failed" text="failed" number={sums.failed} />
            <Sign kind="away" text="away" number={sums.away} />
          </Legend>
        </>
      )}
    </Panel>
  );
}

function Sign({ kind, text, number }: { readonly kind: string; readonly text: string; readonly number: number }): JSX.Element {
  return (
    <span>
      <span class={`cell-sign ${kind}`} />
      {text}
      <b>{count(number)}</b>
    </span>
  );
}

function cellOf({ n, share: held, reason, failed }: HostProgress, known: HostsState | undefined): GridCell {
  const info = known?.infos.get(n);
  const figures = known?.figures.get(n);
  const away = figures !== undefined && figures[1] !== UP;
  const slow = reason !== 0 && held < 1000;
  return { n, name: info === undefined ? `host ${n}` : info.name === '' ? `…${shortPeer(info.peerId)}` : info.name, zone: info?.zone ?? '', share: held, mark: failed ? 'failed' : away ? 'away' : slow ? 'slow' : '' };
}

function linesOf({ zone, share: held, mark }: GridCell, host: HostProgress | undefined): string[] {
  if (host === undefined) return [];
  const lines = [held >= 1000 ? 'holds all of it' : held < 0 ? 'not begun' : `holds ${share(held)}${host.rate > 0 ? `, ${rate(host.rate)}` : ''}`];
  if (held < 1000 && host.leftS >= 0) lines.push(`${duration(host.leftS * 1000)} left`);
  if (mark === 'failed') lines.push(`failed: ${host.at}`);
  else if (host.at !== '' && held < 1000) lines.push(host.at);
  if (mark === 'slow') lines.push(`slow: ${REASON_NAMES[SLOW_REASONS[host.reason] ?? '']}`);
  if (mark === 'away') lines.push('not connected to the tracker');
  if (zone !== '') lines.push(`zone ${zone}`);
  return lines;
}

function sumsOf(cells: readonly GridCell[]): Readonly<Record<'done' | 'moving' | 'none' | 'slow' | 'failed' | 'away', number>> {
  const sums = { done: 0, moving: 0, none: 0, slow: 0, failed: 0, away: 0 };
  for (const { share: held, mark } of cells) {
    sums[mark !== '' ? mark : held >= 1000 ? 'done' : held > 0 ? 'moving' : 'none']++;
  }
  return sums;
}

export interface ProgressChartProps {
  readonly series: readonly ProgressPoint[];
  readonly hosts: number;
  readonly bound: ImageNow['bound'];
}

/** Hosts done and share held over time; dashed: what the links alone would allow. */
export function ProgressChart({ series, hosts, bound }: ProgressChartProps): JSX.Element {
  const last = series.at(-1)?.[0] ?? 0;
  // The list of points grows in place.
  const data = useMemo(() => progressData(series, hosts, bound?.ms), [series.length, last, hosts, bound?.ms]);
  return (
    <Panel title="Hosts done over time" aside={bound === undefined ? undefined : `the links' bound is ${duration(bound.ms)}, from the best rates seen`}>
      {series.length === 0 ? (
        <Empty title="Nothing has moved yet" />
      ) : (
        <Chart
          label={`Share of ${plural(hosts, 'host')} that is done, and share of all bytes that is held, over ${duration(last * 1000)}`}
          data={data}
          series={[
            { name: 'hosts done', color: 'cell-done', area: true },
            { name: 'held by all', color: 'origin' },
            ...(bound === undefined ? [] : [{ name: "the links' bound", color: 'line-strong', dashed: true } as const]),
          ]}
          format={(value) => share(Math.round(value * 10))}
          x="elapsed"
          maxY={100}
        />
      )}
    </Panel>
  );
}

/** In percent of the hosts of now, so that who joins later takes nothing back. In the fluid model all hosts fill at one rate and end together, at the bound. */
function progressData(series: readonly ProgressPoint[], hosts: number, boundMs: number | undefined): ChartData {
  const ofAll = (percentOfHosts: number): number => (hosts === 0 ? 0 : Math.min(100, percentOfHosts / hosts));
  const boundS = boundMs === undefined ? undefined : boundMs / 1000;
  const points: { at: number; done: number | null; held: number | null }[] = series.map(([at, done, held, then]) => ({ at, done: ofAll(100 * done), held: ofAll((held * then) / 10) }));
  if ((points[0]?.at ?? 0) > 0) points.unshift({ at: 0, done: null, held: null });
  if (boundS !== undefined && !points.some(({ at }) => at === boundS)) points.push({ at: boundS, done: null, held: null });
  points.sort((a, b) => a.at - b.at);
  const times = points.map(({ at }) => at);
  const [done, held] = [points.map((point) => point.done), points.map((point) => point.held)];
  if (boundS === undefined) return [times, done, held];
  return [times, done, held, times.map((at) => (boundS === 0 ? 100 : Math.min(100, (100 * at) / boundS)))];
}

/** A layer, or another blob of the image. */
export interface Layer {
  readonly digest: string;
  readonly size: number;
  /** What it is; empty: not told. */
  readonly kind: string;
  readonly hosts: number;
  readonly done: number;
  /** Thousandths. */
  readonly share: number;
  /** Copies out of the origin; undefined: not told here. */
  readonly originBytes?: number;
}

export function LayersPanel({ title, layers }: { readonly title: string; readonly layers: readonly Layer[] }): JSX.Element {
  const told = layers.some(({ originBytes }) => originBytes !== undefined);
  return (
    <Panel title={title} flush aside={layers.length > 0 ? plural(layers.length, 'blob') : undefined}>
      {layers.length === 0 ? (
        <Empty title="No blob is known yet">They are told as soon as a host has read the manifest.</Empty>
      ) : (
        <Table
          caption={title}
          rows={layers}
          keyOf={({ digest }) => digest}
          columns={[
            {
              head: 'Blob',
              rowHead: true,
              cell: ({ digest, kind }) => (
                <>
                  <a href={`/swarms/${digest}`}>
                    <code>{shortDigest(digest)}</code>
                  </a>
                  {kind !== '' && <span class="quiet small"> {kind}</span>}
                </>
              ),
            },
            { head: 'Size', number: true, cell: ({ size }) => bytes(size), sort: ({ size }) => size },
            { head: 'Held', cell: (layer) => <ShareBar share={layer.share} />, sort: (layer) => layer.share },
            { head: 'Hosts done', number: true, cell: ({ done, hosts }) => `${count(done)} of ${count(hosts)}`, sort: ({ done }) => done },
            ...(told ? [{ head: 'Left the origin', number: true, cell: ({ originBytes = 0, size }: Layer) => (originBytes === 0 ? '–' : `${bytes(originBytes)}${size > 0 ? ` (${(originBytes / size).toFixed(2)}×)` : ''}`), sort: ({ originBytes = 0 }: Layer) => originBytes }] : []),
          ]}
        />
      )}
    </Panel>
  );
}
