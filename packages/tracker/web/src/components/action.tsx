// Buttons that change something: busy while the tracker works at it, the problem beside it where it refuses, asked again first where it cannot be undone.

import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiProblem } from '../api.ts';
import { may } from '../session.ts';
import type { Role } from '@flotilla/shared/operator-api';
import { Icon, type IconName } from './icon.tsx';
import { ProblemNote } from './note.tsx';

export interface ActionProps {
  readonly label: string;
  readonly icon?: IconName;
  readonly look?: 'primary' | 'danger';
  /** Who may not gets a button that says so. */
  readonly role: Role;
  readonly run: () => Promise<unknown>;
  /** Asked in a dialog before; may hold fields that `run` reads. */
  readonly confirm?: { readonly title: string; readonly text: ComponentChildren };
}

export function Action({ label, icon, look, role, run, confirm }: ActionProps): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
  const [problem, setProblem] = useState<ApiProblem>();
  const allowed = may(role);
  const go = async (): Promise<void> => {
    setBusy(true);
    setProblem(undefined);
    try {
      await run();
      setAsking(false);
    } catch (error) {
      if (!(error instanceof ApiProblem)) throw error;
      setProblem(error);
      setAsking(true);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button
        type="button"
        class={`button ${look ?? ''}`}
        disabled={busy || !allowed}
        title={allowed ? undefined : `Needs the role ${role}`}
        onClick={() => {
          if (confirm === undefined) void go();
          else setAsking(true);
        }}
      >
        {icon !== undefined && <Icon name={icon} size={14} />}
        {label}
      </button>
      {asking && (
        <Dialog title={confirm?.title ?? label} close={() => setAsking(false)}>
          <form
            method="dialog"
            onSubmit={(event) => {
              event.preventDefault();
              void go();
            }}
          >
            {confirm !== undefined && <div>{confirm.text}</div>}
            {problem !== undefined && <ProblemNote problem={problem} />}
            <div class="actions">
              <button type="button" class="button" onClick={() => setAsking(false)}>
                {confirm === undefined ? 'Close' : 'Leave it'}
              </button>
              {confirm !== undefined && (
                <button type="submit" class={`button ${look ?? 'primary'}`} disabled={busy}>
                  {label}
                </button>
              )}
            </div>
          </form>
        </Dialog>
      )}
    </>
  );
}

/** A modal dialog; Escape closes it. */
function Dialog({ title, close, children }: { readonly title: string; readonly close: () => void; readonly children: ComponentChildren }): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog ref={element} onClose={close} aria-label={title}>
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}
