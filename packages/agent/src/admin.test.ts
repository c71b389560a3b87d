import { afterEach, expect, test } from 'vitest';
import { createAdmin, type Admin, type Readiness } from './admin.ts';
import { createMetrics } from './metrics.ts';

const open: Admin[] = [];
afterEach(async () => {
  for (const admin of open.splice(0)) await admin.close();
});

async function serve(readiness: () => Readiness): Promise<{ admin: Admin; url: string; port: number }> {
  const admin = createAdmin({ readiness, metrics: createMetrics({ defaults: false }) });
  open.push(admin);
  const { port } = await admin.listen({ host: '127.0.0.1', port: 0 });
  return { admin, url: `http://127.0.0.1:${port}`, port };
}

test('health is about the process, readiness about what is missing', async () => {
  let readiness: Readiness = { ready: false, waitingFor: ['tracker'] };
  const { url } = await serve(() => readiness);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const waiting = await fetch(`${url}/readyz`);
  expect(waiting.status).toBe(503);
  expect(await waiting.json()).toEqual({ ready: false, waitingFor: ['tracker'] });
  readiness = { ready: true, waitingFor: [] };
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
});

test('metrics are in the text format of Prometheus', async () => {
  const { url } = await serve(() => ({ ready: true, waitingFor: [] }));
  const reply = await fetch(`${url}/metrics`);
  expect(reply.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(await reply.text()).toContain('# TYPE flotilla_blob_bytes_total counter');
});

test('nothing else is served', async () => {
  const { url } = await serve(() => ({ ready: true, waitingFor: [] }));
  expect((await fetch(`${url}/status`)).status).toBe(404);
});

test('a port in use is named with its flag', async () => {
  const { port } = await serve(() => ({ ready: true, waitingFor: [] }));
  const second = createAdmin({ readiness: () => ({ ready: true, waitingFor: [] }), metrics: createMetrics({ defaults: false }) });
  open.push(second);
  await expect(second.listen({ host: '127.0.0.1', port })).rejects.toMatchObject({
    code: 'PORT_IN_USE',
    message: `port ${port} is in use (127.0.0.1:${port}); choose another with --admin-listen`,
  });
});
