// Lets operators in: `...guard('operate')` in a route's options asks for that role, by bearer token or by the session's cookie.
//
//   no proof -> 401   a cookie on a change that another site asked for -> 403   role too small -> 403   too often -> 429   else request.operator is set
//
// SameSite=Strict keeps the cookie from other sites, but not from another port of the same host: so a change by cookie also has to come
// from a page of this very origin. A bearer token cannot be sent by accident and needs none of that.

import type { Role } from '@flotilla/shared/operator-api';
import type { FastifyRequest } from 'fastify';
import { TrackerError } from '../errors.ts';
import { mayAct, type Operator } from './roles.ts';

const MAX_CALLS_PER_MINUTE = 1200;
const READING = new Set(['GET', 'HEAD', 'OPTIONS']);

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by `guard`. */
    operator: Operator | undefined;
  }
  interface FastifyContextConfig {
    /** Least role that may ask; absent: anybody. */
    role?: Role;
  }
}

/** Who proves it how. */
export interface Credentials {
  readonly byToken: (token: string) => Operator | undefined;
  readonly bySession: (request: FastifyRequest) => Operator | undefined;
}

/** Options to spread into a route. */
export interface GuardOptions {
  readonly config: { readonly role: Role; readonly rateLimit: { readonly max: number; readonly timeWindow: number; readonly keyGenerator: (request: FastifyRequest) => string } };
  readonly onRequest: (request: FastifyRequest, reply: unknown, done: () => void) => void;
}

export type Guard = (role: Role) => GuardOptions;

export function createGuard(credentials: Credentials): Guard {
  return (role) => ({
    // It counts after onRequest below: one operator's calls, from wherever they come.
    config: { role, rateLimit: { max: MAX_CALLS_PER_MINUTE, timeWindow: 60_000, keyGenerator: (request) => request.operator?.name ?? request.ip } },
    onRequest: (request, _reply, done) => {
      const operator = identify(request, credentials);
      if (!mayAct(operator.role, role)) throw new TrackerError('OPERATOR_FORBIDDEN', `${operator.name} has the role ${operator.role}; this needs ${role}`);
      request.operator = operator;
      done();
    },
  });
}

/** Who asks, behind a guard. */
export function operatorOf(request: FastifyRequest): Operator {
  if (request.operator === undefined) throw new TrackerError('INTERNAL', `${request.method} ${request.url} has no guard`);
  return request.operator;
}

/** A change asked for by a page of another origin is refused. @throws ORIGIN_FOREIGN */
export function checkSameOrigin(request: FastifyRequest): void {
  const { origin, host } = request.headers;
  const site = request.headers['sec-fetch-site'];
  const foreign = (site !== undefined && site !== 'same-origin' && site !== 'none') || (origin !== undefined && hostOf(origin) !== host);
  if (foreign) throw new TrackerError('ORIGIN_FOREIGN', `a page of ${origin ?? 'another origin'} asked for it`);
}

/** Who proves it, by token or by cookie. */
export function identified(request: FastifyRequest, { byToken, bySession }: Credentials): Operator | undefined {
  const { authorization } = request.headers;
  if (authorization === undefined) return bySession(request);
  const [scheme, token] = authorization.split(' ');
  return scheme?.toLowerCase() === 'bearer' && token !== undefined ? byToken(token) : undefined;
}

function identify(request: FastifyRequest, credentials: Credentials): Operator {
  const operator = identified(request, credentials);
  const byToken = request.headers.authorization !== undefined;
  if (operator === undefined) throw new TrackerError('OPERATOR_UNAUTHORIZED', byToken ? 'the token is not known' : 'this route is for operators');
  if (!byToken && !READING.has(request.method)) checkSameOrigin(request);
  return operator;
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}
