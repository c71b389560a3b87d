import { expect, test } from 'vitest';
import { timeLeftMs } from './time-left.ts';

test('the open wave takes as long as its slowest host', () => {
  const working = [{ lacksBytes: 1000, rate: 100 }, { lacksBytes: 100, rate: 100 }, { lacksBytes: 0, rate: 0 }];
  expect(timeLeftMs({ working, tookMs: [], wavesLeft: 0 })).toBe(10_000);
});

test('a wave that has not begun takes about as long as a host took', () => {
  expect(timeLeftMs({ working: [], tookMs: [9_000, 1_000, 4_000], wavesLeft: 2 })).toBe(8_000);
  expect(timeLeftMs({ working: [{ lacksBytes: 500, rate: 100 }], tookMs: [], wavesLeft: 1 })).toBe(10_000);
});

test('a host that has not said anything takes as long as others did', () => {
  expect(timeLeftMs({ working: [{ lacksBytes: undefined, rate: 0 }], tookMs: [3_000], wavesLeft: 0 })).toBe(3_000);
});

test('where nothing is known nothing is guessed', () => {
  expect(timeLeftMs({ working: [{ lacksBytes: undefined, rate: 0 }], tookMs: [], wavesLeft: 0 })).toBeUndefined();
  expect(timeLeftMs({ working: [], tookMs: [], wavesLeft: 1 })).toBeUndefined();
  expect(timeLeftMs({ working: [], tookMs: [], wavesLeft: 0 })).toBe(0);
});
