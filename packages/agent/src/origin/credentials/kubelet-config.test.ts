// The kubelet's rules: its file, which image is whose, its durations, what providers answer.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { durationMs, matchesImage, parseProviderAnswer, parseProviderConfig, providerRequest, secretFor } from './kubelet-config.ts';

const V1 = 'credentialprovider.kubelet.k8s.io/v1';
const CONFIG = `
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: ecr-credential-provider
    matchImages: ["*.dkr.ecr.*.amazonaws.com", "public.ecr.aws"]
    defaultCacheDuration: "12h"
    apiVersion: ${V1}
    args: [get-credentials]
    env: [{name: AWS_PROFILE, value: pull}]
  - name: of-pods
    matchImages: ["*.pods.example"]
    defaultCacheDuration: 0s
    apiVersion: ${V1}
    tokenAttributes: {serviceAccountTokenAudience: x, requireServiceAccount: true}
`;

describe('the file', () => {
  test('names providers; those that want a pod are left out', () => {
    expect(parseProviderConfig(CONFIG)).toEqual({
      providers: [
        {
          name: 'ecr-credential-provider', apiVersion: V1, matchImages: ['*.dkr.ecr.*.amazonaws.com', 'public.ecr.aws'], defaultCacheMs: 12 * 3_600_000,
          args: ['get-credentials'], env: { AWS_PROFILE: 'pull' },
        },
      ],
      skipped: ['of-pods'],
    });
  });

  const provider = { name: 'p', matchImages: ['a'], defaultCacheDuration: '1m', apiVersion: V1 };
  const withProvider = (change: object): string => JSON.stringify({ apiVersion: 'kubelet.config.k8s.io/v1', kind: 'CredentialProviderConfig', providers: [{ ...provider, ...change }] });
  test.each<[string, RegExp]>([
    ['a: [', /no YAML from character \d+/],
    ['kind: Pod', /no CredentialProviderConfig/],
    [CONFIG.replace('kubelet.config.k8s.io/v1\n', 'kubelet.config.k8s.io/v2\n'), /no CredentialProviderConfig/],
    [withProvider({ name: '../p' }), /name of a provider/],
    [withProvider({ name: '..' }), /name of a provider/],
    [withProvider({ apiVersion: 'x/v1' }), /"p" has no apiVersion/],
    [withProvider({ matchImages: [] }), /"p" has no matchImages/],
    [withProvider({ defaultCacheDuration: 'soon' }), /defaultCacheDuration/],
    [withProvider({ args: 'x' }), /args of provider "p"/],
    [withProvider({ env: [{ name: 'A' }] }), /env of provider "p"/],
    [JSON.stringify({ apiVersion: 'kubelet.config.k8s.io/v1', kind: 'CredentialProviderConfig', providers: [provider, provider] }), /two providers called "p"/],
  ])('is refused: %s', (text, message) => {
    expect(() => parseProviderConfig(text)).toThrow(message);
  });
});

// The table of the kubelet's documentation, and its corners.
test.each<[string, string, boolean]>([
  ['123456789.dkr.ecr.us-east-1.amazonaws.com', '123456789.dkr.ecr.us-east-1.amazonaws.com/app', true],
  ['*.azurecr.io', 'corp.azurecr.io/app', true],
  ['gcr.io', 'gcr.io/app', true],
  ['*.*.registry.io', 'a.b.registry.io/app', true],
  ['registry.io:8080/path', 'registry.io:8080/path/app', true],
  ['registry.io:8080/path', 'registry.io:8080/other/app', false],
  ['registry.io:8080/path', 'registry.io/path/app', false],
  ['registry.io', 'registry.io:8080/app', false],
  ['*.io', 'a.b.io/app', false],
  ['*', 'registry.io/app', false],
  ['*.registry.io', 'registry.io/app', false],
  ['app*.registry.io', 'app7.registry.io/x', true],
  ['a?.io', 'ab.io/x', true],
  ['a.io', 'axio/x', false],
  ['docker.io', 'docker.io/library/nginx', true],
])('%s for %s: %s', (pattern, image, fits) => {
  expect(matchesImage(pattern, image)).toBe(fits);
});

test('property: a host fits itself, and no pattern with another number of labels', () => {
  fc.assert(
    fc.property(fc.domain(), fc.nat(3), (host, extra) => {
      expect(matchesImage(host, `${host}/app`)).toBe(true);
      expect(matchesImage(`${'*.'.repeat(extra + 1)}${host}`, `${host}/app`)).toBe(false);
    }),
  );
});

test.each<[unknown, number | undefined]>([
  ['12h', 43_200_000], ['1h30m', 5_400_000], ['1.5s', 1500], ['100ms', 100], ['0', 0], ['0s', 0], ['2us', 0.002], ['', undefined], ['12', undefined], ['-1s', undefined], [7, undefined], ['1h x', undefined], [undefined, undefined],
])('%j lasts %s ms', (text, ms) => {
  expect(durationMs(text)).toBe(ms);
});

describe('what provider and kubelet say', () => {
  const answer = (change: object): string => JSON.stringify({ apiVersion: V1, kind: 'CredentialProviderResponse', cacheKeyType: 'Image', auth: {}, ...change });

  test('the request', () => {
    expect(JSON.parse(providerRequest(V1, 'quay.io/app'))).toEqual({ apiVersion: V1, kind: 'CredentialProviderRequest', image: 'quay.io/app' });
  });

  test('the answer', () => {
    const { keyType, cacheMs, auth } = parseProviderAnswer(answer({ cacheKeyType: 'Registry', cacheDuration: '6h', auth: { '*.io': { username: 'a', password: 'b' } } }), V1);
    expect([keyType, cacheMs, [...auth]]).toEqual(['Registry', 21_600_000, [['*.io', { kind: 'basic', username: 'a', password: 'b' }]]]);
    expect(parseProviderAnswer(answer({ cacheDuration: null, auth: null }), V1)).toEqual({ keyType: 'Image', cacheMs: undefined, auth: new Map() });
  });

  test('the more special of two patterns counts', () => {
    const auth = new Map(['*.io', 'quay.io', 'quay.io/app', 'gcr.io'].map((pattern) => [pattern, { kind: 'basic' as const, username: pattern, password: '' }]));
    expect(secretFor(auth, 'quay.io/app/x')).toMatchObject({ username: 'quay.io/app' });
    expect(secretFor(auth, 'docker.io/x')).toMatchObject({ username: '*.io' });
    expect(secretFor(auth, 'a.example/x')).toBeUndefined();
  });

  test.each<[string, RegExp]>([
    ['hunter2', /no JSON/],
    [answer({ apiVersion: 'credentialprovider.kubelet.k8s.io/v1beta1' }), /no CredentialProviderResponse of .*v1/],
    [answer({ cacheKeyType: 'hunter2' }), /no cacheKeyType/],
    [answer({ cacheDuration: 'hunter2' }), /cacheDuration/],
    [answer({ auth: 'hunter2' }), /auth/],
    [answer({ auth: { a: { username: 'hunter2' } } }), /no username and password/],
  ])('is refused without a word of it: %s', (text, message) => {
    expect(() => parseProviderAnswer(text, V1)).toThrow(expect.toSatisfy((error: Error) => message.test(error.message) && !error.message.includes('hunter2')));
  });
});
