import type { ResolveRequest, ResolveResponse } from '@flotilla/shared/tracker-api';
import { expect, test } from 'vitest';
import { FRESH_MS, PublicAnswers } from './public-answers.ts';

const QUESTION: ResolveRequest = { origin: 'lab', urls: ['http://10.0.0.1'], repository: 'team/app', kind: 'manifest', reference: 'v1', accept: ['a', 'b'] };

function found(version: number): ResolveResponse {
  return { found: { digest: `sha256:${String(version).padStart(64, '0')}`, size: version, mediaType: 'm' } };
}

/** An origin whose answers wait until the test gives them. */
function slowOrigin() {
  const asked: { readonly request: ResolveRequest; readonly answer: (response: ResolveResponse) => void }[] = [];
  const told: string[] = [];
  const clock = { ms: 0 };
  const answers = new PublicAnswers({
    ask: (request) => {
      const { promise, resolve } = Promise.withResolvers<ResolveResponse>();
      asked.push({ request, answer: resolve });
      return promise;
    },
    answered: (answer, first) => told.push(`${answer}${first ? '' : ' shared'}`),
    now: () => clock.ms,
  });
  return { asked, told, clock, answers };
}

test('forty hosts at the same moment are one question, and all get its answer', async () => {
  const { asked, told, answers } = slowOrigin();
  const replies = Array.from({ length: 40 }, (_, host) => answers.resolve({ ...QUESTION, accept: host % 2 === 0 ? ['a', 'b'] : ['b', 'a'] }));
  expect(asked).toHaveLength(1);
  asked[0]!.answer(found(1));
  expect(await Promise.all(replies)).toEqual(Array.from({ length: 40 }, () => found(1)));
  expect(told.filter((each) => each === 'found')).toHaveLength(1);
  expect(told.filter((each) => each === 'found shared')).toHaveLength(39);
});

test('what was pushed before the freshest question may have been asked is seen: an answer ages from when the origin was asked, not from when it came', async () => {
  const { asked, clock, answers } = slowOrigin();
  const first = answers.resolve(QUESTION);
  clock.ms = FRESH_MS - 1;
  const joined = answers.resolve(QUESTION);
  expect(asked).toHaveLength(1);
  clock.ms = FRESH_MS;
  // The first is still on its way, and is too old for whoever asks now.
  const second = answers.resolve(QUESTION);
  expect(asked).toHaveLength(2);
  asked[1]!.answer(found(2));
  asked[0]!.answer(found(1));
  expect([await first, await joined, await second]).toEqual([found(1), found(1), found(2)]);
  clock.ms = 2 * FRESH_MS - 1;
  expect(await answers.resolve(QUESTION)).toEqual(found(2));
  expect(asked).toHaveLength(2);
});

test.each([
  ['tag', { reference: 'v2' }],
  ['kind', { kind: 'blob' as const }],
  ['repository', { repository: 'team/other' }],
  ['place', { urls: ['http://10.0.0.2'] }],
  ['media types', { accept: ['a'] }],
])('another %s is another question', (_, change) => {
  const { asked, answers } = slowOrigin();
  void answers.resolve(QUESTION);
  void answers.resolve({ ...QUESTION, ...change });
  expect(asked).toHaveLength(2);
});

test('an origin that gives no answer is not tried for each host in turn', async () => {
  const { asked, told, clock, answers } = slowOrigin();
  const first = answers.resolve(QUESTION);
  asked[0]!.answer({ why: 'failed' });
  expect(await first).toEqual({ why: 'failed' });
  expect(await answers.resolve(QUESTION)).toEqual({ why: 'failed' });
  expect(asked).toHaveLength(1);
  expect(told).toEqual(['failed', 'failed shared']);
  clock.ms = FRESH_MS;
  void answers.resolve(QUESTION);
  expect(asked).toHaveLength(2);
});

test('more than 64 questions at once are not asked of an origin, and no other waits for it; when they are answered, others are', async () => {
  const { asked, answers } = slowOrigin();
  const replies = Array.from({ length: 64 }, (_, tag) => answers.resolve({ ...QUESTION, reference: `t${tag}` }));
  expect(await answers.resolve({ ...QUESTION, reference: 'one-more' })).toEqual({ why: 'busy' });
  expect(asked).toHaveLength(64);
  const elsewhere = answers.resolve({ ...QUESTION, origin: 'another' });
  for (const { answer } of asked) answer(found(1));
  await Promise.all([...replies, elsewhere]);
  void answers.resolve({ ...QUESTION, reference: 'one-more' });
  expect(asked).toHaveLength(66);
});

test('more than 256 questions at once are not asked of all origins together', async () => {
  const { asked, answers } = slowOrigin();
  const replies = Array.from({ length: 256 }, (_, at) => answers.resolve({ ...QUESTION, origin: `o${at % 8}`, reference: `t${at}` }));
  expect(await answers.resolve({ ...QUESTION, origin: 'one-more' })).toEqual({ why: 'busy' });
  for (const { answer } of asked) answer(found(1));
  await Promise.all(replies);
});
