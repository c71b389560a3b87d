// Which requests go by a proxy, as Go's programs decide it.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProxyRules } from './proxy.ts';

const PROXY = 'http://proxy.example:3128';
const byProxy = (no: string, url: string): boolean => new ProxyRules({ http: PROXY, https: PROXY, no }).proxyFor(new URL(url)) !== undefined;

describe('NO_PROXY', () => {
  test.each<[string, string, boolean]>([
    ['', 'https://quay.io', true],
    ['*', 'https://quay.io', false],
    ['a.example,*', 'https://quay.io', false],
    // a name: it and all below it
    ['quay.io', 'https://quay.io', false],
    ['quay.io', 'https://cdn.quay.io', false],
    ['quay.io', 'https://notquay.io', true],
    ['Quay.IO', 'https://QUAY.io', false],
    // .name and *.name: only below it
    ['.quay.io', 'https://quay.io', true],
    ['.quay.io', 'https://cdn.quay.io', false],
    ['*.quay.io', 'https://cdn.quay.io', false],
    // ports
    ['quay.io:443', 'https://quay.io', false],
    ['quay.io:80', 'https://quay.io', true],
    ['quay.io:80', 'http://quay.io', false],
    ['.corp:5000', 'http://a.corp:5000', false],
    // addresses and blocks
    ['192.0.2.7', 'http://192.0.2.7', false],
    ['192.0.2.7:5000', 'http://192.0.2.7', true],
    ['192.0.2.7:5000', 'http://192.0.2.7:5000', false],
    ['192.0.2.7', 'http://192.0.2.77', true],
    ['10.0.0.0/8', 'https://10.200.1.1:5000', false],
    ['10.0.0.0/8', 'https://11.0.0.1', true],
    ['10.0.0.0/8', 'https://ten.example', true],
    ['2001:db8::/32', 'https://[2001:db8::7]', false],
    ['2001:db8::7', 'https://[2001:db8::7]:5000', false],
    ['[2001:db8::7]:5000', 'https://[2001:db8::7]:5000', false],
    ['[2001:db8::7]:5000', 'https://[2001:db8::7]', true],
    // spaces, empty entries, nonsense
    [' a.example , quay.io ', 'https://quay.io', false],
    ['a.example quay.io', 'https://quay.io', false],
    [',,', 'https://quay.io', true],
    ['10.0.0.0/99', 'https://10.0.0.1', true],
    ['/', 'https://quay.io', true],
    // this host, always
    ['', 'http://localhost:5000', false],
    ['', 'http://registry.localhost', false],
    ['', 'http://127.9.9.9', false],
    ['', 'http://[::1]:5000', false],
  ])('"%s": %s by proxy: %s', (no, url, expected) => {
    expect(byProxy(no, url)).toBe(expected);
  });

  test('property: any text is taken; a host that is named is never sent by the proxy, "*" sends nothing', () => {
    fc.assert(
      fc.property(fc.string(), fc.domain(), fc.boolean(), (text, host, behind) => {
        const entries = text.replaceAll('*', '');
        expect(byProxy(behind ? `${entries},${host}` : `${host},${entries}`, `https://${host}`)).toBe(false);
        expect(byProxy(`${text},*`, `https://${host}`)).toBe(false);
      }),
    );
  });
});

test('each scheme has its own proxy', () => {
  const rules = new ProxyRules({ http: 'http://a.example:1', https: '' });
  expect(rules.proxyFor(new URL('http://quay.io'))?.host).toBe('a.example:1');
  expect(rules.proxyFor(new URL('https://quay.io'))).toBeUndefined();
});
