import { describe, expect, test } from 'vitest';
import { parseDigest } from '@flotilla/shared/digest';
import type { Referrer } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { ask, digestOf, oci, serve, type Reply } from './test-endpoint.ts';

const LIST = '/v2/docker.io/library/nginx/tags/list';
const SUBJECT = digestOf(Buffer.from('subject'));
const REFERRERS = `/v2/docker.io/library/nginx/referrers/${SUBJECT}`;
const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';

function json(reply: Reply): unknown {
  return JSON.parse(reply.body.toString());
}

function referrer(text: string, artifactType?: string): Referrer {
  return { digest: digestOf(Buffer.from(text)), size: text.length, mediaType: 'application/vnd.oci.image.manifest.v1+json', ...(artifactType && { artifactType }), annotations: { text } };
}

describe('tags', () => {
  test('are the origin\'s, under the name that was asked for', async () => {
    const served = await serve();
    served.content.tagPage = { tags: ['1', '2'], next: undefined };
    const reply = await ask(served, LIST, { headers: { authorization: 'Basic eDp5' } });
    expect(reply.status).toBe(200);
    expect(reply.headers['content-type']).toBe('application/json');
    expect(reply.headers.link).toBeUndefined();
    expect(json(reply)).toEqual({ name: 'docker.io/library/nginx', tags: ['1', '2'] });
    expect(served.content.pages).toEqual([{}]);
    expect(served.content.callers).toEqual([{ authorization: 'Basic eDp5', asksOrigin: false, requestId: expect.any(String) as string }]);
  });

  test('n and last go on, and Link names the next page as the client must ask for it', async () => {
    const served = await serve();
    served.content.tagPage = { tags: ['3', '4'], next: '4' };
    const reply = await ask(served, '/v2/library/nginx/tags/list?n=2&last=2&ns=docker.io');
    expect(served.content.pages).toEqual([{ n: 2, last: '2' }]);
    expect(reply.headers.link).toBe('</v2/library/nginx/tags/list?n=2&last=4&ns=docker.io>; rel="next"');
    expect(json(reply)).toEqual({ name: 'library/nginx', tags: ['3', '4'] });
  });

  test('n=0 is an empty list', async () => {
    const served = await serve();
    const reply = await ask(served, `${LIST}?n=0`);
    expect(served.content.pages).toEqual([{ n: 0 }]);
    expect(json(reply)).toEqual({ name: 'docker.io/library/nginx', tags: [] });
  });

  test.each([
    ['of an origin without order', ['b', 'C', 'a', 'c'], undefined, ['a', 'b', 'C', 'c']],
    ['in the order of bytes', ['B', 'a'], undefined, ['B', 'a']],
    ['in the order of letters', ['a', 'B'], undefined, ['a', 'B']],
    ['of one page of several', ['b', 'a'], 'a', ['b', 'a']],
  ])('a list %s', async (_, tags, next, expected) => {
    const served = await serve();
    served.content.tagPage = { tags, next };
    expect(json(await ask(served, LIST))).toMatchObject({ tags: expected });
  });

  test('HEAD has the length and no body', async () => {
    const served = await serve();
    const [got, head] = [await ask(served, LIST), await ask(served, LIST, { method: 'HEAD' })];
    expect(head.headers['content-length']).toBe(String(got.body.length));
    expect(head.body.length).toBe(0);
  });

  test('what the origin refuses is refused', async () => {
    const served = await serve();
    served.content.tags = async () => {
      throw new AgentError('NAME_UNKNOWN', 'no such repository');
    };
    const reply = await ask(served, LIST);
    expect([reply.status, oci(reply).code]).toEqual([404, 'NAME_UNKNOWN']);
  });
});

describe('referrers', () => {
  test('none of an unknown digest: an empty index', async () => {
    const served = await serve();
    for (const found of [{ supported: false }, { supported: true, manifests: [] }] as const) {
      served.content.found = found;
      const reply = await ask(served, REFERRERS);
      expect(reply.status).toBe(200);
      expect(reply.headers['content-type']).toBe(OCI_INDEX);
      expect(reply.headers['oci-filters-applied']).toBeUndefined();
      expect(json(reply)).toEqual({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] });
    }
  });

  test('all that the origin says of them', async () => {
    const served = await serve();
    const manifests = [referrer('a', 'application/spdx+json'), referrer('b')];
    served.content.found = { supported: true, manifests };
    expect(json(await ask(served, REFERRERS, { headers: { authorization: 'Bearer t' } }))).toMatchObject({ manifests });
    expect(served.content.callers).toEqual([{ authorization: 'Bearer t', asksOrigin: false, requestId: expect.any(String) as string }]);
  });

  test.each(['application%2Fspdx%2Bjson', 'application/spdx+json'])('artifactType=%s', async (type) => {
    const served = await serve();
    served.content.found = { supported: true, manifests: [referrer('a', 'application/spdx+json'), referrer('b', 'other'), referrer('c')] };
    const reply = await ask(served, `${REFERRERS}?artifactType=${type}`);
    expect(reply.headers['oci-filters-applied']).toBe('artifactType');
    expect(json(reply)).toMatchObject({ manifests: [{ annotations: { text: 'a' } }] });
  });

  test('of an origin without the API are those of the tag, filtered as well', async () => {
    const served = await serve();
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [referrer('a', 'x'), referrer('b', 'y'), 7] };
    served.content.tagged.set(SUBJECT.replace(':', '-'), Buffer.from(JSON.stringify(index)));
    expect(json(await ask(served, REFERRERS))).toMatchObject({ manifests: [{ annotations: { text: 'a' } }, { annotations: { text: 'b' } }] });
    expect(json(await ask(served, `${REFERRERS}?artifactType=y`))).toMatchObject({ manifests: [{ annotations: { text: 'b' } }] });
    expect(served.content.accepts).toEqual([[OCI_INDEX], [OCI_INDEX]]);
  });

  test('the tag of a sha512 digest is cut to fit', async () => {
    const served = await serve();
    const digest = parseDigest(`sha512:${'a1'.repeat(64)}`);
    served.content.tagged.set(`sha512-${'a1'.repeat(32)}`, Buffer.from(JSON.stringify({ manifests: [referrer('a')] })));
    expect(json(await ask(served, `/v2/docker.io/library/nginx/referrers/${digest}`))).toMatchObject({ manifests: [{ annotations: { text: 'a' } }] });
  });

  test('a tag that is no index is the origin\'s fault', async () => {
    const served = await serve();
    served.content.tagged.set(SUBJECT.replace(':', '-'), Buffer.from('<html>'));
    expect((await ask(served, REFERRERS)).status).toBe(502);
  });

  test('where the tag cannot be read the answer is no empty list', async () => {
    const served = await serve();
    served.content.manifest = async () => {
      throw new AgentError('ORIGIN_UNREACHABLE', 'gone');
    };
    expect((await ask(served, REFERRERS)).status).toBe(503);
  });
});
