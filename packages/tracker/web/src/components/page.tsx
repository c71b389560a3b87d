// The head of a page: where it belongs, what it is about, what can be done. It takes the focus when the page is opened, and names the window.

import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { here } from '../router.ts';

export interface PageProps {
  readonly title: string;
  /** Behind the title, such as a state. */
  readonly badge?: ComponentChildren;
  readonly crumb?: { readonly href: string; readonly text: string };
  /** A line below the title. */
  readonly lead?: ComponentChildren;
  readonly actions?: ComponentChildren;
  readonly children: ComponentChildren;
}

/** The first page is opened by the browser, which sets the focus itself. */
let opened = '';

export function Page({ title, badge, crumb, lead, actions, children }: PageProps): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null);
  const { path } = here.value;
  useEffect(() => {
    document.title = `${title} · Flotilla`;
  }, [title]);
  useEffect(() => {
    if (opened !== '' && opened !== path) heading.current?.focus({ preventScroll: true });
    opened = path;
  }, [path]);
  return (
    <div class="page">
      <div class="page-head">
        <div class="what">
          {crumb !== undefined && (
            <a class="crumb" href={crumb.href}>
              ← {crumb.text}
            </a>
          )}
          <h1 tabIndex={-1} ref={heading}>
            {title}
            {badge}
          </h1>
          {lead !== undefined && <div class="quiet">{lead}</div>}
        </div>
        {actions !== undefined && <div class="actions">{actions}</div>}
      </div>
      {children}
    </div>
  );
}
