// Golden: members of a fleet check one another's memberships with this format. A change splits fleets.

import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MembershipError, signMembership, verifyMembership, type Membership } from './membership.ts';

/** Ed25519 signatures are deterministic, so a fixed key gives a fixed text. */
const FLEET_KEY = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.from('flotilla golden membership key 1')]),
  format: 'der',
  type: 'pkcs8',
});
const FLEET_PUBLIC = createPublicKey(FLEET_KEY);
const MEMBERSHIP: Membership = { fleetId: 'fleet-1', peerId: '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8', notAfterMs: 1_800_000_000_000 };
const TEXT = 'eyJmbGVldElkIjoiZmxlZXQtMSIsInBlZXJJZCI6IjEyRDNLb29XS25EZEczaVh3OWVURmlqazNFV1N1blpjRmk1NFprYTR3bXRxdHQ2clB4YzgiLCJub3RBZnRlck1zIjoxODAwMDAwMDAwMDAwLCJzaWduYXR1cmUiOiIwTHQ1cC1EdllxQkJxcXhaTHQ4LWh5eWNKN1hFdDBENHI1cnpHRG1zMHh1eUhwWFB2Z3BVaVBlN290RlpzNTBpY2w5TGtMVlhXU2VER1pGcnROVmJEQSJ9';

function codeOf(act: () => unknown): string | undefined {
  try {
    act();
  } catch (error) {
    if (error instanceof MembershipError) return error.code;
    throw error;
  }
  return undefined;
}

function changed(fields: Record<string, unknown>): string {
  const known = JSON.parse(Buffer.from(TEXT, 'base64url').toString()) as Record<string, unknown>;
  return Buffer.from(JSON.stringify({ ...known, ...fields })).toString('base64url');
}

describe('membership', () => {
  test('its text is pinned', () => {
    expect(signMembership(MEMBERSHIP, FLEET_KEY)).toBe(TEXT);
    expect(verifyMembership(TEXT, FLEET_PUBLIC, MEMBERSHIP.peerId, MEMBERSHIP.notAfterMs)).toEqual(MEMBERSHIP);
  });

  test('ends', () => {
    expect(codeOf(() => verifyMembership(TEXT, FLEET_PUBLIC, MEMBERSHIP.peerId, MEMBERSHIP.notAfterMs + 1))).toBe('MEMBERSHIP_EXPIRED');
  });

  test("is nobody else's", () => {
    expect(codeOf(() => verifyMembership(TEXT, FLEET_PUBLIC, 'somebody else', 0))).toBe('MEMBERSHIP_FOREIGN');
  });

  test.each([{ fleetId: 'fleet-2' }, { peerId: 'somebody else' }, { notAfterMs: 1_900_000_000_000 }, { signature: 'AAAA' }])('cannot be changed: %o', (fields) => {
    expect(codeOf(() => verifyMembership(changed(fields), FLEET_PUBLIC, MEMBERSHIP.peerId, 0))).toBe('MEMBERSHIP_FORGED');
  });

  test('of another fleet is forged here', () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    expect(codeOf(() => verifyMembership(TEXT, publicKey, MEMBERSHIP.peerId, 0))).toBe('MEMBERSHIP_FORGED');
  });

  test.each(['', 'AAAA', Buffer.from('null').toString('base64url'), Buffer.from('{"fleetId":"x"}').toString('base64url')])('"%s" is none', (text) => {
    expect(codeOf(() => verifyMembership(text, FLEET_PUBLIC, MEMBERSHIP.peerId, 0))).toBe('MEMBERSHIP_MALFORMED');
  });
});
