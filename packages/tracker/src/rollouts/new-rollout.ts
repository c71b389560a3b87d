// What an operator asks for, made into the records of a rollout. Pure: everything that can be wrong about a request is found here.

import type { RolloutRequest } from '@flotilla/shared/rollout-api';
import { InvalidReferenceError, parseImageName, type ImageName } from '@flotilla/shared/reference';
import { TrackerError } from '../errors.ts';
import type { HostRecord, RolloutRecord } from './records.ts';
import { Selector, type HostFacts } from './selector.ts';
import { DEFAULT_WAVES, waveTargets } from './waves.ts';

const DEFAULT_PAUSE_ON_FAILURE = 0.02;
const DOCKER_HUB = 'docker.io';

export interface NewRolloutContext {
  readonly id: string;
  readonly operator: string;
  readonly nowMs: number;
  /** All that have ever been connected. */
  readonly hosts: Iterable<[peerId: string, facts: HostFacts]>;
  readonly isMember: (peerId: string) => boolean;
}

/** @throws TrackerError IMAGE_INVALID, SELECTOR_INVALID, WAVES_INVALID, NO_HOSTS, DEADLINE_PASSED */
export function newRollout(request: RolloutRequest, { id, operator, nowMs, hosts: known, isMember }: NewRolloutContext): { record: RolloutRecord; hosts: Map<string, HostRecord> } {
  const { origin, repository, reference } = imageOf(request.image);
  const { deadlineMs, originLimit, platform } = request;
  if (deadlineMs !== undefined && deadlineMs <= nowMs) throw new TrackerError('DEADLINE_PASSED', `${new Date(deadlineMs).toISOString()} is not in the future`);
  const selector = new Selector(request.hosts ?? '');
  const hosts = new Map<string, HostRecord>();
  for (const [peerId, facts] of known) {
    if (!isMember(peerId) || !selector.matches(peerId, facts)) continue;
    hosts.set(peerId, { name: facts.name, ...(facts.zone !== undefined && { zone: facts.zone }), state: 'waiting', attempt: 0 });
  }
  if (hosts.size === 0) throw new TrackerError('NO_HOSTS', selector.text === '' ? 'the fleet has no hosts yet' : `no host fits "${selector.text}"`);
  const record: RolloutRecord = {
    id,
    image: request.image,
    origin,
    repository,
    ...('tag' in reference ? { tag: reference.tag } : { digest: reference.digest }),
    state: 'resolving',
    selector: selector.text,
    ...(platform !== undefined && { platform }),
    verifyOnly: request.verifyOnly ?? false,
    pauseOnFailure: request.pauseOnFailure ?? DEFAULT_PAUSE_ON_FAILURE,
    ...(originLimit !== undefined && { originLimit }),
    createdAtMs: nowMs,
    createdBy: operator,
    ...(deadlineMs !== undefined && { deadlineMs }),
    wave: 0,
    waves: waveTargets(request.waves ?? DEFAULT_WAVES, hosts.size).map((target) => ({ target })),
    forgiven: 0,
    manifests: {},
  };
  return { record, hosts };
}

function imageOf(text: string): ImageName {
  let name: ImageName;
  try {
    name = parseImageName(text.trim());
  } catch (error) {
    if (error instanceof InvalidReferenceError) throw new TrackerError('IMAGE_INVALID', error.message, { cause: error });
    throw error;
  }
  // As every agent would read it.
  return name.origin === DOCKER_HUB && !name.repository.includes('/') ? { ...name, repository: `library/${name.repository}` } : name;
}
