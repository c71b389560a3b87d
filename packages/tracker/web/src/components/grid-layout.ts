// Where the cells of a grid of hosts stand, which one is under a point, and where an arrow key leads. Pure.
//
// Cells are as large as fits about MAX_ROWS rows, within bounds. Zones of their own block, with a heading, where there are 2 to MAX_BLOCKS of them.

const GAP = 2;
const MIN_SIZE = 6;
const MAX_SIZE = 22;
const HEADING = 18;
const BLOCK_GAP = 8;
const MAX_BLOCKS = 16;
const MAX_HEIGHT = 420;

export interface GridLayout {
  readonly width: number;
  readonly height: number;
  /** Of a cell's side. */
  readonly size: number;
  readonly cells: readonly { readonly x: number; readonly y: number; readonly row: number; readonly column: number }[];
  readonly headings: readonly { readonly text: string; readonly x: number; readonly y: number }[];
}

/** @param zones of every cell, in the order of the cells */
export function layOut(zones: readonly string[], width: number): GridLayout {
  const blocks = blocksOf(zones);
  const headed = blocks.length > 1 && blocks.length <= MAX_BLOCKS;
  const counts = headed ? blocks.map(({ count }) => count) : [zones.length];
  let size = MAX_SIZE;
  while (size > MIN_SIZE && heightOf(counts, headed, size, width) > MAX_HEIGHT) size--;
  const pitch = size + GAP;
  const columns = columnsOf(width, pitch);
  const cells: { x: number; y: number; row: number; column: number }[] = [];
  const headings: { text: string; x: number; y: number }[] = [];
  let y = 0;
  let row = 0;
  for (const [at, count] of counts.entries()) {
    if (headed) {
      if (at > 0) y += BLOCK_GAP;
      headings.push({ text: `${blocks[at]!.zone === '' ? 'no zone' : blocks[at]!.zone} · ${count}`, x: 0, y: y + 12 });
      y += HEADING;
    }
    for (let index = 0; index < count; index++) {
      const column = index % columns;
      cells.push({ x: 2 + column * pitch, y: 2 + y + Math.floor(index / columns) * pitch, row: row + Math.floor(index / columns), column });
    }
    const rows = Math.ceil(count / columns);
    row += rows;
    y += rows * pitch;
  }
  return { width, height: Math.max(y + 4, MAX_SIZE), size, cells, headings };
}

export function cellAt({ cells, size }: GridLayout, x: number, y: number): number | undefined {
  const near = (size + GAP) / 2;
  const found = cells.findIndex((cell) => Math.abs(cell.x + size / 2 - x) <= near && Math.abs(cell.y + size / 2 - y) <= near);
  return found < 0 ? undefined : found;
}

/** @returns the cell that an arrow key, Home or End leads to; undefined: another key */
export function step({ cells }: GridLayout, at: number, key: string): number | undefined {
  const last = cells.length - 1;
  const from = cells[at];
  if (from === undefined) return undefined;
  switch (key) {
    case 'ArrowLeft':
      return Math.max(0, at - 1);
    case 'ArrowRight':
      return Math.min(last, at + 1);
    case 'Home':
      return 0;
    case 'End':
      return last;
    case 'ArrowUp':
    case 'ArrowDown': {
      const wanted = from.row + (key === 'ArrowUp' ? -1 : 1);
      const inRow = cells.flatMap((cell, index) => (cell.row === wanted ? [{ index, column: cell.column }] : []));
      // The last row of a zone may be shorter.
      return (inRow.find(({ column }) => column === from.column) ?? inRow.at(-1))?.index ?? at;
    }
    default:
      return undefined;
  }
}

function blocksOf(zones: readonly string[]): { readonly zone: string; count: number }[] {
  const blocks: { zone: string; count: number }[] = [];
  for (const zone of zones) {
    const last = blocks.at(-1);
    if (last?.zone === zone) last.count++;
    else blocks.push({ zone, count: 1 });
  }
  return blocks;
}

function heightOf(counts: readonly number[], headed: boolean, size: number, width: number): number {
  const columns = columnsOf(width, size + GAP);
  const rows = counts.reduce((sum, count) => sum + Math.ceil(count / columns), 0);
  return rows * (size + GAP) + (headed ? counts.length * (HEADING + BLOCK_GAP) : 0);
}

function columnsOf(width: number, pitch: number): number {
  return Math.max(1, Math.floor((width - 2) / pitch));
}
