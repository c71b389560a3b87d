import { EventEmitter, once } from 'node:events';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { untilStopped, type LifetimeInit, type Stoppable } from './lifetime.ts';

/** An agent whose drain ends when `finish` is called or its signal aborts. */
class Draining implements Stoppable {
  readonly calls: string[] = [];
  readonly drains = Promise.withResolvers<void>();
  readonly finish = Promise.withResolvers<void>();
  hurried = false;

  async drain(signal: AbortSignal): Promise<void> {
    this.calls.push('drain');
    this.drains.resolve();
    await Promise.race([this.finish.promise, once(signal, 'abort').then(() => (this.hurried = true))]);
  }

  async close(): Promise<void> {
    this.calls.push('close');
  }
}

function start(agent: Stoppable, init: Partial<LifetimeInit> = {}) {
  const signals = new EventEmitter();
  const messages: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line) => void messages.push((JSON.parse(line) as { msg: string }).msg) });
  return { signals, messages, stopped: untilStopped(agent, signals, { drainTimeoutMs: 60_000, ...init }, log) };
}

test.each(['SIGTERM', 'SIGINT'])('%s drains, then closes, and that is a success', async (signal) => {
  const agent = new Draining();
  const { signals, stopped } = start(agent);
  signals.emit(signal);
  await agent.drains.promise;
  expect(agent.calls).toEqual(['drain']);
  agent.finish.resolve();
  expect(await stopped).toBe(0);
  expect(agent.calls).toEqual(['drain', 'close']);
  expect(agent.hurried).toBe(false);
  expect(signals.eventNames()).toEqual([]);
});

test.each([
  ['SIGTERM', 143],
  ['SIGINT', 130],
])('a second signal, %s, stops at once', async (second, code) => {
  const agent = new Draining();
  const { signals, stopped } = start(agent);
  signals.emit('SIGTERM');
  await agent.drains.promise;
  signals.emit(second);
  expect(await stopped).toBe(code);
  expect(agent.hurried).toBe(true);
  expect(agent.calls).toEqual(['drain', 'close']);
});

test('open responses are cut off after drainTimeoutMs, which is said', async () => {
  const agent = new Draining();
  const { signals, stopped, messages } = start(agent, { drainTimeoutMs: 10 });
  signals.emit('SIGTERM');
  expect(await stopped).toBe(0);
  expect(agent.hurried).toBe(true);
  expect(messages).toContain('open responses are cut off');
});

test('what does not end is not waited for', async () => {
  const never = new Promise<void>(() => undefined);
  const { signals, stopped, messages } = start({ drain: () => never, close: () => never }, { drainTimeoutMs: 5, closeTimeoutMs: 5 });
  signals.emit('SIGTERM');
  expect(await stopped).toBe(0);
  expect(messages.filter((message) => message === 'not waited for any longer').length).toBe(2);
});

test('a failure while stopping is logged, and the rest still happens', async () => {
  const agent = new Draining();
  agent.drain = async () => {
    throw new Error('drain broke');
  };
  const { signals, stopped, messages } = start(agent);
  signals.emit('SIGTERM');
  expect(await stopped).toBe(0);
  expect(messages).toContain('stopping failed');
  expect(agent.calls).toEqual(['close']);
});
