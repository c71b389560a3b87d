import { performance } from 'node:perf_hooks';
import { expect, test } from 'vitest';
import { Vitals } from './vitals.ts';

test.each([
  { what: 'a thread that never rests is seen as such', restedMs: 0, least: 0.9, most: 1 },
  { what: 'that it stands still on purpose is no work', restedMs: 200, least: 0, most: 0.6 },
])('$what', ({ restedMs, least, most }) => {
  let rested = 0;
  const vitals = new Vitals({ now: Date.now, mayName: () => true, restedMs: () => rested });
  const reporter = vitals.reporter({
    totals: () => ({ bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, pulls: { active: 0, done: 0, failed: 0 }, store: { bytes: 0, limit: 0, blobs: 0 } }),
    downloads: () => [],
    peers: () => [],
    freeBytes: () => 1,
    uploadedBytes: () => 0,
    limits: () => ({}),
    brakes: () => [],
  });
  const endMs = performance.now() + 300;
  while (performance.now() < endMs) Math.sqrt(endMs);
  rested = restedMs;
  const { vitals: told } = reporter.stats();
  expect(told!.loop).toBeGreaterThanOrEqual(least);
  expect(told!.loop).toBeLessThanOrEqual(most);
  // How much of a processor it got is the machine's affair.
  expect(told!.cpu).toBeGreaterThan(0);
  expect(told!.memoryBytes).toBeGreaterThan(1e6);
  vitals.close();
});
