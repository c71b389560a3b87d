// Who is signed in at the dashboard: the cookie's secret -> operator. Durable, so that a restart of the tracker signs nobody out.
//
// Only hashes of secrets are kept. A session ends when unused for IDLE_MS, after MAX_AGE_MS in any case, by signing out, and when the token
// that opened it is revoked. Bound: MAX_SESSIONS, the longest unused goes first. Pure but for its table; time is handed in.

import { createHash, randomBytes } from 'node:crypto';
import type { Table } from '../state.ts';
import type { Operator } from './roles.ts';

const HOUR_MS = 60 * 60_000;
const IDLE_MS = 12 * HOUR_MS;
export const MAX_AGE_MS = 7 * 24 * HOUR_MS;
const MAX_SESSIONS = 1_000;
/** How exact the last use is known after a restart. */
const WRITE_USE_MS = 5 * 60_000;

export interface SessionRecord extends Operator {
  /** The token that opened it; absent: a login code did. */
  readonly token?: string;
  readonly openedAtMs: number;
  readonly usedAtMs: number;
}

export class OperatorSessions {
  readonly #table: Table<SessionRecord>;
  /** By hash of the secret; the longest unused first. */
  readonly #sessions: Map<string, SessionRecord>;

  private constructor(table: Table<SessionRecord>, sessions: Map<string, SessionRecord>) {
    this.#table = table;
    this.#sessions = sessions;
  }

  static async open(table: Table<SessionRecord>): Promise<OperatorSessions> {
    const known: [string, SessionRecord][] = [];
    for await (const entry of table.entries()) known.push(entry);
    return new OperatorSessions(table, new Map(known.sort(([, a], [, b]) => a.usedAtMs - b.usedAtMs)));
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** @returns the secret for the cookie */
  async start({ name, role }: Operator, token: string | undefined, nowMs: number): Promise<string> {
    const over = [...this.#sessions].filter(([, record], index) => isOver(record, nowMs) || index < this.#sessions.size - MAX_SESSIONS + 1);
    for (const [hash] of over) await this.#end(hash);
    const secret = randomBytes(32).toString('base64url');
    const record: SessionRecord = { name, role, ...(token !== undefined && { token }), openedAtMs: nowMs, usedAtMs: nowMs };
    this.#sessions.set(hashOf(secret), record);
    await this.#table.put(hashOf(secret), record, true);
    return secret;
  }

  /** @param written told of the write that follows where the last use is written down */
  find(secret: string, nowMs: number, written: (write: Promise<void>) => void): Operator | undefined {
    const hash = hashOf(secret);
    const record = this.#sessions.get(hash);
    if (record === undefined || isOver(record, nowMs)) return undefined;
    if (nowMs - record.usedAtMs >= WRITE_USE_MS) {
      const used = { ...record, usedAtMs: nowMs };
      this.#sessions.delete(hash);
      this.#sessions.set(hash, used);
      written(this.#table.put(hash, used));
    }
    return { name: record.name, role: record.role };
  }

  async end(secret: string): Promise<void> {
    await this.#end(hashOf(secret));
  }

  /** The token opens nothing any more: neither does what it has opened. */
  async endOf(token: string): Promise<void> {
    for (const [hash, record] of this.#sessions) if (record.token === token) await this.#end(hash);
  }

  async #end(hash: string): Promise<void> {
    if (this.#sessions.delete(hash)) await this.#table.del(hash, true);
  }
}

function isOver({ openedAtMs, usedAtMs }: SessionRecord, nowMs: number): boolean {
  return nowMs - usedAtMs >= IDLE_MS || nowMs - openedAtMs >= MAX_AGE_MS;
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}
