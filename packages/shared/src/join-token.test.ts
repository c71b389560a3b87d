// Golden: what is pinned here is `/api/v1`. A change is another version of the API.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { enrolmentMac, enrolmentText, formatJoinToken, InvalidJoinTokenError, parseJoinToken, sameMac, type JoinToken } from './join-token.ts';

const TOKEN: JoinToken = { id: 'a1b2c3', secret: Buffer.from('0123456789abcdef0123456789abcdef').toString('base64url'), caPin: `sha256:${'ab'.repeat(32)}` };
const TEXT =
  'flotilla1.eyJpZCI6ImExYjJjMyIsInNlY3JldCI6Ik1ERXlNelExTmpjNE9XRmlZMlJsWmpBeE1qTTBOVFkzT0RsaFltTmtaV1kiLCJjYVBpbiI6InNoYTI1NjphYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiIn0';
const PEER = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8';

describe('text form', () => {
  test('is pinned', () => {
    expect(formatJoinToken(TOKEN)).toBe(TEXT);
    expect(parseJoinToken(TEXT)).toEqual(TOKEN);
  });

  test('survives white space around it, and a token without a pin', () => {
    expect(parseJoinToken(`\n ${TEXT}\n`)).toEqual(TOKEN);
    const { caPin: _, ...plain } = TOKEN;
    expect(parseJoinToken(formatJoinToken(plain))).toEqual(plain);
  });

  test('whatever is written can be read', () => {
    fc.assert(
      fc.property(fc.record({ id: fc.string({ minLength: 1 }), secret: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('base64url')), caPin: fc.constant(TOKEN.caPin!) }, { requiredKeys: ['id', 'secret'] }), (token) => {
        expect(parseJoinToken(formatJoinToken(token))).toEqual(token);
      }),
    );
  });

  test.each([
    ['nothing', ''],
    ['another version', TEXT.replace('flotilla1', 'flotilla2')],
    ['cut off', TEXT.slice(0, -9)],
    ['no JSON', 'flotilla1.AAAA'],
    ['a JSON null', `flotilla1.${Buffer.from('null').toString('base64url')}`],
    ['no secret', `flotilla1.${Buffer.from('{"id":"x"}').toString('base64url')}`],
    ['a pin that is a number', `flotilla1.${Buffer.from('{"id":"x","secret":"y","caPin":1}').toString('base64url')}`],
  ])('%s is refused', (_, text) => {
    expect(() => parseJoinToken(text)).toThrow(InvalidJoinTokenError);
  });
});

describe('proof of the token', () => {
  test('text and MAC are pinned', () => {
    expect(enrolmentText('a1b2c3', PEER, 1_700_000_000_000)).toBe(`flotilla-enroll/1\na1b2c3\n${PEER}\n1700000000000`);
    expect(enrolmentMac(TOKEN, PEER, 1_700_000_000_000)).toBe('BRZTMw7cNC-uimtue8Nl58MPTtwcasW5ch2v-fqKYZs');
  });

  test('differs with every part of it', () => {
    const mac = enrolmentMac(TOKEN, PEER, 1);
    expect(sameMac(mac, enrolmentMac(TOKEN, PEER, 1))).toBe(true);
    for (const other of [enrolmentMac({ ...TOKEN, id: 'z' }, PEER, 1), enrolmentMac({ ...TOKEN, secret: 'AAAA' }, PEER, 1), enrolmentMac(TOKEN, `${PEER}x`, 1), enrolmentMac(TOKEN, PEER, 2), '', mac.slice(1)]) {
      expect(sameMac(mac, other)).toBe(false);
    }
  });
});
