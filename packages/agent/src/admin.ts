// Health and metrics for probes and Prometheus, on their own port. It may be open to the network, so it says no image name.

import fastify from 'fastify';
import { listenOn, type SocketAddress } from './listen.ts';
import type { Metrics } from './metrics.ts';

/** `waitingFor` says what is missing while not ready. */
export interface Readiness {
  readonly ready: boolean;
  readonly waitingFor: readonly string[];
}

export interface AdminComponents {
  readonly readiness: () => Readiness;
  readonly metrics: Pick<Metrics, 'text' | 'contentType'>;
}

export interface Admin {
  /** @throws AgentError PORT_IN_USE */
  listen(address: SocketAddress): Promise<SocketAddress>;
  close(): Promise<void>;
}

export function createAdmin({ readiness, metrics }: AdminComponents): Admin {
  const app = fastify({ logger: false, forceCloseConnections: true, return503OnClosing: false, requestTimeout: 10_000 });
  app.get('/healthz', async () => ({ healthy: true }));
  app.get('/readyz', async (_request, reply) => {
    const state = readiness();
    return reply.code(state.ready ? 200 : 503).send(state);
  });
  app.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()));
  return {
    listen: (address) => listenOn(app, address, '--admin-listen'),
    close: () => app.close(),
  };
}
