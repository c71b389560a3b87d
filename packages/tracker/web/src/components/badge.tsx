// The state of something: a word, its colour, and a sign of its own for those who do not see the colour.

import type { HostState, Severity, SlowReason } from '@flotilla/shared/live-api';
import type { RolloutState } from '@flotilla/shared/rollout-api';
import type { JSX } from 'preact';
import { Icon, type IconName } from './icon.tsx';

export type Tone = 'none' | Severity;

export function Badge({ tone, icon, children }: { readonly tone: Tone; readonly icon?: IconName; readonly children: string }): JSX.Element {
  return (
    <span class={`badge tone-${tone}`}>
      <Icon name={icon ?? (tone === 'none' ? 'none' : tone)} size={14} />
      {children}
    </span>
  );
}

const HOSTS: Readonly<Record<HostState, readonly [Tone, IconName]>> = {
  up: ['ok', 'ok'],
  stale: ['warning', 'waiting'],
  down: ['none', 'none'],
  quarantined: ['bad', 'bad'],
  expelled: ['bad', 'bad'],
};

export function HostBadge({ state }: { readonly state: HostState }): JSX.Element {
  const [tone, icon] = HOSTS[state];
  return (
    <Badge tone={tone} icon={icon}>
      {state}
    </Badge>
  );
}

const ROLLOUTS: Readonly<Record<RolloutState, readonly [Tone, IconName]>> = {
  resolving: ['notice', 'working'],
  running: ['notice', 'working'],
  paused: ['warning', 'pause'],
  done: ['ok', 'ok'],
  cancelled: ['none', 'stop'],
  expired: ['none', 'waiting'],
};

export function RolloutBadge({ state }: { readonly state: RolloutState }): JSX.Element {
  const [tone, icon] = ROLLOUTS[state];
  return (
    <Badge tone={tone} icon={icon}>
      {state}
    </Badge>
  );
}

/** What a reason is called. `''`: nothing unusual. */
export const REASON_NAMES: Readonly<Record<SlowReason, string>> = {
  '': 'as fast as it can',
  link: 'link full',
  disk: 'disk slow',
  cpu: 'CPU full',
  dns: 'DNS: origin not found',
  '429': 'origin: too many requests',
  credentials: 'credentials refused',
  origin: 'origin does not answer',
  'no-peers': 'no peers',
  throttled: 'throttled',
};

export function ReasonBadge({ reason }: { readonly reason: SlowReason }): JSX.Element {
  return reason === '' ? (
    <Badge tone="none">{REASON_NAMES[reason]}</Badge>
  ) : (
    <Badge tone="warning">{REASON_NAMES[reason]}</Badge>
  );
}
