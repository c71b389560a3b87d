import { expect, test } from 'vitest';
import { ERRORS, toProblem, toTrackerError, TrackerError } from './errors.ts';

test('every row says what to do, in a sentence', () => {
  for (const [code, { help, title, status }] of Object.entries(ERRORS)) {
    expect(help, code).toMatch(/\.$/);
    expect(title, code).not.toBe('');
    expect(status, code).toBeGreaterThanOrEqual(400);
  }
});

test('what has no row is INTERNAL, keeps its cause, and tells nobody outside', () => {
  const cause = new Error('the password is 1234');
  const error = toTrackerError(cause);
  expect(error).toMatchObject({ code: 'INTERNAL', cause });
  expect(JSON.stringify(toProblem(error))).not.toContain('1234');
});

test.each([
  [{ code: 'FST_ERR_CTP_BODY_TOO_LARGE', statusCode: 413, message: 'x' }, 'BODY_TOO_LARGE'],
  [{ statusCode: 429, message: 'x' }, 'TOO_MANY_REQUESTS'],
  [{ statusCode: 415, message: 'x' }, 'REQUEST_INVALID'],
  [{ statusCode: 500, message: 'x' }, 'INTERNAL'],
])('%o becomes %s', (thrown, code) => {
  expect(toTrackerError(Object.assign(new Error(thrown.message), thrown)).code).toBe(code);
});

test('a problem has the members of RFC 9457', () => {
  expect(toProblem(new TrackerError('SESSION_UNKNOWN', 'gone'))).toEqual({
    type: 'urn:flotilla:tracker:SESSION_UNKNOWN',
    title: 'No such session',
    status: 404,
    code: 'SESSION_UNKNOWN',
    detail: 'gone. Open a new session.',
  });
});
