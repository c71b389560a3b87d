import { describe, expect, it } from 'vitest';
import { VERIFIED_MS, VerifiedChunks, type FileStamp } from './verified-chunks.ts';

const NOW = 1_800_000_000_000;
const stamp = (text: string, ageMs = 5000): FileStamp => ({ text, changedMs: NOW - ageMs });

describe('verified chunks', () => {
  it('are those that were compared, and no others', () => {
    const chunks = new VerifiedChunks(5);
    chunks.mark(stamp('a'), 1, 2, NOW);
    expect(chunks.recent(1, 2, NOW)).toBe(true);
    expect([0, 3, 4].map((index) => chunks.recent(index, index, NOW))).toEqual([false, false, false]);
    expect(chunks.recent(0, 2, NOW)).toBe(false);
    expect(chunks.recent(1, 3, NOW)).toBe(false);
    expect([chunks.unchanged(stamp('a')), chunks.unchanged(stamp('b'))]).toEqual([true, false]);
  });

  it('count for a while', () => {
    const chunks = new VerifiedChunks(1);
    chunks.mark(stamp('a'), 0, 0, NOW);
    expect([VERIFIED_MS - 1, VERIFIED_MS, -1].map((ageMs) => chunks.recent(0, 0, NOW + ageMs))).toEqual([true, false, false]);
  });

  it('of another state of the file count no more once a new one is seen', () => {
    const chunks = new VerifiedChunks(2);
    chunks.mark(stamp('a'), 0, 1, NOW);
    chunks.mark(stamp('b'), 1, 1, NOW);
    expect([chunks.recent(0, 0, NOW), chunks.recent(1, 1, NOW)]).toEqual([false, true]);
    expect([chunks.unchanged(stamp('a')), chunks.unchanged(stamp('b'))]).toEqual([false, true]);
  });

  it('do not count while a change within the same tick of the clock would not show', () => {
    const chunks = new VerifiedChunks(1);
    for (const ageMs of [1, 49, -4999]) {
      chunks.mark(stamp('a', ageMs), 0, 0, NOW);
      expect(chunks.recent(0, 0, NOW)).toBe(false);
    }
    chunks.mark(stamp('a', 50), 0, 0, NOW);
    expect(chunks.recent(0, 0, NOW)).toBe(true);
  });

  it('count later where the file system keeps only whole seconds', () => {
    const chunks = new VerifiedChunks(1);
    for (const ageMs of [1000, 2000]) {
      chunks.mark(stamp('a', ageMs), 0, 0, NOW);
      expect(chunks.recent(0, 0, NOW)).toBe(false);
    }
    chunks.mark(stamp('a', 3000), 0, 0, NOW);
    expect(chunks.recent(0, 0, NOW)).toBe(true);
  });
});
