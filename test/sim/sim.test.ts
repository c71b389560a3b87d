import { describe, expect, test } from 'vitest';
import { UsageError } from '../lab/options.ts';
import { figuresOf } from './figures.ts';
import { readSimOptions } from './options.ts';
import { simulate } from './rollout.ts';
import { MODEL, planFor } from './test-plan.ts';

async function run(flags: string, model = MODEL) {
  const plan = planFor(flags);
  return figuresOf(plan, model.seed, await simulate(plan, model));
}

test('the same seed gives the same figures, another one others', async () => {
  const flags = '--hosts 12 --size 4MiB --scenario churn';
  const first = await run(flags);
  expect(await run(flags)).toEqual(first);
  expect(await run(flags, { ...MODEL, seed: 2 })).not.toMatchObject({ lastS: first.lastS, medianS: first.medianS });
});

test('a run tells how far it is', async () => {
  const shares: number[] = [];
  await run('--hosts 4 --size 4MiB', { ...MODEL, progress: ({ share }) => shares.push(share) });
  expect(shares).toEqual(shares.toSorted((a, b) => a - b));
  expect([shares[0], shares.at(-1)]).toEqual([0, 1]);
});

test('one host alone, near its origin, takes what a download takes', async () => {
  const { lastOverBound, copies, originRequests } = await run('--hosts 1 --rate 80mbit --size 64MiB', { ...MODEL, latencyMs: 1 });
  expect(lastOverBound).toBeGreaterThan(1);
  expect(lastOverBound).toBeLessThan(1.05);
  expect(copies).toBe(1);
  expect(originRequests).toBeLessThan(64);
});

test('a crowd gets one copy, in little more than the links need', async () => {
  const { lastOverBound, copies, failures, duplicateShare } = await run('--hosts 15 --size 24MiB');
  expect({ copies, failures, duplicateShare }).toEqual({ copies: 1, failures: 0, duplicateShare: 0 });
  // The bound cannot be beaten: less would mean that the links carry more than they can.
  expect(lastOverBound).toBeGreaterThan(1);
  expect(lastOverBound).toBeLessThan(1.2);
});

describe('scenarios', () => {
  test.each([['stagger', 8], ['many', 24], ['rolling', 8]])('%s: everybody gets the image, and one copy leaves the origin', async (scenario, mib) => {
    const { failures, copies, lastOverBound } = await run(`--hosts 12 --size ${mib}MiB --scenario ${scenario}`);
    expect(failures).toBe(0);
    expect(copies).toBe(1);
    expect(lastOverBound).toBeGreaterThan(1);
    expect(lastOverBound).toBeLessThan(2);
  });

  test('mixed: slow hosts hold up the fast ones a little, not until they have ended themselves', async () => {
    const { failures, copies, lastS, othersLastS } = await run('--hosts 15 --size 32MiB --scenario mixed');
    expect({ failures, copies }).toEqual({ failures: 0, copies: 1 });
    expect(lastS!).toBeLessThan(othersLastS! / 2);
  });

  test.each([1, 2])('mixed: fast hosts end about when their links allow it, and if the origin takes %f times the share of a peer on slow links', async (originShare) => {
    const { lastOverBound, copies } = await run('--hosts 8 --rate 12mbit --size 24MiB --scenario mixed', { ...MODEL, originShare });
    expect(copies).toBe(1);
    expect(lastOverBound).toBeLessThan(1.1);
  });

  test('churn: the survivors get it, and what had reached the killed alone is read again', async () => {
    const { failures, copies, lastOverBound } = await run('--hosts 15 --size 16MiB --scenario churn');
    expect(failures).toBe(0);
    expect(copies).toBeGreaterThanOrEqual(1);
    expect(copies).toBeLessThan(1.1);
    expect(lastOverBound).toBeLessThan(1.5);
  });

  test('liars are found and put out, nobody else is, and next to nothing is wasted', async () => {
    const plan = planFor('--hosts 20 --size 16MiB --scenario liars');
    const { failures, banned, forgedShare } = await run('--hosts 20 --size 16MiB --scenario liars');
    const names = plan.liars.map((liar) => `host-${String(liar + 1).padStart(5, '0')}`);
    expect([...banned].sort()).toEqual(names);
    expect(failures).toBe(0);
    expect(forgedShare).toBeGreaterThan(0);
    expect(forgedShare).toBeLessThan(0.02);
  });
});

test('larger runs ask the origin less often', async () => {
  const flags = '--hosts 8 --size 16MiB';
  const usual = await run(flags, { ...MODEL, ...readSimOptions(['--run', '256KiB']).model });
  const larger = await run(flags, { ...MODEL, ...readSimOptions(['--run', '1MiB']).model });
  expect(usual.originRequests! / larger.originRequests!).toBeGreaterThan(1.5);
  const shrinking = await run(flags, { ...MODEL, ...readSimOptions(['--run', '1MiB', '--shrink', '4']).model });
  expect(shrinking.originRequests!).toBeGreaterThan(larger.originRequests!);
  expect(shrinking.copies).toBe(1);
});

test('flags mean what they mean to the lab, and wrong ones are refused', () => {
  const { hosts, sizeBytes, model, seed } = readSimOptions(['--hosts', '1000', '--size', '256MiB', '--news', '200', '--seed', '7', '--run', '2MiB']);
  expect({ hosts, sizeBytes, seed }).toEqual({ hosts: 1000, sizeBytes: 2 ** 28, seed: 7 });
  expect(model.news).toMatchObject({ freshMs: 200, widelyHeldMs: 200 });
  expect(model.runSizes).toMatchObject({ minBytes: 2 ** 21, maxChunks: 32 });
  expect(() => readSimOptions(['--scenario', 'zones'])).toThrow(UsageError);
  expect(() => readSimOptions(['--latency', 'x'])).toThrow(/--latency x/);
  expect(() => readSimOptions(['--hosts', '0'])).toThrow(/--hosts 0/);
});
