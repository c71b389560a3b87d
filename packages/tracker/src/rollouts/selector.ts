// Which hosts a rollout is for: `zone=a,role!=db,name=web-*`. Pure.
//
// Terms are joined by commas and must all hold. `name`, `zone` and `peer` are the host's own, every other key is a label. `*` stands for any
// characters. What a host does not have equals nothing: `role=db` leaves it out, `role!=db` takes it in.

import { TrackerError } from '../errors.ts';

/** What is known of a host, connected or not. */
export interface HostFacts {
  readonly name: string;
  readonly zone?: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface Term {
  readonly key: string;
  readonly equal: boolean;
  /** Between the asterisks. */
  readonly pieces: readonly string[];
}

const TERM = /^\s*([A-Za-z0-9][A-Za-z0-9._/-]{0,62})\s*(!?=)\s*(.*?)\s*$/;
const MAX_TERMS = 32;

export class Selector {
  readonly text: string;
  readonly #terms: readonly Term[];

  /** @param text empty: every host @throws TrackerError SELECTOR_INVALID */
  constructor(text: string) {
    this.text = text.trim();
    const parts = this.text === '' ? [] : this.text.split(',');
    if (parts.length > MAX_TERMS) throw new TrackerError('SELECTOR_INVALID', `more than ${MAX_TERMS} terms`);
    this.#terms = parts.map(parseTerm);
  }

  matches(peerId: string, facts: HostFacts): boolean {
    return this.#terms.every(({ key, equal, pieces }) => {
      const own = factOf(key, peerId, facts);
      return (own !== undefined && fits(own, pieces)) === equal;
    });
  }
}

function parseTerm(part: string): Term {
  const [, key, operator, value] = TERM.exec(part) ?? [];
  if (key === undefined || value === undefined) throw new TrackerError('SELECTOR_INVALID', `"${part.trim()}" is not key=value or key!=value`);
  return { key, equal: operator === '=', pieces: value.split('*') };
}

/** Each piece as early as possible: linear, whatever the pattern. */
function fits(text: string, pieces: readonly string[]): boolean {
  const [head = '', ...rest] = pieces;
  const tail = rest.pop();
  if (tail === undefined) return text === head;
  if (!text.startsWith(head)) return false;
  let at = head.length;
  for (const piece of rest) {
    const found = text.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return text.length - tail.length >= at && text.endsWith(tail);
}

function factOf(key: string, peerId: string, { name, zone, labels }: HostFacts): string | undefined {
  if (key === 'name') return name;
  if (key === 'zone') return zone;
  if (key === 'peer') return peerId;
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}
