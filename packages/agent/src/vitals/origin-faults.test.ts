import { parseDigest } from '@flotilla/shared/digest';
import { describe, expect, test } from 'vitest';
import type { Content, Origin } from '../content/ports.ts';
import { AgentError, type ErrorCode } from '../errors.ts';
import { faultKind, OriginFaults } from './origin-faults.ts';

const DIGEST = parseDigest(`sha256:${'a'.repeat(64)}`);
const REPOSITORY = { origin: 'lab', repository: 'app' };
const system = (code: string): Error => Object.assign(new Error(code), { code });
const error = (code: ErrorCode, cause?: unknown): AgentError => new AgentError(code, 'x', { cause });

describe('what a failure says of an origin', () => {
  test.each([
    ['dns', error('ORIGIN_UNREACHABLE', system('ENOTFOUND'))],
    ['dns', error('ORIGIN_UNREACHABLE', new Error('fetch failed', { cause: system('EAI_AGAIN') }))],
    ['dns', error('ORIGIN_UNREACHABLE', new AggregateError([system('ENOTFOUND')]))],
    ['unreachable', error('ORIGIN_UNREACHABLE', system('ECONNREFUSED'))],
    ['unreachable', error('ORIGIN_TIMEOUT')],
    ['throttled', error('ORIGIN_THROTTLED')],
    ['credentials', error('ORIGIN_DENIED')],
    ['credentials', error('ACCESS_DENIED', error('ORIGIN_UNAUTHORIZED'))],
    ['other', error('ORIGIN_STATUS')],
    ['throttled', error('ACCESS_UNDECIDED', error('ORIGIN_THROTTLED'))],
    [undefined, error('MANIFEST_UNKNOWN')],
    [undefined, error('DISK_FULL')],
    [undefined, new Error('the client has gone')],
  ] as const)('%s: %s', (kind, thrown) => {
    expect(faultKind(thrown)).toBe(kind);
  });
});

test('counts by origin and kind what local clients are told, manifests that break in the middle as well', async () => {
  const noted: string[] = [];
  const faults = new OriginFaults(({ code }) => noted.push(code));
  let failure: unknown = error('ORIGIN_THROTTLED');
  const fail = (): Promise<never> => Promise.reject(failure);
  const content = faults.watchContent({
    manifest: () => Promise.resolve({ descriptor: { digest: DIGEST, size: 1, mediaType: 'm' }, stale: false, bytes: fail }),
    blob: fail,
    tags: fail,
    referrers: fail,
  } satisfies Content);
  const caller = {} as never;
  const signal = new AbortController().signal;
  const served = await content.manifest(REPOSITORY, { tag: 'v1' }, [], caller, signal);
  await expect(served.bytes(signal)).rejects.toBe(failure);
  await expect(content.blob(REPOSITORY, DIGEST, caller, signal)).rejects.toBe(failure);
  failure = error('BLOB_UNKNOWN');
  await expect(content.blob(REPOSITORY, DIGEST, caller, signal)).rejects.toBe(failure);
  expect(faults.told()).toEqual([['lab', 'throttled', 2]]);
  expect(faults.total).toBe(2);
  expect(noted).toEqual(['ORIGIN_THROTTLED', 'ORIGIN_THROTTLED', 'BLOB_UNKNOWN']);
});

test('a leased read that breaks in the middle counts, and is cancelled as before', async () => {
  const faults = new OriginFaults(() => undefined);
  let cancelled = 0;
  const broken = error('ORIGIN_LENGTH');
  const body = async function* (): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(3);
    throw broken;
  };
  const origin = { read: () => Promise.resolve({ start: 0, size: 5, ranged: true, body: body(), cancel: () => cancelled++ }) } as unknown as Origin;
  const answer = await faults.watchReads(origin).read({ ...REPOSITORY, kind: 'blob' }, DIGEST, undefined, { kind: 'agent' }, new AbortController().signal);
  const pieces: Uint8Array[] = [];
  const reading = (async () => {
    for await (const piece of answer.body) pieces.push(piece);
  })();
  await expect(reading).rejects.toBe(broken);
  answer.cancel();
  expect([pieces.length, cancelled, faults.told()]).toEqual([1, 1, [['lab', 'other', 1]]]);
});
