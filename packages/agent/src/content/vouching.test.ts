import type { Digest } from '@flotilla/shared/digest';
import { expect, test } from 'vitest';
import { Vouching } from './vouching.ts';

const KIB = 1024;
const right = new Uint8Array(32).fill(1);
const wrong = new Uint8Array(32).fill(2);

function vouchedFor(digest: Uint8Array): Vouching {
  const vouching = new Vouching({ digest: `sha256:${'a'.repeat(64)}` as Digest, size: 256 * KIB });
  vouching.vouch(1, digest, 'other');
  return vouching;
}

test('what is taken back is not taken from peers any more, until somebody says it again', () => {
  const vouching = vouchedFor(wrong);
  vouching.withdraw(1, undefined);
  expect(vouching.expected(1)).toBeUndefined();
  expect(vouching.isWithdrawn(1, wrong)).toBe(true);
  vouching.vouch(1, wrong, 'auditor');
  expect(vouching.isWithdrawn(1, wrong)).toBe(false);
});

test('what this host read itself stays, whoever takes the same back', () => {
  const vouching = vouchedFor(right);
  vouching.readHere(1, right);
  vouching.withdraw(1, right);
  expect(vouching.expected(1)?.digest).toEqual(right);
  expect(vouching.isWithdrawn(1, right)).toBe(false);

  const lied = vouchedFor(wrong);
  lied.readHere(1, right);
  lied.withdraw(1, right);
  expect(lied.expected(1)).toBeUndefined();
});
