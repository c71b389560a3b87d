// What somebody may try who knows the digest of an image that others on the host may read: by way of other repositories, of manifests that
// name the digest, of an origin of his own; with an expired right; over a restart. And what the endpoint says to those it turns away.

import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Endpoint, UNLISTED } from './endpoint.ts';
import { descriptor, image, INDEX_TYPE, MANIFEST_TYPE } from './token-origin.ts';

const ANN = 'ann:sesame';
const BOB = 'bob:hunter2';
const app = image('app');
const secret = image('secret', 200_000);

let at: Endpoint;
async function start(init: Parameters<typeof Endpoint.start>[0] = { rules: { mode: 'pass-through' } }): Promise<void> {
  at = await Endpoint.start(init);
  at.origin.users.set('ann', 'sesame').set('bob', 'hunter2');
  at.origin.repository('public/app', 'anybody');
  at.origin.push('public/app', '1', app);
  at.origin.repository('private/a', new Set(['ann']));
  at.origin.push('private/a', '1', secret);
  at.origin.repository('private/b', new Set(['bob']));
  at.origin.push('private/b', '1', image('of bob'));
}
beforeEach(() => start());
afterEach(() => at[Symbol.asyncDispose]());

async function statuses(...replies: Promise<{ status: number }>[]): Promise<number[]> {
  return (await Promise.all(replies)).map(({ status }) => status);
}

/** HEAD and GET of the secret layer and of its manifest. */
function secretAt(repository: string, credentials?: string): Promise<number[]> {
  return statuses(
    at.blob('HEAD', repository, secret.layer, credentials),
    at.blob('GET', repository, secret.layer, credentials),
    at.manifest('HEAD', repository, secret.manifest, credentials),
    at.manifest('GET', repository, secret.manifest, credentials),
  );
}

