// Whether an origin answers this agent: for `flotilla doctor`. It is asked for a repository that is hardly there, by the same way as any
// other: name, address, proxy, certificate, token. That it knows nothing of the repository, or shows it to nobody, is an answer too; that it does
// not take the agent's credentials is a fault.

import type { Origin } from '../content/ports.ts';
import { AgentError, toAgentError, type ErrorCode } from '../errors.ts';

const REPOSITORY = 'flotilla/doctor';
const TIMEOUT_MS = 15_000;
/** What a registry says that works and has no such thing for us. */
const ANSWERS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN', 'ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED']);

/** @returns undefined where it answers */
export async function faultOf(origin: Origin, name: string, signal: AbortSignal): Promise<AgentError | undefined> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    await origin.resolve({ origin: name, repository: REPOSITORY }, 'latest', ['*/*'], { kind: 'agent' }, AbortSignal.any([signal, timeout]));
    return undefined;
  } catch (error) {
    const failure = timeout.aborted ? new AgentError('ORIGIN_TIMEOUT', `${name} has not answered after ${TIMEOUT_MS / 1000} s`, { cause: error }) : toAgentError(error);
    return ANSWERS.has(failure.code) ? undefined : failure;
  }
}
