// Large figures in a row: what it is, how much, and a note that puts it into proportion.

import type { ComponentChildren, JSX } from 'preact';

export interface FigureProps {
  readonly label: string;
  readonly value: string;
  readonly unit?: string;
  readonly note?: ComponentChildren;
  readonly tone?: 'warning' | 'bad' | undefined;
}

export function Figure({ label, value, unit, note, tone }: FigureProps): JSX.Element {
  return (
    <div class="figure" data-tone={tone}>
      <dt>{label}</dt>
      <dd class="value">
        {value}
        {unit !== undefined && <span class="unit">{unit}</span>}
      </dd>
      {note !== undefined && <dd class="note">{note}</dd>}
    </div>
  );
}

export function Figures({ label, children }: { readonly label: string; readonly children: ComponentChildren }): JSX.Element {
  return (
    <dl class="figures" aria-label={label}>
      {children}
    </dl>
  );
}
