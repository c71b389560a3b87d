// A table that can be sorted by its heads and shows a bounded number of rows: more on request.

import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';
import { count } from '../format.ts';
import { Icon } from './icon.tsx';

const ROWS = 100;
/** One for thousands of comparisons each second. */
const BY_TEXT = new Intl.Collator('en', { numeric: true });

interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => ComponentChildren;
  /** Figures stand to the right. */
  readonly number?: boolean;
  /** Names the row, for readers. */
  readonly rowHead?: boolean;
  /** Absent: it cannot be sorted by this. */
  readonly sort?: (row: Row) => number | string;
}

export interface TableProps<Row> {
  /** What the table is of; read to those who do not see where it stands. */
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string | number;
  /** Head and direction at first; otherwise the order of `rows`. */
  readonly sorted?: { readonly head: string; readonly down: boolean };
}

export function Table<Row>({ caption, columns, rows, keyOf, sorted }: TableProps<Row>): JSX.Element {
  const [order, setOrder] = useState(sorted);
  const [shown, setShown] = useState(ROWS);
  const by = columns.find(({ head }) => head === order?.head)?.sort;
  const all = by === undefined ? rows : sortedBy(rows, by, order!.down);
  const visible = all.slice(0, shown);
  return (
    <>
      <div class="table-wrap" tabIndex={0} role="region" aria-label={caption}>
        <table>
          <caption class="visually-hidden">{caption}</caption>
          <thead>
            <tr>
              {columns.map(({ head, number, sort }) => {
                const isOrder = order?.head === head;
                return (
                  <th key={head} scope="col" class={number === true ? 'number' : undefined} aria-sort={isOrder ? (order.down ? 'descending' : 'ascending') : undefined}>
                    {sort === undefined ? (
                      head
                    ) : (
                      <button type="button" onClick={() => setOrder({ head, down: isOrder ? !order.down : number === true })}>
                        {head}
                        {isOrder && <Icon name={order.down ? 'down' : 'up'} size={12} />}
                      </button>
                    )}
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {visible.map((row) => (
              <tr key={keyOf(row)}>
                {columns.map(({ head, cell, number, rowHead }) =>
                  rowHead === true ? (
                    <th key={head} scope="row">
                      {cell(row)}
                    </th>
                  ) : (
                    <td key={head} class={number === true ? 'number' : undefined}>
                      {cell(row)}
                    </td>
                  ),
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {all.length > shown && (
        <div class="table-foot">
          {count(shown)} of {count(all.length)}
          <button type="button" class="button" onClick={() => setShown(shown + 4 * ROWS)}>
            Show more
          </button>
        </div>
      )}
    </>
  );
}

function sortedBy<Row>(rows: readonly Row[], by: (row: Row) => number | string, down: boolean): readonly Row[] {
  const sign = down ? -1 : 1;
  return rows
    .map((row) => ({ row, key: by(row) }))
    .sort((a, b) => sign * (typeof a.key === 'number' && typeof b.key === 'number' ? a.key - b.key : BY_TEXT.compare(String(a.key), String(b.key))))
    .map(({ row }) => row);
}
