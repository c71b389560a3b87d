import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { parseNamespace, parseTarget } from './route.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof AgentError) return error.code;
    throw error;
  }
  return 'none';
}

describe('parseTarget', () => {
  test.each([
    ['/v2', { kind: 'base' }],
    ['/v2/', { kind: 'base' }],
    ['/v2/?ns=docker.io', { kind: 'base' }],
    ['/v2/nginx/manifests/latest', { kind: 'manifest', path: 'nginx', reference: { tag: 'latest' } }],
    ['/v2/docker.io/library/nginx/manifests/1.27', { kind: 'manifest', path: 'docker.io/library/nginx', reference: { tag: '1.27' } }],
    [`/v2/a/b/manifests/${DIGEST}`, { kind: 'manifest', path: 'a/b', reference: { digest: DIGEST } }],
    [`/v2/a/b/manifests/${DIGEST.replace(':', '%3A')}`, { kind: 'manifest', path: 'a/b', reference: { digest: DIGEST } }],
    [`/v2/a%2Fb/blobs/${DIGEST}?ns=x&y=z`, { kind: 'blob', path: 'a/b', digest: DIGEST }],
    [`http://elsewhere:1234/v2/a/blobs/${DIGEST}`, { kind: 'blob', path: 'a', digest: DIGEST }],
    ['/v2/a/manifests/blobs/manifests/manifests', { kind: 'manifest', path: 'a/manifests/blobs', reference: { tag: 'manifests' } }],
    [`/v2/blobs/manifests/blobs/${DIGEST}`, { kind: 'blob', path: 'blobs/manifests', digest: DIGEST }],
    ['/v2/a/tags/list', { kind: 'tags', path: 'a' }],
    [`/v2/a/referrers/${DIGEST}`, { kind: 'referrers', path: 'a', digest: DIGEST }],
  ])('%s', (url, target) => {
    expect(parseTarget(url)).toEqual(target);
  });

  test.each([
    ['/v2/a/manifests/sha256:bad', 'DIGEST_INVALID'],
    ['/v2/a/blobs/latest', 'DIGEST_INVALID'],
    ['/v2/a/referrers/x', 'DIGEST_INVALID'],
    ['/v2/a/manifests/-x', 'TAG_INVALID'],
    ['/v2/a/manifests/', 'TAG_INVALID'],
    ['/v2/manifests/x', 'NAME_INVALID'],
    ['/v2/A/manifests/x', 'NAME_INVALID'],
    ['/v2/a//b/manifests/x', 'NAME_INVALID'],
    ['/v2/../etc/manifests/x', 'NAME_INVALID'],
    ['/v2/%2e%2e/etc/manifests/x', 'NAME_INVALID'],
    ['/v2/a%zz/manifests/x', 'NAME_INVALID'],
    ['/v2/a%ff/manifests/x', 'NAME_INVALID'],
    ['/v2/a%252Fb/manifests/x', 'NAME_INVALID'],
    ['/v2/_catalog', 'ROUTE_UNKNOWN'],
    ['/v2/a/tags/other', 'ROUTE_UNKNOWN'],
    ['/v2/a/blobs/uploads/', 'ROUTE_UNKNOWN'],
    ['/v1/a', 'ROUTE_UNKNOWN'],
    ['/', 'ROUTE_UNKNOWN'],
    ['', 'ROUTE_UNKNOWN'],
    ['*', 'ROUTE_UNKNOWN'],
  ])('%s is %s', (url, code) => {
    expect(codeOf(() => parseTarget(url))).toBe(code);
  });

  test('any URL gives a target or a typed error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string().map((rest) => `/v2/${rest}`), fc.string().map((rest) => `/v2/a/manifests/${rest}`)), (url) => {
        expect(() => codeOf(() => parseTarget(url))).not.toThrow();
        expect(() => codeOf(() => parseNamespace(url))).not.toThrow();
      }),
    );
  });

  test('every well-formed name comes out as it went in, encoded or not', () => {
    const part = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?$/);
    const names = fc.array(fc.oneof(part, fc.constantFrom('blobs', 'manifests', 'tags', 'list')), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(names, fc.boolean(), (parts, encode) => {
        const path = parts.join('/');
        const written = encode ? encodeURIComponent(path) : path;
        expect(parseTarget(`/v2/${written}/blobs/${DIGEST}`)).toEqual({ kind: 'blob', path, digest: DIGEST });
      }),
    );
  });
});

describe('parseNamespace', () => {
  test.each([
    ['/v2/a', undefined],
    ['/v2/a?ns=', undefined],
    ['/v2/a?x=1&ns=docker.io', 'docker.io'],
    ['/v2/a?ns=localhost%3A5000', 'localhost:5000'],
    ['/v2/a?ns=[::1]:5000', '[::1]:5000'],
  ])('%s', (url, ns) => {
    expect(parseNamespace(url)).toBe(ns);
  });

  test.each(['/v2/a?ns=a%0d%0aSet-Cookie:x', '/v2/a?ns=a/b', `/v2/a?ns=${'x'.repeat(300)}`])('%s is refused', (url) => {
    expect(codeOf(() => parseNamespace(url))).toBe('NAME_INVALID');
  });
});
