// A run as a picture: hosts that have the image, and bytes out of the origin, over the same time. Plain SVG.

import { MIB, round } from './quantities.ts';
import type { Sample } from './timeline.ts';

export interface RolloutChart {
  readonly title: string;
  readonly imageBytes: number;
  readonly boundS: number;
  readonly hosts: number;
  readonly done: readonly { readonly outcome: string; readonly endS: number }[];
  readonly samples: readonly Sample[];
  readonly originPort: string;
}

type Point = readonly [x: number, y: number];

interface Panel {
  readonly top: number;
  readonly label: string;
  readonly maxX: number;
  readonly maxY: number;
}

const WIDTH = 900;
const LEFT = 70;
const RIGHT = 30;
const PANEL = 210;
const HEIGHT = 600;
const INK = '#334155';
const GRID = '#e2e8f0';
const HOSTS = '#0f766e';
const ORIGIN = '#b45309';

export function rolloutChart(chart: RolloutChart): string {
  const { done, samples, hosts, imageBytes, boundS, originPort } = chart;
  const ends = done.filter(({ outcome }) => outcome === 'right').map(({ endS }) => endS).sort((a, b) => a - b);
  const maxX = 1.04 * Math.max(boundS, ends.at(-1) ?? 0, samples.at(-1)?.atS ?? 0);
  const sent = samples.map(({ atS, ports }): Point => [atS, (ports.get(originPort)?.up ?? 0) / MIB]);
  const upper: Panel = { top: 60, label: 'hosts that have the image', maxX, maxY: hosts };
  const lower: Panel = { top: 330, label: 'MiB out of the origin', maxX, maxY: 1.08 * Math.max(imageBytes / MIB, sent.at(-1)?.[1] ?? 0) };
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12" fill="${INK}">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="28" font-size="16" font-weight="bold">${escape(chart.title)}</text>`,
    frame(upper),
    frame(lower),
    line(upper, steps(ends, maxX), HOSTS),
    line(lower, sent, ORIGIN),
    mark(lower, imageBytes / MIB, 'one copy'),
    bound(upper, boundS, 'T*'),
    bound(lower, boundS, ''),
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}" text-anchor="middle">seconds since all clients were let go</text>`,
    '</svg>\n',
  ].join('\n');
}

function steps(ends: readonly number[], maxX: number): Point[] {
  const points: Point[] = [[0, 0]];
  for (const [count, endS] of ends.entries()) points.push([endS, count], [endS, count + 1]);
  return [...points, [maxX, ends.length]];
}

function frame(panel: Panel): string {
  const parts = [`<text x="${LEFT}" y="${panel.top - 8}">${panel.label}</text>`];
  for (const value of ticks(panel.maxY)) {
    const y = at(panel, [0, value])[1];
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" stroke="${GRID}"/>`, `<text x="${LEFT - 8}" y="${y + 4}" text-anchor="end">${round(value, 3)}</text>`);
  }
  for (const value of ticks(panel.maxX)) {
    const [x] = at(panel, [value, 0]);
    parts.push(`<line x1="${x}" x2="${x}" y1="${panel.top + PANEL}" y2="${panel.top + PANEL + 4}" stroke="${INK}"/>`, `<text x="${x}" y="${panel.top + PANEL + 18}" text-anchor="middle">${round(value, 3)}</text>`);
  }
  parts.push(`<path d="M${LEFT} ${panel.top}V${panel.top + PANEL}H${WIDTH - RIGHT}" fill="none" stroke="${INK}"/>`);
  return parts.join('\n');
}

function line(panel: Panel, points: readonly Point[], colour: string): string {
  return `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${points.map((point) => at(panel, point).join(',')).join(' ')}"/>`;
}

function bound(panel: Panel, seconds: number, label: string): string {
  const [x] = at(panel, [seconds, 0]);
  return `<line x1="${x}" x2="${x}" y1="${panel.top}" y2="${panel.top + PANEL}" stroke="${INK}" stroke-dasharray="4 4"/><text x="${x - 6}" y="${panel.top + 12}" text-anchor="end">${label}</text>`;
}

function mark(panel: Panel, value: number, label: string): string {
  const [, y] = at(panel, [0, value]);
  return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" stroke="${INK}" stroke-dasharray="4 4"/><text x="${LEFT + 6}" y="${y - 5}">${label}</text>`;
}

function at({ top, maxX, maxY }: Panel, [x, y]: Point): [number, number] {
  return [round(LEFT + (x / maxX) * (WIDTH - LEFT - RIGHT), 1), round(top + PANEL * (1 - y / maxY), 1)];
}

/** Round values from 0 to at most `max`, five or so. */
function ticks(max: number): number[] {
  const rough = max / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  return Array.from({ length: Math.floor(max / step) + 1 }, (_, count) => count * step);
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