describe('a digest that somebody else has read here', () => {
  beforeEach(async () => {
    expect(await at.pull('lab/private/a', '1', secret.layer, ANN)).toBe(true);
    expect(at.store.blobs.has(secret.layer)).toBe(true);
  });

  test('is not there in other repositories, public or private, for anybody', async () => {
    for (const repository of ['lab/public/app', 'lab/private/b']) {
      for (const credentials of [undefined, ANN, BOB]) expect(await secretAt(repository, credentials), `${repository} ${credentials}`).toEqual([404, 404, 404, 404]);
    }
    // The origin was asked with whose right each came.
    expect(at.origin.questions('private/b')).toContain('HEAD blobs bob');
  });

  test('is not there in its own repository for others', async () => {
    expect(await secretAt('lab/private/a', BOB)).toEqual([404, 404, 404, 404]);
    expect(await secretAt('lab/private/a')).toEqual([404, 404, 404, 404]);
    expect(await secretAt('lab/private/a', 'ann:guess')).toEqual([404, 404, 404, 404]);
    expect(await secretAt('lab/private/a', ANN)).toEqual([200, 200, 200, 200]);
  });

  test('is not there where a manifest of a public repository names it that the origin took without looking', async () => {
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests: [descriptor(secret.bytes.get(secret.manifest)!, MANIFEST_TYPE)] }));
    at.origin.pushManifest('public/app', 'sparse', INDEX_TYPE, index);
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config: descriptor(Buffer.from('{}')), layers: [descriptor(secret.bytes.get(secret.layer)!)] }));
    at.origin.pushManifest('public/app', 'dangling', MANIFEST_TYPE, manifest);
    for (const tag of ['sparse', 'dangling']) expect((await at.manifest('GET', 'lab/public/app', tag)).status).toBe(200);
    expect(await secretAt('lab/public/app')).toEqual([404, 404, 404, 404]);
    at.origin.answer('public/app', 'down');
    at.clock.nowMs += 60_001;
    expect(await secretAt('lab/public/app')).toEqual([503, 503, 503, 503]);
  });

  test('is there where the origin has it in a public repository too, and the private one stays private', async () => {
    at.origin.push('public/app', 'shared', secret);
    expect(await secretAt('lab/public/app')).toEqual([200, 200, 200, 200]);
    expect(await secretAt('lab/private/a')).toEqual([404, 404, 404, 404]);
    expect(await at.pull('lab/public/app', 'shared', secret.layer, BOB)).toBe(true);
    expect(await secretAt('lab/private/a', BOB)).toEqual([404, 404, 404, 404]);
  });

  test('that was fetched ahead counts as well', async () => {
    const layers = Array.from({ length: 9 }, (_, i) => Buffer.from(`layer ${i} of nine`));
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, layers: layers.map((layer) => descriptor(layer)) }));
    const manifest = at.origin.pushManifest('private/a', 'nine', MANIFEST_TYPE, bytes);
    at.origin.push('private/a', 'nine', { manifest, layer: manifest, bytes: new Map([bytes, ...layers].map((each) => [descriptor(each).digest, each])) });
    await at.manifest('GET', 'lab/private/a', 'nine', ANN);
    for (const layer of layers.slice(0, 6)) await at.blob('GET', 'lab/private/a', descriptor(layer).digest, ANN);
    const ahead = descriptor(layers[8]!).digest;
    while (!at.store.blobs.has(ahead)) await at.blob('GET', 'lab/private/a', descriptor(layers[0]!).digest, ANN);
    at.origin.pushManifest('public/app', 'dangling', MANIFEST_TYPE, bytes);
    expect((await at.manifest('GET', 'lab/public/app', 'dangling')).status).toBe(200);
    expect(await statuses(at.blob('GET', 'lab/public/app', ahead), at.blob('HEAD', 'lab/public/app', ahead))).toEqual([404, 404]);
  });

  test('is not handed out on the word of an origin that anybody may run', async () => {
    // This one says yes to everything, of the right length, and sends what it has.
    at.origin.repository('claims', 'anybody');
    const guess = image('guess', 200_000);
    const lie = new Map([...guess.bytes].map(([digest, bytes]) => [digest === guess.layer ? secret.layer : digest, bytes]));
    at.origin.push('claims', '1', { ...guess, bytes: lie });
    expect((await at.blob('HEAD', `${UNLISTED}/claims`, secret.layer)).status).toBe(200);
    const got = await at.blob('GET', `${UNLISTED}/claims`, secret.layer);
    expect(got).toMatchObject({ status: 404, code: 'ACCESS_UNPROVEN' });
    // One that has it may give it, and is asked once.
    at.origin.push('claims', '2', secret);
    expect(await at.pull(`${UNLISTED}/claims`, '2', secret.layer)).toBe(true);
    const reads = at.origin.questions('claims').filter((question) => question.startsWith('GET blobs')).length;
    expect((await at.blob('GET', `${UNLISTED}/claims`, secret.layer)).status).toBe(200);
    expect(at.origin.questions('claims').filter((question) => question.startsWith('GET blobs')).length).toBe(reads);
  });
});

describe('a layer that a public and a private repository share', () => {
  const shared = image('shared', 300_000);
  beforeEach(() => {
    at.origin.push('public/app', 'shared', shared);
    at.origin.push('private/a', 'shared', shared);
  });

  test('is read with the right that each caller has, and joined by both', async () => {
    const [pub, priv] = await Promise.all([at.pull('lab/public/app', 'shared', shared.layer), at.pull('lab/private/a', 'shared', shared.layer, ANN)]);
    expect([pub, priv]).toEqual([true, true]);
    for (const repository of ['public/app', 'private/a']) {
      const users = at.origin.questions(repository).filter((question) => question.startsWith('GET blobs')).map((question) => question.split(' ')[2]);
      expect(users.every((user) => user === (repository === 'public/app' ? 'anonymous' : 'ann'))).toBe(true);
    }
  });

  test('pulled privately first is public where it is public', async () => {
    expect(await at.pull('lab/private/a', 'shared', shared.layer, ANN)).toBe(true);
    expect(await at.pull('lab/public/app', 'shared', shared.layer)).toBe(true);
    expect((await at.blob('GET', 'lab/private/a', shared.layer)).status).toBe(404);
  });

  test('is told to the tracker as private only where it is', async () => {
    await at.pull('lab/private/a', '1', secret.layer, ANN);
    await at.pull('lab/public/app', '1', app.layer);
    const sources = at.coordinator.handles.flatMap(({ wants }) => wants).map(({ source }) => `${source.repository} ${source.private === true}`);
    expect(new Set(sources)).toEqual(new Set(['private/a true', 'public/app false']));
    expect(at.coordinator.handles.every(({ wants }) => wants.every(({ canRead }) => canRead))).toBe(true);
  });
});

