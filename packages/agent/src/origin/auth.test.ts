// The token flow and Basic against a scripted origin and a scripted token server.

import { describe, expect, onTestFinished, test } from 'vitest';
import type { Authority } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import type { CredentialSource, Secret } from './credentials/secret.ts';
import { ScriptedServer, reply } from './scripted-server.ts';
import { AGENT, ANONYMOUS, LAB, alwaysCredentials, bytesOf, sha256, testOrigin } from './test-origin.ts';

const BLOB = Buffer.from('the blob');
const digest = sha256(BLOB);
const basic = (user: string, password: string): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

interface Options {
  /** The answer of the token server; a string is the body of a 200. */
  token?: (count: number) => string | { status: number; headers?: Record<string, string> } | Promise<string>;
  challenge?: (tokenServer: string) => string | string[];
  credentials?: { username: string; password: string };
  source?: CredentialSource;
  /** Whether the origin takes this Authorization; by default any Bearer of `issued`. */
  accepts?: (authorization: string) => boolean;
  /** Whoever is let in is sent there. */
  elsewhere?: string;
}

const counted = (count: number): string => JSON.stringify({ token: `t${count}` });

async function guarded({ token = counted, challenge, credentials, source, accepts, elsewhere }: Options) {
  const issued = new Set<string>();
  let count = 0;
  const tokens = await ScriptedServer.start((_request, response) => {
    const answered = token(++count);
    void Promise.resolve(answered).then((answer) => {
      if (typeof answer !== 'string') return reply(response, answer.status, '', answer.headers);
      for (const match of answer.matchAll(/"(?:token|access_token)":"([^"]*)"/g)) issued.add(`Bearer ${match[1]}`);
      return reply(response, 200, answer);
    });
  });
  const server = await ScriptedServer.start((_request, response, { headers }) => {
    const authorization = headers.authorization ?? '';
    if (accepts === undefined ? issued.has(authorization) : accepts(authorization)) return elsewhere === undefined ? reply(response, 200, BLOB) : reply(response, 307, '', { location: elsewhere });
    return reply(response, 401, '{}', { 'www-authenticate': challenge?.(tokens.url) ?? `Bearer realm="${tokens.url}/token?keep=1",service="the registry"` });
  });
  const lab = testOrigin([server.url], { deps: { credentials: source ?? alwaysCredentials(credentials === undefined ? undefined : { kind: 'basic', ...credentials }) } });
  onTestFinished(async () => {
    await lab[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await tokens[Symbol.asyncDispose]();
  });
  const read = async (repository = LAB.repository): Promise<string> =>
    (await bytesOf(await lab.client.read({ origin: 'lab', repository, kind: 'blob' }, digest, undefined, AGENT, lab.signal))).toString();
  const as = (authority: Authority) => lab.client.stat(LAB, digest, authority, lab.signal);
  return { ...lab, tokens, server, issued, read, as };
}

describe('Bearer', () => {
  test('anonymous: one 401, one token with service and scope, then the blob', async () => {
    const { read, tokens, server, counts } = await guarded({});
    expect(await read()).toBe('the blob');
    expect(tokens.lines).toEqual(['GET /token?keep=1&service=the+registry&scope=repository%3Ateam%2Fapp%3Apull']);
    expect(tokens.asked[0]!.headers.authorization).toBeUndefined();
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer t1']);
    expect(counts.requests).toEqual(['blob 401', 'token 200', 'blob 200']);
  });

  test('a token serves its repository until shortly before it expires; 60 s where nothing is said', async () => {
    const { read, tokens, server, clock } = await guarded({});
    await read();
    clock.nowMs += 53_000;
    await read();
    expect(tokens.lines).toHaveLength(1);
    // 54 s: ten percent before the end. It is renewed before it is refused: no further 401.
    clock.nowMs += 1000;
    await read();
    expect(tokens.lines).toHaveLength(2);
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer t1', 'Bearer t1', 'Bearer t2']);
  });

  test('expires_in and access_token are read', async () => {
    const { read, tokens, clock } = await guarded({ token: (count) => JSON.stringify({ access_token: `a${count}`, expires_in: 3600 }) });
    await read();
    clock.nowMs += 3_589_000;
    await read();
    expect(tokens.lines).toHaveLength(1);
    clock.nowMs += 1000;
    await read();
    expect(tokens.lines).toHaveLength(2);
  });

  test('each repository has its own token', async () => {
    const { read, tokens } = await guarded({});
    await read('team/app');
    await read('team/other');
    await read('team/app');
    expect(tokens.lines.map((line) => new URL(line.slice(4), tokens.url).searchParams.get('scope'))).toEqual(['repository:team/app:pull', 'repository:team/other:pull']);
  });

  test('many at once ask for one token', async () => {
    const release = Promise.withResolvers<void>();
    const { read, tokens, server } = await guarded({
      token: async () => {
        await release.promise;
        return JSON.stringify({ token: 'shared' });
      },
    });
    const reads = Array.from({ length: 6 }, () => read());
    // All six have been refused before the token comes.
    while (server.asked.length < 6) await new Promise((resolve) => setImmediate(resolve));
    release.resolve();
    expect(await Promise.all(reads)).toEqual(Array.from({ length: 6 }, () => 'the blob'));
    expect(tokens.lines).toHaveLength(1);
  });

  test('a token that the origin revoked is replaced, once', async () => {
    const { read, tokens, issued } = await guarded({});
    await read();
    issued.clear();
    expect(await read()).toBe('the blob');
    expect(tokens.lines).toHaveLength(2);
  });

  test('a fresh token that is refused is ORIGIN_UNAUTHORIZED, and not kept', async () => {
    const { read, tokens, server } = await guarded({ accepts: () => false });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED', detail: { status: 401 } });
    expect([tokens.lines.length, server.lines.length]).toEqual([1, 2]);
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect(server.asked[2]!.headers.authorization).toBeUndefined();
  });

  test.each<[string, Options['token'], string]>([
    ['no JSON', () => '<html>', 'ORIGIN_AUTH_FAILED'],
    ['no token', () => '{}', 'ORIGIN_AUTH_FAILED'],
    ['an empty token', () => '{"token":"","access_token":7}', 'ORIGIN_AUTH_FAILED'],
    ['a token with a line break', () => '{"token":"a\\r\\nX: y"}', 'ORIGIN_AUTH_FAILED'],
    ['a token without end', () => JSON.stringify({ token: 'x'.repeat(300_000) }), 'ORIGIN_AUTH_FAILED'],
    ['400', () => ({ status: 400 }), 'ORIGIN_AUTH_FAILED'],
    ['a redirect', () => ({ status: 307, headers: { location: '/elsewhere' } }), 'ORIGIN_AUTH_FAILED'],
    ['503 again and again', () => ({ status: 503 }), 'ORIGIN_AUTH_FAILED'],
    ['401', () => ({ status: 401 }), 'ORIGIN_UNAUTHORIZED'],
    ['403', () => ({ status: 403 }), 'ORIGIN_UNAUTHORIZED'],
  ])('a token server with %s', async (_name, token, code) => {
    const { read } = await guarded(token === undefined ? {} : { token });
    await expect(read()).rejects.toMatchObject({ code });
  });

  test('a token server that fails once is asked again', async () => {
    const { read, tokens } = await guarded({ token: (count) => (count === 1 ? { status: 503 } : JSON.stringify({ token: 'x' })) });
    expect(await read()).toBe('the blob');
    expect(tokens.lines).toHaveLength(2);
  });

  test('a token server that throttles silences the origin for as long', async () => {
    const { read, server } = await guarded({ token: () => ({ status: 429, headers: { 'retry-after': '7' } }) });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_THROTTLED', retryAfterMs: 7000 });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_THROTTLED', retryAfterMs: 7000 });
    expect(server.lines).toHaveLength(1);
  });

  test('credentials go to the realm as Basic, the origin gets the token only', async () => {
    const { read, tokens, server } = await guarded({ credentials: { username: 'ann', password: 'p:w' } });
    await read();
    expect(tokens.asked[0]!.headers.authorization).toBe(basic('ann', 'p:w'));
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer t1']);
  });

  test('a realm at a foreign host is refused before anything is sent there', async () => {
    const { read, tokens } = await guarded({
      credentials: { username: 'ann', password: 'secret' },
      challenge: (url) => `Bearer realm="${url.replace('127.0.0.1', 'localhost')}/token"`,
    });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_REALM_REFUSED' });
    expect(tokens.asked).toEqual([]);
  });

  test('giving up while the token is fetched rejects with the reason and cuts the connection', async () => {
    const asked = Promise.withResolvers<void>();
    const { client, tokens, signal, abort } = await guarded({
      token: () => {
        asked.resolve();
        return new Promise(() => undefined);
      },
    });
    const reading = client.stat(LAB, digest, AGENT, signal);
    await asked.promise;
    abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    await tokens.idle();
  });
});

