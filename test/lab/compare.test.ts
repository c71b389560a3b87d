import { expect, test } from 'vitest';
import { compare, comparisonTable, type ComparedRun } from './compare.ts';
import type { Figures } from './measure.ts';

function figures(cpuPerGiB: number, framesPerPayload: number): Figures {
  return { cpuPerGiB, framesPerPayload, wirePerPayload: 1, lastOverBound: 1, lostShare: 0, rssMB: 100, idleShare: 0.5 } as Figures;
}

function run(cpu: number): ComparedRun {
  return { figures: figures(cpu, 1.1), bare: { stock: figures(40, 1), own: figures(20, 1) } };
}

test('ratios are of medians', () => {
  const comparisons = compare([run(60), run(90), run(50)]);
  expect(comparisons.find(({ figure }) => figure === 'cpuPerGiB')).toEqual({ figure: 'cpuPerGiB', flotilla: 60, stock: 40, own: 20, overStock: 1.5, overOwn: 3 });
  expect(comparisons.find(({ figure }) => figure === 'framesPerPayload')).toMatchObject({ overStock: 1.1, overOwn: 1.1 });
  expect(comparisons.find(({ figure }) => figure === 'idleShare')).toEqual({ figure: 'idleShare', flotilla: 0.5, stock: 0.5, own: 0.5 });
});

test('runs without a bare transfer are compared with nothing', () => {
  expect(compare([{ figures: figures(60, 1.1) }])).toEqual([]);
  expect(comparisonTable([], 'crowd')).toEqual([]);
  expect(comparisonTable(compare([run(60)]), 'crowd')).toHaveLength(8);
});