describe('a right', () => {
  test('ends with its token: then the origin is asked again', async () => {
    at.origin.tokenLifetimeS = 20;
    expect(await at.pull('lab/private/a', '1', secret.layer, ANN)).toBe(true);
    at.origin.users.set('ann', 'changed');
    const asked = at.origin.asked.length;
    at.clock.nowMs += 17_000;
    expect((await at.blob('GET', 'lab/private/a', secret.layer, ANN)).status).toBe(200);
    expect(at.origin.asked.length).toBe(asked);
    at.clock.nowMs += 3000;
    expect(await secretAt('lab/private/a', ANN)).toEqual([404, 404, 404, 404]);
    expect(await secretAt('lab/private/a', 'ann:changed')).toEqual([200, 200, 200, 200]);
  });

  test('survives a restart for the time when the origin is down, and no password does', async () => {
    expect(await at.pull('lab/private/a', '1', secret.layer, ANN)).toBe(true);
    expect((await at.manifest('GET', 'lab/private/a', '1', BOB)).status).toBe(404);
    await at.restart();
    at.origin.answer('private/a', 'down');
    const stale = await at.manifest('GET', 'lab/private/a', '1', ANN);
    expect(stale).toMatchObject({ status: 200, headers: { warning: expect.stringContaining('110') as string } });
    expect(await secretAt('lab/private/a', ANN)).toEqual([200, 200, 200, 200]);
    for (const credentials of [BOB, undefined, 'ann:guess']) {
      expect(await secretAt('lab/private/a', credentials)).toEqual([503, 503, 503, 503]);
      expect((await at.manifest('GET', 'lab/private/a', '1', credentials)).status).toBe(503);
    }
    const kept = await at.kept();
    expect(kept.includes('private/a')).toBe(true);
    for (const text of ['sesame', 'hunter2', 'guess', Buffer.from(ANN).toString('base64'), Buffer.from(BOB).toString('base64')]) expect(kept.includes(text), text).toBe(false);
  });

  test('that the origin takes back while somebody reads is not used again', async () => {
    expect((await at.manifest('GET', 'lab/private/a', '1', ANN)).status).toBe(200);
    // The grant is fresh, the bytes are not here yet.
    at.origin.answer('private/a', 403);
    expect((await at.blob('GET', 'lab/private/a', secret.layer, ANN)).status).toBe(404);
    at.origin.answer('private/a', 'down');
    expect((await at.blob('GET', 'lab/private/a', secret.layer, ANN)).status).toBe(503);
  });

  test('of a token that a caller brings is used as it is', async () => {
    const [, token = ''] = /"token":"([^"]+)"/.exec(await (await fetch(`${at.origin.url}/token?scope=repository:private/a:pull`, { headers: { authorization: `Basic ${Buffer.from(ANN).toString('base64')}` } })).text()) ?? [];
    expect(await at.pull('lab/private/a', '1', secret.layer, `Bearer ${token}`)).toBe(true);
    expect(await at.pull('lab/private/a', '1', secret.layer, 'Bearer made-up')).toBe(false);
    expect((await at.kept()).includes(token)).toBe(false);
  });

  test.each([
    ['allow', [200, 200, 200, 200], 200],
    ['deny', [503, 503, 503, 503], 503],
  ] as const)('while the origin is down, originDown: %s', async (originDown, forBob, forAnn) => {
    await at[Symbol.asyncDispose]();
    await start({ rules: { mode: 'pass-through', originDown } });
    expect(await at.pull('lab/private/a', '1', secret.layer, ANN)).toBe(true);
    at.clock.nowMs += 60_001;
    at.origin.answer('private/a', 'down');
    expect(await secretAt('lab/private/a', BOB)).toEqual(forBob);
    expect(await secretAt('lab/private/a', ANN)).toEqual(Array.from({ length: 4 }, () => forAnn));
  });
});

