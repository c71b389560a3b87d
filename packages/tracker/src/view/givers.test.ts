import { expect, test } from 'vitest';
import { Givers } from './givers.ts';
import type { PullRecord } from './pull-history.ts';

const GIVER = 7;
const recordOf = (bytes: number): PullRecord => ({ peer: 1, host: 'host', image: '', endedAtMs: 1, from: [[GIVER, bytes]] }) as unknown as PullRecord;

test('a pull that ends while others are read is found by the next question', async () => {
  const records = new Map([['1', recordOf(10)]]);
  const listed = [{ key: '1' }];
  const givers = new Givers({
    async *all() {
      yield* records;
      records.set('2', recordOf(20));
      listed.push({ key: '2' });
    },
    get: (key) => Promise.resolve(records.get(key)),
  });
  const bytes = async (): Promise<number[]> => (await givers.gifts(GIVER, listed)).map((gift) => gift.bytes);
  expect(await bytes()).toEqual([10]);
  expect(await bytes()).toEqual([10, 20]);
});
