import { randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Caller } from '../content/ports.ts';
import { Callers, isToken, subjectOf, usableAuthorization, type RightsRules } from './callers.ts';

const KEY = randomBytes(32);
const APP = { origin: 'lab', repository: 'team/app' };

function callers(rules: Partial<RightsRules>, { key = KEY, listed = true } = {}): Callers {
  return new Callers({ mode: 'agent', allow: [], ...rules }, key, () => listed);
}

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString('base64')}`;
}

function withHeader(authorization?: string): Caller {
  return { authorization, asksOrigin: false };
}

function kinds(of: Callers, caller: Caller, repository = APP): string[] {
  return of.authorities(repository, caller).map(({ kind }) => kind);
}

describe('whose right is tried', () => {
  const sent = withHeader(basic('ann:secret'));

  test("without a rule: nobody's", () => {
    expect(kinds(callers({}), sent)).toEqual(['anonymous']);
  });

  test("where a rule allows it: the agent's, after nobody's", () => {
    expect(kinds(callers({ allow: ['lab/team/*'] }), sent)).toEqual(['anonymous', 'agent']);
  });

  test("in pass-through: the caller's, where it sent any", () => {
    expect(kinds(callers({ mode: 'pass-through' }), sent)).toEqual(['anonymous', 'caller']);
    expect(kinds(callers({ mode: 'pass-through', allow: ['**'] }), sent)).toEqual(['anonymous', 'caller', 'agent']);
    expect(kinds(callers({ mode: 'pass-through', allow: ['**'] }), withHeader())).toEqual(['anonymous', 'agent']);
  });

  test("for the agent itself: its own, with no rule", () => {
    expect(kinds(callers({ mode: 'pass-through' }), { ...sent, own: true })).toEqual(['anonymous', 'agent']);
  });

  test("a caller's is handed to no origin that nobody named", () => {
    expect(kinds(callers({ mode: 'pass-through' }, { listed: false }), sent)).toEqual(['anonymous']);
  });
});

describe('rules', () => {
  test.each([
    ['lab/team/app', true],
    ['lab/team/*', true],
    ['lab/*', false],
    ['lab/**', true],
    ['**', true],
    ['lab/team/app/**', false],
    ['lab/{team,crew}/a?p', true],
    ['lab/team/ap', false],
    ['team/app', false],
    ['LAB/team/app', false],
  ])('%s', (pattern, allowed) => {
    expect(callers({ allow: ['other/x', pattern] }).allows(APP)).toBe(allowed);
  });

  test('a dot is a dot', () => {
    expect(callers({ allow: ['docker.io/a/b'] }).allows({ origin: 'dockerxio', repository: 'a/b' })).toBe(false);
  });
});

describe('a credential', () => {
  test.each([
    [undefined, undefined],
    ['', undefined],
    ['Basic', undefined],
    ['Basic ', undefined],
    [basic(''), undefined],
    [basic(':'), undefined],
    [basic('nocolon'), undefined],
    [basic('a:'), basic('a:')],
    [basic('ann:se:cret'), basic('ann:se:cret')],
    [`  bAsIc   ${basic('ann:s').slice(6)} `, basic('ann:s')],
    ['Bearer abc.def', 'Bearer abc.def'],
    ['bearer abc', 'Bearer abc'],
    ['Bearer a b', undefined],
    ['Bearer a\u00e9', undefined],
    ['Digest username="ann"', undefined],
    [`Bearer ${'x'.repeat(20_000)}`, undefined],
  ])('%j', (header, usable) => {
    expect(usableAuthorization(header)).toBe(usable);
  });

  const nameOf = (of: Callers, header: string, origin = 'lab'): string => {
    const own = of.authorities({ origin, repository: 'x' }, withHeader(header))[1]!;
    return subjectOf(own);
  };

  test('has a name that is the same after a restart, and another one for another credential, origin or agent', () => {
    const of = callers({ mode: 'pass-through' });
    expect(nameOf(of, basic('a:b'))).toBe(nameOf(callers({ mode: 'pass-through' }), `basic  ${basic('a:b').slice(6)}`));
    const names = [
      nameOf(of, basic('a:b')),
      nameOf(of, basic('a:c')),
      nameOf(of, basic('a:b'), 'other'),
      nameOf(callers({ mode: 'pass-through' }, { key: randomBytes(32) }), basic('a:b')),
      nameOf(of, 'Bearer YTpi'),
    ];
    expect(new Set(names).size).toBe(names.length);
  });

  test('is not in its name', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9]{6,20}$/), fc.stringMatching(/^[a-z0-9]{6,20}$/), (user, password) => {
        const name = nameOf(callers({ mode: 'pass-through' }), basic(`${user}:${password}`));
        expect(name).toMatch(/^caller [\w-]{43}$/);
        const hash = name.slice('caller '.length);
        expect(hash).not.toContain(password);
        expect(hash).not.toContain(basic(`${user}:${password}`).slice(6));
      }),
    );
  });

  test('is kept over a restart unless it is a token', () => {
    const [, own] = callers({ mode: 'pass-through' }).authorities(APP, withHeader('Bearer abc'));
    expect(isToken(own!)).toBe(true);
    const [anonymous, password] = callers({ mode: 'pass-through' }).authorities(APP, withHeader(basic('a:b')));
    expect([isToken(anonymous!), isToken(password!)]).toEqual([false, false]);
  });
});
