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
  const chunks: Buffer[] = [];
  globalThis.gc = ((options: Parameters<typeof collect>[0]) => {
    // Held until then, so that V8 cannot be first. The first collection is of what starting has left behind.
    if (started) chunks.length = 0;
    const result = collect(options);
    if (started) collected.resolve();
    return result;
  }) as typeof globalThis.gc;
  onTestFinished(() => {
    globalThis.gc = before;
  });
  const stop = startMemoryValve();
  started = true;
  chunks.push(...Array.from({ length: 40 }, () => Buffer.allocUnsafeSlow(1024 * 1024)));
  const held = process.memoryUsage().arrayBuffers;
  await collected.promise;
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(held);
  stop();
});