describe('what only others in the fleet have read, while the origin is down', () => {
  const found = { size: 200_000, kind: 'blob', mediaType: 'application/octet-stream' } as const;
  beforeEach(() => at.origin.answer('private/a', 'down'));

  test('is served where they needed no credentials', async () => {
    at.coordinator.found = found;
    expect((await at.blob('HEAD', 'lab/private/a', secret.layer)).status).toBe(200);
    expect(at.coordinator.located).toBe(1);
  });

  test('is not served where they did, nor asked for by a caller whose repository is a private one, as it seems', async () => {
    at.coordinator.found = { ...found, private: true };
    expect(await at.blob('GET', 'lab/private/a', secret.layer)).toMatchObject({ status: 503, code: 'ACCESS_UNDECIDED' });
    expect(at.coordinator.located).toBe(1);
    expect(await at.blob('GET', 'lab/private/a', secret.layer, ANN)).toMatchObject({ status: 503, code: 'ACCESS_UNDECIDED' });
    expect(at.coordinator.located).toBe(1);
  });

  test('comes from peers alone where the rule lets in a caller whom the origin has never let in', async () => {
    await at[Symbol.asyncDispose]();
    await start({ rules: { originDown: 'allow', tellPrivateNames: true } });
    at.origin.answer('private/a', 'down');
    at.coordinator.found = { ...found, private: true };
    const client = new AbortController();
    const blob = await at.images.blob({ origin: 'lab', repository: 'private/a' }, secret.layer, { authorization: undefined, asksOrigin: false }, client.signal);
    const opening = blob.open({ start: 0, end: 10 }, client.signal);
    opening.catch(() => undefined);
    while (at.coordinator.handles.length === 0) await setImmediate();
    expect(at.coordinator.handle.wants).toMatchObject([{ source: { repository: 'private/a', private: true }, canRead: false }]);
    client.abort(new Error('gone'));
    await expect(opening).rejects.toThrow('gone');
  });
});

describe('whoever is turned away', () => {
  test('is told how to change that, and is not asked for credentials', async () => {
    const reply = await at.manifest('GET', 'lab/private/a', '1');
    expect(reply).toMatchObject({ status: 404, code: 'ACCESS_DENIED', message: expect.stringContaining('the caller sent none, and the agent asks for none ("challenge: true" would)') as string });
    expect(reply.headers['www-authenticate']).toBeUndefined();
    expect((await at.ask('GET', '/v2/')).status).toBe(200);
    await at[Symbol.asyncDispose]();
    await start({});
    expect((await at.blob('GET', 'lab/private/a', secret.layer, ANN)).message).toContain('"allow: [lab/private/a]" in its settings');
  });

  test('is asked for credentials where the setting says so', async () => {
    await at[Symbol.asyncDispose]();
    await start({ rules: { mode: 'pass-through', challenge: true } });
    const challenge = { status: 401, headers: { 'www-authenticate': 'Basic realm="flotilla"' } };
    expect(await at.ask('GET', '/v2/')).toMatchObject(challenge);
    expect(await at.ask('GET', '/v2/', ANN)).toMatchObject({ status: 200 });
    expect(await at.manifest('GET', 'lab/private/a', '1')).toMatchObject({ ...challenge, code: 'CREDENTIALS_WANTED' });
    expect(await at.manifest('GET', 'lab/private/a', '1', BOB)).toMatchObject(challenge);
    expect(await at.manifest('HEAD', 'lab/private/a', '1', ANN)).toMatchObject({ status: 200 });
    // podman answers a challenge with an empty name and password where it has none; public images are public nonetheless.
    expect(await at.pull('lab/public/app', '1', app.layer, ':')).toBe(true);
    // To origins that nobody configured no credentials are passed on: none are asked for.
    at.origin.repository('claims', new Set(['ann']));
    expect(await at.manifest('GET', `${UNLISTED}/claims`, '1', ANN)).toMatchObject({ status: 404, code: 'ACCESS_DENIED' });
    expect(at.origin.questions('claims').every((question) => question.endsWith('anonymous'))).toBe(true);
  });
});
