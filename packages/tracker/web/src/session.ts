// Who is signed in: by the one-use code behind # of a link, by a token, or by the cookie of an earlier sign-in.
//
//   unknown -> in | out      out -> in (sign in)      in -> out (sign out, or the tracker ended the session)
//
// The code is taken out of the address before it is used, so that it is in no history. Non-goal: keeping a token; the cookie is HttpOnly.

import type { Me, Role } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES, ROLES } from '@flotilla/shared/routes';
import { signal } from '@preact/signals';
import { ApiProblem, get, post, whenSignedOut } from './api.ts';

export type Session = { readonly state: 'unknown' } | { readonly state: 'out'; readonly problem?: ApiProblem } | { readonly state: 'in'; readonly me: Me };

export const session = signal<Session>({ state: 'unknown' });

whenSignedOut(() => {
  if (session.value.state === 'in') session.value = { state: 'out', problem: new ApiProblem({ code: 'SESSION_ENDED', status: 401, title: 'You have been signed out', detail: 'The session was too old, or somebody ended it.' }) };
});

/** Once at the start of the page. */
export async function openSession(): Promise<void> {
  const code = codeOf(location.hash);
  if (code !== undefined) {
    history.replaceState(history.state, '', location.pathname + location.search);
    try {
      return await signIn({ code });
    } catch (error) {
      // A link that was followed twice: the first time may have signed in this very browser.
      const me = await known();
      session.value = me === undefined ? { state: 'out', problem: asProblem(error) } : { state: 'in', me };
      return;
    }
  }
  try {
    const me = await known();
    session.value = me === undefined ? { state: 'out' } : { state: 'in', me };
  } catch (error) {
    session.value = { state: 'out', problem: asProblem(error) };
  }
}

/** @throws ApiProblem */
export async function signIn(proof: { readonly code: string } | { readonly token: string }): Promise<void> {
  session.value = { state: 'in', me: await post<Me>(OPERATOR_ROUTES.signIn, proof) };
}

export async function signOut(): Promise<void> {
  await post(OPERATOR_ROUTES.signOut);
  session.value = { state: 'out' };
}

/** Whether who is signed in may do what needs `role`. */
export function may(role: Role): boolean {
  const { value } = session;
  return value.state === 'in' && ROLES.indexOf(value.me.role) >= ROLES.indexOf(role);
}

/** Asks the tracker whether the session still counts; a session that ended shows the sign-in page. */
export async function checkSession(): Promise<boolean> {
  return (await known()) !== undefined;
}

/** The code of a link, or a link that was pasted whole. */
export function codeOf(text: string): string | undefined {
  return /#code=([\w-]{1,64})$/.exec(text.trim())?.[1];
}

async function known(): Promise<Me | undefined> {
  try {
    return await get<Me>(OPERATOR_ROUTES.me);
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 401) return undefined;
    throw error;
  }
}

function asProblem(error: unknown): ApiProblem {
  if (error instanceof ApiProblem) return error;
  throw error;
}