describe('Basic', () => {
  const challenge = (): string => 'Basic realm="the registry"';

  test('with credentials', async () => {
    const header = basic('ann', 'secret');
    const { read, server } = await guarded({ challenge, credentials: { username: 'ann', password: 'secret' }, accepts: (sent) => sent === header });
    expect(await read()).toBe('the blob');
    await read();
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, header, header]);
  });

  test('without credentials', async () => {
    const { read } = await guarded({ challenge });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
  });

  test('Bearer is preferred where both are offered', async () => {
    const { read, tokens } = await guarded({ challenge: (url) => ['Basic realm="x"', `Bearer realm="${url}/token"`] });
    expect(await read()).toBe('the blob');
    expect(tokens.lines).toHaveLength(1);
  });
});

describe('authorities', () => {
  const ann: Authority = { kind: 'caller', id: 'ann', authorization: basic('ann', 'secret') };
  const own = { username: 'agent', password: 'pw' };

  test('anonymous never sends a credential, whatever the agent has', async () => {
    const { as, tokens, server } = await guarded({ credentials: own });
    expect(await as(ANONYMOUS)).toMatchObject({ right: { anonymous: true, lifetimeMs: 54_000 } });
    expect([...tokens.asked, ...server.asked].map(({ headers }) => headers.authorization)).toEqual([undefined, undefined, 'Bearer t1']);
    expect(tokens.lines[0]).not.toContain('client_id');
  });

  test('anonymous has no password for a Basic origin', async () => {
    const { as, server } = await guarded({ credentials: own, challenge: () => 'Basic realm="x"' });
    await expect(as(ANONYMOUS)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  test("a caller's Basic goes to the realm, the agent's own does not", async () => {
    const { as, tokens, server } = await guarded({ credentials: own });
    expect(await as(ann)).toMatchObject({ right: { anonymous: false, lifetimeMs: 54_000 } });
    expect(tokens.asked.map(({ headers }) => headers.authorization)).toEqual([ann.authorization]);
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer t1']);
  });

  test("a caller's Basic is sent to a Basic origin as it is", async () => {
    const { as, server } = await guarded({ challenge: () => 'Basic realm="x"', accepts: (sent) => sent === ann.authorization });
    expect(await as(ann)).toMatchObject({ right: { anonymous: false, lifetimeMs: undefined } });
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, ann.authorization]);
  });

  test("a caller's Bearer is sent as it is, once the origin asks; no realm is asked", async () => {
    const bearer: Authority = { kind: 'caller', id: 'b', authorization: 'Bearer of-the-caller' };
    const { as, tokens, server } = await guarded({ accepts: (sent) => sent === 'Bearer of-the-caller' });
    expect(await as(bearer)).toMatchObject({ right: { anonymous: false, lifetimeMs: 60_000 } });
    expect([tokens.lines, server.asked.map(({ headers }) => headers.authorization)]).toEqual([[], [undefined, 'Bearer of-the-caller']]);
  });

  test("a caller's Bearer that the origin refuses is refused", async () => {
    const { as, tokens } = await guarded({ accepts: () => false });
    await expect(as({ kind: 'caller', id: 'b', authorization: 'Bearer wrong' })).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect(tokens.lines).toEqual([]);
  });

  test('each has tokens of its own; an id used for two headers opens nothing', async () => {
    const { as, tokens } = await guarded({ credentials: own });
    const imposter: Authority = { ...ann, authorization: basic('ann', 'guessed') };
    for (const authority of [ANONYMOUS, AGENT, ann, imposter, ANONYMOUS, AGENT, ann, imposter]) await as(authority);
    expect(tokens.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, basic('agent', 'pw'), ann.authorization, imposter.authorization]);
  });

  test("a refusal is a fault in the agent's own name only", async () => {
    const { as, counts } = await guarded({ credentials: own, accepts: () => false });
    for (const authority of [ANONYMOUS, ann]) await expect(as(authority)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect(counts.faults).toEqual([]);
    await expect(as(AGENT)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect(counts.faults).toEqual(['ORIGIN_UNAUTHORIZED']);
  });

  test('where nothing was asked for, anybody may', async () => {
    const { as } = await guarded({ accepts: () => true });
    expect(await as(ann)).toMatchObject({ right: { anonymous: true, lifetimeMs: undefined } });
  });

  test('where a blob was found for one is not told to another', async () => {
    const storage = await ScriptedServer.start((_request, response) => reply(response, 200, BLOB));
    onTestFinished(() => storage[Symbol.asyncDispose]());
    const { client, server, signal, tokens } = await guarded({ elsewhere: `${storage.url}/signed` });
    const read = async (authority: Authority) => (await bytesOf(await client.read({ ...LAB, kind: 'blob' }, digest, undefined, authority, signal))).toString();
    expect([await read(ann), await read(ann)]).toEqual(['the blob', 'the blob']);
    expect(server.lines).toHaveLength(2);
    tokens.asked.length = 0;
    await read(ANONYMOUS);
    expect([server.lines.length, tokens.asked.length]).toEqual([4, 1]);
    // Nothing secret went to the storage.
    expect(storage.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined, undefined]);
  });
});

describe("the agent's own credentials", () => {
  const found = (secret: Secret | undefined, failure?: AgentError): CredentialSource & { refusals: number } => ({
    refusals: 0,
    find: async () => ({ secret, from: secret === undefined ? undefined : 'a file', failure }),
    refused() {
      this.refusals++;
    },
  });
  const failure = (): AgentError => new AgentError('ORIGIN_CREDENTIALS', 'docker-credential-x: it ended with code 1');

  test('a refresh token is exchanged by POST', async () => {
    const { read, tokens, server } = await guarded({ source: found({ kind: 'identity', token: 'refresh me' }) });
    expect(await read()).toBe('the blob');
    expect(tokens.lines).toEqual(['POST /token?keep=1']);
    expect(tokens.asked[0]).toMatchObject({ headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: 'grant_type=refresh_token&service=the+registry&scope=repository%3Ateam%2Fapp%3Apull&client_id=flotilla&refresh_token=refresh+me' });
    expect(tokens.asked[0]!.headers.authorization).toBeUndefined();
    expect(server.asked.at(-1)!.headers.authorization).toBe('Bearer t1');
  });

  test('a token for the registry is sent as it is', async () => {
    const { read, tokens } = await guarded({ source: found({ kind: 'bearer', token: 'mine' }), accepts: (sent) => sent === 'Bearer mine' });
    expect(await read()).toBe('the blob');
    expect(tokens.lines).toEqual([]);
  });

  test('a refresh token is nothing for a Basic origin', async () => {
    const { read } = await guarded({ source: found({ kind: 'identity', token: 'x' }), challenge: () => 'Basic realm="x"' });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED', message: expect.stringContaining('refresh token') });
  });

  test('a password is looked up again each minute', async () => {
    let password = 'old';
    const source: CredentialSource = { find: async () => ({ secret: { kind: 'basic', username: 'a', password }, from: 'a file', failure: undefined }), refused: () => undefined };
    const { read, server, clock } = await guarded({ source, challenge: () => 'Basic realm="x"', accepts: (sent) => sent === basic('a', password) });
    await read();
    password = 'new';
    clock.nowMs += 60_000;
    await read();
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, basic('a', 'old'), basic('a', 'new')]);
  });

  test('what was refused is said to where it came from: by the realm, and by the origin', async () => {
    const secret: Secret = { kind: 'basic', username: 'a', password: 'b' };
    const byRealm = found(secret);
    await expect((await guarded({ source: byRealm, token: () => ({ status: 401 }) })).read()).rejects.toMatchObject({ code: 'ORIGIN_CREDENTIALS_REFUSED' });
    const byOrigin = found(secret);
    await expect((await guarded({ source: byOrigin, accepts: () => false })).read()).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    const ofCaller = found(secret);
    await expect((await guarded({ source: ofCaller, accepts: () => false })).as({ kind: 'caller', id: 'x', authorization: basic('x', 'y') })).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect([byRealm.refusals, byOrigin.refusals, ofCaller.refusals]).toEqual([1, 1, 0]);
  });

  test.each<[string, Secret, Options, string]>([
    ['a password by the realm', { kind: 'basic', username: 'a', password: 'b' }, { token: () => ({ status: 401 }) }, 'ORIGIN_CREDENTIALS_REFUSED'],
    ['a refresh token by the realm', { kind: 'identity', token: 'x' }, { token: () => ({ status: 401 }) }, 'ORIGIN_CREDENTIALS_REFUSED'],
    ['a password by a Basic origin', { kind: 'basic', username: 'a', password: 'b' }, { challenge: () => 'Basic realm="x"', accepts: () => false }, 'ORIGIN_CREDENTIALS_REFUSED'],
    ['a token of its own', { kind: 'bearer', token: 'x' }, { accepts: () => false }, 'ORIGIN_CREDENTIALS_REFUSED'],
    // These may be about the repository.
    ['the repository by the realm', { kind: 'basic', username: 'a', password: 'b' }, { token: () => ({ status: 403 }) }, 'ORIGIN_UNAUTHORIZED'],
    ["the realm's token", { kind: 'basic', username: 'a', password: 'b' }, { accepts: () => false }, 'ORIGIN_UNAUTHORIZED'],
  ])('refused, %s', async (_what, secret, options, code) => {
    const { read } = await guarded({ ...options, source: found(secret) });
    const failure: unknown = await read().then(() => undefined, (error: unknown) => error);
    expect(failure).toMatchObject({ code });
    // Where they are from and which host refused them, and nothing of what they are.
    if (code === 'ORIGIN_CREDENTIALS_REFUSED') expect(failure).toMatchObject({ message: expect.stringMatching(/^127\.0\.0\.1:\d+ did not take the credentials for lab from a file$/), detail: { source: 'a file' } });
  });

  test('that cannot be had: a public image is served as to anybody, counted and told', async () => {
    const { as, client, counts } = await guarded({ source: found(undefined, failure()) });
    expect(await as(AGENT)).toMatchObject({ right: { anonymous: true, lifetimeMs: 15_000 } });
    expect(counts).toMatchObject({ fallbacks: ['origin-without-credentials'], faults: ['ORIGIN_CREDENTIALS'] });
    expect(client.status()[0]).toMatchObject({ credentials: 'none', faults: [{ code: 'ORIGIN_CREDENTIALS', message: 'docker-credential-x: it ended with code 1' }] });
  });

  test.each<[string, Options]>([
    ['the realm gives no token', { token: () => ({ status: 401 }) }],
    ['the origin refuses the token', { accepts: () => false }],
    ['a password is asked for', { challenge: () => 'Basic realm="x"' }],
  ])('that cannot be had and are needed: %s', async (_name, options) => {
    const { read } = await guarded({ ...options, source: found(undefined, failure()) });
    await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_CREDENTIALS' });
  });

  test('are looked for again a quarter of a minute later', async () => {
    const source = { failing: true, find: async () => (source.failing ? { secret: undefined, from: undefined, failure: failure() } : { secret: { kind: 'basic' as const, username: 'a', password: 'b' }, from: 'x', failure: undefined }), refused: () => undefined };
    const { as, clock, client } = await guarded({ source });
    expect((await as(AGENT)).right.anonymous).toBe(true);
    source.failing = false;
    clock.nowMs += 15_000;
    expect((await as(AGENT)).right.anonymous).toBe(false);
    expect(client.status()[0]).toMatchObject({ credentials: 'x' });
  });

  test('a failure beside credentials that were found is told as well', async () => {
    const { as, counts } = await guarded({ source: found({ kind: 'basic', username: 'a', password: 'b' }, failure()) });
    expect((await as(AGENT)).right.anonymous).toBe(false);
    expect(counts).toMatchObject({ fallbacks: [], faults: ['ORIGIN_CREDENTIALS'] });
  });
});
