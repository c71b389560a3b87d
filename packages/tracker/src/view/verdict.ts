// The first line of every page: is it us, the registry or the network? From facts of one second to one sentence with its evidence. Pure.
//
// Every second the facts give findings; the one that weighs most is the verdict. A finding speaks once it has lasted SHOW_AFTER_MS and until it
// has been away for HIDE_AFTER_MS, so that the line does not flicker. Non-goals: what to do about it (alerts.ts).

import type { FaultKind } from '@flotilla/shared/agent-report';
import type { Blamed, Brake, Severity, SlowReason, Verdict } from '@flotilla/shared/live-api';
import { brakeText } from './brake-text.ts';
import { bytes } from './slow-reason.ts';

const SHOW_AFTER_MS = 1_500;
const HIDE_AFTER_MS = 8_000;
const EXAMPLES = 5;
const MAX_BRAKES = 3;
/** From this share of those that pull, a slow group is more than a notice. */
const MANY_SHARE = 0.1;
/** A group is named by its zone where at least so much of it is of one zone. */
const ZONE_SHARE = 0.8;
const LOST_SHARE = 0.1;
const MIN_LOST = 3;

export interface SlowFact {
  readonly n: number;
  readonly zone: string;
  readonly reason: SlowReason;
  readonly evidence: string;
}

/** What an origin does to hosts now. */
export interface OriginFact {
  readonly origin: string;
  readonly kind: FaultKind;
  readonly sinceMs: number;
  readonly hosts: readonly { readonly n: number; readonly zone: string }[];
  /** Hosts to which this origin gives bytes now. */
  readonly served: number;
}

export interface FleetFacts {
  readonly up: number;
  readonly stale: number;
  readonly pulling: number;
  /** Bytes per second that arrive at all hosts together, and how much of it is from peers. */
  readonly rate: number;
  readonly peerRate: number;
  readonly slow: readonly SlowFact[];
  readonly origins: readonly OriginFact[];
  /** Hosts whose session ended against their will in the last minute, and that are not back. */
  readonly lost: readonly { readonly n: number; readonly zone: string }[];
  readonly brakes: readonly Brake[];
  readonly diskFull: readonly { readonly n: number; readonly zone: string }[];
  readonly stateFailed: boolean;
}

interface Finding {
  /** Code and what it is about. */
  readonly key: string;
  readonly code: string;
  readonly severity: Severity;
  readonly blamed: Blamed;
  readonly text: (since: string) => string;
  readonly sinceMs?: number;
  readonly evidence: Verdict['evidence'];
  /** Hosts: among findings of one severity the larger one speaks. */
  readonly weight: number;
}

interface Lasting {
  finding: Finding;
  sinceMs: number;
  lastMs: number;
}

const RANK: Readonly<Record<Severity, number>> = { ok: 0, notice: 1, warning: 2, bad: 3 };

export class Verdicts {
  readonly #lasting = new Map<string, Lasting>();
  #quiet: { text: string; sinceMs: number } = { text: '', sinceMs: 0 };

