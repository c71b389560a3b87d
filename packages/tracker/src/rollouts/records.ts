// What is kept of a rollout over restarts: one record of its own and one per host, in one table of level (`ID` and `ID/PEER`).
//
// Invariant: these alone decide what a host has to do. Who is connected, how far a host is, and which canary is being asked what the tag is are
// soft: after a restart the hosts come back and tell.

import type { HookOutcome } from '@flotilla/shared/tracker-api';
import type { RolloutHostState, RolloutState } from '@flotilla/shared/rollout-api';

export interface RolloutReason {
  readonly code: string;
  readonly message: string;
  /** The host's name. */
  readonly host?: string;
}

export interface WaveRecord {
  readonly target: number;
  openedAtMs?: number;
  endedAtMs?: number;
  /** Hosts that had come to an end, well or badly, when it opened. */
  resultsAtOpen?: number;
}

export interface RolloutRecord {
  readonly id: string;
  /** As the operator wrote it. */
  readonly image: string;
  readonly origin: string;
  readonly repository: string;
  readonly tag?: string;
  /** The pin. */
  digest?: string;
  /** The host that asked the origin; it is first in the canary wave. */
  resolvedBy?: string;
  state: RolloutState;
  reason?: RolloutReason;
  readonly selector: string;
  readonly platform?: string;
  readonly verifyOnly: boolean;
  readonly pauseOnFailure: number;
  readonly originLimit?: number;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly deadlineMs?: number;
  endedAtMs?: number;
  catchUpUntilMs?: number;
  /** No host that comes back gets it any more. */
  closed?: boolean;
  wave: number;
  waves: WaveRecord[];
  /** Failures that an operator has seen and gone on from. */
  forgiven: number;
  /** Blobs of each platform's manifest as hosts have told: [digest, size]. */
  manifests: Readonly<Record<string, readonly (readonly [digest: string, size: number])[]>>;
}

export interface HostRecord {
  readonly name: string;
  readonly zone?: string;
  state: RolloutHostState;
  /** Of its latest task, 0: none yet. Rises with each. */
  attempt: number;
  /** That started it. */
  wave?: number;
  error?: { readonly code: string; readonly message: string };
  ms?: number;
  manifest?: string;
  bytes?: { readonly size: number; readonly peer: number; readonly origin: number };
  hook?: HookOutcome;
}

export type StoredRecord = RolloutRecord | HostRecord;

const SEPARATOR = '/';

export function hostKey(id: string, peerId: string): string {
  return `${id}${SEPARATOR}${peerId}`;
}

/** @returns undefined for the key of a rollout itself */
export function parseHostKey(key: string): { readonly id: string; readonly peerId: string } | undefined {
  const at = key.indexOf(SEPARATOR);
  return at < 0 ? undefined : { id: key.slice(0, at), peerId: key.slice(at + 1) };
}
