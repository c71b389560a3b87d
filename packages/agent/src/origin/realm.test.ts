import { expect, test } from 'vitest';
import type { OriginEntry } from './origins.ts';
import { checkedRealm } from './realm.ts';

const entry = (realms: string[] = []): OriginEntry => ({ name: 'lab', urls: [new URL('https://unused.example')], realms, tls: {}, credentials: undefined, privateAllowed: true });

test.each<[string, string, string[]]>([
  ['https://quay.io/v2/auth', 'https://quay.io', []],
  ['https://auth.quay.io/token', 'https://quay.io', []],
  ['https://gitlab.com/jwt/auth', 'https://registry.gitlab.com', []],
  ['https://auth.docker.io/token', 'https://registry-1.docker.io', ['auth.docker.io']],
  ['https://auth.example:8443/token', 'https://registry.example', ['auth.example:8443']],
  ['http://127.0.0.1:5001/token', 'http://127.0.0.1:5000', []],
  ['http://localhost:5001/token', 'http://localhost:5000', []],
  ['https://lab.example/token', 'http://lab.example', []],
])('%s belongs to %s', (realm, base, realms) => {
  expect(checkedRealm(realm, new URL(base), entry(realms)).href).toBe(realm);
});

test.each<[string, string, string[]]>([
  ['https://evil.example/token', 'https://quay.io', []],
  ['https://auth.docker.io/token', 'https://registry-1.docker.io', []],
  ['https://evilquay.io/token', 'https://quay.io', []],
  ['https://quay.io.evil.example/token', 'https://quay.io', []],
  ['https://io/token', 'https://quay.io', []],
  ['https://auth.co.uk/token', 'https://registry.co.uk', []],
  ['http://quay.io/token', 'https://quay.io', []],
  ['http://auth.docker.io/token', 'https://registry-1.docker.io', ['auth.docker.io']],
  ['https://auth.example:9/token', 'https://registry.example', ['auth.example:8443']],
  ['https://user:pass@quay.io/token', 'https://quay.io', []],
  ['ftp://quay.io/token', 'https://quay.io', []],
  ['/token', 'https://quay.io', []],
  ['', 'https://quay.io', []],
  ['http://1.127.0.0.1/', 'http://127.0.0.1:5000', []],
  ['http://0.0.1/', 'http://10.0.0.1:5000', []],
])('%s is refused to %s', (realm, base, realms) => {
  expect(() => checkedRealm(realm, new URL(base), entry(realms))).toThrow(expect.objectContaining({ code: 'ORIGIN_REALM_REFUSED' }));
});

test('without credentials a public origin may name any token server, but an encrypted one', () => {
  const base = new URL('https://docker.elastic.co');
  const open: OriginEntry = { ...entry(), privateAllowed: false };
  const realm = 'https://docker-auth.elastic.co/auth';
  expect(checkedRealm(realm, base, open, true).href).toBe(realm);
  for (const [text, where, anonymous] of [[realm, open, false], [realm, entry(), true], ['http://docker-auth.elastic.co/auth', open, true], ['https://a:b@docker-auth.elastic.co/auth', open, true]] as const) {
    expect(() => checkedRealm(text, base, where, anonymous), text).toThrow(expect.objectContaining({ code: 'ORIGIN_REALM_REFUSED' }));
  }
});
