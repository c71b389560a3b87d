// A part of a page with its heading.

import type { ComponentChildren, JSX } from 'preact';
import { useId } from 'preact/hooks';

export interface PanelProps {
  readonly title: string;
  /** Beside the heading: what the whole panel is about. */
  readonly aside?: ComponentChildren;
  /** Tables go to the edge. */
  readonly flush?: boolean;
  readonly children: ComponentChildren;
}

export function Panel({ title, aside, flush = false, children }: PanelProps): JSX.Element {
  const id = useId();
  return (
    <section class="panel" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside !== undefined && <div class="aside">{aside}</div>}
      </header>
      <div class={flush ? 'body flush' : 'body'}>{children}</div>
    </section>
  );
}
