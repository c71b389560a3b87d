import { expect, test } from 'vitest';
import { Clock } from './clock.ts';

test('what is due happens in the order of its time, and of equals in the order in which it was set', async () => {
  const clock = new Clock();
  const happened: string[] = [];
  const note = (what: string) => (): void => void happened.push(`${what} ${clock.nowMs}`);
  clock.after(20, note('c'));
  clock.after(10, note('a'));
  clock.after(10, note('b'));
  clock.after(15, note('never'))();
  expect(await clock.run(() => happened.length === 3, 1000)).toBe(true);
  expect(happened).toEqual(['a 10', 'b 10', 'c 20']);
});

test('what is due far from now comes in its turn', async () => {
  const clock = new Clock();
  const happened: string[] = [];
  const note = (what: string) => (): void => void happened.push(`${what} ${clock.nowMs}`);
  clock.after(60_000, note('first'));
  clock.after(120_000, note('last'));
  clock.after(57_000, () => clock.after(3_000, note('second')));
  expect(await clock.run(() => happened.length === 3, 200_000)).toBe(true);
  expect(happened).toEqual(['first 60000', 'second 60000', 'last 120000']);
});

test('turns and promises of a tick are over before time goes on', async () => {
  const clock = new Clock();
  const at: number[] = [];
  clock.after(10, () => {
    clock.promised();
    void Promise.resolve().then(() => {
      at.push(clock.nowMs);
      clock.soon(() => at.push(clock.nowMs));
    });
  });
  clock.after(11, () => at.push(clock.nowMs));
  await clock.run(() => at.length === 3, 1000);
  expect(at).toEqual([10, 10, 11]);
});

test('what repeats does so until it is told to stop, and nothing waits for ever', async () => {
  const clock = new Clock();
  let times = 0;
  const stop = clock.every(100, () => times++);
  expect(await clock.run(() => times === 5, 10_000)).toBe(true);
  expect(clock.nowMs).toBe(500);
  stop();
  expect(await clock.run(() => false, 10_000)).toBe(false);
  expect(times).toBe(5);
});
