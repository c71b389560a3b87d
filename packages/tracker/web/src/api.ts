// Plain requests to /api/v1, by the session's cookie. What the tracker refuses is an ApiProblem; a lost session shows the sign-in page.

import type { Problem } from '@flotilla/shared/tracker-api';

const API = '/api/v1';
const TIMEOUT_MS = 15_000;

/** A request that did not do what it was for. `code` is the tracker's, or UNREACHABLE. */
export class ApiProblem extends Error {
  readonly code: string;
  readonly status: number;
  readonly title: string;

  constructor({ code, status, title, detail }: Pick<Problem, 'code' | 'status' | 'title' | 'detail'>, options?: ErrorOptions) {
    super(detail, options);
    this.name = 'ApiProblem';
    this.code = code;
    this.status = status;
    this.title = title;
  }
}

let onSignedOut = (): void => undefined;

/** Calls `then` whenever the tracker no longer knows this session. */
export function whenSignedOut(then: () => void): void {
  onSignedOut = then;
}

/** @param path below /api/v1 @throws ApiProblem */
export async function call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  let text: string;
  try {
    response = await fetch(API + path, {
      method,
      credentials: 'same-origin',
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      ...(body !== undefined && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted === true) throw error;
    throw new ApiProblem({ code: 'UNREACHABLE', status: 0, title: 'The tracker does not answer', detail: 'It may be restarting, or the network between may be down. Hosts keep pulling without it.' }, { cause: error });
  }
  if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T;
  if (response.status === 401 && path !== '/sign-in') onSignedOut();
  throw problemOf(response.status, text);
}

/** @param path below /api/v1 @throws ApiProblem */
export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return call<T>('GET', path, undefined, signal);
}

/** @param path below /api/v1 @throws ApiProblem */
export function post<T>(path: string, body?: unknown): Promise<T> {
  return call<T>('POST', path, body);
}

function problemOf(status: number, text: string): ApiProblem {
  try {
    const { code, title, detail } = JSON.parse(text) as Partial<Problem>;
    return new ApiProblem({ code: code ?? 'UNKNOWN', status, title: title ?? 'Refused', detail: detail ?? '' });
  } catch (error) {
    return new ApiProblem({ code: 'UNKNOWN', status, title: `The tracker answered ${status}`, detail: text.slice(0, 200) }, { cause: error });
  }
}
