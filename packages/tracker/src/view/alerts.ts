// What an operator should look at, each with its cause and the next step. Pure: from the facts of one second; how long each lasts is remembered.

import type { Alert, Brake, Severity } from '@flotilla/shared/live-api';
import type { FleetFacts, OriginFact } from './verdict.ts';
import { brakeText } from './brake-text.ts';
import { bytes } from './slow-reason.ts';

const EXAMPLES = 5;
const RANK: Readonly<Record<Severity, number>> = { ok: 0, notice: 1, warning: 2, bad: 3 };

/** Some host, and what about it. */
export interface HostFact {
  readonly n: number;
  readonly name: string;
}

export interface AlertFacts extends Pick<FleetFacts, 'origins' | 'stateFailed'> {
  /** They pull, and nothing has arrived for half a minute. */
  readonly noProgress: readonly (HostFact & { readonly evidence: string })[];
  readonly diskFull: readonly (HostFact & { readonly freeBytes: number })[];
  readonly skewed: readonly (HostFact & { readonly skewMs: number })[];
  readonly quarantined: readonly (HostFact & { readonly reason: string })[];
  readonly lost: readonly HostFact[];
  readonly brakes: readonly Brake[];
}

type Draft = Omit<Alert, 'sinceMs' | 'hosts' | 'examples'> & { readonly who: readonly HostFact[]; readonly sinceMs?: number };

export class Alerts {
  readonly #sinceMs = new Map<string, number>();

  /** Worst first, then oldest. */
  decide(facts: AlertFacts, nowMs: number): Alert[] {
    const drafts = draftsOf(facts);
    const ids = new Set(drafts.map(({ id }) => id));
    for (const id of this.#sinceMs.keys()) if (!ids.has(id)) this.#sinceMs.delete(id);
    return drafts
      .map(({ who, ...draft }) => {
        const sinceMs = draft.sinceMs ?? this.#sinceMs.get(draft.id) ?? nowMs;
        this.#sinceMs.set(draft.id, sinceMs);
        return { ...draft, sinceMs, hosts: who.length, examples: who.slice(0, EXAMPLES).map(({ n }) => n) };
      })
      .sort((a, b) => RANK[b.severity] - RANK[a.severity] || a.sinceMs - b.sinceMs);
  }
}

function draftsOf({ origins, stateFailed, noProgress, diskFull, skewed, quarantined, lost, brakes }: AlertFacts): Draft[] {
  const drafts: Draft[] = [];
  if (stateFailed) {
    drafts.push({ id: 'state', code: 'state-failed', severity: 'bad', who: [], title: 'The tracker cannot write its state', cause: 'A write to its data folder failed; members, bans and rollouts of now may be lost at a restart.', next: "Look at the tracker's disk and log, make room, and restart it." });
  }
  for (const origin of origins) drafts.push(originAlert(origin));
  if (noProgress.length > 0) {
    drafts.push({ id: 'no-progress', code: 'no-progress', severity: 'warning', who: noProgress, title: `${count(noProgress)} pull without progress`, cause: noProgress[0]!.evidence || 'Nothing has arrived for 30 s, and nothing on the host looks full.', next: 'Open a host: its sources, last errors and limits say what it waits for.' });
  }
  if (diskFull.length > 0) {
    const least = diskFull.reduce((a, b) => (b.freeBytes < a.freeBytes ? b : a));
    drafts.push({ id: 'disk', code: 'disk-nearly-full', severity: 'warning', who: diskFull, title: `${count(diskFull)} with a disk nearly full`, cause: `${least.name} has ${bytes(least.freeBytes)} left: its store shrinks, and what it cannot keep is fetched again.`, next: 'Make room on the disk of the data folder, or lower --store-limit.' });
  }
  if (skewed.length > 0) {
    const most = skewed.reduce((a, b) => (Math.abs(b.skewMs) > Math.abs(a.skewMs) ? b : a));
    drafts.push({ id: 'clock', code: 'clock-skew', severity: 'warning', who: skewed, title: `${count(skewed)} with a wrong clock`, cause: `The clock of ${most.name} is ${Math.round(Math.abs(most.skewMs) / 1000)} s ${most.skewMs > 0 ? 'ahead' : 'behind'}; beyond 5 minutes it cannot enrol.`, next: 'Let the host, or the tracker, take its time from NTP.' });
  }
  if (quarantined.length > 0) {
    drafts.push({ id: 'quarantine', code: 'quarantined', severity: 'bad', who: quarantined, title: `${count(quarantined)} in quarantine`, cause: `${quarantined[0]!.name}: ${quarantined[0]!.reason}.`, next: 'Look at the host and who received from it (Members), then readmit or expel it.' });
  }
  if (lost.length > 0) {
    drafts.push({ id: 'lost', code: 'hosts-lost', severity: 'notice', who: lost, title: `${count(lost)} lost`, cause: 'Their sessions ended, and they are not back.', next: 'If they are gone for good remove them from Members; otherwise look at their agents.' });
  }
  for (const brake of brakes) {
    drafts.push({ id: `brake ${brake.id}`, code: 'brake', severity: 'notice', who: [], sinceMs: brake.setAtMs, title: `A brake is on: ${brakeText(brake)}`, cause: `Set by ${brake.setBy}${brake.reason === '' ? '' : `: ${brake.reason}`}.`, next: `It ends by itself at ${new Date(brake.untilMs).toISOString().slice(11, 16)} UTC; release it on Brakes.` });
  }
  return drafts;
}

function originAlert({ origin, kind, sinceMs, hosts: refused }: OriginFact): Draft {
  const base = { id: `origin ${origin} ${kind}`, code: 'origin-errors', who: refused.map(({ n }) => ({ n, name: '' })), sinceMs };
  switch (kind) {
    case 'throttled':
      return { ...base, severity: 'warning', title: `${origin} answers 429`, cause: `${origin} limits how often it may be asked.`, next: 'Wait, or use credentials with a higher limit, or a mirror of it as its origin; brakes can hold rollouts back.' };
    case 'credentials':
      return { ...base, severity: 'warning', title: `${origin} refuses credentials`, cause: `It answered 401 or 403 to ${count(refused)}: no credentials, wrong ones, or no such repository.`, next: "Check the credentials of these agents for it (`flotilla doctor`), and the image's name." };
    case 'dns':
      return { ...base, severity: 'warning', title: `${origin} is not found`, cause: `The resolver of ${count(refused)} does not know its name.`, next: 'Check the resolver of these hosts, and the name in --origin.' };
    case 'unreachable':
      return { ...base, severity: 'warning', title: `${origin} does not answer`, cause: `Connections of ${count(refused)} were refused, broke or timed out.`, next: 'Check the registry and the way to it; what the fleet holds is served meanwhile.' };
    case 'other':
      return { ...base, severity: 'warning', title: `${origin} fails`, cause: `It gave ${count(refused)} answers that cannot be used, such as 5xx.`, next: "Look at the registry's own status and log." };
  }
}

function count(who: readonly unknown[]): string {
  return who.length === 1 ? '1 host' : `${who.length} hosts`;
}
