// The operators' side of the tracker put together: tokens, login codes, sessions, audit log, and the guard over them.

import type { FastifyRequest } from 'fastify';
import { TrackerError } from '../errors.ts';
import type { State } from '../state.ts';
import { AuditLog } from './audit-log.ts';
import { createGuard, identified, type Credentials, type Guard } from './guard.ts';
import { LoginCodes } from './login-codes.ts';
import { OperatorSessions } from './operator-sessions.ts';
import { FIRST_TOKEN, OperatorTokens } from './operator-tokens.ts';
import type { Operator } from './roles.ts';

export interface OperatorsInit {
  readonly dataDir: string;
  /** In the cookie's name, so that two trackers on one host do not sign each other's operators out. */
  readonly fleetId: string;
  readonly now: () => number;
  /** Told of a write that nobody waits for and that failed. */
  readonly writeFailed: (error: unknown) => void;
}

export class Operators {
  readonly audit: AuditLog;
  readonly tokens: OperatorTokens;
  readonly codes: LoginCodes;
  readonly sessions: OperatorSessions;
  readonly guard: Guard;
  readonly #cookieName: string;
  readonly now: () => number;
  readonly #credentials: Credentials;

  private constructor({ dataDir, fleetId, now, writeFailed }: OperatorsInit, parts: { audit: AuditLog; tokens: OperatorTokens; sessions: OperatorSessions }) {
    this.audit = parts.audit;
    this.tokens = parts.tokens;
    this.sessions = parts.sessions;
    this.codes = new LoginCodes(dataDir);
    this.#cookieName = `flotilla-${fleetId.slice(0, 8)}`;
    this.now = now;
    this.#credentials = {
      byToken: (token) => this.tokens.find(token),
      bySession: (request) => {
        const secret = this.secretOf(request);
        return secret === undefined ? undefined : this.sessions.find(secret, now(), (write) => void write.catch(writeFailed));
      },
    };
    this.guard = createGuard(this.#credentials);
  }

  static async open(init: OperatorsInit, state: State): Promise<Operators> {
    return new Operators(init, {
      audit: await AuditLog.open(state.table('audit-log'), init.now),
      tokens: await OperatorTokens.open(init.dataDir, state.table('operator-tokens'), init.now()),
      sessions: await OperatorSessions.open(state.table('operator-sessions')),
    });
  }

  /** Who asks, as far as it is so now: for what outlasts its request. */
  identify(request: FastifyRequest): Operator | undefined {
    return identified(request, this.#credentials);
  }

  /** The secret of the session's cookie. */
  secretOf(request: FastifyRequest): string | undefined {
    return request.cookies[this.cookieFor(request).name];
  }

  /** Plain HTTP over loopback has a cookie of its own: a browser lets nothing plain replace one that came encrypted. */
  cookieFor({ protocol }: FastifyRequest): { readonly name: string; readonly options: { readonly path: string; readonly httpOnly: true; readonly sameSite: 'strict'; readonly secure: boolean } } {
    const secure = protocol === 'https';
    return { name: secure ? this.#cookieName : `${this.#cookieName}-plain`, options: { path: '/', httpOnly: true, sameSite: 'strict', secure } };
  }

  /** @returns who that is, and the secret of their new session @throws OPERATOR_UNAUTHORIZED, LOGIN_CODE_WRONG */
  async signIn(proof: { readonly code: string } | { readonly token: string }): Promise<{ operator: Operator; secret: string }> {
    const nowMs = this.now();
    const byCode = 'code' in proof;
    const operator = byCode ? await this.codes.redeem(proof.code, nowMs) : this.tokens.find(proof.token);
    if (operator === undefined) throw byCode ? new TrackerError('LOGIN_CODE_WRONG', 'the code is wrong, used, or older than ten minutes') : new TrackerError('OPERATOR_UNAUTHORIZED', 'the token is not known');
    const secret = await this.sessions.start(operator, byCode ? undefined : operator.name, nowMs);
    await this.audit.record(operator.name, 'session.open', operator.name, { role: operator.role, by: byCode ? 'code' : 'token' });
    return { operator, secret };
  }

  /** The token ends, and every session that it opened. @throws OPERATOR_TOKEN_UNKNOWN */
  async revoke(name: string, by: Operator): Promise<void> {
    await this.tokens.revoke(name, this.now());
    await this.sessions.endOf(name);
    await this.audit.record(by.name, 'token.revoke', name, name === FIRST_TOKEN ? { replaced: true } : {});
  }
}
