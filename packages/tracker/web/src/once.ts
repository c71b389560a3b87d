// What a page asks for by a plain GET: loading, then its value or a problem; asked again every `everyMs` where given, and while the page is seen.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiProblem, get } from './api.ts';

export interface Once<T> {
  /** The last that came; stays while it is asked for again. */
  readonly value: T | undefined;
  readonly problem: ApiProblem | undefined;
  readonly loading: boolean;
  readonly reload: () => void;
}

/** @param path below /api/v1; undefined: nothing is asked for */
export function useOnce<T>(path: string | undefined, { everyMs }: { readonly everyMs?: number } = {}): Once<T> {
  const [state, setState] = useState<{ path: string | undefined; value: T | undefined; problem: ApiProblem | undefined }>({ path: undefined, value: undefined, problem: undefined });
  const [round, setRound] = useState(0);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    if (path === undefined) return undefined;
    const controller = new AbortController();
    const again = (): void => {
      if (everyMs === undefined || controller.signal.aborted) return;
      timer.current = setTimeout(() => {
        if (document.visibilityState === 'visible') setRound((count) => count + 1);
        else document.addEventListener('visibilitychange', () => setRound((count) => count + 1), { once: true, signal: controller.signal });
      }, everyMs);
    };
    get<T>(path, controller.signal).then(
      (value) => {
        setState({ path, value, problem: undefined });
        again();
      },
      (error: unknown) => {
        if (controller.signal.aborted) return;
        if (!(error instanceof ApiProblem)) throw error;
        setState((before) => ({ path, value: before.path === path ? before.value : undefined, problem: error }));
        again();
      },
    );
    return () => {
      controller.abort();
      clearTimeout(timer.current);
    };
  }, [path, round, everyMs]);
  const reload = useCallback(() => setRound((count) => count + 1), []);
  const known = state.path === path;
  return { value: known ? state.value : undefined, problem: known ? state.problem : undefined, loading: !known, reload };
}
