import { expect, test } from 'vitest';
import { versionFit } from './protocol-version.ts';

test('releases one apart fit, others do not, and it is said which is too old', () => {
  expect([3, 4, 5, 6, 7].map((theirs) => versionFit(5, theirs))).toEqual(['they-are-old', 'fits', 'fits', 'fits', 'they-are-new']);
});
