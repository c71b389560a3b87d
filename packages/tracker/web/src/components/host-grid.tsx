// Every host as a cell: its colour is the share it holds, a mark says slow, failed or away. One canvas, so that 2,000 hosts cost a few ms.
//
//   pointer over a cell, or arrow keys: its details beside it        click, or Enter: its page
//
// Cells stay where they are while hosts are the same: by zone, then by name. Zones have a heading each where they are few enough to be told apart.
// Not by colour alone: slow has a corner, failed a cross, away is an outline; what is done is darker (dark theme: lighter) than all else by a step.

import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { color, themeRevision } from '../theme.ts';
import { cellAt, layOut, step, type GridLayout } from './grid-layout.ts';

const STEPS = 32;

export interface GridCell {
  readonly n: number;
  readonly name: string;
  readonly zone: string;
  /** Thousandths; -1: not begun, or not known. */
  readonly share: number;
  readonly mark: '' | 'slow' | 'failed' | 'away';
}

export interface HostGridProps {
  /** In any order. */
  readonly cells: readonly GridCell[];
  /** What the grid shows, with its sums: read instead of the picture. */
  readonly label: string;
  /** Beside the cell that is pointed at. */
  readonly details: (cell: GridCell) => ComponentChildren;
  /** The same in a line, read out on moves by keyboard. */
  readonly spoken: (cell: GridCell) => string;
  readonly open: (cell: GridCell) => void;
}

export function HostGrid({ cells, label, details, spoken, open }: HostGridProps): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [pointed, setPointed] = useState<number>();
  const [focused, setFocused] = useState<number>();
  const revision = themeRevision.value;
  const palette = useMemo(() => makePalette(), [revision]);
  const ordered = useMemo(() => [...cells].sort((a, b) => compare(a.zone, b.zone) || compare(a.name, b.name) || a.n - b.n), [cells]);
  const layout = useMemo(() => layOut(ordered.map(({ zone }) => zone), width), [ordered, width]);
  const at = pointed ?? focused;

  useEffect(() => {
    const element = canvas.current!;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const frame = requestAnimationFrame(() => {
      if (canvas.current !== null && width > 0) draw(canvas.current, ordered, layout, palette, at);
    });
    return () => cancelAnimationFrame(frame);
  }, [ordered, layout, palette, at, width]);

  const onKey = (event: KeyboardEvent): void => {
    if (event.key === 'Enter' && focused !== undefined) {
      event.preventDefault();
      open(ordered[focused]!);
      return;
    }
    const next = step(layout, focused ?? 0, event.key);
    if (next === undefined) return;
    event.preventDefault();
    setPointed(undefined);
    setFocused(next);
  };
  const place = (event: MouseEvent): number | undefined => {
    const box = canvas.current!.getBoundingClientRect();
    return cellAt(layout, event.clientX - box.left, event.clientY - box.top);
  };
  const cell = at === undefined ? undefined : ordered[at];
  const focusedCell = focused === undefined ? undefined : ordered[focused];
  return (
    <div class="host-grid">
      <canvas
        ref={canvas}
        tabIndex={0}
        role="application"
        aria-roledescription="grid of hosts"
        aria-label={`${label}. Arrow keys move from host to host, Enter opens one.`}
        style={{ height: `${layout.height}px` }}
        onKeyDown={onKey}
        onFocus={(event) => event.currentTarget.matches(':focus-visible') && setFocused((before) => before ?? 0)}
        onBlur={() => setFocused(undefined)}
        onMouseMove={(event) => setPointed(place(event))}
        onMouseLeave={() => setPointed(undefined)}
        onClick={(event) => {
          const found = place(event);
          if (found !== undefined) open(ordered[found]!);
        }}
      />
      {cell !== undefined && <Tip layout={layout} at={at!} children={details(cell)} />}
      <p class="visually-hidden" role="status">
        {focusedCell !== undefined && pointed === undefined ? spoken(focusedCell) : ''}
      </p>
    </div>
  );
}

