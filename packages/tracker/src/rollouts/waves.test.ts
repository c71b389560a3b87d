import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_WAVES, waveTargets } from './waves.ts';

test.each([
  [DEFAULT_WAVES, 100, [1, 10, 100]],
  [DEFAULT_WAVES, 5, [1, 5]],
  [DEFAULT_WAVES, 1, [1]],
  ['100%', 7, [7]],
  ['0.1%,50%,100%', 3, [1, 2, 3]],
  ['5, 10%, 100%', 20, [5, 20]],
  ['3,3,100%', 9, [3, 9]],
  ['1000,100%', 9, [9]],
])('%s of %i hosts: %j', (text, hosts, expected) => {
  expect(waveTargets(text, hosts)).toEqual(expected);
});

test.each(['', '1', '1,10%', '100', '0,100%', '-1,100%', '101%,100%', '10%,5%,100%', '5,2,100%', '1.5,100%', 'all', '1,,100%', `${'1,'.repeat(40)}100%`])('%j is refused', (text) => {
  expect(() => waveTargets(text, 100)).toThrow(expect.objectContaining({ code: 'WAVES_INVALID' }) as Error);
});

test('targets rise to the number of hosts', () => {
  const part = fc.oneof(fc.integer({ min: 1, max: 500 }).map(String), fc.integer({ min: 1, max: 100 }).map((percent) => `${percent}%`));
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), fc.integer({ min: 1, max: 3000 }), (parts, hosts) => {
      let targets: number[];
      try {
        targets = waveTargets([...parts, '100%'].join(','), hosts);
      } catch (error) {
        expect(error).toMatchObject({ code: 'WAVES_INVALID' });
        return;
      }
      expect(targets.at(-1)).toBe(hosts);
      expect(targets.every((target, index) => target > (targets[index - 1] ?? 0))).toBe(true);
    }),
  );
});
