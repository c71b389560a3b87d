import { expect, test } from 'vitest';
import { AgentError } from './errors.ts';
import { createLogger, errorFields, type LogLevel } from './log.ts';

function lines(level: LogLevel, write: (log: ReturnType<typeof createLogger>) => void): Record<string, unknown>[] {
  const written: Record<string, unknown>[] = [];
  write(createLogger(level, { write: (line) => void written.push(JSON.parse(line) as Record<string, unknown>) }));
  return written;
}

test('a line is JSON with a time, a level by name, and fields', () => {
  const [line] = lines('info', (log) => {
    log.debug({ bytes: 1 }, 'unseen');
    log.info({ bytes: 7 }, 'request');
  });
  expect(line).toEqual({ level: 'info', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/), bytes: 7, msg: 'request' });
});

test('an error is told with its code, its detail and its causes', () => {
  const error = new AgentError('ORIGIN_TIMEOUT', 'no answer', { detail: { origin: 'docker.io' }, cause: new Error('socket idle') });
  const [line] = lines('warn', (log) => log.warn({ error }, 'failed'));
  expect(line?.['error']).toEqual({
    code: 'ORIGIN_TIMEOUT',
    message: 'no answer',
    detail: { origin: 'docker.io' },
    cause: { message: 'socket idle', stack: expect.stringContaining('log.test') },
  });
});

test('what is no error stays as it is', () => {
  expect(errorFields('text')).toBe('text');
});
