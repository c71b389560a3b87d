import { parseDigest } from '@flotilla/shared/digest';
import { expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import type { Caller, Content, ServedBlob } from './ports.ts';
import { RequestLog } from './request-log.ts';

const CALLER: Caller = { authorization: undefined, asksOrigin: false };
const DIGEST = parseDigest(`sha256:${'a'.repeat(64)}`);
const IMAGE = { origin: 'docker.io', repository: 'library/nginx' };

class FewImages implements Content {
  manifest(): Promise<never> {
    return Promise.reject(new AgentError('MANIFEST_UNKNOWN', 'not here'));
  }
  blob(): Promise<ServedBlob> {
    return Promise.resolve({ key: { digest: DIGEST, size: 1 }, open: () => Promise.reject(new Error('not read here')) });
  }
  tags(): Promise<never> {
    return new Promise(() => undefined);
  }
  referrers(): Promise<never> {
    return Promise.reject(new Error('a fault'));
  }
}

test('says who was asked for what and how it ended, and passes it all on', async () => {
  let nowMs = 1000;
  const log = new RequestLog(new FewImages(), () => nowMs++);
  const { signal } = new AbortController();
  await expect(log.manifest(IMAGE, { tag: '1.27' }, [], CALLER, signal)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  expect((await log.blob(IMAGE, DIGEST, CALLER, signal)).key.digest).toBe(DIGEST);
  void log.tags(IMAGE, {}, CALLER, signal);
  await expect(log.referrers(IMAGE, DIGEST, CALLER, signal)).rejects.toThrow('a fault');
  expect(log.requests).toEqual([
    { ...IMAGE, atMs: 1000, kind: 'manifest', reference: '1.27', outcome: 'MANIFEST_UNKNOWN' },
    { ...IMAGE, atMs: 1001, kind: 'blob', reference: DIGEST, outcome: 'served' },
    { ...IMAGE, atMs: 1002, kind: 'tags', reference: '', outcome: 'pending' },
    { ...IMAGE, atMs: 1003, kind: 'referrers', reference: DIGEST, outcome: 'INTERNAL' },
  ]);
});

test('remembers the last 256', async () => {
  const log = new RequestLog(new FewImages(), () => 0);
  for (let i = 0; i < 300; i++) await log.blob({ ...IMAGE, repository: `r${i}` }, DIGEST, CALLER, new AbortController().signal);
  expect(log.requests).toHaveLength(256);
  expect(log.requests[0]!.repository).toBe('r44');
});
