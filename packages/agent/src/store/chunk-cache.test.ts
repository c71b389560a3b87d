import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { release } from '../chunk-memory.ts';
import { ChunkCache } from './chunk-cache.ts';

const bytes = (length: number, fill = 0): Uint8Array => new Uint8Array(length).fill(fill);

describe('ChunkCache', () => {
  it('drops what was used longest ago', () => {
    const cache = new ChunkCache(4000);
    const owner = cache.newOwner();
    for (const index of [0, 1, 2]) cache.put(owner, index, bytes(1000, index));
    cache.get(owner, 0);
    cache.put(owner, 3, bytes(1000, 3));
    expect([0, 1, 2, 3].map((index) => cache.get(owner, index)?.[0])).toEqual([0, undefined, 2, 3]);
  });

  it('keeps owners apart and forgets one of them', () => {
    const cache = new ChunkCache();
    const [a, b] = [cache.newOwner(), cache.newOwner()];
    cache.put(a, 0, bytes(10, 1));
    cache.put(b, 0, bytes(10, 2));
    cache.deleteAll(a, 1);
    expect(cache.get(a, 0)).toBeUndefined();
    expect(cache.get(b, 0)?.[0]).toBe(2);
  });

  it('copies a small view rather than keep its large buffer', () => {
    const cache = new ChunkCache(4000);
    const owner = cache.newOwner();
    for (const large of [new Uint8Array(100_000), Buffer.alloc(100_000)]) {
      cache.put(owner, 0, large.subarray(0, 100));
      expect(cache.get(owner, 0)?.buffer.byteLength).toBe(100);
    }
  });

  it('frees what it drops, unless somebody still uses it', () => {
    const cache = new ChunkCache(100_000);
    const owner = cache.newOwner();
    const [first, second, third] = [bytes(40_000, 1), bytes(40_000, 2), bytes(40_000, 3)];
    cache.put(owner, 0, first);
    cache.put(owner, 1, second);
    const lent = cache.get(owner, 0)!;
    cache.put(owner, 2, third);
    cache.deleteAll(owner, 3);
    expect([first, second, third].map(({ length }) => length)).toEqual([40_000, 0, 0]);
    expect(lent[0]).toBe(1);
    release(lent);
    expect(first.length).toBe(0);
  });

  it('never holds more than its bound, and gives back only what was put last', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(6), fc.nat(3000)), { maxLength: 60 }), (puts) => {
        const cache = new ChunkCache(5000);
        const owner = cache.newOwner();
        const last = new Map<number, Uint8Array>();
        for (const [index, length] of puts) {
          const chunk = bytes(length);
          last.set(index, chunk);
          cache.put(owner, index, chunk);
          expect(cache.bytes).toBeLessThanOrEqual(5000);
          expect(cache.get(owner, index) ?? chunk).toBe(chunk);
        }
        for (const [index, chunk] of last) expect(cache.get(owner, index) ?? chunk).toBe(chunk);
        cache.deleteAll(owner, 7);
        expect(cache.bytes).toBe(0);
      }),
    );
  });
});
