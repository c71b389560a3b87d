import { expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';

test('the names that others rely on', async () => {
  const metrics = createMetrics();
  metrics.access.decided('public');
  metrics.content.bytes('peer', 10);
  metrics.content.bytes('origin', 20);
  metrics.content.bytes('duplicate', 5);
  metrics.content.stored(30);
  metrics.origin.originBytes(25);
  metrics.swarm.add('uploaded_bytes', 7);
  const text = await metrics.text();
  for (const line of [
    'flotilla_blob_bytes_total{source="peer"} 10',
    'flotilla_blob_bytes_total{source="origin"} 20',
    'flotilla_blob_bytes_total{source="store"} 30',
    'flotilla_origin_bytes_total 25',
    'flotilla_duplicate_bytes_total 5',
    'flotilla_uploaded_bytes_total 7',
    'flotilla_access_total{outcome="public"} 1',
  ]) {
    expect(text.split('\n')).toContain(line);
  }
  expect(text).toContain('process_resident_memory_bytes');
  expect(text).toContain('nodejs_eventloop_lag_seconds');
  // They need a timer of every few ms.
  expect(text).not.toMatch(/nodejs_eventloop_lag_(mean|p99)/);
  expect(metrics.totals()).toEqual({ peer: 10, origin: 20, store: 30, uploaded: 7, duplicate: 5 });
});

test('counters that must exist before the first pull do', async () => {
  const text = await createMetrics({ defaults: false }).text();
  for (const source of ['peer', 'origin', 'store']) expect(text).toContain(`flotilla_blob_bytes_total{source="${source}"} 0`);
  expect(text).toContain('flotilla_origin_bytes_total 0');
});

test('requests and errors by class and code', async () => {
  const metrics = createMetrics({ defaults: false });
  metrics.registry.request('blob', 206, 12);
  metrics.registry.request('blob', 200, 12);
  metrics.registry.request('blob', 'aborted', 12);
  metrics.origin.originRequest('manifest', 'ORIGIN_TIMEOUT');
  metrics.error('DISK_FULL');
  const text = await metrics.text();
  expect(text).toContain('flotilla_requests_total{route="blob",status="2xx"} 2');
  expect(text).toContain('flotilla_requests_total{route="blob",status="aborted"} 1');
  expect(text).toContain('flotilla_origin_requests_total{kind="manifest",status="error"} 1');
  expect(text).toContain('flotilla_errors_total{code="DISK_FULL"} 1');
});

test('a label takes a bounded number of values, whatever is counted', async () => {
  const metrics = createMetrics({ defaults: false });
  for (let i = 0; i < 1000; i++) metrics.content.fallback(`sha256:${i}`);
  const lines = (await metrics.text()).split('\n').filter((line) => line.startsWith('flotilla_fallbacks_total{'));
  expect(lines.length).toBe(33);
  expect(lines).toContain('flotilla_fallbacks_total{kind="other"} 968');
});

test('gauges are read when asked for', async () => {
  const metrics = createMetrics({ defaults: false });
  let peers = 3;
  metrics.observe({
    storeUsage: () => ({ bytes: 1, limitBytes: 2, blobs: 3, freeBytes: 4 }),
    peersConnected: () => peers,
    trackerConnected: () => true,
    downloadsActive: () => 5,
  });
  expect(await metrics.text()).toContain('flotilla_peers_connected 3');
  peers = 4;
  const text = await metrics.text();
  for (const line of ['flotilla_peers_connected 4', 'flotilla_tracker_connected 1', 'flotilla_downloads_active 5', 'flotilla_store_bytes 1', 'flotilla_store_limit_bytes 2', 'flotilla_store_blobs 3', 'flotilla_store_free_bytes 4']) {
    expect(text.split('\n')).toContain(line);
  }
});
