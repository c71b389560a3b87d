// With whose right one blob is read at its origin: those of all callers that were let in for it. Pure.
//
// A download has as many sources as callers joined it with rights of different kinds. What needs no credentials goes first, then the
// agent's own, then the latest caller's, whose token is the youngest. One that the origin refuses is dropped.

import type { Authority, Source } from './ports.ts';

export interface SourceRight {
  readonly source: Source;
  readonly authority: Authority;
}

/** Callers with rights of their own beyond this make the oldest of them go. */
const MAX_RIGHTS = 16;
const RANK = { anonymous: 0, agent: 1, caller: 2 } as const;

export class Sources {
  #rights: readonly SourceRight[] = [];

  get best(): SourceRight | undefined {
    return this.#rights[0];
  }

  admit(right: SourceRight): void {
    const others = this.#rights.filter((other) => !isSame(other, right));
    this.#rights = [right, ...others].toSorted((a, b) => RANK[a.authority.kind] - RANK[b.authority.kind]).slice(0, MAX_RIGHTS);
  }

  /** The origin does not take this one. */
  refuse(right: SourceRight): void {
    this.#rights = this.#rights.filter((other) => !isSame(other, right));
  }
}

function isSame(a: SourceRight, b: SourceRight): boolean {
  const [one, other] = [a.authority, b.authority];
  const same = one.kind === 'caller' && other.kind === 'caller' ? one.id === other.id : one.kind === other.kind;
  return same && a.source.origin === b.source.origin && a.source.repository === b.source.repository;
}
