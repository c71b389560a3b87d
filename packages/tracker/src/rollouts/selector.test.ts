import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Selector, type HostFacts } from './selector.ts';

const host: HostFacts = { name: 'web-07', zone: 'a', labels: { role: 'web', 'example.com/tier': 'front', empty: '' } };
const fits = (text: string, facts = host): boolean => new Selector(text).matches('12D3KooWpeer', facts);

test.each([
  ['', true],
  [' ', true],
  ['zone=a', true],
  ['zone=b', false],
  ['zone!=b', true],
  ['name=web-*', true],
  ['name=*07', true],
  ['name=w*-*7', true],
  ['name=db-*', false],
  ['name!=web-*', false],
  ['role=web, zone = a', true],
  ['role=web,zone=b', false],
  ['role!=db', true],
  ['rack!=7', true],
  ['rack=7', false],
  ['rack=*', false],
  ['rack!=*', true],
  ['empty=', true],
  ['example.com/tier=front', true],
  ['peer=12D3KooW*', true],
  ['name=web.07', false],
  ['toString!=x', true],
])('%j: %j', (text, expected) => {
  expect(fits(text)).toBe(expected);
});

test('a host without a zone is in none', () => {
  const nowhere: HostFacts = { name: 'x', labels: {} };
  expect(fits('zone=*', nowhere)).toBe(false);
  expect(fits('zone!=a', nowhere)).toBe(true);
});

test.each(['zone', 'zone==a,', '=a', 'zone<a', ',', 'a b=c', Array.from({ length: 33 }, () => 'a=b').join(',')])('%j is refused', (text) => {
  if (text === 'zone==a,') expect(() => new Selector(text)).toThrow('not key=value');
  else expect(() => new Selector(text)).toThrow(expect.objectContaining({ code: 'SELECTOR_INVALID' }) as Error);
});

describe('asterisks', () => {
  test('take what a regular expression would', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '.', '-'), maxLength: 12 });
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '.', '-', '*'), maxLength: 8 });
    fc.assert(
      fc.property(pattern, text, (glob, own) => {
        const expression = new RegExp(`^${glob.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
        expect(fits(`key=${glob}`, { name: '', labels: { key: own } })).toBe(expression.test(own));
      }),
      { numRuns: 500 },
    );
  });

  test('many of them cost no more than the text is long', () => {
    expect(fits(`key=${'a*'.repeat(120)}b`, { name: '', labels: { key: 'a'.repeat(255) } })).toBe(false);
  });
});
