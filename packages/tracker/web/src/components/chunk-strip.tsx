// A blob as a strip, first chunk at the left: the darker a cell, the more of it. A picture of figures that stand beside it; `label` says it to readers.

import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { color, themeRevision } from '../theme.ts';

export interface ChunkStripProps {
  readonly label: string;
  /** From 0, nothing, to 1, all; a cell each. */
  readonly cells: readonly number[];
  readonly tall?: boolean;
}

export function ChunkStrip({ label, cells, tall = false }: ChunkStripProps): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const revision = themeRevision.value;
  useEffect(() => {
    const context = canvas.current!.getContext('2d')!;
    const [empty, full] = [color('surface-3'), color('cell-done')];
    context.globalAlpha = 1;
    context.fillStyle = empty;
    context.fillRect(0, 0, cells.length, 1);
    context.fillStyle = full;
    for (const [at, cell] of cells.entries()) {
      if (cell <= 0) continue;
      // What is hardly there is seen all the same.
      context.globalAlpha = 0.2 + 0.8 * Math.min(1, cell);
      context.fillRect(at, 0, 1, 1);
    }
  }, [cells, revision]);
  return <canvas class={tall ? 'chunk-strip tall' : 'chunk-strip'} ref={canvas} width={Math.max(1, cells.length)} height={1} role="img" aria-label={label} />;
}

/** Of the live stream: one byte for each cell, base64. Empty: all is held. */
export function cellsOf(map: string, cells: number): number[] {
  if (map === '') return Array.from({ length: cells }, () => 1);
  return Array.from(atob(map), (byte) => byte.charCodeAt(0) / 255);
}
