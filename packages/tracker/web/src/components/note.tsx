// What stands where there is nothing to show: still loading, nothing there yet (and how it comes), or a problem with its next step.

import type { Severity } from '@flotilla/shared/live-api';
import type { ComponentChildren, JSX } from 'preact';
import type { ApiProblem } from '../api.ts';
import { Icon } from './icon.tsx';

export function Loading({ what }: { readonly what: string }): JSX.Element {
  return (
    <p class="loading" role="status">
      Loading {what} …
    </p>
  );
}

export function Empty({ title, children }: { readonly title: string; readonly children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

export function Note({ tone, title, children, role }: { readonly tone: Severity; readonly title: string; readonly children?: ComponentChildren; readonly role?: 'alert' | 'status' }): JSX.Element {
  return (
    <div class={`note tone-${tone}`} role={role}>
      <Icon name={tone} />
      <div>
        <strong>{title}</strong>
        {children}
      </div>
    </div>
  );
}

export function ProblemNote({ problem, retry }: { readonly problem: ApiProblem; readonly retry?: () => void }): JSX.Element {
  return (
    <Note tone="bad" title={problem.title} role="alert">
      <span>{problem.message}</span>
      <span class="quiet small">
        <code>{problem.code}</code>
        {retry !== undefined && (
          <>
            {' · '}
            <button type="button" class="link-button" onClick={retry}>
              Try again
            </button>
          </>
        )}
      </span>
    </Note>
  );
}
