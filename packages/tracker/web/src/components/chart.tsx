// A chart over time (uPlot), in the colours of the theme, as wide as there is room. The legend shows the values under the pointer, else the last ones.
//
// `data`: x first, then one list per series; null where there is nothing. The chart is a picture of figures that stand beside it: `label` says
// to readers what it shows.

import { useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { color, themeRevision } from '../theme.ts';
import { Legend, LegendItem, type PartColor } from './bar.tsx';

interface ChartSeries {
  readonly name: string;
  readonly color: PartColor;
  readonly dashed?: boolean;
  /** Filled below the line. */
  readonly area?: boolean;
}

export type ChartData = readonly [readonly number[], ...(readonly (number | null)[])[]];

export interface ChartProps {
  readonly label: string;
  readonly data: ChartData;
  readonly series: readonly ChartSeries[];
  readonly format: (value: number) => string;
  /** time: x is unix seconds, in UTC. elapsed: seconds since something began. */
  readonly x: 'time' | 'elapsed';
  readonly height?: number;
  readonly maxY?: number;
  readonly aside?: ComponentChildren;
}

export function Chart({ label, data, series, format, x, height = 190, maxY, aside }: ChartProps): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const pointed = useSignal<number | undefined>(undefined);
  const revision = themeRevision.value;
  const shape = JSON.stringify([series, x, height, maxY]);

  useEffect(() => {
    const element = holder.current!;
    const made = new uPlot(options(), data as unknown as uPlot.AlignedData, element);
    plot.current = made;
    const observer = new ResizeObserver(([entry]) => made.setSize({ width: Math.floor(entry!.contentRect.width), height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
    function options(): uPlot.Options {
      const [text, line] = [color('text-2'), color('line')];
      const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: '11px Geist, sans-serif' } as const;
      return {
        width: Math.max(50, Math.floor(element.clientWidth)),
        height,
        legend: { show: false },
        padding: [8, 8, 0, 0],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC'),
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: x === 'time' }, y: { range: (_self, _min, max) => [0, maxY ?? (max > 0 ? max * 1.08 : FLAT)] } },
        axes: [
          { ...axis, size: x === 'time' ? 40 : 26, grid: { show: false }, ...(x === 'elapsed' && { values: (_self: uPlot, ticks: number[]) => ticks.map(elapsed) }), ...(x === 'time' && { values: CLOCK }) },
          { ...axis, size: 64, gap: 6, values: (_self, ticks) => ticks.map(format) },
        ],
        series: [
          {},
          ...series.map((each) => {
            const stroke = color(each.color);
            return { stroke, width: 1.75, points: { show: false }, spanGaps: true, ...(each.dashed === true && { dash: [5, 4] }), ...(each.area === true && { fill: faded(stroke) }) };
          }),
        ],
        hooks: { setCursor: [({ cursor }) => (pointed.value = cursor.idx ?? undefined)] },
      };
    }
  }, [shape, revision]);

  useEffect(() => plot.current?.setData(data as unknown as uPlot.AlignedData), [data]);

  return (
    <figure class="chart" aria-label={label}>
      <Legend>
        {series.map((each, index) => {
          const values = data[index + 1] ?? [];
          const value = pointed.value === undefined ? values.findLast((each) => each !== null) : values[pointed.value];
          return (
            <LegendItem key={each.name} color={each.color} kind={each.dashed === true ? 'dashed' : 'line'}>
              {each.name}
              {value !== null && value !== undefined && <b>{format(value)}</b>}
            </LegendItem>
          );
        })}
        {aside}
      </Legend>
      <div class="plot" ref={holder} aria-hidden="true" />
    </figure>
  );
}

/** Where nothing has moved the axis still tells apart its ticks. */
const FLAT = 1_000_000;

const CLOCK: uPlot.Axis.Values = [
  [3600 * 24, '{D} {MMM}', null, null, null, null, null, null, 1],
  [60, '{HH}:{mm}', '\n{D} {MMM}', null, null, null, null, null, 1],
  [1, ':{ss}', '\n{HH}:{mm}', null, null, null, null, null, 1],
];

function elapsed(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return seconds % 60 === 0 ? `${minutes}m` : `${minutes}:${String(seconds % 60).padStart(2, '0')}`;
}

function faded(rgb: string): string {
  return rgb.replace(/^rgb\((.*)\)$/, 'rgb($1 / 12%)').replaceAll(',', ' ');
}
