// The rates that flows settle at are compared with max-min fair rates worked out from nothing, by progressive filling.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Clock } from './clock.ts';
import { Links, type Flow, type Pipe } from './links.ts';

function setUp() {
  const clock = new Clock();
  return { clock, links: new Links(clock) };
}

/** Raises all rates together, each by its weight; a pipe that is full stops those that go through it. */
function fairRates(weights: ReadonlyMap<Flow, number>): Map<Flow, number> {
  const flows = [...weights.keys()];
  const rates = new Map(flows.map((flow) => [flow, 0]));
  const open = new Set(flows);
  const pipes = new Set(flows.flatMap(({ up, down }) => [up, down]));
  while (open.size > 0) {
    let step = Number.POSITIVE_INFINITY;
    for (const pipe of pipes) {
      const rising = through(pipe, flows).reduce((sum, flow) => sum + (open.has(flow) ? weights.get(flow)! : 0), 0);
      const used = through(pipe, flows).reduce((sum, flow) => sum + rates.get(flow)!, 0);
      if (rising > 0) step = Math.min(step, (pipe.capacity - used) / rising);
    }
    for (const flow of open) rates.set(flow, rates.get(flow)! + step * weights.get(flow)!);
    for (const pipe of pipes) {
      const used = through(pipe, flows).reduce((sum, flow) => sum + rates.get(flow)!, 0);
      if (used >= pipe.capacity * (1 - 1e-9)) for (const flow of through(pipe, flows)) open.delete(flow);
    }
  }
  return rates;
}

function through(pipe: Pipe, flows: readonly Flow[]): Flow[] {
  return flows.filter(({ up, down }) => up === pipe || down === pipe);
}

test('flows share a link evenly, and who cannot use its share leaves it to the others', async () => {
  const { clock, links } = setUp();
  const up = links.pipe(1_000_000);
  const ends: number[] = [];
  for (const bytesPerS of [100_000, 1_000_000]) {
    const flow = links.flow(up, links.pipe(bytesPerS), () => {
      ends.push(clock.nowMs);
      return 0;
    });
    flow.start(900_000);
  }
  await clock.run(() => ends.length === 2, 60_000);
  // 900 kB/s for one, 100 for the other.
  expect(ends[0]).toBeGreaterThan(999);
  expect(ends[0]).toBeLessThan(1010);
  expect(ends[1]).toBeGreaterThan(8999);
  expect(ends[1]).toBeLessThan(9010);
});

test('rates settle within a few percent of max-min fair ones, whatever flows there are', async () => {
  const host = fc.nat(7);
  const fleet = fc.record({
    rates: fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 8, maxLength: 8 }),
    flows: fc.array(fc.tuple(host, host, fc.constantFrom(1, 1, 2)), { minLength: 1, maxLength: 40 }),
  });
  await fc.assert(
    fc.asyncProperty(fleet, async ({ rates, flows: pairs }) => {
      const { clock, links } = setUp();
      const ups = rates.map((rate) => links.pipe(rate * 100_000));
      const downs = rates.toReversed().map((rate) => links.pipe(rate * 100_000));
      const flows = pairs.map(([from, to, weight]) => links.flow(ups[from]!, downs[to]!, () => 0, weight));
      for (const flow of flows) {
        flow.start(1e9);
        await clock.run(() => false, clock.nowMs + 1);
      }
      await clock.run(() => false, clock.nowMs + 200);
      const fair = fairRates(new Map(flows.map((flow, at) => [flow, pairs[at]![2]])));
      for (const flow of flows) expect(Math.abs(flow.rate / fair.get(flow)! - 1)).toBeLessThan(0.12);
      const total = (pipes: readonly Pipe[]): number[] => pipes.map((pipe) => through(pipe, flows).reduce((sum, flow) => sum + flow.rate, 0) / pipe.capacity);
      for (const share of [...total(ups), ...total(downs)]) expect(share).toBeLessThan(1.05);
    }),
    { numRuns: 60 },
  );
});

test('bytes are kept: flows that come and go take as long as the link needs for all of them', async () => {
  const { clock, links } = setUp();
  const up = links.pipe(1_000_000);
  const downs = Array.from({ length: 10 }, () => links.pipe(1_000_000));
  let left = 200;
  const startedMs = clock.nowMs;
  const lanes = downs.map((down, lane) => {
    const flow = links.flow(up, down, () => (--left >= 10 ? 10_000 : 0));
    clock.after(lane, () => flow.start(10_000));
    return flow;
  });
  await clock.run(() => left < 10 && lanes.every(({ active }) => !active), 60_000);
  expect((clock.nowMs - startedMs) / 2000).toBeGreaterThan(0.99);
  expect((clock.nowMs - startedMs) / 2000).toBeLessThan(1.03);
});
