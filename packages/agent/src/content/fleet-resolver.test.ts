import { setImmediate } from 'node:timers/promises';
import type { ResolveRequest, ResolveResponse } from '@flotilla/shared/tracker-api';
import { expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { FleetResolver, type FleetResolverInit } from './fleet-resolver.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const FOUND: ResolveResponse = { found: { digest: DIGEST, size: 12, mediaType: 'application/vnd.oci.image.manifest.v1+json' } };
const REPOSITORY = { origin: 'lab', repository: 'team/app' };
const TAG = { kind: 'manifest', reference: 'v1', accept: ['a'] } as const;

function resolver(ask: FleetResolverInit['ask'], init: Partial<FleetResolverInit> = {}) {
  const asked: ResolveRequest[] = [];
  const fallbacks: string[] = [];
  const clock = { ms: 0 };
  const made = new FleetResolver({
    ask: (request, signal) => {
      asked.push(request);
      return ask(request, signal);
    },
    urlsOf: (origin) => (origin === 'lab' ? ['http://10.0.0.1:5000', 'http://10.0.0.2:5000'] : undefined),
    fallback: (kind) => fallbacks.push(kind),
    now: () => clock.ms,
    ...init,
  });
  return { made, asked, fallbacks, clock };
}

const never = new AbortController().signal;

test('an answer counts as what the origin shows to anybody; the tracker is told where this agent would ask', async () => {
  const { made, asked, fallbacks } = resolver(async () => FOUND);
  expect(await made.ask(REPOSITORY, TAG, never)).toEqual({ ...FOUND.found, right: { anonymous: true, lifetimeMs: undefined } });
  expect(asked).toEqual([{ ...REPOSITORY, urls: ['http://10.0.0.1:5000', 'http://10.0.0.2:5000'], kind: 'manifest', reference: 'v1', accept: ['a'] }]);
  expect(fallbacks).toEqual([]);
  expect(made.status()).toEqual({ found: 1, asked: {}, lastError: undefined });
});

test.each([
  ['no session, or a tracker that does not ask origins', undefined, 'away'],
  ['a private repository', { why: 'not-public' }, 'not-public'],
  ['an origin that the tracker knows by another URL', { why: 'not-configured' }, 'not-configured'],
  ['too many questions there', { why: 'busy' }, 'busy'],
  ['an origin that fails', { why: 'failed' }, 'failed'],
  ['a reason of a newer release', { why: 'moonlight' }, 'failed'],
  ['nothing said', {}, 'failed'],
])('%s: the agent asks itself, and it is counted', async (_, said, reason) => {
  const { made, fallbacks } = resolver(async () => said);
  expect(await made.ask(REPOSITORY, TAG, never)).toBeUndefined();
  expect(fallbacks).toEqual([`resolve-${reason}`]);
  expect(made.status().asked).toEqual({ [reason]: 1 });
});

test('a host that nobody has named is never told to the tracker', async () => {
  const { made, asked, fallbacks } = resolver(async () => FOUND);
  expect(await made.ask({ origin: 'somewhere.example', repository: 'x' }, TAG, never)).toBeUndefined();
  expect([asked, fallbacks]).toEqual([[], ['resolve-not-configured']]);
});

test('what the tracker would refuse is not asked of it, and the next question is', async () => {
  const { made, asked, fallbacks } = resolver(async () => FOUND);
  expect(await made.ask(REPOSITORY, { ...TAG, accept: ['x'.repeat(256)] }, never)).toBeUndefined();
  expect(await made.ask(REPOSITORY, { ...TAG, accept: Array.from({ length: 65 }, (_, at) => `type/${at}`) }, never)).toBeUndefined();
  expect([asked, fallbacks]).toEqual([[], ['resolve-too-long', 'resolve-too-long']]);
  expect(await made.ask(REPOSITORY, TAG, never)).toMatchObject({ digest: DIGEST });
});

test('the tracker may say what a tag is, but not that a digest is another one', async () => {
  const { made, fallbacks } = resolver(async () => FOUND);
  expect(await made.ask(REPOSITORY, { kind: 'blob', reference: `sha256:${'b'.repeat(64)}` }, never)).toBeUndefined();
  expect(fallbacks).toEqual(['resolve-failed']);
  expect(await made.ask(REPOSITORY, { kind: 'blob', reference: DIGEST }, never)).toMatchObject({ digest: DIGEST, size: 12 });
});

test('a tracker that fails is left alone for ten seconds', async () => {
  let broken = true;
  const { made, asked, fallbacks, clock } = resolver(async () => {
    if (broken) throw new AgentError('TRACKER_UNREACHABLE', 'gone');
    return FOUND;
  });
  expect(await made.ask(REPOSITORY, TAG, never)).toBeUndefined();
  broken = false;
  clock.ms = 9_999;
  expect(await made.ask(REPOSITORY, TAG, never)).toBeUndefined();
  expect(asked).toHaveLength(1);
  expect(fallbacks).toEqual(['resolve-failed', 'resolve-paused']);
  clock.ms = 10_000;
  expect(await made.ask(REPOSITORY, TAG, never)).toBeDefined();
  expect(made.status().lastError).toEqual({ code: 'TRACKER_UNREACHABLE', message: 'gone' });
});

test('a silent tracker is waited for no longer than its time; a client that leaves ends the question', async () => {
  const silent: FleetResolverInit['ask'] = (_request, signal) => {
    const { promise, reject } = Promise.withResolvers<undefined>();
    signal.addEventListener('abort', () => reject(signal.reason));
    return promise;
  };
  const { made, fallbacks } = resolver(silent, { timeoutMs: 1 });
  expect(await made.ask(REPOSITORY, TAG, never)).toBeUndefined();
  expect(fallbacks).toEqual(['resolve-failed']);
  const patient = resolver(silent);
  const leaving = new AbortController();
  const asking = patient.made.ask(REPOSITORY, TAG, leaving.signal);
  leaving.abort(new Error('left'));
  await expect(asking).rejects.toThrow('left');
  expect(patient.fallbacks).toEqual([]);
});

test('four questions at once, as the connections to the tracker carry leases too; others wait for their turn', async () => {
  const gates: PromiseWithResolvers<ResolveResponse>[] = [];
  const { made, asked, fallbacks } = resolver(() => {
    const gate = Promise.withResolvers<ResolveResponse>();
    gates.push(gate);
    return gate.promise;
  });
  const all = Array.from({ length: 10 }, (_, tag) => made.ask(REPOSITORY, { ...TAG, reference: `t${tag}` }, never));
  for (let answered = 0; answered < 10; answered++) {
    await setImmediate();
    expect(asked.length).toBe(Math.min(10, answered + 4));
    gates[answered]!.resolve(FOUND);
    await all[answered];
  }
  expect((await Promise.all(all)).every((each) => each !== undefined)).toBe(true);
  expect(fallbacks).toEqual([]);
});

test('a turn that does not come in time is none: the agent asks itself; who leaves while it waits is forgotten', async () => {
  const gate = Promise.withResolvers<ResolveResponse>();
  const { made, asked, fallbacks } = resolver(() => gate.promise, { timeoutMs: 20 });
  const first = Array.from({ length: 4 }, (_, tag) => made.ask(REPOSITORY, { ...TAG, reference: `t${tag}` }, never));
  expect(await made.ask(REPOSITORY, TAG, never)).toBeUndefined();
  expect(fallbacks).toEqual(['resolve-busy']);
  const leaving = new AbortController();
  const left = made.ask(REPOSITORY, TAG, leaving.signal);
  leaving.abort(new Error('left'));
  await expect(left).rejects.toThrow('left');
  gate.resolve(FOUND);
  await Promise.all(first);
  expect(await made.ask(REPOSITORY, TAG, never)).toBeDefined();
  expect([asked.length, fallbacks]).toEqual([5, ['resolve-busy']]);
});

test('a question whose time ran out because it had waited for its turn blames nobody', async () => {
  const first: PromiseWithResolvers<ResolveResponse>[] = [];
  const { made, asked, fallbacks } = resolver(
    (request, signal) => {
      const answer = Promise.withResolvers<ResolveResponse>();
      if (request.reference === 'late') signal.addEventListener('abort', () => answer.reject(signal.reason));
      else first.push(answer);
      return answer.promise;
    },
    { timeoutMs: 300 },
  );
  const before = Array.from({ length: 4 }, () => made.ask(REPOSITORY, TAG, never));
  const late = made.ask(REPOSITORY, { ...TAG, reference: 'late' }, never);
  await setImmediate();
  first[0]!.resolve(FOUND);
  expect(await late).toBeUndefined();
  expect([asked.at(-1)?.reference, fallbacks]).toEqual(['late', ['resolve-busy']]);
  for (const answer of first) answer.resolve(FOUND);
  await Promise.all(before);
  const next = made.ask(REPOSITORY, TAG, never);
  await setImmediate();
  first.at(-1)!.resolve(FOUND);
  expect(await next).toBeDefined();
  expect(made.status().lastError).toBeUndefined();
});
