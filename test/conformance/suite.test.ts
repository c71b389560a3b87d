import { expect, test } from 'vitest';
import { countRows, worseRows, type Row, type RowStatus } from './suite.ts';

function rows(...all: readonly [name: string, status: RowStatus][]): Row[] {
  return all.map(([name, status]) => ({ name, status, output: '' }));
}

test('a row is worse where its name fares worse, whatever the order of rows of one name', () => {
  const theirs = rows(['a', 'passed'], ['b', 'passed'], ['b', 'failure'], ['c', 'skipped']);
  expect(worseRows(rows(['c', 'passed'], ['b', 'failure'], ['b', 'passed'], ['a', 'passed']), theirs)).toEqual([]);
  expect(worseRows(rows(['a', 'skipped'], ['b', 'failure'], ['b', 'failure'], ['c', 'error']), theirs).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
});

test('a row that is not there is worse, a failing one that is there alone too', () => {
  expect(worseRows([], rows(['a', 'passed'])).map(({ name, status }) => [name, status])).toEqual([['a', 'error']]);
  expect(worseRows(rows(['x', 'failure'], ['y', 'passed']), []).map(({ name }) => name)).toEqual(['x']);
});

test('rows are counted by status', () => {
  expect(countRows(rows(['a', 'passed'], ['b', 'passed'], ['c', 'error']))).toEqual({ passed: 2, skipped: 0, failure: 0, error: 1 });
});
