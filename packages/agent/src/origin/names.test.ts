import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isRepository } from '@flotilla/shared/reference';
import { AgentError } from '../errors.ts';
import { resolveImage, type NamingRules } from './names.ts';
import { OriginTable } from './origins.ts';

const table = new OriginTable([
  { name: 'lab', urls: ['http://registry.local:5000', 'http://10.0.0.7:5000'] },
  { name: 'corp.example', urls: ['https://hub.corp.example'] },
]);
const rules: NamingRules = { names: table, defaultOrigin: undefined, unlisted: 'public' };
const withDefault: NamingRules = { ...rules, defaultOrigin: 'lab' };

describe('by path', () => {
  test.each([
    ['docker.io/library/nginx', 'docker.io', 'library/nginx'],
    ['docker.io/nginx', 'docker.io', 'library/nginx'],
    ['docker.io/grafana/grafana', 'docker.io', 'grafana/grafana'],
    ['registry-1.docker.io/nginx', 'docker.io', 'library/nginx'],
    ['quay.io/nginx', 'quay.io', 'nginx'],
    ['lab/team/app', 'lab', 'team/app'],
    ['corp.example/app', 'corp.example', 'app'],
    ['hub.corp.example/app', 'corp.example', 'app'],
    ['registry.example.org/a/b/c', 'registry.example.org', 'a/b/c'],
  ])('%s is %s %s', (path, origin, repository) => {
    expect(resolveImage(path, undefined, rules)).toEqual({ origin, repository });
    expect(resolveImage(path, undefined, withDefault)).toEqual({ origin, repository });
  });

  test.each([
    ['nginx', 'nginx'],
    ['team/app', 'team/app'],
    // A name without a slash is a repository, whatever it looks like.
    ['docker.io', 'docker.io'],
    ['lab', 'lab'],
  ])('%s goes to the default origin', (path, repository) => {
    expect(resolveImage(path, undefined, withDefault)).toEqual({ origin: 'lab', repository });
    expect(() => resolveImage(path, undefined, rules)).toThrow(expect.objectContaining({ code: 'NAME_UNKNOWN', message: expect.stringContaining('--default-origin') }));
  });

  test('short names are completed at Docker Hub as the default origin too', () => {
    expect(resolveImage('nginx', undefined, { ...rules, defaultOrigin: 'docker.io' })).toEqual({ origin: 'docker.io', repository: 'library/nginx' });
  });
});

describe('by ns', () => {
  test.each([
    ['library/nginx', 'docker.io', 'docker.io', 'library/nginx'],
    ['nginx', 'docker.io', 'docker.io', 'library/nginx'],
    ['library/nginx', 'registry-1.docker.io', 'docker.io', 'library/nginx'],
    ['library/nginx', 'REGISTRY-1.Docker.IO:443', 'docker.io', 'library/nginx'],
    ['team/app', 'registry.local:5000', 'lab', 'team/app'],
    ['team/app', '10.0.0.7:5000', 'lab', 'team/app'],
    ['app', 'lab', 'lab', 'app'],
    ['app', 'hub.corp.example:443', 'corp.example', 'app'],
    // The whole path is the repository, even where it begins like an origin.
    ['quay.io/app', 'ghcr.io', 'ghcr.io', 'quay.io/app'],
    ['app', 'registry.example.org:5000', 'registry.example.org:5000', 'app'],
    ['app', 'registry.example.org:443', 'registry.example.org', 'app'],
  ])('%s with ns=%s is %s %s', (path, ns, origin, repository) => {
    expect(resolveImage(path, ns, withDefault)).toEqual({ origin, repository });
  });

  test.each(['nowhere', 'localhost:5000', 'registry.local:0', 'registry.example.org:65536', 'a..b', '-a.example', 'a.example-', 'a.1x'])('ns=%s is no origin', (ns) => {
    expect(() => resolveImage('app', ns, withDefault)).toThrow(expect.objectContaining({ code: 'NAME_UNKNOWN' }));
  });

  test.each(['127.0.0.1', '127.0.0.1:5000', '169.254.169.254', '8.8.8.8', '[::1]:5000', '::1', '[fd00:ec2::254]'])('the address %s is no origin unless configured', (ns) => {
    expect(() => resolveImage('app', ns, withDefault)).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  });
});

test.each(['127.1/app', '2130706433.1/app', '127.0.0.0x1/app', '1.2.3.4/app'])('no spelling of an address passes as a host: %s', (path) => {
  expect(() => resolveImage(path, undefined, withDefault)).toThrow(AgentError);
});

test('with the list closed, other hosts are refused and named ones are not', () => {
  const listed: NamingRules = { ...rules, unlisted: 'refuse' };
  expect(() => resolveImage('registry.example.org/app', undefined, listed)).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  expect(() => resolveImage('app', 'registry.example.org', listed)).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  expect(resolveImage('quay.io/app', undefined, listed)).toEqual({ origin: 'quay.io', repository: 'app' });
});

test.each(['', '/', 'A/b', 'a//b', '../etc', 'a b', `${'a/'.repeat(127)}aa`])('"%s" is no name', (path) => {
  expect(() => resolveImage(path, undefined, withDefault)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
});

test('library/ must fit as well', () => {
  expect(() => resolveImage('a'.repeat(250), 'docker.io', rules)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
  expect(resolveImage('a'.repeat(247), 'docker.io', rules).repository).toHaveLength(255);
});

const component = fc.stringMatching(/^[a-z0-9]+([._-][a-z0-9]+)*$/, { size: 'small' });
const anyText = fc.oneof(fc.string(), component, fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/')));
const anyRules = fc.record({
  names: fc.constant(table),
  defaultOrigin: fc.constantFrom(undefined, 'lab', 'docker.io'),
  unlisted: fc.constantFrom<'public' | 'refuse'>('public', 'refuse'),
});

test('property: whatever comes in, out comes an origin of the table or a DNS host with a valid repository, or a typed error', () => {
  fc.assert(
    fc.property(anyText, fc.option(anyText, { nil: undefined }), anyRules, (path, ns, rules) => {
      try {
        const { origin, repository } = resolveImage(path, ns, rules);
        expect(isRepository(repository)).toBe(true);
        // The table can open it: nothing is resolved that cannot be asked.
        expect(table.entry(origin).name).toBe(origin);
        expect(repository === path || repository === `library/${path}` || path.endsWith(`/${repository}`) || path.endsWith(`/${repository.replace('library/', '')}`)).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(AgentError);
        expect(['NAME_INVALID', 'NAME_UNKNOWN', 'ORIGIN_FORBIDDEN']).toContain((error as AgentError).code);
      }
    }),
    { numRuns: 2000 },
  );
});

test('property: with ns the path is the repository, whole', () => {
  fc.assert(
    fc.property(fc.array(component, { minLength: 1, maxLength: 4 }).filter((parts) => parts.join('/').length <= 255), fc.constantFrom('quay.io', 'lab', 'registry.local:5000'), (parts, ns) => {
      expect(resolveImage(parts.join('/'), ns, withDefault).repository).toBe(parts.join('/'));
    }),
  );
});
