// What podman and docker write, which entry is meant for a repository, and that nothing of it gets into a message.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { closest, parseDockerConfig, parseHelperAnswer } from './docker-config.ts';
import { dockerServer, hostsOf } from './secret.ts';

const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
const parse = (content: object) => parseDockerConfig(JSON.stringify(content));

describe('a file', () => {
  test('has passwords, tokens, helpers and a store', () => {
    const config = parse({
      auths: {
        'quay.io': auth('ann:p:w'),
        'ghcr.io': { ...auth('<token>:'), identitytoken: 'refresh' },
        'lab:5000': { registrytoken: 'bearer' },
        'old.example': { username: 'bob', password: 'secret' },
        'in-the-store.example': {},
        'padded.example': auth('ann:pw\0\0'),
      },
      credHelpers: { 'gcr.io': 'gcloud', '123.dkr.ecr.eu-west-1.amazonaws.com': 'ecr-login' },
      credsStore: 'desktop',
      psFormat: 'irrelevant',
    });
    expect([...config.auths]).toEqual([
      ['quay.io', { kind: 'basic', username: 'ann', password: 'p:w' }],
      ['ghcr.io', { kind: 'identity', token: 'refresh' }],
      ['lab:5000', { kind: 'bearer', token: 'bearer' }],
      ['old.example', { kind: 'basic', username: 'bob', password: 'secret' }],
      ['padded.example', { kind: 'basic', username: 'ann', password: 'pw' }],
    ]);
    expect([...config.helpers]).toEqual([['gcr.io', 'gcloud'], ['123.dkr.ecr.eu-west-1.amazonaws.com', 'ecr-login']]);
    expect(config.store).toBe('desktop');
  });

  test.each(['{}', '{"auths":null,"credsStore":""}', '{"auths":{},"credHelpers":{}}'])('may be empty: %s', (text) => {
    expect(parseDockerConfig(text)).toEqual({ auths: new Map(), helpers: new Map(), store: undefined });
  });

  test.each(['{"auths":{"a":{"auth":"aHVudGVyMg=="}}}', '{"auths":["hunter2"]}', '["hunter2"]', 'hunter2', '{"auths":{"x":"hunter2"', '{"credsStore":"../hunter2"}', '{"credHelpers":{"a":"hunter2 -x"}}', '{"credHelpers":{"a":7}}'])(
    'that is none is refused without a word of it: %s',
    (text) => {
      expect(() => parseDockerConfig(text)).toThrow(expect.toSatisfy((error: Error) => !`${error.message} ${String(error.cause)}`.includes('hunter2')));
    },
  );

  test('property: parsing ends, with a file or an error', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          parseDockerConfig(text);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });
});

describe('the entry for a repository', () => {
  const find = (auths: Record<string, string>, url: string, repository: string): string | undefined => {
    const { auths: parsed } = parse({ auths: Object.fromEntries(Object.entries(auths).map(([key, name]) => [key, auth(`${name}:x`)])) });
    const secret = closest(parsed, hostsOf(new URL(url)), repository);
    return secret?.kind === 'basic' ? secret.username : undefined;
  };

  test('is the one whose path holds it most closely', () => {
    const auths = { 'quay.io': 'host', 'quay.io/acme': 'acme', 'quay.io/acme/app': 'app', 'quay.io/ac': 'ac', 'other.io/acme/app': 'other' };
    const at = (repository: string): string | undefined => find(auths, 'https://quay.io', repository);
    expect(['acme/app', 'acme/app/sub', 'acme/apps', 'acme', 'acm', 'x'].map(at)).toEqual(['app', 'app', 'acme', 'acme', 'host', 'host']);
  });

  test.each(['https://index.docker.io/v1/', 'docker.io', 'index.docker.io', 'registry-1.docker.io', 'http://docker.io', 'index.docker.io/v1', 'Docker.io'])('Docker Hub by any name: %s', (key) => {
    expect(find({ [key]: 'ann' }, 'https://registry-1.docker.io', 'library/nginx')).toBe('ann');
  });

  test.each([
    ['quay.io', 'https://quay.io'],
    ['quay.io:443', 'https://quay.io'],
    ['https://quay.io/v2/', 'https://quay.io'],
    ['lab', 'http://lab:80'],
    ['lab:5000', 'http://lab:5000'],
    ['[::1]:5000', 'http://[::1]:5000'],
  ])('%s is for %s', (key, url) => {
    expect(find({ [key]: 'ann' }, url, 'app')).toBe('ann');
  });

  test.each([
    // A mirror never gets the password of what it mirrors.
    ['docker.io', 'https://mirror.example'],
    ['quay.io', 'https://quay.io:8443'],
    ['quay.io:80', 'https://quay.io'],
    ['io', 'https://quay.io'],
    ['quay.io.example', 'https://quay.io'],
    ['', 'https://quay.io'],
  ])('%s is not for %s', (key, url) => {
    expect(find({ [key]: 'ann' }, url, 'app')).toBeUndefined();
  });
});

test('programs of docker are asked by the name that docker gives', () => {
  expect(['https://registry-1.docker.io', 'https://quay.io', 'http://lab:5000'].map((url) => dockerServer(new URL(url)))).toEqual(['https://index.docker.io/v1/', 'quay.io', 'lab:5000']);
});

test('the answer of a helper', () => {
  expect(parseHelperAnswer('{"ServerURL":"x","Username":"ann","Secret":"pw"}')).toEqual({ kind: 'basic', username: 'ann', password: 'pw' });
  expect(parseHelperAnswer('{"Username":"<token>","Secret":"refresh"}')).toEqual({ kind: 'identity', token: 'refresh' });
  expect(parseHelperAnswer('{"Username":"","Secret":""}')).toBeUndefined();
  for (const text of ['hunter2', '{"Secret":"hunter2"}']) expect(() => parseHelperAnswer(text)).toThrow(expect.toSatisfy((error: Error) => !error.message.includes('hunter2')));
});
