// What changed when, over the throughput curve: the audit log in words. "What changed since it worked?"

import type { AuditEntry, Timeline, TimelineEvent, TimelineQuery } from '@flotilla/shared/operator-api';
import type { AuditLog } from '../operators/audit-log.ts';
import type { Series } from './series.ts';

const HOUR_MS = 60 * 60_000;
const DAY_MS = 24 * HOUR_MS;
const MAX_EVENTS = 1_000;

/** By what stands before the dot of an action. */
const KINDS: Readonly<Record<string, string>> = {
  version: 'version',
  settings: 'settings',
  rollout: 'rollout',
  member: 'member',
  brake: 'brake',
  verdict: 'verdict',
  token: 'access',
  session: 'access',
  'join-token': 'access',
  tracker: 'tracker',
};

export async function timeline({ fromMs, toMs }: TimelineQuery, audit: AuditLog, series: Series, nowMs: number): Promise<Timeline> {
  const to = Math.min(toMs ?? nowMs, nowMs);
  const from = Math.min(fromMs ?? to - DAY_MS, to);
  const exact = from >= nowMs - HOUR_MS;
  const points = exact ? series.lastHour() : series.lastWeek();
  const entries = await audit.between(from, to, MAX_EVENTS);
  return {
    fromMs: from,
    toMs: to,
    stepMs: exact ? 1_000 : 60_000,
    series: points.filter(([second]) => second * 1000 >= from && second * 1000 <= to).map((point) => [...point]),
    events: entries.map(eventOf),
  };
}

function eventOf(entry: AuditEntry): TimelineEvent {
  const noun = entry.action.slice(0, entry.action.indexOf('.'));
  return { atMs: entry.atMs, kind: KINDS[noun] ?? noun, text: textOf(entry), entry };
}

/** One line. What has no words of its own is named by its action. */
function textOf({ actor, action, target, detail }: AuditEntry): string {
  const of = (name: string): string => String(detail[name] ?? '');
  switch (action) {
    case 'version.change':
      return `${of('hosts')} ${detail['hosts'] === 1 ? 'host' : 'hosts'}: version ${of('from')} → ${target}`;
    case 'settings.change':
      return `the tracker's ${target}: ${of('from') || 'unset'} → ${of('to') || 'unset'}`;
    case 'tracker.start':
      return `the tracker started, version ${target}`;
    case 'verdict.change':
      return target === 'ok' ? 'nothing wrong any more' : of('text');
    case 'member.expel':
      return `${actor} expelled ${of('host') || target}: ${of('reason')}`;
    case 'member.quarantine':
      return `${of('host') || target} in quarantine: ${of('reason')}`;
    case 'member.readmit':
      return `${actor} readmitted ${of('host') || target}`;
    case 'member.remove':
      return `${actor} removed ${of('host') || target}`;
    case 'brake.set':
      return `${actor} set a brake: ${of('brake')}`;
    case 'brake.release':
      return `${actor} released a brake: ${of('brake')}`;
    case 'brake.expire':
      return `a brake ended: ${of('brake')}`;
    case 'token.create':
      return `${actor} made the token ${target} (${of('role')})`;
    case 'token.revoke':
      return `${actor} revoked the token ${target}`;
    case 'join-token.rotate':
      return `${actor} rotated the join token`;
    case 'session.open':
      return `${target} signed in`;
    case 'session.close':
      return `${target} signed out`;
    case 'rollout.create':
      return `${actor} began the rollout of ${of('image')} on ${of('hosts')} ${detail['hosts'] === 1 ? 'host' : 'hosts'}`;
    case 'rollout.pause':
      return `${actor} paused the rollout of ${of('image')}`;
    case 'rollout.resume':
      return `${actor} resumed the rollout of ${of('image')}`;
    case 'rollout.cancel':
      return `${actor} cancelled the rollout of ${of('image')}`;
    case 'rollout.retry':
      return `${actor} had the rollout of ${of('image')} retried where it failed`;
    case 'rollout.paused':
      return `the rollout of ${of('image')} paused by itself: ${of('reason')}`;
    case 'rollout.done':
      return `the rollout of ${of('image')} is done`;
    case 'rollout.expired':
      return `the rollout of ${of('image')} reached its deadline`;
    default: {
      const verb = action.slice(action.indexOf('.') + 1);
      return `${actor}: ${action.split('.')[0]} ${target} ${verb}${detail['image'] === undefined ? '' : `, ${of('image')}`}`;
    }
  }
}
