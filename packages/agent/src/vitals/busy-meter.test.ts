import { expect, test } from 'vitest';
import { BusyMeter } from './busy-meter.ts';

/** Work that lasts until it is told to end. */
function work(meter: BusyMeter): { end(): Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const measured = meter.measure(() => promise);
  return {
    end: () => {
      resolve();
      return measured;
    },
  };
}

test('a mean of what ended, and the share of the time in which anything was at work', async () => {
  let nowMs = 0;
  const meter = new BusyMeter(() => nowMs);
  const first = work(meter);
  nowMs = 100;
  const second = work(meter);
  nowMs = 300;
  await first.end();
  nowMs = 400;
  await second.end();
  nowMs = 1_000;
  expect(meter.take()).toEqual({ meanMs: 300, busy: 0.4 });
  nowMs = 2_000;
  expect(meter.take()).toEqual({ meanMs: 0, busy: 0 });
});

test('what hangs is no disk at rest', async () => {
  let nowMs = 0;
  const meter = new BusyMeter(() => nowMs);
  const hanging = work(meter);
  nowMs = 1_000;
  expect(meter.take()).toEqual({ meanMs: 1_000, busy: 1 });
  nowMs = 2_000;
  expect(meter.take()).toEqual({ meanMs: 2_000, busy: 1 });
  nowMs = 2_500;
  await hanging.end();
  nowMs = 3_000;
  expect(meter.take()).toEqual({ meanMs: 2_500, busy: 0.5 });
});

test('what fails counts as well, and its error goes on', async () => {
  let nowMs = 0;
  const meter = new BusyMeter(() => nowMs);
  const failing = meter.measure(async () => {
    nowMs = 50;
    throw new Error('disk gone');
  });
  await expect(failing).rejects.toThrow('disk gone');
  nowMs = 100;
  expect(meter.take()).toEqual({ meanMs: 50, busy: 0.5 });
});
