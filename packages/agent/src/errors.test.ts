import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ERRORS_DOC, errorsPage } from '../../../scripts/errors-doc.ts';
import { AgentError, ERRORS, toAgentError } from './errors.ts';

describe('the error table', () => {
  test.each(Object.entries(ERRORS))('%s says what to do, in a sentence', (_code, { help }) => {
    expect(help).toMatch(/^\S.{14,}\.$/);
  });

  test.each(Object.entries(ERRORS))('%s has a status that clients take rightly', (code, { status, fault }) => {
    // 401, 403 and 500 end a pull or collect credentials, 408 and 429 are retried without a pause: none of them may ever be sent.
    // The one exception is what the setting "challenge" is for.
    expect([400, 404, 405, 416, 431, 502, 503, ...(code === 'CREDENTIALS_WANTED' ? [401] : [])]).toContain(status);
    if (fault !== 'caller' && fault !== 'origin') expect([code, status]).toEqual([code, 503]);
  });

  test('docs/errors.md is made from it', () => {
    expect(readFileSync(ERRORS_DOC, 'utf8')).toBe(errorsPage());
  });
});

describe('toAgentError', () => {
  test('keeps what has a row', () => {
    const error = new AgentError('DISK_FULL', 'no room');
    expect(toAgentError(error)).toBe(error);
  });

  test.each([new TypeError('x is undefined'), 'text', undefined])('%s is INTERNAL with its cause', (thrown) => {
    expect(toAgentError(thrown)).toMatchObject({ code: 'INTERNAL', cause: thrown });
  });
});
