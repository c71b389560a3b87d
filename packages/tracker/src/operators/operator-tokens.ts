// The named tokens of operators. What is kept is a token's hash: a token itself is shown once, when it is made.
//
// The first token lies in DIR/operator-token (0600), is an admin's, and cannot be lost: revoked, it is made anew there. Tokens are
// 256 random bits, so a plain sha256 tells nothing of them. Durable in state, bound MAX_TOKENS. Non-goals: who is signed in (operator-sessions.ts).

import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Role, TokenInfo } from '@flotilla/shared/operator-api';
import { readIfThere, writeSecret } from '../durable-file.ts';
import { TrackerError } from '../errors.ts';
import type { Table } from '../state.ts';
import type { Operator } from './roles.ts';

const MAX_TOKENS = 1_000;
const PREFIX = 'flotilla-op.';
/** The name of the token in the file. */
export const FIRST_TOKEN = 'operator-token';

/** As it is kept; the key is the name. */
export interface TokenRecord {
  readonly role: Role;
  /** sha256 of the token, hex. */
  readonly hash: string;
  readonly createdAtMs: number;
  readonly createdBy: string;
}

export class OperatorTokens {
  readonly #dataDir: string;
  readonly #table: Table<TokenRecord>;
  readonly #byName = new Map<string, TokenRecord>();
  readonly #byHash = new Map<string, string>();

  private constructor(dataDir: string, table: Table<TokenRecord>) {
    this.#dataDir = dataDir;
    this.#table = table;
  }

  static async open(dataDir: string, table: Table<TokenRecord>, nowMs: number): Promise<OperatorTokens> {
    const tokens = new OperatorTokens(dataDir, table);
    for await (const [name, record] of table.entries()) tokens.#remember(name, record);
    const hash = hashOf(await ensureOperatorToken(dataDir));
    if (tokens.#byName.get(FIRST_TOKEN)?.hash !== hash) await tokens.#put(FIRST_TOKEN, { role: 'admin', hash, createdAtMs: nowMs, createdBy: 'tracker' });
    return tokens;
  }

  /** Whose token this is. The hash is looked up, so that time tells nothing of how much of it fits. */
  find(token: string): Operator | undefined {
    const name = this.#byHash.get(hashOf(token));
    return name === undefined ? undefined : { name, role: this.#byName.get(name)!.role };
  }

  /** @returns the token, for this once @throws OPERATOR_TOKEN_EXISTS, OPERATOR_TOKENS_FULL */
  async create(name: string, role: Role, createdBy: string, nowMs: number): Promise<string> {
    if (this.#byName.has(name)) throw new TrackerError('OPERATOR_TOKEN_EXISTS', `there is a token named ${name}`);
    if (this.#byName.size >= MAX_TOKENS) throw new TrackerError('OPERATOR_TOKENS_FULL', `${MAX_TOKENS} tokens`);
    const token = newToken();
    await this.#put(name, { role, hash: hashOf(token), createdAtMs: nowMs, createdBy });
    return token;
  }

  list(): TokenInfo[] {
    return [...this.#byName].map(([name, { role, createdAtMs, createdBy }]) => ({ name, role, createdAtMs, createdBy }));
  }

  /** From now on the token opens nothing. The first one is replaced in its file. @throws OPERATOR_TOKEN_UNKNOWN */
  async revoke(name: string, nowMs: number): Promise<void> {
    const record = this.#byName.get(name);
    if (record === undefined) throw new TrackerError('OPERATOR_TOKEN_UNKNOWN', `there is no token named ${name}`);
    this.#byHash.delete(record.hash);
    this.#byName.delete(name);
    await this.#table.del(name, true);
    if (name !== FIRST_TOKEN) return;
    const token = newToken();
    await writeSecret(operatorTokenFile(this.#dataDir), `${token}\n`);
    await this.#put(name, { role: 'admin', hash: hashOf(token), createdAtMs: nowMs, createdBy: 'tracker' });
  }

  async #put(name: string, record: TokenRecord): Promise<void> {
    const before = this.#byName.get(name);
    if (before !== undefined) this.#byHash.delete(before.hash);
    this.#remember(name, record);
    await this.#table.put(name, record, true);
  }

  #remember(name: string, record: TokenRecord): void {
    this.#byName.set(name, record);
    this.#byHash.set(record.hash, name);
  }
}

export function operatorTokenFile(dataDir: string): string {
  return join(dataDir, 'operator-token');
}

async function ensureOperatorToken(dataDir: string): Promise<string> {
  const known = (await readIfThere(operatorTokenFile(dataDir)))?.trim();
  if (known !== undefined && known !== '') return known;
  const token = newToken();
  await writeSecret(operatorTokenFile(dataDir), `${token}\n`);
  return token;
}

function newToken(): string {
  return PREFIX + randomBytes(32).toString('base64url');
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
