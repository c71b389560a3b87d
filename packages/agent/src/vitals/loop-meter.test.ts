import { expect, test } from 'vitest';
import { LoopMeter } from './loop-meter.ts';

class Loop {
  active = 0;
  idle = 0;
  readonly meter = new LoopMeter(() => ({ active: this.active, idle: this.idle }));

  /** Marks come each 200 ms while the loop rests, and after a stretch of work. */
  rests(ms: number): void {
    for (let left = ms; left > 0; left -= 200) {
      this.idle += Math.min(200, left);
      this.meter.mark();
    }
  }

  works(ms: number): void {
    this.active += ms;
    this.meter.mark();
  }
}

test('what began a second ago is seen whole, however long it was quiet before', () => {
  const loop = new Loop();
  loop.rests(10_000);
  expect(loop.meter.share()).toBe(0);
  loop.works(950);
  expect(loop.meter.share()).toBe(1);
});

test('a moment at work is no full thread', () => {
  const loop = new Loop();
  loop.rests(2_000);
  loop.works(300);
  expect(loop.meter.share()).toBeGreaterThan(0.2);
  expect(loop.meter.share()).toBeLessThanOrEqual(0.34);
  loop.rests(2_000);
  expect(loop.meter.share()).toBe(0);
});

test('an even load has its share, asked at any moment', () => {
  const loop = new Loop();
  for (let round = 0; round < 50; round++) {
    loop.works(60);
    loop.rests(140);
    if (round > 5) expect(loop.meter.share()).toBeCloseTo(0.3, 1);
  }
});

test('at its start it has all there was', () => {
  const loop = new Loop();
  expect(loop.meter.share()).toBe(0);
  loop.active += 30;
  loop.idle += 10;
  expect(loop.meter.share()).toBe(0.75);
});
