import { describe, expect, it } from 'vitest';
import { readAhead } from './read-ahead.ts';
import { ReadBuffers } from './read-buffers.ts';

const numbers = (count: number): number[] => [...Array(count).keys()];

/** Fills the buffer with the number; records which reads were begun. */
function reader(): { begun: number[]; read: (into: Buffer, piece: number) => Promise<Uint8Array> } {
  const begun: number[] = [];
  return {
    begun,
    read: async (into, piece) => {
      begun.push(piece);
      return into.fill(piece);
    },
  };
}

describe('reading ahead', () => {
  it.each([
    ['in lent buffers', 1000],
    ['in one lent buffer', 10],
    ['in memory of its own where all are lent', 0],
  ])('gives all pieces in order, each as it is while it is held, %s', async (_, maxLentBytes) => {
    const buffers = new ReadBuffers(maxLentBytes);
    const given: number[][] = [];
    for await (const piece of readAhead(numbers(20), 10, buffers, reader().read)) {
      await new Promise(setImmediate);
      given.push([...piece]);
    }
    expect(given).toEqual(numbers(20).map((number) => Array<number>(10).fill(number)));
    expect(buffers.lentBytes).toBe(0);
  });

  it('reads two pieces ahead, and no further', async () => {
    const { begun, read } = reader();
    const pieces = readAhead(numbers(10), 10, new ReadBuffers(), read);
    await pieces.next();
    expect(begun).toEqual([0, 1, 2]);
    await pieces.next();
    expect(begun).toEqual([0, 1, 2, 3]);
    await pieces.return();
    expect(begun).toEqual([0, 1, 2, 3]);
  });

  it('gives the buffers back when it is left, once what it had begun is done', async () => {
    const buffers = new ReadBuffers();
    const slow = Promise.withResolvers<void>();
    const pieces = readAhead(numbers(5), 10, buffers, async (into, piece) => {
      if (piece > 0) await slow.promise;
      return into;
    });
    await pieces.next();
    const left = pieces.return();
    await new Promise(setImmediate);
    expect(buffers.lentBytes).toBe(30);
    slow.resolve();
    await left;
    expect(buffers.lentBytes).toBe(0);
  });

  it('fails in its turn', async () => {
    const buffers = new ReadBuffers();
    const given: number[] = [];
    const reading = (async () => {
      for await (const piece of readAhead(numbers(5), 10, buffers, async (into, piece) => {
        if (piece === 2) throw new Error('broken');
        return into.fill(piece);
      })) {
        await new Promise(setImmediate);
        given.push(piece[0]!);
      }
    })();
    await expect(reading).rejects.toThrow('broken');
    expect(given).toEqual([0, 1]);
    expect(buffers.lentBytes).toBe(0);
  });
});

describe('buffers', () => {
  it('are used again, and bounded', () => {
    const buffers = new ReadBuffers(30);
    const first = buffers.take(10)!;
    expect(buffers.take(21)).toBeUndefined();
    expect(buffers.take(20)).toHaveLength(20);
    expect(buffers.take(1)).toBeUndefined();
    buffers.giveBack(first);
    expect(buffers.take(5)).toHaveLength(5);
    expect(buffers.take(10)).toBeUndefined();
    expect(buffers.take(5)).toHaveLength(5);
    expect(buffers.lentBytes).toBe(30);
    expect(new ReadBuffers(30).take(10)).not.toBe(first);
    const again = new ReadBuffers(30);
    const lent = again.take(10)!;
    again.giveBack(lent);
    expect(again.take(10)).toBe(lent);
  });

  it('are not all kept', () => {
    const mib = 1024 * 1024;
    const buffers = new ReadBuffers();
    const lent = Array.from({ length: 20 }, () => buffers.take(mib)!);
    for (const buffer of lent) buffers.giveBack(buffer);
    const again = Array.from({ length: 20 }, () => buffers.take(mib)!);
    expect(again.filter((buffer) => lent.includes(buffer)).length).toBe(6);
  });
});
