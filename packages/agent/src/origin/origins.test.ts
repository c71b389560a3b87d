import { describe, expect, test } from 'vitest';
import { OriginTable } from './origins.ts';

describe('a configured origin', () => {
  const configured = (name: string, ...urls: string[]): OriginTable => new OriginTable([{ name, urls }]);

  test('has its URLs in order', () => {
    expect(configured('lab', 'http://10.0.0.7:5000', 'https://lab.example/').entry('lab').urls.map(({ origin }) => origin)).toEqual(['http://10.0.0.7:5000', 'https://lab.example']);
  });

  test.each(['', 'Lab', 'a_/b', 'a..b', '-a'])('is not called "%s"', (name) => {
    expect(() => configured(name, 'http://a.example')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test.each([
    '', 'a.example', 'ftp://a.example', 'http://a.example/prefix', 'http://a.example/?', 'http://a.example/#', 'http://a.example?x=1', 'http://user@a.example', 'http://a.example:99999',
  ])('does not lie at "%s"', (url) => {
    expect(() => configured('lab', url)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test('a password in a refused URL is not repeated', () => {
    expect(() => configured('lab', 'http://user:secret@a.example')).toThrow(expect.not.objectContaining({ message: expect.stringContaining('secret') }));
  });
});

describe('the table', () => {
  test('built-in origins are there over https and must be public', () => {
    const table = new OriginTable([]);
    const hosts = ['docker.io', 'quay.io', 'registry.access.redhat.com', 'registry.redhat.io', 'ghcr.io', 'gcr.io', 'registry.k8s.io', 'mcr.microsoft.com', 'public.ecr.aws'].map(
      (name) => [name, table.entry(name).urls[0].origin, table.entry(name).privateAllowed] as const,
    );
    expect(hosts).toEqual(hosts.map(([name]) => [name, name === 'docker.io' ? 'https://registry-1.docker.io' : `https://${name}`, false]));
    expect(hosts).toHaveLength(9);
  });

  test('a configured origin overrides a built-in one and may be private', () => {
    const table = new OriginTable([{ name: 'docker.io', urls: ['http://10.0.0.7:5000'] }]);
    expect(table.entry('docker.io')).toMatchObject({ privateAllowed: true, urls: [new URL('http://10.0.0.7:5000')] });
    expect(table.byHost('registry-1.docker.io')).toBeUndefined();
    expect(table.names().filter((name) => name === 'docker.io')).toHaveLength(1);
  });

  test('default ports may be written or not; the first origin with a host wins', () => {
    const table = new OriginTable([{ name: 'a', urls: ['https://x.example:443', 'http://y.example'] }, { name: 'b', urls: ['https://x.example'] }]);
    expect(['x.example', 'x.example:443', 'y.example', 'y.example:80', 'x.example:80'].map((host) => table.byHost(host))).toEqual(['a', 'a', 'a', 'a', undefined]);
  });

  test('a host that nobody configured is reached over https, publicly; anything else is unknown', () => {
    const table = new OriginTable([]);
    expect(table.entry('registry.example.org:5000')).toMatchObject({ privateAllowed: false, urls: [new URL('https://registry.example.org:5000')] });
    for (const name of ['lab', '10.0.0.7', 'localhost', '', 'constructor', '__proto__']) {
      expect(() => table.entry(name), name).toThrow(expect.objectContaining({ code: 'NAME_UNKNOWN' }));
    }
  });

  test('one NAME twice, or without URL, is refused', () => {
    const lab = { name: 'lab', urls: ['http://a.example'] };
    expect(() => new OriginTable([lab, lab])).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(() => new OriginTable([{ name: 'lab', urls: [] }])).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});
