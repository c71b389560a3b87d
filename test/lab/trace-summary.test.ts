import { expect, test } from 'vitest';
import { summarize } from './trace-summary.ts';

const blob = 'aaaa';

test('the spread of a chunk runs from its first arrival from the origin to the last host', () => {
  const summary = summarize([
    { atS: 1, at: 'h1', blob, event: 'origin', chunk: 0 },
    { atS: 1.1, at: 'h2', blob, event: 'ask', chunk: 0 },
    { atS: 1.5, at: 'h2', blob, event: 'peer', chunk: 0, tookMs: 400 },
    { atS: 2, at: 'h3', blob, event: 'peer', chunk: 0, tookMs: 200 },
    { atS: 4, at: 'h2', blob, event: 'origin', chunk: 1 },
    { atS: 4.25, at: 'h1', blob, event: 'peer', chunk: 1, tookMs: 250 },
    { atS: 9, at: 'h1', blob: 'bbbb', event: 'origin', chunk: 0 },
  ]);
  expect(summary).toEqual({
    chunks: 2,
    spreadS: { p10: 0.25, p50: 1, p90: 1, max: 1 },
    requestMs: { p10: 200, p50: 250, p90: 400, max: 400 },
    longestGapsS: [3],
    originLastS: 4,
    lastS: 4.25,
  });
});

test('a trace without the origin has no summary', () => {
  expect(summarize([{ atS: 1, at: 'h1', blob, event: 'ask', chunk: 0 }])).toBeUndefined();
});
