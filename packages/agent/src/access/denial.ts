// What a caller is told that may not read a repository: which right was tried, and what would have to change. Pure.
//
// The status is 404 by default, for two reasons (docs/rights.md): a 401 would make a Docker daemon hand over credentials that are meant
// for another registry, and podman goes on to the origin, with the user's own credentials, after a 404 only.

import type { Repository } from '../content/ports.ts';
import { AgentError } from '../errors.ts';

/** Why nobody's right was found to do. */
export interface Situation {
  readonly mode: 'agent' | 'pass-through';
  /** A rule gives the agent's own credentials to this repository. */
  readonly allowed: boolean;
  /** The caller sent credentials that an origin understands. */
  readonly credentials: boolean;
  /** Callers' credentials may be passed on to this origin. */
  readonly listed: boolean;
  /** A 401 asks the client for credentials. */
  readonly challenge: boolean;
}

/** @param refusal the origin's own last word */
export function denial(repository: Repository, about: 'blob' | 'manifest', refusal: AgentError | undefined, situation: Situation): AgentError {
  const name = `${repository.origin}/${repository.repository}`;
  const wanted = situation.challenge && situation.mode === 'pass-through' && situation.listed;
  const code = wanted ? 'CREDENTIALS_WANTED' : about === 'blob' ? 'BLOB_DENIED' : 'ACCESS_DENIED';
  const { status, originCode } = refusal?.detail ?? {};
  return new AgentError(code, `${name} is not shown to anybody without credentials: ${reason(name, situation)}`, {
    cause: refusal,
    detail: { ...repository, mode: situation.mode, ...(status !== undefined && { originStatus: status }), ...(originCode !== undefined && { originCode }) },
  });
}

function reason(name: string, { mode, allowed, credentials, listed, challenge }: Situation): string {
  const agents = allowed
    ? "this agent's own were refused, or it has none for this repository"
    : `this agent uses its own for local callers only where a rule allows it ("allow: [${name}]" in its settings, or FLOTILLA_ALLOW=${name})`;
  if (mode === 'agent') return agents;
  const callers = !listed
    ? `those of callers are passed on only to origins with a name (--origin ${name.split('/')[0]}=URL)`
    : credentials
      ? 'those of the caller were refused'
      : `the caller sent none${challenge ? '' : ', and the agent asks for none ("challenge: true" would)'}`;
  return allowed ? `${callers}; ${agents}` : callers;
}
