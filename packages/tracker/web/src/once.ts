// What a page asks for by a plain GET: loading, then its value or a problem. With `of` it is asked for again whenever the live stream says that it has
// changed (topic `changes`), and so never where nothing does.
//
// Invariant: one request at a time, one a second at most; a change that comes while it is under way is asked for after it.

import type { Changes } from '@flotilla/shared/live-api';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiProblem, get } from './api.ts';
import { useChanges } from './topics.ts';

/** The stream tells once a second; what it tells in one moment, after it was lost, is one change. */
const AT_LEAST_MS = 900;
/** What is shown with a problem may be over by now. */
const AGAIN_MS = 3_000;

export interface Once<T> {
  /** The last that came; stays while it is asked for again. */
  readonly value: T | undefined;
  readonly problem: ApiProblem | undefined;
  readonly loading: boolean;
  readonly reload: () => void;
}

interface State<T> {
  readonly path: string | undefined;
  readonly value: T | undefined;
  readonly problem: ApiProblem | undefined;
}

/** @param path below /api/v1; undefined: nothing is asked for. @param of what in the stream says that it has changed */
export function useOnce<T>(path: string | undefined, of: readonly (keyof Changes['of'])[] = []): Once<T> {
  const [state, setState] = useState<State<T>>({ path: undefined, value: undefined, problem: undefined });
  const [round, setRound] = useState(0);
  const changes = useChanges(of.length > 0);
  const version = changes === undefined ? '' : `${changes.epoch} ${of.map((each) => changes.of[each]).join(' ')}`;
  /** As the stream told when the last request began. */
  const asked = useRef({ path, version: '', atMs: 0, busy: false });
  const latest = useRef(version);
  latest.current = version;

  useEffect(() => {
    if (path === undefined) return undefined;
    const controller = new AbortController();
    const { signal } = controller;
    let timer: ReturnType<typeof setTimeout> | undefined;
    asked.current = { path, version: latest.current, atMs: Date.now(), busy: true };
    get<T>(path, signal).then(
      (value) => {
        asked.current.busy = false;
        setState({ path, value, problem: undefined });
      },
      (error: unknown) => {
        if (signal.aborted) return;
        asked.current.busy = false;
        if (!(error instanceof ApiProblem)) throw error;
        setState((before) => ({ path, value: before.path === path ? before.value : undefined, problem: error }));
        if (of.length > 0) timer = setTimeout(() => setRound((count) => count + 1), AGAIN_MS);
      },
    );
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [path, round]);

  // Also when an answer has come: there may have been changes since it was asked for.
  useEffect(() => {
    const { current } = asked;
    if (of.length === 0 || path === undefined || version === '' || current.busy || current.version === version) return undefined;
    const timer = setTimeout(() => setRound((count) => count + 1), Math.max(0, current.atMs + AT_LEAST_MS - Date.now()));
    return () => clearTimeout(timer);
  }, [path, version, state]);

  const reload = useCallback(() => setRound((count) => count + 1), []);
  const known = state.path === path;
  return { value: known ? state.value : undefined, problem: known ? state.problem : undefined, loading: !known, reload };
}
