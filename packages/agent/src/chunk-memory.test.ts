import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { LARGE_BYTES, own, release, share } from './chunk-memory.ts';

const chunk = (): Uint8Array => new Uint8Array(LARGE_BYTES).fill(7);

test('a chunk is freed when its last user is done, in whatever order they come and go', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant('owner' as const), fc.integer({ min: 1, max: 5 })), { maxLength: 20 }), fc.infiniteStream(fc.nat()), (comings, order) => {
      const bytes = chunk();
      own(bytes);
      const counts = [1];
      for (const coming of comings) {
        if (coming === 'owner') own(bytes);
        else share(bytes.subarray(10, 20), coming);
        counts.push(coming === 'owner' ? 1 : coming);
      }
      while (counts.length > 0) {
        expect(bytes[0]).toBe(7);
        const [count] = counts.splice(order.next().value % counts.length, 1);
        release(bytes.subarray(1), count);
      }
      expect(bytes.length).toBe(0);
    }),
  );
});

test('what nobody has asked to count is never freed: neither shared bytes, nor small ones, nor a part of more', () => {
  const [shared, small, part] = [chunk(), new Uint8Array(LARGE_BYTES - 1).fill(7), new Uint8Array(2 * LARGE_BYTES).fill(7).subarray(LARGE_BYTES)];
  own(small);
  own(part);
  for (const bytes of [shared, small, part]) {
    share(bytes);
    release(bytes);
    release(bytes);
    expect(bytes.at(-1)).toBe(7);
  }
});

test('a user that never says that it is done keeps the bytes', () => {
  const bytes = chunk();
  own(bytes);
  share(bytes);
  release(bytes);
  expect(bytes[0]).toBe(7);
});
