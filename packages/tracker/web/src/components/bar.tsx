// Shares as bars, and the legend of colours. Numbers beside a bar say the same, so bars themselves are hidden from readers.

import type { ComponentChildren, JSX } from 'preact';
import { share as shareText } from '../format.ts';

/** Colour tokens that mean something in bars and charts. */
export type PartColor = 'peer' | 'origin' | 'stored' | 'cell-done' | 'bad-fill' | 'warning-fill' | 'line-strong' | 'accent' | 'surface-3';

export interface Part {
  readonly value: number;
  readonly color: PartColor;
}

/** `parts` of `total`; what is left stays empty. */
export function Bar({ parts, total, thick = false }: { readonly parts: readonly Part[]; readonly total: number; readonly thick?: boolean }): JSX.Element {
  return (
    <div class={thick ? 'bar thick' : 'bar'} aria-hidden="true">
      {total > 0 && parts.map(({ value, color }) => value > 0 && <span key={color} style={{ width: `${Math.min(100, (100 * value) / total)}%`, '--part': `var(--${color})` }} />)}
    </div>
  );
}

/** A share in thousandths with its number. */
export function ShareBar({ share, color = 'peer' }: { readonly share: number; readonly color?: PartColor }): JSX.Element {
  return (
    <div class="bar-line">
      <Bar parts={[{ value: share, color: share >= 1000 ? 'cell-done' : color }]} total={1000} />
      <span class="number">{shareText(share)}</span>
    </div>
  );
}

export function Legend({ children }: { readonly children: ComponentChildren }): JSX.Element {
  return <div class="legend">{children}</div>;
}

export function LegendItem({ color, kind = '', children }: { readonly color: PartColor; readonly kind?: '' | 'line' | 'dashed'; readonly children: ComponentChildren }): JSX.Element {
  return (
    <span>
      <span class={`swatch ${kind}`} style={{ '--part': `var(--${color})` }} />
      {children}
    </span>
  );
}
