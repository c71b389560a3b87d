// How fast a host of a rollout is, by what it tells.

import { parseDigest } from '@flotilla/shared/digest';
import { expect, test } from 'vitest';
import { Progress, type RolloutProgress } from './progress.ts';

const LAYER = { digest: parseDigest(`sha256:${'1'.repeat(64)}`), size: 100_000_000 };
const MANIFEST = parseDigest(`sha256:${'2'.repeat(64)}`);
const said = (held: number): RolloutProgress => ({ type: 'rollout-progress', rolloutId: 'r', attempt: 1, phase: 'pulling', manifest: MANIFEST, layers: [LAYER], held: [held] });

test('a steady host has its rate after two words', () => {
  const progress = new Progress({});
  progress.take('a', said(0), 0);
  progress.take('a', said(1_000_000), 1_000);
  expect(progress.rateOf('a', 1_000)).toBe(1_000_000);
});

test('bytes told a moment after the last word are no burst', () => {
  const progress = new Progress({});
  progress.take('a', said(0), 0);
  progress.take('a', said(1_000_000), 2);
  expect(progress.rateOf('a', 2)).toBeLessThanOrEqual(1_000_000);
});

test('what was there at first counts for nothing, and a silent host has no rate', () => {
  const progress = new Progress({});
  progress.take('a', said(50_000_000), 0);
  expect(progress.rateOf('a', 0)).toBe(0);
  progress.take('a', said(51_000_000), 1_000);
  expect(progress.rateOf('a', 16_001)).toBe(0);
});

test('what was fetched for an attempt that failed is not taken back', () => {
  const progress = new Progress({});
  const fetched = (peer: number, origin: number): void => void progress.take('a', { ...said(0), fetched: { peer, origin } }, 0);
  fetched(10, 100);
  fetched(10, 120);
  progress.take('a', { ...said(0), phase: 'waiting' }, 0);
  fetched(0, 0);
  fetched(5, 1);
  expect(progress.of('a')).toMatchObject({ fetched: { peer: 5, origin: 1 }, earlier: { peer: 10, origin: 120 } });
});
