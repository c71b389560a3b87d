import { expect, test } from 'vitest';
import { WriteAhead } from './write-ahead.ts';

class Disk {
  readonly records = new Map<string, { n: number }>();
  readonly log: string[] = [];
  readonly writes: PromiseWithResolvers<void>[] = [];
  readonly ahead = new WriteAhead<{ n: number }>({
    read: (key) => this.records.get(key),
    write: (changes) => {
      const gate = Promise.withResolvers<void>();
      this.writes.push(gate);
      const text = JSON.stringify([...changes]);
      return gate.promise.then(() => void this.log.push(`write ${text}`));
    },
    prepare: (whom) => {
      const text = `tell ${[...whom].join()} ${JSON.stringify([...this.records])}`;
      return () => void (whom.size > 0 && this.log.push(text));
    },
  });

  set(key: string, n: number): void {
    const record = this.records.get(key);
    if (record === undefined) this.records.set(key, { n });
    else record.n = n;
    this.ahead.changed(key);
  }
}

test('nobody is told before it is written, and what is told is what was written', async () => {
  const disk = new Disk();
  disk.set('a', 1);
  disk.ahead.tell('p');
  const flushed = disk.ahead.flush();
  disk.set('a', 2);
  disk.ahead.tell('q');
  expect(disk.log).toEqual([]);
  disk.writes[0]!.resolve();
  await disk.writes[0]!.promise;
  await new Promise(setImmediate);
  expect(disk.log).toEqual(['write [["a",{"n":1}]]', 'tell p [["a",{"n":1}]]']);
  disk.writes[1]!.resolve();
  await flushed;
  expect(disk.log.slice(2)).toEqual(['write [["a",{"n":2}]]', 'tell q [["a",{"n":2}]]']);
});

test('a write that fails is tried again with what has changed since, and tells nobody', async () => {
  const disk = new Disk();
  disk.set('a', 1);
  disk.ahead.tell('p');
  const flushed = disk.ahead.flush();
  disk.writes[0]!.reject(new Error('no space'));
  await expect(flushed).rejects.toThrow('no space');
  expect(disk.log).toEqual([]);
  disk.set('b', 1);
  const again = disk.ahead.flush();
  disk.writes[1]!.resolve();
  await again;
  expect(disk.log).toHaveLength(2);
  expect(disk.log[0]).toContain('"a"');
  expect(disk.log[0]).toContain('"b"');
});

test('what is deleted is written as such; telling alone writes nothing', async () => {
  const disk = new Disk();
  disk.ahead.changed('gone');
  const flushed = disk.ahead.flush();
  disk.writes[0]!.resolve();
  await flushed;
  disk.ahead.tell('p');
  await disk.ahead.flush();
  expect(disk.log).toEqual(['write [["gone",null]]', 'tell p []']);
});
