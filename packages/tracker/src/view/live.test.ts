import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GONE, Live, type LiveStream, type Topic } from './live.ts';
import { RowDiff } from './row-diff.ts';
import { parseEvent } from './test-live.ts';

class Stream implements LiveStream {
  queuedBytes = 0;
  may = true;
  ended = false;
  readonly texts: string[] = [];

  allowed(): boolean {
    return this.may;
  }

  write(bytes: Uint8Array): void {
    this.texts.push(Buffer.from(bytes).toString());
  }

  end(): void {
    this.ended = true;
  }

  get events(): string[] {
    return this.texts.flatMap((text) => parseEvent(text.trim()) ?? []).map(({ id, kind, data }) => `${id} ${kind} ${data.topic} ${data['value'] === undefined ? '' : JSON.stringify(data['value'])}`.trim());
  }
}

function counter(topic: string, made: { count: number }, gone?: () => boolean): Topic {
  let value = 0;
  made.count++;
  return {
    tick: () => (gone?.() === true ? GONE : value++ % 2 === 0 ? JSON.stringify({ topic, atMs: 0, value }) : undefined),
    snapshot: () => JSON.stringify({ topic, atMs: 0, value }),
  };
}

test('one topic for all that listen: made once, and forgotten with the last of them', () => {
  const live = new Live(7);
  const made = { count: 0 };
  live.register('a', (_, topic) => counter(topic, made));
  const [x, y] = [new Stream(), new Stream()];
  const leave = [live.listen(['a'], x, 0)];
  live.tick(1_000);
  leave.push(live.listen(['a'], y, 1_500));
  live.tick(2_000);
  live.tick(3_000);
  expect(x.events).toEqual(['7-0 snapshot a 0', '7-1 delta a 1', '7-3 delta a 3']);
  expect(y.events).toEqual(['7-1 snapshot a 1', '7-3 delta a 3']);
  expect(made.count).toBe(1);
  for (const each of leave) each();
  expect(live.listeners).toBe(0);
  live.listen(['a'], x, 4_000);
  expect(made.count).toBe(2);
});

test('what ends is gone, and begins anew with a snapshot where it comes back', () => {
  const live = new Live(1);
  let there = true;
  live.register('x', (argument, topic) => (there && argument === 'one' ? counter(topic, { count: 0 }, () => !there) : undefined));
  const stream = new Stream();
  live.listen(['x:one'], stream, 0);
  there = false;
  live.tick(1_000);
  live.tick(2_000);
  there = true;
  live.tick(3_000);
  expect(stream.events).toEqual(['1-0 snapshot x:one 0', '1-1 gone x:one', '1-3 snapshot x:one 0']);
  expect(live.once('x:two', 0)).toBeUndefined();
});

test('who does not take what it is told, or may not listen any more, is cut off', () => {
  const live = new Live(1);
  live.register('a', (_, topic) => counter(topic, { count: 0 }));
  const [slow, signedOut, good] = [new Stream(), new Stream(), new Stream()];
  for (const stream of [slow, signedOut, good]) live.listen(['a'], stream, 0);
  slow.queuedBytes = 17 * 1024 * 1024;
  signedOut.may = false;
  live.tick(20_000);
  expect([slow.ended, signedOut.ended, good.ended]).toEqual([true, true, false]);
  expect(live.listeners).toBe(1);
  expect(good.texts).toContain(': still here\n\n');
});

test('an unknown topic is refused before anything is told', () => {
  const live = new Live(1);
  const stream = new Stream();
  expect(() => live.listen(['a'], stream, 0)).toThrow('there is no topic a');
  expect([stream.texts, live.listeners]).toEqual([[], 0]);
});

test('a table and its changes are the table as it is', () => {
  const table = fc.dictionary(fc.nat(20).map(String), fc.nat(3));
  fc.assert(
    fc.property(fc.array(table, { maxLength: 10 }), (tables) => {
      const diff = new RowDiff();
      const page = new Map<number, number>();
      for (const each of tables) {
        const { changed, gone } = diff.update(Object.entries(each).map(([n, value]) => [Number(n), JSON.stringify([Number(n), value])] as const));
        for (const text of changed) {
          const [n, value] = JSON.parse(text) as [number, number];
          expect(page.get(n)).not.toBe(value);
          page.set(n, value);
        }
        for (const n of gone) expect(page.delete(n)).toBe(true);
        expect(Object.fromEntries(page)).toEqual(each);
        expect(new Map(JSON.parse(`[${diff.all()}]`) as [number, number][])).toEqual(page);
      }
    }),
  );
});
