import { expect, test } from 'vitest';
import { SharedCalls } from './shared-calls.ts';

/** A call that ends when told to, and counts. */
function gate() {
  const calls: { signal: AbortSignal; resolve: (value: string) => void; reject: (error: Error) => void }[] = [];
  const start = (signal: AbortSignal): Promise<string> => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    calls.push({ signal, resolve, reject });
    return promise;
  };
  return { calls, start };
}
const never = new AbortController().signal;

test('callers of one key share a call; another key has its own; afterwards a new one begins', async () => {
  const shared = new SharedCalls<string>();
  const { calls, start } = gate();
  const both = [shared.run('a', never, start), shared.run('a', never, start), shared.run('b', never, start)];
  expect(calls).toHaveLength(2);
  calls[0]!.resolve('one');
  calls[1]!.resolve('two');
  expect(await Promise.all(both)).toEqual(['one', 'one', 'two']);
  const again = shared.run('a', never, start);
  calls[2]!.resolve('three');
  expect(await again).toBe('three');
});

test('a failure reaches all and is not kept', async () => {
  const shared = new SharedCalls<string>();
  const { calls, start } = gate();
  const both = [shared.run('a', never, start), shared.run('a', never, start)];
  calls[0]!.reject(new Error('broken'));
  expect((await Promise.allSettled(both)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  const again = shared.run('a', never, start);
  calls[1]!.resolve('fine');
  expect(await again).toBe('fine');
});

test('one caller giving up leaves the other its answer; the last one aborts the call', async () => {
  const shared = new SharedCalls<string>();
  const { calls, start } = gate();
  const [first, second] = [new AbortController(), new AbortController()];
  const one = shared.run('a', first.signal, start);
  const two = shared.run('a', second.signal, start);
  first.abort(new Error('gone'));
  await expect(one).rejects.toThrow('gone');
  expect(calls[0]!.signal.aborted).toBe(false);
  second.abort(new Error('gone too'));
  await expect(two).rejects.toThrow('gone too');
  expect(calls[0]!.signal.aborted).toBe(true);
  // Nobody joins a call that was aborted.
  const three = shared.run('a', never, start);
  calls[1]!.resolve('fresh');
  expect(await three).toBe('fresh');
});

test('an aborted caller starts nothing', async () => {
  const { calls, start } = gate();
  await expect(new SharedCalls<string>().run('a', AbortSignal.abort(new Error('gone')), start)).rejects.toThrow('gone');
  expect(calls).toHaveLength(0);
});
