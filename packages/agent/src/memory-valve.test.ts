import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, onTestFinished, test } from 'vitest';
import { startMemoryValve } from './memory-valve.ts';

test('buffers that nobody holds any more are collected before V8 would', async () => {
  setFlagsFromString('--expose-gc');
  const before = globalThis.gc;
  const collect = runInNewContext('gc') as NonNullable<typeof globalThis.gc>;
  const collected = Promise.withResolvers<void>();
  let started = false;
  globalThis.gc = ((options: Parameters<typeof collect>[0]) => {
    // The first is of what starting has left behind.
    if (started) collected.resolve();
    return collect(options);
  }) as typeof globalThis.gc;
  onTestFinished(() => {
    globalThis.gc = before;
  });
  const stop = startMemoryValve();
  started = true;
  const chunks = Array.from({ length: 40 }, () => Buffer.allocUnsafeSlow(1024 * 1024));
  const held = process.memoryUsage().arrayBuffers;
  chunks.length = 0;
  await collected.promise;
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(held);
  stop();
});
