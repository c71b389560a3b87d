// The judgements of `flotilla doctor`: facts in, findings out. Pure; who gathers the facts is doctor.ts.

import type { AgentStatus, OriginProbe } from '../../control.ts';
import { ERRORS } from '../../errors.ts';
import { formatAddress } from '../../listen.ts';
import { AGENT_VERSION } from '../../version.ts';
import type { Route } from '../setup/plan.ts';
import { humanBytes, humanDuration } from '../terminal.ts';
import { ok, problem, skipped, warning, type Finding } from './finding.ts';

/** An agent's session with its tracker is refused beyond some minutes; logs are hard to compare long before. */
const CLOCK_WARNING_MS = 5_000;
const CLOCK_PROBLEM_MS = 60_000;
/** Sockets of peers, origins and clients, and blobs that are open. */
const MIN_OPEN_FILES = 4096;
/** No image of any size fits into less. */
const MIN_STORE_BYTES = 1e9;

export function judgeAgent(status: AgentStatus): Finding {
  const what = `${status.name}, version ${status.version}, ${status.state}`;
  if (status.state !== 'ready') return warning('agent', what, 'Wait until it is ready; its log says what it waits for.');
  if (status.version !== AGENT_VERSION) return warning('agent', `${what}; this command is of version ${AGENT_VERSION}`, 'Restart the agent, so that both are of the same release.');
  return ok('agent', what);
}

/** @param answer HTTP status, or why there was none */
export function judgeEndpoint(status: AgentStatus, answer: number | string): Finding {
  const where = formatAddress(status.addresses.registry);
  if (answer === 200) return ok('endpoint', `${where} answers`);
  return problem('endpoint', `${where} ${typeof answer === 'number' ? `answers ${answer}` : `does not answer: ${answer}`}`, "See the agent's log. Something between it and this command may answer or block: a firewall on loopback, a proxy.");
}

export function judgeTracker({ tracker }: AgentStatus): Finding {
  const { state, url, lastError } = tracker;
  if (state === 'none') return ok('tracker', 'none is configured: this agent runs alone');
  if (state === 'connected') return ok('tracker', `connected with ${url}`);
  if (lastError === undefined) return warning('tracker', `${state}${url === undefined ? '' : `: ${url}`}`, 'Ask again in a few seconds.');
  return problem('tracker', `${state}: ${lastError.code}: ${lastError.message}`, ERRORS[lastError.code].help);
}

export function judgePeers({ tracker, peers, addresses }: AgentStatus): Finding {
  const { connected, known } = peers;
  if (tracker.state === 'none') return skipped('peers', 'without a tracker there are none');
  if (connected > 0) return ok('peers', `${connected} connected`);
  if (known === undefined) return skipped('peers', 'the tracker has not named any yet');
  if (known === 0) return ok('peers', 'this is the only agent of the fleet so far');
  const port = addresses.peers?.port ?? 5051;
  return problem('peers', `none of ${known} is connected`, `Open TCP port ${port} between the hosts; behind NAT or with several networks, say with --advertise where this one is reached.`);
}

export function judgeOrigin({ origin, answers, code, message, help }: OriginProbe, { configured, credentials }: { readonly configured: boolean; readonly credentials: string | undefined }): Finding {
  const check = `origin ${origin}`;
  if (answers) return ok(check, credentials === undefined || credentials === 'none' ? 'answers' : `answers; credentials from ${credentials}`);
  const said = `${code}: ${message}`;
  if (configured) return problem(check, said, help ?? '');
  return warning(check, said, `${help} If it is not meant to be used here, name the others to "flotilla setup" with --origin.`);
}

/** @param offsetMs this host's clock less the tracker's */
export function judgeClock(offsetMs: number): Finding {
  const off = Math.abs(offsetMs);
  const what = off < 2000 ? "agrees with the tracker's" : `${humanDuration(off)} ${offsetMs > 0 ? 'ahead of' : 'behind'} the tracker's`;
  if (off < CLOCK_WARNING_MS) return ok('clock', what);
  const help = 'Set the clocks of this host and the tracker by NTP (chrony, systemd-timesyncd).';
  return off < CLOCK_PROBLEM_MS ? warning('clock', what, help) : problem('clock', what, help);
}

/** What statfs(2) says of the data folder's file system. */
export interface FileSystem {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** It lies in memory. */
  readonly volatile: boolean;
}

export function judgeDisk({ store, minFreeShare = 0 }: AgentStatus, data: string, { totalBytes, freeBytes, volatile }: FileSystem): Finding {
  const what = `${humanBytes(freeBytes)} of ${humanBytes(totalBytes)} free at ${data}; the store holds ${humanBytes(store.bytes)} of at most ${humanBytes(store.limitBytes)}`;
  if (freeBytes < minFreeShare * totalBytes) {
    return problem('disk', `${what}; ${Math.round(100 * minFreeShare)} % are left free, so nothing new is kept`, 'Free space, give another --data, or lower storeMinFreeShare in the settings.');
  }
  if (volatile) return warning('disk', `${what}, in memory`, 'Give --data on a disk: what is in memory is lost with a restart of the host.');
  if (store.limitBytes < MIN_STORE_BYTES) return warning('disk', what, 'Raise --store-limit: larger images are not kept whole.');
  return ok('disk', what);
}

/** @param limits text of /proc/PID/limits; undefined: it cannot be read */
export function judgeOpenFiles(limits: string | undefined): Finding {
  const soft = /^Max open files +(\d+|unlimited) /m.exec(limits ?? '')?.[1];
  if (soft === undefined) return skipped('open files', "the agent's limits cannot be read");
  if (soft === 'unlimited' || Number(soft) >= MIN_OPEN_FILES) return ok('open files', `up to ${soft}`);
  return warning('open files', `up to ${soft}`, `Let the agent open ${MIN_OPEN_FILES} files or more: LimitNOFILE= in its systemd unit, or ulimit -n.`);
}

/** @param others whether another client of this host is set up */
export function judgeClient(client: string, routes: readonly Route[], { others }: { readonly others: boolean }): Finding {
  const check = `client ${client}`;
  const via = routes.filter(({ viaAgent }) => viaAgent);
  if (via.length > 0) {
    const rest = routes.filter(({ viaAgent }) => !viaAgent).map(({ registry }) => registry);
    return ok(check, `asks the agent for ${via.map(({ registry }) => registry).join(', ')}${rest.length === 0 ? '' : `; not for ${rest.join(', ')}`}`);
  }
  const why = routes[0]?.why ?? 'no registry is named';
  if (others) return skipped(check, `is installed and does not ask the agent: ${why}`);
  return problem(check, `does not ask the agent: ${why}`, `Run "flotilla setup ${client}".`);
}
