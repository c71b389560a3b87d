// The routes for operators and for what watches the tracker: status, bans, health, metrics.
// Health and metrics need no token: they say nothing of images. Everything under /api/v1 here asks for the operator token.

import { API_PREFIX } from '@flotilla/shared/tracker-api';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { TrackerError } from './errors.ts';
import type { Fleet } from './fleet.ts';
import type { TrackerMetrics } from './metrics.ts';
import type { App } from './server.ts';
import { fleetStatus } from './status.ts';
import { sameToken } from './tokens.ts';

const MAX_CALLS_PER_MINUTE = 1200;

const PeerParams = Type.Object({ peerId: Type.String({ minLength: 10, maxLength: 128 }) });
const ExpelBody = Type.Object({ reason: Type.String({ minLength: 1, maxLength: 255 }) });

export function operatorRoutes(app: App, fleet: Fleet, metrics: TrackerMetrics, operatorToken: string): void {
  const guarded = {
    config: { rateLimit: { max: MAX_CALLS_PER_MINUTE, timeWindow: 60_000 } },
    onRequest: (request: FastifyRequest, _reply: unknown, done: () => void): void => {
      checkToken(request, operatorToken);
      done();
    },
  };

  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', () => ({ status: 'ready' }));
  app.get('/metrics', async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()));

  app.get(`${API_PREFIX}/status`, guarded, () => fleetStatus(fleet));

  app.post(`${API_PREFIX}/members/:peerId/expel`, { ...guarded, schema: { params: PeerParams, body: ExpelBody } }, async (request, reply) => {
    const { peerId } = request.params;
    if (!(await fleet.ban(peerId, 'expelled', request.body.reason))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    return reply.code(204).send();
  });

  app.post(`${API_PREFIX}/members/:peerId/readmit`, { ...guarded, schema: { params: PeerParams } }, async (request, reply) => {
    const { peerId } = request.params;
    if (!(await fleet.readmit(peerId))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    return reply.code(204).send();
  });
}

function checkToken(request: FastifyRequest, operatorToken: string): void {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ');
  if (scheme?.toLowerCase() !== 'bearer' || token === undefined || !sameToken(token, operatorToken)) {
    throw new TrackerError('OPERATOR_UNAUTHORIZED', 'this route is for operators');
  }
}
