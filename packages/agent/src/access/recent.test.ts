import { describe, expect, test } from 'vitest';
import { Recent } from './recent.ts';

describe('a mark', () => {
  test('holds until its time, and says when it was made', () => {
    let now = 100;
    const recent = new Recent(10, () => now);
    recent.mark('a', 150);
    now = 149;
    expect(recent.at('a')).toBe(100);
    now = 150;
    expect(recent.at('a')).toBeUndefined();
    expect(recent.size).toBe(0);
  });

  test('made anew takes the place of the last; deleted it is gone', () => {
    let now = 100;
    const recent = new Recent(10, () => now);
    recent.mark('a', 1000);
    now = 200;
    recent.mark('a', 300);
    expect(recent.at('a')).toBe(200);
    recent.delete('a');
    expect(recent.at('a')).toBeUndefined();
  });

  test('is forgotten when there are too many: the oldest first', () => {
    const recent = new Recent(2, () => 0);
    for (const key of ['a', 'b', 'a', 'c']) recent.mark(key, 1);
    expect(['a', 'b', 'c'].map((key) => recent.at(key))).toEqual([0, undefined, 0]);
    expect(recent.size).toBe(2);
  });
});
