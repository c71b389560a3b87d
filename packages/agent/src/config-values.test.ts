import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatBytes, readAdvertise, readBoolean, readBytes, readListen, readNumber, readRate, readUrl } from './config-values.ts';

describe('sizes and rates', () => {
  test.each([
    ['200MB', 200_000_000],
    ['1GiB', 1_073_741_824],
    ['1.5 kib', 1536],
    ['4096', 4096],
    [4096, 4096],
    ['0', 0],
    ['10TB', 10e12],
  ])('%s', (text, bytes) => {
    expect(readBytes(text)).toBe(bytes);
  });

  test.each(['', '-1', '1e9', 'MB', '10XB', '10 MB/s', '1,5GB', true, [], '99999999TB'])('%s is no size', (text) => {
    expect(readBytes(text)).toBeUndefined();
  });

  test.each([
    ['50MB/s', 50_000_000],
    ['50MB', 50_000_000],
    ['400Mbit/s', 50_000_000],
    ['400mbps', undefined],
    ['1Gbit', 125_000_000],
    ['1GiB/s', 1_073_741_824],
    ['fast', undefined],
  ])('%s', (text, bytes) => {
    expect(readRate(text)).toBe(bytes);
  });

  test('what is printed is read back as it was', () => {
    fc.assert(
      fc.property(fc.oneof(fc.nat(), fc.nat(4096).map((n) => n * 2 ** 30), fc.nat(4096).map((n) => n * 1e6)), (bytes) => {
        expect(readBytes(formatBytes(bytes))).toBe(bytes);
        expect(readRate(`${formatBytes(bytes)}/s`)).toBe(bytes);
      }),
    );
  });

  test('any text is read or refused, never thrown over', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.jsonValue()), (raw) => {
        for (const read of [readBytes, readRate, readListen, readAdvertise, readUrl, readNumber, readBoolean]) expect(() => read(raw)).not.toThrow();
      }),
    );
  });
});

describe('addresses', () => {
  test.each([
    ['127.0.0.1:5050', { host: '127.0.0.1', port: 5050 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    ['localhost:80', { host: '127.0.0.1', port: 80 }],
  ])('listen %s', (text, address) => {
    expect(readListen(text)).toEqual(address);
  });

  test.each(['5050', ':5050', '127.0.0.1', 'example.org:80', '::1', '[::1]', '127.0.0.1:65536', '127.0.0.1:x', '[1.2.3.4]:5', '300.1.1.1:5', 5050])(
    'no listen address: %s',
    (text) => {
      expect(readListen(text)).toBeUndefined();
    },
  );

  test.each([
    ['10.0.0.7', { host: '10.0.0.7' }],
    ['10.0.0.7:5051', { host: '10.0.0.7', port: 5051 }],
    ['host-7.example', { host: 'host-7.example' }],
    ['2001:db8::7', { host: '2001:db8::7' }],
    ['[2001:db8::7]:1', { host: '2001:db8::7', port: 1 }],
  ])('advertise %s', (text, address) => {
    expect(readAdvertise(text)).toEqual(address);
  });

  test.each(['', 'a b', '-x', '10.0.0', '10.0.0.7:0', 'http://x', '/ip4/10.0.0.7/tcp/1'])('no address to advertise: %s', (text) => {
    expect(readAdvertise(text)).toBeUndefined();
  });
});

describe('URLs', () => {
  test.each([
    ['https://registry.example', 'https://registry.example'],
    ['http://127.0.0.1:5000/', 'http://127.0.0.1:5000'],
    ['https://x.example/a/b/', 'https://x.example/a/b'],
  ])('%s', (text, url) => {
    expect(readUrl(text)).toBe(url);
  });

  test.each(['registry.example', 'ftp://x', 'https://u:p@x', 'https://x?y=1', 'https://x#y', 'https://', 7])('no URL: %s', (text) => {
    expect(readUrl(text)).toBeUndefined();
  });
});
