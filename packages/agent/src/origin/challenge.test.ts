import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseChallenges } from './challenge.ts';

const plain = (header: string | string[]) => parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

test.each<[string, string | string[], unknown]>([
  ['a registry', 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"',
    [['bearer', { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:library/nginx:pull' }]]],
  ['commas in a quoted string', 'Bearer realm="https://a/t",scope="repository:a:pull,push"', [['bearer', { realm: 'https://a/t', scope: 'repository:a:pull,push' }]]],
  ['escapes', String.raw`Basic realm="say \"hi\" \\ there"`, [['basic', { realm: String.raw`say "hi" \ there` }]]],
  ['unquoted values and blanks', 'BEARER Realm = https , SERVICE=x', [['bearer', { realm: 'https', service: 'x' }]]],
  ['several challenges in one field', 'Negotiate, Basic realm="r", Bearer realm="https://a/t", service=s', [['negotiate', {}], ['basic', { realm: 'r' }], ['bearer', { realm: 'https://a/t', service: 's' }]]],
  ['token68', 'Negotiate oYG2Pw==, Basic realm=r', [['negotiate', {}], ['basic', { realm: 'r' }]]],
  ['several fields', ['Basic realm="r"', 'Bearer realm="https://a/t"'], [['basic', { realm: 'r' }], ['bearer', { realm: 'https://a/t' }]]],
  ['empty list elements', ', , Basic realm="r", ,', [['basic', { realm: 'r' }]]],
  ['missing commas between parameters', 'Bearer realm="a" service="b"', [['bearer', { realm: 'a', service: 'b' }]]],
  ['the first of two equal names', 'Bearer realm="https://good/t", realm="https://evil/t"', [['bearer', { realm: 'https://good/t' }]]],
  ['an empty value', 'Bearer realm="", service=""', [['bearer', { realm: '', service: '' }]]],
  ['what stood before nonsense', 'Basic realm="r", "???', [['basic', { realm: 'r' }]]],
  ['an unterminated string', 'Bearer realm="https://a', [['bearer', {}]]],
  ['nothing', '', []],
])('%s', (_name, header, expected) => {
  expect(plain(header)).toEqual(expected);
});

test('no header, no challenge', () => {
  expect(parseChallenges(undefined)).toEqual([]);
});

const token = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}$/);
const value = fc.string({ unit: fc.constantFrom('a', 'b', ' ', ',', '=', '"', '\\', ':', '/', ';', '\t'), maxLength: 20 });
const challenge = fc.record({ scheme: token, params: fc.uniqueArray(fc.tuple(token, value), { selector: ([name]) => name.toLowerCase(), minLength: 1, maxLength: 4 }) });
const quote = (text: string): string => `"${text.replace(/[\\"]/g, (each) => `\\${each}`)}"`;

test('property: what was written is read', () => {
  fc.assert(
    fc.property(fc.array(challenge, { minLength: 1, maxLength: 4 }), fc.constantFrom(', ', ',', ' , '), (challenges, comma) => {
      const header = challenges.map(({ scheme, params }) => `${scheme} ${params.map(([name, text]) => `${name}=${quote(text)}`).join(comma)}`).join(comma);
      const expected = challenges.map(({ scheme, params }) => [scheme.toLowerCase(), Object.fromEntries(params.map(([name, text]) => [name.toLowerCase(), text]))]);
      expect(plain(header)).toEqual(expected);
    }),
  );
});

test('property: nothing makes it throw or hang', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom('a', 'B', ' ', ',', '=', '"', '\\', '\t'), maxLength: 200 })), (header) => Array.isArray(parseChallenges(header))), { numRuns: 3000 });
});
