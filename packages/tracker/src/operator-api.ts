// The routes for what watches the tracker: health, metrics, and the whole status for scripts.
// Health and metrics need no token: they say nothing of images. The status asks for a role.

import { API_PREFIX } from '@flotilla/shared/tracker-api';
import type { Fleet } from './fleet.ts';
import type { TrackerMetrics } from './metrics.ts';
import type { Operators } from './operators/operators.ts';
import type { App } from './server.ts';
import { fleetStatus } from './status.ts';

export function operatorRoutes(app: App, fleet: Fleet, metrics: TrackerMetrics, { guard }: Operators): void {
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', () => ({ status: 'ready' }));
  app.get('/metrics', async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()));

  app.get(`${API_PREFIX}/status`, guard('read'), () => fleetStatus(fleet));
}