/** Beside its cell, on the side where there is room. */
function Tip({ layout, at, children }: { readonly layout: GridLayout; readonly at: number; readonly children: ComponentChildren }): JSX.Element {
  const { x, y } = layout.cells[at]!;
  const right = x > layout.width / 2;
  const away = layout.size + 8;
  return (
    <div class="tip" style={{ transform: `translate(${right ? `calc(${x - 8}px - 100%)` : `${x + away}px`}, ${y + away}px)` }}>
      {children}
    </div>
  );
}

interface Palette {
  readonly shares: readonly string[];
  readonly done: string;
  readonly empty: string;
  readonly slow: string;
  readonly failed: string;
  readonly onFailed: string;
  readonly away: string;
  readonly text: string;
  readonly focus: string;
  readonly edge: string;
}

function makePalette(): Palette {
  const [from, to] = [rgb(color('cell-1')), rgb(color('cell-99'))];
  const shares = Array.from({ length: STEPS }, (_, at) => `rgb(${from.map((part, index) => Math.round(part + ((to[index]! - part) * at) / (STEPS - 1))).join(' ')})`);
  return { shares, done: color('cell-done'), empty: color('cell-0'), slow: color('warning-fill'), failed: color('bad-fill'), onFailed: color('surface'), away: color('line-strong'), text: color('text-2'), focus: color('focus'), edge: color('surface') };
}

function rgb(text: string): number[] {
  return (text.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
}

function draw(canvas: HTMLCanvasElement, cells: readonly GridCell[], layout: GridLayout, palette: Palette, at: number | undefined): void {
  const begunMs = performance.now();
  const ratio = devicePixelRatio;
  canvas.width = Math.round(layout.width * ratio);
  canvas.height = Math.round(layout.height * ratio);
  const context = canvas.getContext('2d')!;
  context.scale(ratio, ratio);
  context.font = '500 12px Geist, sans-serif';
  context.fillStyle = palette.text;
  for (const { text, x, y } of layout.headings) context.fillText(text, x, y);
  const { size } = layout;
  for (const [index, cell] of cells.entries()) drawCell(context, cell, layout.cells[index]!, size, palette);
  const marked = at === undefined ? undefined : layout.cells[at];
  if (marked !== undefined) {
    context.lineWidth = 2;
    context.strokeStyle = palette.focus;
    context.strokeRect(marked.x - 1.5, marked.y - 1.5, size + 3, size + 3);
  }
  performance.measure('flotilla-grid', { start: begunMs });
}

function drawCell(context: CanvasRenderingContext2D, { share, mark }: GridCell, { x, y }: { readonly x: number; readonly y: number }, size: number, palette: Palette): void {
  if (mark === 'away' && share <= 0) {
    context.lineWidth = 1;
    context.strokeStyle = palette.away;
    context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
    return;
  }
  context.fillStyle = mark === 'failed' ? palette.failed : share >= 1000 ? palette.done : share <= 0 ? palette.empty : palette.shares[Math.floor((share * STEPS) / 1000)]!;
  context.fillRect(x, y, size, size);
  if (mark === 'slow') {
    context.fillStyle = palette.slow;
    const corner = Math.max(5, size * 0.62);
    context.beginPath();
    context.moveTo(x + size, y);
    context.lineTo(x + size, y + corner);
    context.lineTo(x + size - corner, y);
    context.fill();
  } else if (mark === 'failed') {
    context.lineWidth = 1.5;
    context.strokeStyle = palette.onFailed;
    const inset = Math.max(2, size * 0.28);
    context.beginPath();
    context.moveTo(x + inset, y + inset);
    context.lineTo(x + size - inset, y + size - inset);
    context.moveTo(x + size - inset, y + inset);
    context.lineTo(x + inset, y + size - inset);
    context.stroke();
  } else if (mark === 'away') {
    context.lineWidth = 1;
    context.strokeStyle = palette.away;
    context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
