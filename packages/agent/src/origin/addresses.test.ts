import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkLiteral, guardedLookup, isAllowedAddress } from './addresses.ts';

const PUBLIC = ['8.8.8.8', '104.16.0.1', '223.255.255.255', '2606:4700::1111', '2a00:1450:4001::200e', '::ffff:8.8.8.8', '64:ff9b::808:808'];
const PRIVATE = [
  '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '127.0.0.1', '127.255.255.254', '0.0.0.0', '100.64.0.1', '198.18.0.1', '224.0.0.1', '255.255.255.255',
  '::', '::1', 'fd00::1', 'fc00::1', 'ff02::1', '2001:db8::1', '2002:7f00:1::', '2001::1', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '64:ff9b::a00:1',
];
const NEVER = ['169.254.169.254', '169.254.0.1', 'fe80::1', 'fe80::1%eth0', 'febf::1', 'fd00:ec2::254', '::ffff:169.254.169.254', '::ffff:a9fe:a9fe', '64:ff9b::a9fe:a9fe', '100.100.100.200'];

test.each(PUBLIC)('%s is public', (address) => {
  expect([isAllowedAddress(address, false), isAllowedAddress(address, true)]).toEqual([true, true]);
});
test.each(PRIVATE)('%s is for configured origins only', (address) => {
  expect([isAllowedAddress(address, false), isAllowedAddress(address, true)]).toEqual([false, true]);
});
test.each(NEVER)('%s is for nobody', (address) => {
  expect([isAllowedAddress(address, false), isAllowedAddress(address, true)]).toEqual([false, false]);
});

test('property: nothing is allowed to a public origin that is refused to a configured one; mapping changes nothing', () => {
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      for (const privateAllowed of [true, false]) {
        expect(isAllowedAddress(`::ffff:${address}`, privateAllowed)).toBe(isAllowedAddress(address, privateAllowed));
      }
      if (isAllowedAddress(address, false)) expect(isAllowedAddress(address, true)).toBe(true);
    }),
  );
  fc.assert(fc.property(fc.oneof(fc.ipV6(), fc.string()), (text) => !isAllowedAddress(text, false) || isAllowedAddress(text, true)));
});

test('a literal in a URL is checked, a name is left to the lookup', () => {
  expect(() => checkLiteral('127.0.0.1', false)).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  expect(() => checkLiteral('[::1]', false)).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  expect(() => checkLiteral('[fe80::1]', true)).toThrow(expect.objectContaining({ code: 'ORIGIN_FORBIDDEN' }));
  checkLiteral('127.0.0.1', true);
  checkLiteral('localhost', false);
});

type Looked = { error: { code?: string } | null; addresses: unknown };
const look = (addresses: { address: string; family: number }[], all: boolean, privateAllowed: boolean): Promise<Looked> =>
  new Promise((resolve) => {
    const lookup = guardedLookup((_host, _options, callback) => callback(null, addresses), privateAllowed);
    lookup('registry.example', { all }, (error, found) => resolve({ error, addresses: found }));
  });

test('a lookup hands on allowed addresses only', async () => {
  const mixed = [{ address: '10.0.0.1', family: 4 }, { address: '169.254.169.254', family: 4 }, { address: '8.8.8.8', family: 4 }];
  expect(await look(mixed, true, false)).toEqual({ error: null, addresses: [mixed[2]] });
  expect(await look(mixed, true, true)).toEqual({ error: null, addresses: [mixed[0], mixed[2]] });
  expect(await look(mixed, false, false)).toEqual({ error: null, addresses: '8.8.8.8' });
  expect((await look([mixed[0]!], true, false)).error).toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
  expect((await look([mixed[1]!], false, true)).error).toMatchObject({ code: 'ORIGIN_FORBIDDEN' });
});

test('a failed lookup stays what it is', async () => {
  const failure = Object.assign(new Error('no such host'), { code: 'ENOTFOUND' });
  const lookup = guardedLookup((_host, _options, callback) => callback(failure, []), false);
  expect(await new Promise((resolve) => lookup('registry.example', {}, resolve))).toBe(failure);
});
