// Tags and referrers against a scripted origin: pages, cursors, what is no list, and origins without the referrers API.

import type { ServerResponse } from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ScriptedServer, reply } from './scripted-server.ts';
import { AGENT, ANONYMOUS, LAB, sha256, testOrigin } from './test-origin.ts';

const INDEX = 'application/vnd.oci.image.index.v1+json';
const subject = sha256('subject');
const entry = (text: string): Record<string, unknown> => ({ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: sha256(text), size: text.length, artifactType: 'a/b', annotations: { text } });

async function origin(answer: (response: ServerResponse, url: URL) => void) {
  const server = await ScriptedServer.start((_request, response, { path }) => answer(response, new URL(path, 'http://origin')));
  const lab = testOrigin([server.url]);
  onTestFinished(async () => {
    await lab[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  const tags = (page: { n?: number; last?: string } = {}) => lab.client.listTags(LAB, page, AGENT, lab.signal);
  const referrers = () => lab.client.referrers(LAB, subject, AGENT, lab.signal);
  return { ...lab, server, tags, referrers };
}

function sendTags(response: ServerResponse, tags: unknown, link?: string): void {
  reply(response, 200, JSON.stringify({ name: 'team/app', tags }), link === undefined ? {} : { link });
}
function sendIndex(response: ServerResponse, manifests: unknown, link?: string): void {
  reply(response, 200, JSON.stringify({ schemaVersion: 2, manifests }), { 'content-type': `${INDEX}; charset=utf-8`, ...(link === undefined ? {} : { link }) });
}

describe('tags', () => {
  test('n and last are handed on, and the next page is told by its last', async () => {
    const { tags, server } = await origin((response) => sendTags(response, ['b', 'c'], '</v2/team/app/tags/list?last=c&n=2>; rel="next"'));
    expect(await tags({ n: 2, last: 'a' })).toEqual({ tags: ['b', 'c'], next: 'c', right: { anonymous: true, lifetimeMs: undefined } });
    expect(server.lines).toEqual(['GET /v2/team/app/tags/list?n=2&last=a']);
  });

  test('without n and last the origin decides about the page', async () => {
    const { tags, server } = await origin((response) => sendTags(response, ['Z', 'a', 'B']));
    expect(await tags()).toMatchObject({ tags: ['Z', 'a', 'B'], next: undefined });
    expect(server.lines).toEqual(['GET /v2/team/app/tags/list']);
  });

  test('an origin that ignores n and last is cut', async () => {
    const { tags } = await origin((response) => sendTags(response, ['a', 'b', 'c', 'd']));
    expect(await tags({ n: 2 })).toMatchObject({ tags: ['a', 'b'], next: 'b' });
    expect(await tags({ n: 2, last: 'b' })).toMatchObject({ tags: ['c', 'd'], next: undefined });
    expect(await tags({ last: 'd' })).toMatchObject({ tags: [], next: undefined });
  });

  test('n=0 is an empty list of a repository that was asked about', async () => {
    const { tags, server } = await origin((response) => sendTags(response, ['a'], '</v2/team/app/tags/list?last=a&n=1>; rel="next"'));
    expect(await tags({ n: 0 })).toMatchObject({ tags: [], next: undefined });
    expect(server.lines).toEqual(['GET /v2/team/app/tags/list?n=1']);
  });

  test('a cursor of its own: all pages are read, and cut here', async () => {
    const pages = [['a', 'b'], ['c', 'd'], ['e']];
    const { tags, server } = await origin((response, url) => {
      const at = Number(url.searchParams.get('next_page') ?? 0);
      // An absolute link with a foreign host is followed at the origin itself.
      sendTags(response, pages[at], at === 2 ? undefined : `<https://inside.example/v2/team/app/tags/list?next_page=${at + 1}>; rel=next`);
    });
    expect(await tags({ n: 3 })).toMatchObject({ tags: ['a', 'b', 'c'], next: 'c' });
    expect(await tags({ n: 3, last: 'c' })).toMatchObject({ tags: ['d', 'e'], next: undefined });
    // Not a tag: behind where it would stand.
    expect(await tags({ last: 'Cc' })).toMatchObject({ tags: ['d', 'e'], next: undefined });
    expect(server.lines).toContain('GET /v2/team/app/tags/list?next_page=2');
  });

  test('a repository without tags', async () => {
    const { tags } = await origin((response) => sendTags(response, null));
    expect(await tags()).toMatchObject({ tags: [], next: undefined });
  });

  test('a list without end is refused', async () => {
    const { tags, server } = await origin((response) => sendTags(response, ['a'], '</v2/team/app/tags/list?next_page=x>; rel="next"'));
    await expect(tags()).rejects.toMatchObject({ code: 'ORIGIN_LISTING' });
    expect(server.lines).toHaveLength(200);
  });

  test.each<[string, (response: ServerResponse) => void, string]>([
    ['no JSON', (response) => reply(response, 200, '<html>'), 'ORIGIN_LISTING'],
    ['tags that are no texts', (response) => sendTags(response, [1]), 'ORIGIN_LISTING'],
    ['no tags', (response) => reply(response, 200, '[]'), 'ORIGIN_LISTING'],
    ['too much', (response) => sendTags(response, ['x'.repeat(5 * 1024 * 1024)]), 'ORIGIN_LISTING'],
    ['a next page elsewhere', (response) => sendTags(response, ['a'], '<//evil.example/x>; rel="next"'), 'ORIGIN_LISTING'],
    ['404', (response) => reply(response, 404, '{"errors":[{"code":"NAME_UNKNOWN"}]}'), 'REPOSITORY_UNKNOWN'],
    ['403', (response) => reply(response, 403), 'ORIGIN_DENIED'],
    ['405', (response) => reply(response, 405), 'ORIGIN_STATUS'],
  ])('%s', async (_name, answer, code) => {
    const { tags } = await origin(answer);
    await expect(tags()).rejects.toMatchObject({ code });
  });
});

describe('referrers', () => {
  test('all pages, with everything that the origin says of each', async () => {
    const { referrers, server } = await origin((response, url) =>
      url.searchParams.has('token') ? sendIndex(response, [entry('two')]) : sendIndex(response, [entry('one')], `<${url.pathname}?token=1>; type="x"; rel="prev next"`),
    );
    expect(await referrers()).toEqual({ supported: true, manifests: [entry('one'), entry('two')], right: { anonymous: true, lifetimeMs: undefined } });
    expect(server.asked[0]).toMatchObject({ path: `/v2/team/app/referrers/${subject}`, headers: { accept: INDEX } });
  });

  test('an empty index says that the API is there', async () => {
    const { referrers } = await origin((response) => sendIndex(response, []));
    expect(await referrers()).toMatchObject({ supported: true, manifests: [] });
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ['404', (response) => reply(response, 404, '404 page not found')],
    ['404 with another code', (response) => reply(response, 404, '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')],
    ['400', (response) => reply(response, 400)],
    ['405', (response) => reply(response, 405)],
    ['a page for people', (response) => reply(response, 200, '<html>', { 'content-type': 'text/html' })],
  ])('an origin without the API: %s', async (_name, answer) => {
    const { referrers } = await origin(answer);
    expect(await referrers()).toMatchObject({ supported: false });
  });

  test.each<[string, (response: ServerResponse) => void, string]>([
    ['no repository', (response) => reply(response, 404, '{"errors":[{"code":"NAME_UNKNOWN"}]}'), 'REPOSITORY_UNKNOWN'],
    ['403', (response) => reply(response, 403), 'ORIGIN_DENIED'],
    ['503', (response) => reply(response, 503), 'ORIGIN_STATUS'],
    ['entries without a digest', (response) => sendIndex(response, [{ ...entry('x'), digest: 'sha256:x' }]), 'ORIGIN_LISTING'],
    ['entries without a size', (response) => sendIndex(response, [{ ...entry('x'), size: -1 }]), 'ORIGIN_LISTING'],
    ['no entries', (response) => sendIndex(response, undefined), 'ORIGIN_LISTING'],
  ])('%s', async (_name, answer, code) => {
    const { referrers } = await origin(answer);
    await expect(referrers()).rejects.toMatchObject({ code });
  });

  test('every list is asked for under the authority that is given', async () => {
    const { client, signal, server } = await origin((response) => reply(response, 401, '', { 'www-authenticate': 'Basic realm="x"' }));
    const caller = { kind: 'caller', id: 'ann', authorization: 'Basic YW5uOng=' } as const;
    await expect(client.listTags(LAB, {}, ANONYMOUS, signal)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    await expect(client.referrers(LAB, subject, caller, signal)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Basic YW5uOng=']);
  });
});
