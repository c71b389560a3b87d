import { expect, test } from 'vitest';
import { AgentError, type ErrorCode } from '../errors.ts';
import type { Origin } from '../content/ports.ts';
import { faultOf } from './probe.ts';

/** An origin of which only `resolve` is asked. */
function origin(resolve: () => Promise<never>): Origin {
  const unused = (): Promise<never> => Promise.reject(new Error('not asked'));
  return { resolve, stat: unused, read: unused, listTags: unused, referrers: unused };
}

const { signal } = new AbortController();

test.each<ErrorCode>(['MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN', 'ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED'])('%s is the answer of a registry that works', async (code) => {
  expect(await faultOf(origin(() => Promise.reject(new AgentError(code, 'x'))), 'a', signal)).toBeUndefined();
});

test.each<ErrorCode>(['ORIGIN_UNREACHABLE', 'ORIGIN_TLS', 'ORIGIN_TIMEOUT', 'ORIGIN_AUTH_FAILED', 'ORIGIN_CREDENTIALS_REFUSED', 'ORIGIN_THROTTLED', 'ORIGIN_FORBIDDEN', 'NAME_UNKNOWN'])('%s is a fault', async (code) => {
  const fault = new AgentError(code, 'x');
  expect(await faultOf(origin(() => Promise.reject(fault)), 'a', signal)).toBe(fault);
});
