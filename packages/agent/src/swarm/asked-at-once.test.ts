import { expect, test } from 'vitest';
import { askedAtOnce } from './asked-at-once.ts';

test('few, where little can be asked for and chunks come slowly', () => {
  expect(askedAtOnce(1, 0)).toBe(8);
  expect(askedAtOnce(32, 0)).toBe(8);
  expect(askedAtOnce(32, 3)).toBe(10);
});

test('more for who has much to choose from', () => {
  expect(askedAtOnce(384, 3)).toBe(96);
});

test('what comes in in 0.4 s besides, so that fast links never wait', () => {
  // 1 Gbit/s in chunks of 64 KiB.
  expect(askedAtOnce(100, 1900)).toBe(768);
});
