import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDigest, InvalidDigestError, parseDigest } from './digest.ts';
import { InvalidReferenceError, isRepository, isTag, parseImageName, parseReference } from './reference.ts';

const HEX = 'ab'.repeat(32);

test.each([`sha256:${HEX}`, `sha512:${HEX}${HEX}`])('%s is a digest', (text) => {
  expect(isDigest(text)).toBe(true);
  expect(parseDigest(text)).toBe(text);
});

test.each(['', 'sha256:', `sha256:${HEX}0`, `sha256:${HEX.toUpperCase()}`, `md5:${HEX.slice(32)}`, HEX, `sha512:${HEX}`, 'sha256:../../etc'])('"%s" is none', (text) => {
  expect(isDigest(text)).toBe(false);
  expect(() => parseDigest(text)).toThrow(InvalidDigestError);
});

test.each(['nginx', 'library/nginx', 'a/b/c', 'a_b', 'a__b', 'a.b/c-d', 'a---b'])('%s is a repository', (name) => expect(isRepository(name)).toBe(true));
test.each(['', 'Nginx', '/a', 'a/', 'a//b', 'a___b', '-a', 'a..b', 'a:b', 'a'.repeat(256)])('"%s" is none', (name) => expect(isRepository(name)).toBe(false));
test.each(['latest', '1.27', '_x', 'A-b.c'])('%s is a tag', (tag) => expect(isTag(tag)).toBe(true));
test.each(['', '-x', '.x', 'a/b', 'x'.repeat(129)])('"%s" is none', (tag) => expect(isTag(tag)).toBe(false));

test('a reference with a colon is meant as a digest', () => {
  expect(parseReference('v1')).toEqual({ tag: 'v1' });
  expect(parseReference(`sha256:${HEX}`)).toEqual({ digest: `sha256:${HEX}` });
  expect(() => parseReference('sha256:baddigest')).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }));
  expect(() => parseReference('-v1')).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
});

test('full names', () => {
  expect(parseImageName('docker.io/library/nginx:1.27')).toEqual({ origin: 'docker.io', repository: 'library/nginx', reference: { tag: '1.27' } });
  expect(parseImageName('registry.example:5000/app')).toEqual({ origin: 'registry.example:5000', repository: 'app', reference: { tag: 'latest' } });
  expect(parseImageName(`lab/app:v1@sha256:${HEX}`)).toEqual({ origin: 'lab', repository: 'app', reference: { digest: `sha256:${HEX}` } });
});

test.each(['nginx', '/nginx', 'lab/', 'lab/App', 'lab/app:', 'lab/app:-x', 'lab/app@sha256:1', `lab/app:-x@sha256:${HEX}`, '/x@y', 'LAB/app'])('"%s" is refused', (text) => {
  expect(() => parseImageName(text)).toThrow(InvalidReferenceError);
});

test('whatever is typed, the answer is a name or a typed error', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        const { repository } = parseImageName(text);
        return isRepository(repository);
      } catch (error) {
        return error instanceof InvalidReferenceError;
      }
    }),
  );
});