  decide(facts: FleetFacts, nowMs: number): Verdict {
    for (const finding of findings(facts)) {
      const known = this.#lasting.get(finding.key);
      if (known === undefined) this.#lasting.set(finding.key, { finding, sinceMs: finding.sinceMs ?? nowMs, lastMs: nowMs });
      else Object.assign(known, { finding, lastMs: nowMs });
    }
    let worst: Lasting | undefined;
    for (const [key, lasting] of this.#lasting) {
      if (nowMs - lasting.lastMs >= HIDE_AFTER_MS) this.#lasting.delete(key);
      else if (nowMs - lasting.sinceMs >= SHOW_AFTER_MS && (worst === undefined || weighsMore(lasting.finding, worst.finding))) worst = lasting;
    }
    if (worst === undefined) return this.#nothing(facts, nowMs);
    const { finding, sinceMs } = worst;
    const others = [...this.#lasting.values()].filter((lasting) => lasting !== worst && nowMs - lasting.sinceMs >= SHOW_AFTER_MS).sort((a, b) => (weighsMore(a.finding, b.finding) ? -1 : 1));
    return {
      severity: finding.severity,
      blamed: finding.blamed,
      code: finding.code,
      text: finding.text(clock(sinceMs)),
      sinceMs,
      evidence: [...finding.evidence, ...others.slice(0, 3).map((other) => ({ text: `also: ${other.finding.text(clock(other.sinceMs))}` }))],
    };
  }

  #nothing({ pulling, rate, peerRate, up }: FleetFacts, nowMs: number): Verdict {
    const code = pulling === 0 ? 'quiet' : 'ok';
    if (this.#quiet.text !== code) this.#quiet = { text: code, sinceMs: nowMs };
    const share = rate === 0 ? 0 : Math.round((100 * peerRate) / rate);
    const evidence = pulling === 0 ? `${hosts(up)} up, nobody pulls` : `${hosts(pulling)} ${pulling === 1 ? 'pulls' : 'pull'} ${bytes(rate)}/s, ${share} % from peers`;
    return { severity: 'ok', blamed: 'nobody', code, text: 'nothing wrong', sinceMs: this.#quiet.sinceMs, evidence: [{ text: evidence }] };
  }
}

function findings(facts: FleetFacts): Finding[] {
  const found: Finding[] = [];
  if (facts.stateFailed) {
    found.push({ key: 'state', code: 'state', severity: 'bad', blamed: 'us', text: (since) => `the tracker cannot write its state since ${since}`, evidence: [{ text: 'what must survive a restart was not written: look at its disk and log' }], weight: facts.up });
  }
  for (const origin of facts.origins) found.push(originFinding(origin, facts));
  for (const reason of ['link', 'disk', 'cpu', 'no-peers', 'throttled', 'origin', ''] as const) {
    const group = facts.slow.filter((host) => host.reason === reason);
    // What an origin does is said of the origin.
    if (group.length > 0 && !(reason === 'origin' && facts.origins.length > 0)) found.push(slowFinding(reason, group, facts));
  }
  if (facts.lost.length >= Math.max(MIN_LOST, LOST_SHARE * (facts.up + facts.lost.length))) {
    found.push({ key: 'hosts-lost', code: 'hosts-lost', severity: 'warning', blamed: 'network', text: () => `${where(facts.lost)} lost within a minute`, evidence: [{ text: 'their sessions ended without a word', hosts: facts.lost.length, examples: examples(facts.lost) }], weight: facts.lost.length });
  }
  if (facts.diskFull.length > 0) {
    found.push({ key: 'disk-full', code: 'disk-full', severity: 'notice', blamed: 'us', text: () => `${where(facts.diskFull)}: disk nearly full`, evidence: [{ text: 'what cannot be kept is fetched again by the next who asks', hosts: facts.diskFull.length, examples: examples(facts.diskFull) }], weight: facts.diskFull.length });
  }
  if (facts.brakes.length > 0) {
    found.push({ key: 'brakes', code: 'brakes', severity: 'notice', blamed: 'us', text: (since) => `${facts.brakes.length === 1 ? 'a brake is' : `${facts.brakes.length} brakes are`} on since ${since}`, evidence: facts.brakes.slice(0, MAX_BRAKES).map((brake) => ({ text: `${brakeText(brake)}, by ${brake.setBy}` })), weight: 0 });
  }
  return found;
}

function originFinding({ origin, kind, sinceMs, hosts: refused, served }: OriginFact, { rate, pulling, slow, up }: FleetFacts): Finding {
  // One host that may not read one image is no trouble of the fleet's.
  const many = refused.length >= up * MANY_SHARE || refused.length === 0;
  const nothing = rate === 0 && pulling > 0;
  const severity: Severity = !many || (slow.length === 0 && !nothing) ? 'notice' : nothing ? 'bad' : 'warning';
  const zones = new Set(refused.map(({ zone }) => zone));
  // Others reach it: then it is the way there, not the registry.
  const partly = served > 0 && zones.size === 1;
  const told = where(refused);
  const evidence = [{ text: `${SEEN[kind]}, told by ${hosts(refused.length)}`, hosts: refused.length, examples: examples(refused) }, ...(served > 0 ? [{ text: `${hosts(served)} still get bytes from it`, hosts: served }] : [])];
  const base = { key: `${kind} ${origin}`, severity, evidence, sinceMs, weight: refused.length };
  switch (kind) {
    case 'throttled':
      return { ...base, code: 'origin-429', blamed: 'registry', text: (since) => `origin ${origin} slow: 429 since ${since}` };
    case 'credentials':
      return { ...base, code: 'origin-credentials', blamed: 'us', text: (since) => `origin ${origin} refuses the credentials of ${told} since ${since}` };
    case 'dns':
      return { ...base, code: 'dns', blamed: 'network', text: (since) => `the name of origin ${origin} is not found on ${told} since ${since}` };
    case 'unreachable':
      return { ...base, code: 'origin-down', blamed: partly ? 'network' : 'registry', text: (since) => (partly ? `${told}: no way to origin ${origin} since ${since}` : `origin ${origin} does not answer since ${since}`) };
    case 'other':
      return { ...base, code: 'origin-down', blamed: 'registry', text: (since) => `origin ${origin} fails since ${since}` };
  }
}

const SEEN: Readonly<Record<FaultKind, string>> = {
  throttled: '429 Too Many Requests',
  credentials: '401 or 403, or no token',
  dns: 'the resolver knows no such name',
  unreachable: 'connections are refused, break or time out',
  other: '5xx answers, or wrong ones',
};

const SLOW_TEXTS: Readonly<Record<'link' | 'disk' | 'cpu' | 'no-peers' | 'throttled' | 'origin' | '', { readonly blamed: Blamed; readonly what: string }>> = {
  link: { blamed: 'network', what: 'link full' },
  disk: { blamed: 'us', what: 'disk slow' },
  cpu: { blamed: 'us', what: 'CPU full' },
  'no-peers': { blamed: 'network', what: 'no peers' },
  throttled: { blamed: 'us', what: 'held back by a limit' },
  origin: { blamed: 'registry', what: 'origin fails' },
  '': { blamed: 'nobody', what: 'slow, and no reason seen' },
};

function slowFinding(reason: keyof typeof SLOW_TEXTS, group: readonly SlowFact[], { pulling }: FleetFacts): Finding {
  const { blamed, what } = SLOW_TEXTS[reason];
  const many = group.length >= pulling * MANY_SHARE;
  const severity: Severity = many && reason !== 'throttled' && reason !== '' ? 'warning' : 'notice';
  const first = group.find(({ evidence }) => evidence !== '')?.evidence;
  return {
    key: `slow ${reason}`,
    code: reason === '' ? 'slow' : reason,
    severity,
    blamed,
    text: () => `${where(group)}: ${what}`,
    evidence: [{ text: first ?? `they get less than half of what others get`, hosts: group.length, examples: examples(group) }],
    weight: group.length,
  };
}

function weighsMore(a: Finding, b: Finding): boolean {
  const more = RANK[a.severity] - RANK[b.severity] || a.weight - b.weight;
  return more === 0 ? a.key < b.key : more > 0;
}

/** "12 hosts of zone b", where they are nearly all of one. */
function where(group: readonly { readonly zone: string }[]): string {
  const count = new Map<string, number>();
  for (const { zone } of group) count.set(zone, (count.get(zone) ?? 0) + 1);
  const [zone, most] = [...count].sort(([, a], [, b]) => b - a)[0] ?? ['', 0];
  return zone !== '' && group.length > 1 && most >= group.length * ZONE_SHARE ? `${hosts(group.length)} of zone ${zone}` : hosts(group.length);
}

function hosts(count: number): string {
  return count === 1 ? '1 host' : `${count} hosts`;
}

function examples(group: readonly { readonly n: number }[]): number[] {
  return group.slice(0, EXAMPLES).map(({ n }) => n);
}

/** 02:14 UTC */
function clock(ms: number): string {
  return `${new Date(ms).toISOString().slice(11, 16)} UTC`;
}
