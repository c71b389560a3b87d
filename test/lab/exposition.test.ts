import { expect, test } from 'vitest';
import { gained, readExposition } from './exposition.ts';

test('counters tell what they gained, gauges what they are', () => {
  const before = readExposition('bytes_total{source="peer"} 5\nmembers 3\n');
  const after = readExposition('bytes_total{source="peer"} 7\nbytes_total{source="origin"} 2\nmembers 4\n');
  expect(gained(before, after).map(({ name, labels, value }) => [name, labels['source'], value])).toEqual([
    ['bytes_total', 'peer', 2],
    ['bytes_total', 'origin', 2],
    ['members', undefined, 4],
  ]);
});
