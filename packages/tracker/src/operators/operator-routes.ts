// Routes of the operators themselves: sign-in, sign-out, who am I, tokens, the audit log.

import { AuditPage, AuditQuery, CreatedToken, CreateTokenRequest, Me, SignInRequest, TokenInfo } from '@flotilla/shared/operator-api';
import { API_PREFIX } from '@flotilla/shared/tracker-api';
import { Type } from 'typebox';
import type { App } from '../server.ts';
import { TRACKER_VERSION } from '../version.ts';
import { checkSameOrigin, operatorOf } from './guard.ts';
import { MAX_AGE_MS } from './operator-sessions.ts';
import type { Operators } from './operators.ts';
import type { Operator } from './roles.ts';

/** From one address: enough for people, nothing for a guesser. */
const MAX_SIGN_INS_PER_MINUTE = 30;
const MAX_BODY_BYTES = 4 * 1024;
const DEFAULT_AUDIT_ENTRIES = 100;

const TokenParams = Type.Object({ name: Type.String({ minLength: 1, maxLength: 64 }) });

export function operatorAccountRoutes(app: App, operators: Operators, fleetId: string): void {
  const { guard, audit, tokens, sessions } = operators;
  const me = ({ name, role }: Operator): Me => ({ name, role, fleetId, version: TRACKER_VERSION });

  app.post(
    `${API_PREFIX}/sign-in`,
    { bodyLimit: MAX_BODY_BYTES, config: { rateLimit: { max: MAX_SIGN_INS_PER_MINUTE, timeWindow: 60_000 } }, schema: { summary: 'Sign in with a one-use code or a token', tags: ['operators'], body: SignInRequest, response: { 200: Me } } },
    async (request, reply) => {
      checkSameOrigin(request);
      const { operator, secret } = await operators.signIn(request.body);
      const { name, options } = operators.cookieFor(request);
      reply.setCookie(name, secret, { ...options, maxAge: MAX_AGE_MS / 1000 });
      return me(operator);
    },
  );

  app.post(`${API_PREFIX}/sign-out`, { ...guard('read'), schema: { summary: 'End this session', tags: ['operators'], response: { 204: Type.Null() } } }, async (request, reply) => {
    const secret = operators.secretOf(request);
    if (secret !== undefined) {
      await sessions.end(secret);
      const { name } = operatorOf(request);
      await audit.record(name, 'session.close', name);
    }
    const cookie = operators.cookieFor(request);
    return reply.clearCookie(cookie.name, cookie.options).code(204).send(null);
  });

  app.get(`${API_PREFIX}/me`, { ...guard('read'), schema: { summary: 'Who is asking', tags: ['operators'], response: { 200: Me } } }, (request) => me(operatorOf(request)));

  app.get(`${API_PREFIX}/tokens`, { ...guard('admin'), schema: { summary: 'Named tokens', tags: ['operators'], response: { 200: Type.Array(TokenInfo) } } }, () => tokens.list());

  app.post(
    `${API_PREFIX}/tokens`,
    { ...guard('admin'), bodyLimit: MAX_BODY_BYTES, schema: { summary: 'Make a token; it is shown this once', tags: ['operators'], body: CreateTokenRequest, response: { 201: CreatedToken } } },
    async (request, reply) => {
      const { name, role } = request.body;
      const actor = operatorOf(request).name;
      const token = await tokens.create(name, role, actor, operators.now());
      await audit.record(actor, 'token.create', name, { role });
      return reply.code(201).send({ name, role, token });
    },
  );

  app.delete(`${API_PREFIX}/tokens/:name`, { ...guard('admin'), schema: { summary: 'Revoke a token and its sessions', tags: ['operators'], params: TokenParams, response: { 204: Type.Null() } } }, async (request, reply) => {
    await operators.revoke(request.params.name, operatorOf(request));
    return reply.code(204).send(null);
  });

  app.get(`${API_PREFIX}/audit-log`, { ...guard('read'), schema: { summary: 'Every change, newest first', tags: ['operators'], querystring: AuditQuery, response: { 200: AuditPage } } }, async (request) => ({
    entries: await audit.entries(request.query.limit ?? DEFAULT_AUDIT_ENTRIES, request.query.before),
  }));
}
