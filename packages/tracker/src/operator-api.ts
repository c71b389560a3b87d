// The routes for operators and for what watches the tracker: status, bans, health, metrics.
// Health and metrics need no token: they say nothing of images. Everything under /api/v1 asks for a role.

import { API_PREFIX } from '@flotilla/shared/tracker-api';
import { Type } from 'typebox';
import { TrackerError } from './errors.ts';
import type { Fleet } from './fleet.ts';
import type { TrackerMetrics } from './metrics.ts';
import { operatorOf } from './operators/guard.ts';
import type { Operators } from './operators/operators.ts';
import type { App } from './server.ts';
import { fleetStatus } from './status.ts';

const PeerParams = Type.Object({ peerId: Type.String({ minLength: 10, maxLength: 128 }) });
const ExpelBody = Type.Object({ reason: Type.String({ minLength: 1, maxLength: 255 }) });

export function operatorRoutes(app: App, fleet: Fleet, metrics: TrackerMetrics, { guard, audit }: Operators): void {
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', () => ({ status: 'ready' }));
  app.get('/metrics', async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()));

  app.get(`${API_PREFIX}/status`, guard('read'), () => fleetStatus(fleet));

  app.post(`${API_PREFIX}/members/:peerId/expel`, { ...guard('operate'), schema: { params: PeerParams, body: ExpelBody } }, async (request, reply) => {
    const { peerId } = request.params;
    const { reason } = request.body;
    if (!(await fleet.ban(peerId, 'expelled', reason))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    await audit.record(operatorOf(request).name, 'member.expel', peerId, { reason });
    return reply.code(204).send();
  });

  app.post(`${API_PREFIX}/members/:peerId/readmit`, { ...guard('operate'), schema: { params: PeerParams } }, async (request, reply) => {
    const { peerId } = request.params;
    if (!(await fleet.readmit(peerId))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    await audit.record(operatorOf(request).name, 'member.readmit', peerId);
    return reply.code(204).send();
  });
}
